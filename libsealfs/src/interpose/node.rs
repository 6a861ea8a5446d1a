//! Inodes that are neither files nor directories nor links: mknod(2), and FIFOs, which work between
//! the processes of a node by a FIFO of the kernel's in the runtime directory, found by the inode.
//!
//! # Safety
//! Paths are ours and outlive the calls.

use super::at::{self, PathArg};
use super::{Ctx, naming};
use crate::fds::{FIFO_MODE, FIFO_NAME};
use crate::fdtable::{self, State};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::patch::call::Call;
use crate::process;
use crate::route::{Answer, Outcome, value};
use crate::subject;
use sealfs_protocol::attr::{S_IFDIR, S_IFMT, S_IFREG};
use sealfs_protocol::{Errno, InodeId};

/// mknod(path, mode, device)
pub fn mknod(ctx: &mut Ctx<'_>) -> Answer {
    make(ctx, PathArg::plain(0, false), 1)
}

/// mknodat(dir, path, mode, device)
pub fn mknodat(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::at(ctx, 1, false);
    make(ctx, arg, 2)
}

fn make(ctx: &mut Ctx<'_>, arg: PathArg, mode: usize) -> Answer {
    let (mode, device) = (ctx.arg(mode) as u32, ctx.arg(mode + 1) as u64);
    at::run(ctx, arg, |client, place| {
        if place.is_mount_point() {
            return Err(Errno::EEXIST.into());
        }
        let kind = match mode & S_IFMT {
            0 => S_IFREG,
            S_IFDIR => return Err(Errno::EPERM.into()),
            kind => kind,
        };
        let mode = kind | mode & 0o7777 & !process::umask();
        naming::making(client, place.at(), || {
            client.mknod(place.at(), mode, device)
        })?;
        Ok(0)
    })
}

/// Opens the kernel's FIFO that stands for `ino` on this node. Waits for the other end as the
/// kernel does, with the program's signal mask.
pub fn open_fifo(ino: InodeId, flags: i32) -> Answer {
    let mut path = process::runtime()?.join(FIFO_NAME);
    path.push_number(ino.0);
    let path = CPath::new(path.as_bytes());
    match kernel::make_node(&path, FIFO_MODE) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    let kept = libc::O_ACCMODE | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_APPEND;
    let flags = (flags & kept | libc::O_NOFOLLOW) as usize;
    let call = Call {
        nr: libc::SYS_openat as usize,
        args: [AT_FDCWD as usize, path.address(), flags, 0, 0, 0],
    };
    let said = subject::native_here(&call);
    let Ok(fd) = u32::try_from(said) else {
        return Ok(Outcome::Ours(said));
    };
    let fd = subject::export(fd)? as usize;
    fdtable::set(fd, State::Fifo);
    value(fd)
}
