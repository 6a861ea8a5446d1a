//! stat(2), statx(2), access(2) and their kin.
//!
//! What must stay true: `st_dev` is the same number for everything of one volume in every process
//! and differs from every local file system.
//!
//! # Safety
//! Structures for the program start as all zeros, which is a value of each of them.

use super::at::{self, PathArg};
use super::{Ctx, opendir, user};
use crate::credentials;
use crate::fds::{self, Fd};
use crate::kernel;
use crate::process::{self, ClientRef};
use crate::route::{Answer, Bypass, Place, Target, done, theirs};
use sealfs_client::Failure;
use sealfs_protocol::attr::{Attr, Time};
use sealfs_protocol::{Errno, codec};

/// What programs are told to read and write at a time (`st_blksize`).
const BLOCK_BYTES: i64 = 1 << 20;
/// The same of directories. The C library makes its buffer for readdir(3) this large: more would be
/// mapped and unmapped for each listing.
pub const DIRECTORY_BLOCK_BYTES: i64 = 64 << 10;

fn block_bytes(attr: &Attr) -> i64 {
    if attr.is_dir() {
        DIRECTORY_BLOCK_BYTES
    } else {
        BLOCK_BYTES
    }
}
/// Major number of the volumes' devices; unassigned in Linux.
const MAJOR: u32 = 0x5ea;
/// The bit of a statx mask that must not be set (statx(2)).
const STATX_RESERVED: u32 = 0x8000_0000;
const MINOR_MASK: u32 = 0xf_ffff;

/// The minor number that stands for this volume.
fn minor() -> u32 {
    codec::crc32c(process::volume_name().as_bytes()) & MINOR_MASK
}

/// `st_dev` of everything in the volume.
pub fn device() -> u64 {
    libc::makedev(MAJOR, minor())
}

/// As the kernel lays out `struct stat`.
pub fn encode(attr: &Attr) -> libc::stat {
    // SAFETY: all-zero is a value of this plain structure.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    stat.st_dev = device();
    stat.st_ino = attr.ino.0;
    stat.st_nlink = u64::from(attr.nlink);
    stat.st_mode = attr.mode;
    stat.st_uid = attr.uid;
    stat.st_gid = attr.gid;
    stat.st_rdev = attr.rdev;
    stat.st_size = attr.size_bytes as i64;
    stat.st_blksize = block_bytes(attr);
    stat.st_blocks = attr.blocks_512 as i64;
    (stat.st_atime, stat.st_atime_nsec) = time(attr.atime);
    (stat.st_mtime, stat.st_mtime_nsec) = time(attr.mtime);
    (stat.st_ctime, stat.st_ctime_nsec) = time(attr.ctime);
    stat
}

fn time(time: Time) -> (i64, i64) {
    (time.seconds, i64::from(time.nanoseconds))
}

fn encode_statx(attr: &Attr) -> libc::statx {
    // SAFETY: all-zero is a value of this plain structure.
    let mut stat: libc::statx = unsafe { core::mem::zeroed() };
    stat.stx_mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    stat.stx_blksize = block_bytes(attr) as u32;
    stat.stx_nlink = attr.nlink;
    stat.stx_uid = attr.uid;
    stat.stx_gid = attr.gid;
    stat.stx_mode = attr.mode as u16;
    stat.stx_ino = attr.ino.0;
    stat.stx_size = attr.size_bytes;
    stat.stx_blocks = attr.blocks_512;
    stat.stx_rdev_major = libc::major(attr.rdev);
    stat.stx_rdev_minor = libc::minor(attr.rdev);
    stat.stx_dev_major = MAJOR;
    stat.stx_dev_minor = minor();
    for (to, from) in [
        (&mut stat.stx_atime, attr.atime),
        (&mut stat.stx_mtime, attr.mtime),
        (&mut stat.stx_ctime, attr.ctime),
        (&mut stat.stx_btime, attr.btime),
    ] {
        to.tv_sec = from.seconds;
        to.tv_nsec = from.nanoseconds;
    }
    stat
}

/// The attributes at a place. A descriptor's are asked by its open description, which also finds a
/// file that has no name any more.
fn attributes(client: &ClientRef, place: &Place, follow: bool) -> Result<Attr, Failure> {
    if let Some(fd) = place.descriptor
        && let Fd::Ours(open) = fds::lookup(fd as usize)?
    {
        return Ok(match opendir::attributes(open.file()) {
            Some(attr) => attr,
            None => open.attributes()?,
        });
    }
    let said = client.stat(place.at(), follow);
    match (&said, place.descriptor) {
        (Err(Failure::Errno(Errno::ENOENT | Errno::ESTALE)), Some(fd)) => {
            nameless_fifo(fd as usize).map_or(said, Ok)
        }
        _ => said,
    }
}

