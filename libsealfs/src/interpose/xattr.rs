//! Extended attributes: getxattr(2) and its eleven relatives.
//!
//! What must stay true: sizes are answered as xattr(7) says: a zero size asks for the length, a
//! value that does not fit is ERANGE.

use super::at::{self, PathArg};
use super::{Ctx, repeat, user};
use crate::route::{Answer, Bypass, Place, theirs};
use sealfs_client::Failure;
use sealfs_protocol::Errno;
use sealfs_protocol::limits::{XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES};

/// Where the inode is named: by argument 0 as a path, followed or not, or as a descriptor.
#[derive(Clone, Copy)]
enum By {
    Path { follow: bool },
    Descriptor,
}

fn name_at(pointer: usize) -> Result<Vec<u8>, Errno> {
    let name = user::string(pointer, XATTR_NAME_MAX_BYTES, Errno::ERANGE)?;
    if name.is_empty() {
        Err(Errno::ERANGE)
    } else {
        Ok(name)
    }
}

/// Runs `operation` on the inode that the call names.
fn run(
    ctx: &mut Ctx<'_>,
    by: By,
    mut operation: impl FnMut(&crate::process::ClientRef, &Place, bool) -> Result<usize, Failure>,
) -> Answer {
    match by {
        By::Path { follow } => at::run(ctx, PathArg::plain(0, follow), |client, place| {
            operation(client, place, follow)
        }),
        By::Descriptor => {
            let Some(ino) = at::inode(ctx)? else {
                return theirs(Bypass::NativeDescriptor);
            };
            let place = Place {
                descriptor: Some(ctx.fd(0) as u32),
                ..Place::below(ino, b"")
            };
            match operation(&crate::process::client()?, &place, true) {
                Ok(count) => crate::route::value(count),
                Err(Failure::Errno(errno)) => Err(errno),
                Err(Failure::Outside(_)) => Err(Errno::EIO),
            }
        }
    }
}

fn give(bytes: &[u8], buffer: usize, room: usize) -> Result<usize, Failure> {
    if room == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() > room {
        return Err(Errno::ERANGE.into());
    }
    user::copy_out(buffer, bytes)?;
    Ok(bytes.len())
}

fn get(ctx: &mut Ctx<'_>, by: By) -> Answer {
    let (name, buffer, room) = (ctx.arg(1), ctx.arg(2), ctx.arg(3));
    run(ctx, by, |client, place, follow| {
        let name = name_at(name)?;
        give(&client.get_xattr(place.at(), follow, &name)?, buffer, room)
    })
}

fn set(ctx: &mut Ctx<'_>, by: By) -> Answer {
    let (name, value, len, flags) = (ctx.arg(1), ctx.arg(2), ctx.arg(3), ctx.arg(4) as u32);
    run(ctx, by, |client, place, follow| {
        if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) as u32 != 0 {
            return Err(Errno::EINVAL.into());
        }
        let name = name_at(name)?;
        if len > XATTR_VALUE_MAX_BYTES {
            return Err(Errno::E2BIG.into());
        }
        let value = user::copy_in(value, len)?;
        client
            .set_xattr(place.at(), follow, &name, &value, flags)
            .map(|()| repeat::xattr_set(client, place, follow))
            .map(|()| 0)
    })
}

fn list(ctx: &mut Ctx<'_>, by: By) -> Answer {
    let (buffer, room) = (ctx.arg(1), ctx.arg(2));
    run(ctx, by, |client, place, follow| {
        give(&client.list_xattr(place.at(), follow)?, buffer, room)
    })
}

fn remove(ctx: &mut Ctx<'_>, by: By) -> Answer {
    let name = ctx.arg(1);
    run(ctx, by, |client, place, follow| {
        client
            .remove_xattr(place.at(), follow, &name_at(name)?)
            .map(|()| repeat::xattr_set(client, place, follow))
            .map(|()| 0)
    })
}

macro_rules! forms {
    ($($(#[$doc:meta])* $name:ident = $family:ident($by:expr);)*) => {$(
        $(#[$doc])*
        pub fn $name(ctx: &mut Ctx<'_>) -> Answer {
            $family(ctx, $by)
        }
    )*};
}

forms! {
    /// getxattr(path, name, buffer, bytes)
    getxattr = get(By::Path { follow: true });
    lgetxattr = get(By::Path { follow: false });
    fgetxattr = get(By::Descriptor);
    /// setxattr(path, name, value, bytes, flags)
    setxattr = set(By::Path { follow: true });
    lsetxattr = set(By::Path { follow: false });
    fsetxattr = set(By::Descriptor);
    /// listxattr(path, buffer, bytes)
    listxattr = list(By::Path { follow: true });
    llistxattr = list(By::Path { follow: false });
    flistxattr = list(By::Descriptor);
    /// removexattr(path, name)
    removexattr = remove(By::Path { follow: true });
    lremovexattr = remove(By::Path { follow: false });
    fremovexattr = remove(By::Descriptor);
}
