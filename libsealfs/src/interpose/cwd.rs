//! chdir(2), fchdir(2), getcwd(2).

use super::at::{self, PathArg};
use super::rw::ours;
use super::{Ctx, NOT_FOUND, hold, user};
use crate::cwd::{self, Cwd};
use crate::fds::{self, Fd};
use crate::process::ClientRef;
use crate::route::{Answer, Bypass, Target, asked, done, theirs, value};
use crate::{path, process, subject};
use sealfs_client::{At, Failure};
use sealfs_protocol::{Errno, InodeId};

const X_OK: u32 = 1;

/// chdir(path)
pub fn chdir(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::plain(0, true);
    let target = at::locate(ctx, arg)?;
    if let Target::Theirs(_) = target {
        return native(ctx, arg);
    }
    into(ctx, arg, target)
}

fn into(ctx: &mut Ctx<'_>, arg: PathArg, target: Target) -> Answer {
    let answer = at::run_from(ctx, arg, target, &mut |client, place| {
        let attr = match client.access(place.at(), true, X_OK) {
            // Whether it is a directory matters first.
            Err(Failure::Errno(Errno::EACCES)) if !client.stat(place.at(), true)?.is_dir() => {
                return Err(Errno::ENOTDIR.into());
            }
            other => other?,
        };
        if !attr.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        let parent = match path::split_last(&place.path) {
            Some((b"", name)) if name != b"." && name != b".." => Some(place.base),
            _ => None,
        };
        enter(client, attr.ino, parent)?;
        Ok(0)
    });
    // A link in the volume may have led to a directory of the kernel's.
    moved();
    answer
}

/// A directory of the kernel's, unless a link on the way leads to us.
fn native(ctx: &mut Ctx<'_>, arg: PathArg) -> Answer {
    cwd::forget();
    let said = subject::ask(ctx);
    cwd::forget();
    if said.is_none_or(super::is_missing) && !process::is_sandboxed() {
        ctx.kernel_said = said.or(NOT_FOUND);
        if let target @ Target::Ours(_) = at::locate(ctx, arg)? {
            return into(ctx, arg, target);
        }
    }
    answered(said)
}

/// The kernel did it, or is to do it: where we are now has to be looked up.
fn answered(said: Option<isize>) -> Answer {
    if said.is_some() {
        moved();
    }
    asked(Bypass::NotBelowMount, said)
}

fn enter(client: &ClientRef, ino: InodeId, parent: Option<InodeId>) -> Result<(), Failure> {
    hold::directory(client, ino)?;
    cwd::enter(ino, parent)?;
    hold::settle_directory(&Cwd::Ours(ino));
    Ok(())
}

/// The working directory may be another one now; where another process is, the next call tells.
fn moved() {
    cwd::forget();
    if !process::is_sandboxed() {
        let cwd = cwd::get();
        if !subject::FOREIGN {
            hold::settle_directory(&cwd);
        }
    }
}

/// fchdir(fd)
pub fn fchdir(ctx: &mut Ctx<'_>) -> Answer {
    let open = match fds::of(ctx, 0)? {
        Fd::Ours(open) => open,
        Fd::Internal => return Err(Errno::EBADF),
        Fd::Theirs | Fd::Above | Fd::Listing => {
            cwd::forget();
            let said = subject::ask(ctx);
            cwd::forget();
            return answered(said);
        }
    };
    if !open.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let at = At {
        base: open.ino(),
        path: b"",
    };
    let client = process::client()?;
    let may_enter = client.access(at, true, X_OK);
    match may_enter.and_then(|_| enter(&client, open.ino(), None)) {
        Ok(()) => done(),
        Err(Failure::Errno(errno)) => Err(errno),
        Err(Failure::Outside(_)) => Err(Errno::EIO),
    }
}

/// getcwd(buffer, bytes): the length with its NUL
pub fn getcwd(ctx: &mut Ctx<'_>) -> Answer {
    let Cwd::Ours(ino) = cwd::get() else {
        return theirs(Bypass::KernelsPart);
    };
    let mut full = path_within_limit(ino)?;
    full.push(0);
    if full.len() > ctx.arg(1) {
        return Err(Errno::ERANGE);
    }
    user::copy_out(ctx.arg(0), &full)?;
    value(full.len())
}

/// The kernel has one page for the path.
fn path_within_limit(ino: InodeId) -> Result<Vec<u8>, Errno> {
    let full = cwd::path_of(ino)?;
    if full.len() >= sealfs_protocol::limits::PATH_MAX_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(full)
}

/// syncfs(fd)
pub fn syncfs(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    process::client()?.sync_fs()?;
    done()
}
