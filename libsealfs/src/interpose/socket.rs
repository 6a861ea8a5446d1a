//! Sockets: descriptors of ours that are sent to other processes, and AF_UNIX addresses below the
//! mount.
//!
//! A socket that is bound below the mount gets an inode there, and its address in the kernel lies
//! in the runtime directory under the inode's number; so it works between the processes of a node.
//!
//! What must stay true: no address with a path below the mount reaches the kernel.
//!
//! # Safety
//! Addresses handed to the kernel are ours and outlive the call.

use super::{Ctx, fd, is_missing, naming, native, user};
use crate::fds::{self, Fd};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::patch::class::TOUCHED;
use crate::process;
use crate::route::{self, Answer, Bypass, Outcome, Place, Target, theirs};
use crate::subject;
use core::sync::atomic::Ordering::Relaxed;
use sealfs_client::Failure;
use sealfs_protocol::attr::{S_IFMT, S_IFSOCK};
use sealfs_protocol::{Errno, InodeId};

const EADDRINUSE: Errno = Errno(98);
/// Bytes of `sun_path` (unix(7)).
const PATH_BYTES: usize = 108;
/// Bytes of the family before it.
const FAMILY_BYTES: usize = 2;
const W_OK: u32 = 2;

/// The address below the mount that a call names, if it does.
fn place_in(pointer: usize, len: usize) -> Result<Option<Place>, Errno> {
    if pointer == 0 || len <= FAMILY_BYTES || len > FAMILY_BYTES + PATH_BYTES {
        return Ok(None);
    }
    let Ok(bytes) = user::copy_in(pointer, len) else {
        return Ok(None);
    };
    let family = u16::from_le_bytes([bytes[0], bytes[1]]);
    let path = &bytes[FAMILY_BYTES..];
    let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
    if i32::from(family) != libc::AF_UNIX || end == 0 {
        return Ok(None);
    }
    match route::locate(AT_FDCWD, &path[..end], true)? {
        Target::Ours(place) => Ok(Some(place)),
        Target::Theirs(_) | Target::Link(_) => Ok(None),
    }
}

/// The kernel's address of the socket with this inode.
fn address_of(ino: InodeId) -> Result<(Vec<u8>, CPath), Errno> {
    let mut path = process::runtime()?.join(b"sock-");
    path.push_number(ino.0);
    let mut address = (libc::AF_UNIX as u16).to_le_bytes().to_vec();
    address.extend_from_slice(path.as_bytes());
    address.push(0);
    if address.len() > FAMILY_BYTES + PATH_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok((address, CPath::new(path.as_bytes())))
}

fn errno_of(failure: Failure) -> Errno {
    match failure {
        Failure::Errno(errno) => errno,
        Failure::Outside(_) => Errno::EOPNOTSUPP,
    }
}

/// bind(fd, address, bytes)
pub fn bind(ctx: &mut Ctx<'_>) -> Answer {
    let Some(place) = place_in(ctx.arg(1), ctx.arg(2) as u32 as usize)? else {
        return theirs(Bypass::NotBelowMount);
    };
    let client = process::client()?;
    let mode = S_IFSOCK | 0o777 & !process::umask();
    let attr = naming::making(&client, place.at(), || client.mknod(place.at(), mode, 0)).map_err(
        |failure| match errno_of(failure) {
            Errno::EEXIST => EADDRINUSE,
            errno => errno,
        },
    )?;
    let (address, path) = address_of(attr.ino)?;
    // Left by a socket of an inode number of another life of the cluster.
    let _ = kernel::unlink(&path);
    let said = with_address(ctx, 1, &address);
    if said < 0 {
        let _ = naming::removing(&client, place.at(), false, || client.unlink(place.at()));
    }
    Ok(Outcome::Ours(said))
}

/// Issues the call with an address of ours in arguments `index` and the next.
fn with_address(ctx: &Ctx<'_>, index: usize, address: &[u8]) -> isize {
    let mut call = *ctx.call;
    call.args[index] = subject::lend(address);
    call.args[index + 1] = address.len();
    native(&call)
}

/// The kernel's address of a socket of the volume that a call wants to reach.
fn peer(place: &Place) -> Result<Vec<u8>, Errno> {
    let client = process::client()?;
    let attr = client.access(place.at(), true, W_OK).map_err(errno_of)?;
    if attr.mode & S_IFMT != S_IFSOCK {
        return Err(Errno::ECONNREFUSED);
    }
    Ok(address_of(attr.ino)?.0)
}

/// A socket whose other end is gone, or was on another node.
fn refused(said: isize) -> Outcome {
    Outcome::Ours(if is_missing(said) {
        -Errno::ECONNREFUSED.0 as isize
    } else {
        said
    })
}

/// connect(fd, address, bytes)
pub fn connect(ctx: &mut Ctx<'_>) -> Answer {
    match place_in(ctx.arg(1), ctx.arg(2) as u32 as usize)? {
        None => theirs(Bypass::NotBelowMount),
        Some(place) => Ok(refused(with_address(ctx, 1, &peer(&place)?))),
    }
}

/// sendto(fd, bytes, count, flags, address, bytes)
pub fn sendto(ctx: &mut Ctx<'_>) -> Answer {
    match place_in(ctx.arg(4), ctx.arg(5) as u32 as usize)? {
        None => theirs(Bypass::NotBelowMount),
        Some(place) => Ok(refused(with_address(ctx, 4, &peer(&place)?))),
    }
}

/// sendmsg(fd, message, flags)
pub fn sendmsg(ctx: &mut Ctx<'_>) -> Answer {
    let header: libc::msghdr = user::read(ctx.arg(1))?;
    if place_in(header.msg_name as usize, header.msg_namelen as usize)?.is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    share_sent(&header)?;
    theirs(Bypass::KernelsPart)
}

/// sendmmsg(fd, messages, count, flags)
pub fn sendmmsg(ctx: &mut Ctx<'_>) -> Answer {
    const COUNT_MAX: usize = 1024;
    for n in 0..ctx.arg(2).min(COUNT_MAX) {
        let header: libc::msghdr = user::read(ctx.arg(1) + n * size_of::<libc::mmsghdr>())?;
        share_sent(&header)?;
    }
    theirs(Bypass::KernelsPart)
}

/// Marks descriptions whose descriptors a message carries.
fn share_sent(header: &libc::msghdr) -> Result<(), Errno> {
    const CONTROL_MAX: usize = 64 << 10;
    const HEAD: usize = size_of::<libc::cmsghdr>();
    if header.msg_control.is_null() || !TOUCHED.load(Relaxed) {
        return Ok(());
    }
    let control = user::copy_in(
        header.msg_control as usize,
        header.msg_controllen.min(CONTROL_MAX),
    )?;
    let mut rest = &control[..];
    while rest.len() >= HEAD {
        let word = |at: usize| {
            rest[at..at + 4]
                .first_chunk::<4>()
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let len = word(0) as usize;
        let (level, kind) = (word(8) as i32, word(12) as i32);
        if len < HEAD || len > rest.len() {
            break;
        }
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            for number in rest[HEAD..len].chunks_exact(4) {
                let number = number
                    .first_chunk::<4>()
                    .map_or(0, |b| u32::from_le_bytes(*b));
                share_one(number)?;
            }
        }
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(())
}

fn share_one(number: u32) -> Result<(), Errno> {
    match fds::lookup(number as usize)? {
        Fd::Ours(open) => fd::share(&open),
        Fd::Internal => Err(Errno::EBADF),
        Fd::Theirs | Fd::Above | Fd::Listing => Ok(()),
    }
}
