//! fcntl(2) and ioctl(2) on descriptors of ours.

use super::rw::ours;
use super::{Ctx, fd, lock, user};
use crate::fds::{self, Fd, Open};
use crate::route::{Answer, Bypass, done, theirs, value};
use crate::subject;
use sealfs_protocol::Errno;

/// The flags that F_SETFL may change (fcntl(2)).
const SETTABLE: i32 =
    libc::O_APPEND | libc::O_NONBLOCK | libc::O_NOATIME | libc::O_DIRECT | libc::O_ASYNC;
const F_GETLK: i32 = libc::F_GETLK;
const F_SETLKW: i32 = libc::F_SETLKW;
const F_OFD_FIRST: i32 = 36;
const F_OFD_LAST: i32 = 38;
const F_GETOWN_EX: i32 = 16;
const F_NOTIFY: i32 = 1026;
const DN_MULTISHOT: i32 = i32::MIN;
const FICLONE: u32 = 0x4004_9409;
const FICLONERANGE: u32 = 0x4020_940d;
const FIDEDUPERANGE: u32 = 0xc018_9436;

/// fcntl(fd, command, argument)
pub fn fcntl(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let command = ctx.int(1);
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => fd::duplicate(ctx),
        libc::F_GETFD | libc::F_SETFD => theirs(Bypass::KernelsPart),
        libc::F_GETFL => value(open.flags() as usize),
        _ if open.is_path_only() => Err(Errno::EBADF),
        libc::F_SETFL => {
            let flags = ctx.int(2);
            if flags & !open.flags() & libc::O_NOATIME != 0 {
                may_leave_atime(&open)?;
            }
            open.slot.set_flags(flags as u32, SETTABLE as u32);
            done()
        }
        F_GETLK..=F_SETLKW | F_OFD_FIRST..=F_OFD_LAST => lock::fcntl(&open, command, ctx.arg(2)),
        // Whom to signal: kept by the kernel with the placeholder, and never used for files.
        libc::F_SETOWN..=libc::F_GETOWN | 10..=F_GETOWN_EX => theirs(Bypass::KernelsPart),
        libc::F_GETLEASE => value(libc::F_UNLCK as usize),
        libc::F_SETPIPE_SZ | libc::F_GETPIPE_SZ => Err(Errno::EBADF),
        libc::F_SETLEASE => Err(Errno::EAGAIN),
        // No events: what was asked for before, which is nothing, is taken back.
        F_NOTIFY if ctx.int(2) & !DN_MULTISHOT == 0 => done(),
        F_NOTIFY if !open.is_directory() => Err(Errno::ENOTDIR),
        _ => Err(Errno::EINVAL),
    }
}

/// O_NOATIME is the owner's to set, and root's.
fn may_leave_atime(open: &Open) -> Result<(), Errno> {
    let user = subject::file_ids().0;
    if user == 0 || open.attributes()?.uid == user {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// ioctl(fd, request, argument)
pub fn ioctl(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    match ctx.arg(1) as u32 {
        request if request == libc::FIOCLEX as u32 || request == libc::FIONCLEX as u32 => {
            theirs(Bypass::KernelsPart)
        }
        request if request == libc::FIONREAD as u32 => bytes_to_read(&open, ctx.arg(2)),
        request if request == libc::FIONBIO as u32 => {
            let on: i32 = user::read(ctx.arg(2))?;
            let flag = if on == 0 { 0 } else { libc::O_NONBLOCK as u32 };
            open.slot.set_flags(flag, libc::O_NONBLOCK as u32);
            done()
        }
        FICLONE | FICLONERANGE | FIDEDUPERANGE => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::ENOTTY),
    }
}

/// FIONREAD: what is left from the offset to the end.
fn bytes_to_read(open: &Open, out: usize) -> Answer {
    if !open.is_regular() {
        return Err(Errno::ENOTTY);
    }
    let size = open.attributes()?.size_bytes;
    let left = size.saturating_sub(open.slot.peek_offset());
    user::write(out, &i32::try_from(left).unwrap_or(i32::MAX))?;
    done()
}