/// Who inherited an open FIFO from a process that has ended has no hold on it ([`super::hold`]): its
/// inode went with its last name.
fn nameless_fifo(fd: usize) -> Option<Attr> {
    let ino = fds::fifo(fd)?;
    let kernels = kernel::fstat(fd).ok()?;
    Some(Attr {
        ino,
        mode: kernels.st_mode & !libc::S_ISVTX,
        uid: kernels.st_uid,
        gid: kernels.st_gid,
        ..Attr::default()
    })
}

/// stat(path, buffer)
pub fn stat(ctx: &mut Ctx<'_>) -> Answer {
    into_stat(ctx, PathArg::plain(0, true), 1)
}

/// lstat(path, buffer)
pub fn lstat(ctx: &mut Ctx<'_>) -> Answer {
    into_stat(ctx, PathArg::plain(0, false), 1)
}

/// newfstatat(dir, path, buffer, flags)
pub fn newfstatat(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(3);
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH;
    if flags & !known != 0 {
        return theirs(Bypass::KernelsPart);
    }
    into_stat(ctx, flagged(ctx, 1, flags), 2)
}

/// The path argument of a call with `AT_*` flags.
pub fn flagged(ctx: &Ctx<'_>, index: usize, flags: i32) -> PathArg {
    PathArg::at(ctx, index, flags & libc::AT_SYMLINK_NOFOLLOW == 0)
        .or_empty(flags & libc::AT_EMPTY_PATH != 0)
}

fn into_stat(ctx: &mut Ctx<'_>, arg: PathArg, buffer: usize) -> Answer {
    let out = ctx.arg(buffer);
    at::run(ctx, arg, |client, place| {
        user::write(out, &encode(&attributes(client, place, arg.follow)?))?;
        Ok(0)
    })
}

/// fstat(fd, buffer)
pub fn fstat(ctx: &mut Ctx<'_>) -> Answer {
    if let Fd::Ours(open) = fds::of(ctx, 0)? {
        user::write(ctx.arg(1), &encode(&open.attributes()?))?;
        return done();
    }
    if fds::fifo(ctx.fd(0)).is_none() {
        return theirs(Bypass::NativeDescriptor);
    }
    let Target::Ours(place) = at::descriptor(ctx.int(0))? else {
        return theirs(Bypass::NativeDescriptor);
    };
    match attributes(&process::client()?, &place, false) {
        Ok(attr) => user::write(ctx.arg(1), &encode(&attr))?,
        Err(Failure::Errno(errno)) => return Err(errno),
        Err(Failure::Outside(_)) => return Err(Errno::EIO),
    }
    done()
}

/// statx(dir, path, flags, mask, buffer)
pub fn statx(ctx: &mut Ctx<'_>) -> Answer {
    let (flags, out) = (ctx.int(2), ctx.arg(4));
    let known = libc::AT_SYMLINK_NOFOLLOW
        | libc::AT_NO_AUTOMOUNT
        | libc::AT_EMPTY_PATH
        | libc::AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || flags & libc::AT_STATX_SYNC_TYPE == libc::AT_STATX_SYNC_TYPE {
        return theirs(Bypass::KernelsPart);
    }
    let arg = flagged(ctx, 1, flags);
    let mask = ctx.arg(3) as u32;
    at::run(ctx, arg, |client, place| {
        if mask & STATX_RESERVED != 0 {
            return Err(Errno::EINVAL.into());
        }
        user::write(out, &encode_statx(&attributes(client, place, arg.follow)?))?;
        Ok(0)
    })
}

/// access(path, mode)
pub fn access(ctx: &mut Ctx<'_>) -> Answer {
    check_access(ctx, PathArg::plain(0, true), 1, 0)
}

/// faccessat(dir, path, mode): the system call takes no flags
pub fn faccessat(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::at(ctx, 1, true);
    check_access(ctx, arg, 2, 0)
}

/// faccessat2(dir, path, mode, flags)
pub fn faccessat2(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(3);
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    if flags & !known != 0 {
        return theirs(Bypass::KernelsPart);
    }
    let arg = flagged(ctx, 1, flags);
    check_access(ctx, arg, 2, flags)
}

fn check_access(ctx: &mut Ctx<'_>, arg: PathArg, mode: usize, flags: i32) -> Answer {
    let mode = ctx.int(mode);
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    at::run(ctx, arg, |client, place| {
        let effective = flags & libc::AT_EACCESS != 0;
        let checked = match credentials::real_if_different().filter(|_| !effective) {
            Some(real) => {
                let index = client.register_credentials(&real);
                client
                    .acting_as(index)
                    .access(place.at(), arg.follow, mode as u32)
            }
            None => client.access(place.at(), arg.follow, mode as u32),
        };
        checked.map(|_| 0)
    })
}
