//! Descriptor numbers of the program as what they stand for.
//!
//! What must stay true: a number is *ours* only when one `fstat` says that it holds a placeholder of
//! our arena whose description is open; what is remembered of that is dropped at every change.

use crate::interpose::Ctx;
use crate::kernel;
use crate::patch::class::TOUCHED;
use crate::{descriptors, fdtable, process, subject};
use core::sync::atomic::Ordering::Relaxed;
use sealfs_client::FileRef;
use sealfs_client::node::placeholder::{self, Kind};
use sealfs_client::node::{OffsetGuard, Slot};
use sealfs_protocol::attr::{S_IFDIR, S_IFMT};
use sealfs_protocol::{Errno, InodeId};

/// Mode of placeholder directories: nothing else needs a closer look.
pub const PLACEHOLDER_MODE: u32 = libc::S_IFDIR | placeholder::DIRECTORY_MODE;

/// Mode of the kernel's FIFOs that stand for inodes of ours. The sticky bit, which nobody sets on a
/// FIFO, tells them from pipes.
pub const FIFO_MODE: u32 = libc::S_IFIFO | 0o1600;
/// Their names in the runtime directory: this and the inode's number.
pub const FIFO_NAME: &[u8] = b"fifo-";

/// What a descriptor number stands for.
pub enum Fd {
    /// The kernel's; also numbers that are not open, about which the kernel says so.
    Theirs,
    Ours(Open),
    /// One of the library's own.
    Internal,
    /// The kernel's directory above the mount point.
    Above,
    /// The kernel's list of this process's descriptors.
    Listing,
}

/// An open file description of ours, and the number it was reached by.
#[derive(Clone, Copy)]
pub struct Open {
    pub fd: u32,
    pub slot: Slot<'static>,
}

/// The descriptor in argument `n` of a call.
pub fn of(ctx: &Ctx<'_>, n: usize) -> Result<Fd, Errno> {
    lookup(ctx.fd(n))
}

pub fn lookup(fd: usize) -> Result<Fd, Errno> {
    match fdtable::get(fd) {
        fdtable::State::Native | fdtable::State::Fifo => return Ok(Fd::Theirs),
        fdtable::State::Above => return Ok(Fd::Above),
        fdtable::State::Listing => return Ok(Fd::Listing),
        fdtable::State::Internal if is_in_use(fd) => return Ok(Fd::Internal),
        fdtable::State::Ours(index) => {
            if let Some(open) = live(fd, index) {
                return Ok(Fd::Ours(open));
            }
        }
        fdtable::State::Unknown if process::is_sandboxed() => return Ok(Fd::Theirs),
        fdtable::State::Internal | fdtable::State::Unknown => {}
    }
    if fdtable::get(fd) != fdtable::State::Unknown {
        fdtable::forget(fd);
    }
    look(fd)
}

/// The inode of ours that the kernel's FIFO `fd` stands for.
pub fn fifo(fd: usize) -> Option<InodeId> {
    subject::borrow(fd);
    if !matches!(
        fdtable::get(fd),
        fdtable::State::Fifo | fdtable::State::Unknown
    ) || kernel::fstat(fd).ok()?.st_mode != FIFO_MODE
    {
        return None;
    }
    let path = kernel::descriptor_path(i32::try_from(fd).ok()?).ok()?;
    let below = path.strip_prefix(process::runtime().ok()?.path())?;
    let number = below.strip_prefix(b"/")?.strip_prefix(FIFO_NAME)?;
    // A name that was taken away is said to be so.
    let number = number.split(|b| *b == b' ').next()?;
    let text = core::str::from_utf8(number).ok()?;
    text.parse().ok().map(InodeId)
}

fn is_in_use(fd: usize) -> bool {
    descriptors::in_use().any(|own| own as usize == fd)
}

fn live(fd: usize, index: u32) -> Option<Open> {
    let arena = process::known_arena()?;
    let slot = arena.slot(arena.live(index)?)?;
    Some(Open {
        fd: fd as u32,
        slot,
    })
}

/// Asks the kernel what `fd` is, and remembers it.
fn look(fd: usize) -> Result<Fd, Errno> {
    subject::borrow(fd);
    let ticket = fdtable::begin(fd);
    let Ok(stat) = kernel::fstat(fd) else {
        if let Some(ticket) = ticket {
            fdtable::finish(ticket, fdtable::State::Unknown);
        }
        return Ok(Fd::Theirs);
    };
    let kind = if stat.st_mode == PLACEHOLDER_MODE {
        kind_of(fd)?
    } else {
        Kind::Native
    };
    let (state, found) = match kind {
        Kind::Slot(index) => match live(fd, index) {
            Some(open) => (fdtable::State::Ours(index), Ok(Fd::Ours(open))),
            None => (fdtable::State::Unknown, Err(Errno::EBADF)),
        },
        Kind::Foreign => (fdtable::State::Unknown, Err(Errno::EACCES)),
        Kind::Stale | Kind::Cwd { .. } => (fdtable::State::Unknown, Err(Errno::EBADF)),
        Kind::Native if process::is_ancestor(&stat) => (fdtable::State::Above, Ok(Fd::Above)),
        Kind::Native if stat.st_mode == FIFO_MODE => (fdtable::State::Fifo, Ok(Fd::Theirs)),
        Kind::Native => (fdtable::State::Native, Ok(Fd::Theirs)),
    };
    if matches!(state, fdtable::State::Ours(_)) {
        TOUCHED.store(true, Relaxed);
    }
    if let Some(ticket) = ticket {
        fdtable::finish(ticket, state);
    }
    found
}

/// What the placeholder-like directory `fd` is; attaches to the arena if it may be ours.
fn kind_of(fd: usize) -> Result<Kind, Errno> {
    let runtime = process::runtime()?;
    let kind = placeholder::classify(runtime, process::known_arena(), fd as i32)?;
    // One of our arena may have been made by another user: only the arena tells.
    if matches!(kind, Kind::Stale | Kind::Foreign) && process::known_arena().is_none() {
        let arena = &process::node()?.arena;
        return placeholder::classify(runtime, Some(arena), fd as i32);
    }
    Ok(kind)
}

impl Open {
    pub fn ino(&self) -> InodeId {
        self.slot.ino()
    }

    pub fn file(&self) -> FileRef {
        FileRef {
            ino: self.slot.ino(),
            open: self.slot.open_id(),
        }
    }

    pub fn is_directory(&self) -> bool {
        self.slot.kind() & S_IFMT == S_IFDIR
    }

    pub fn flags(&self) -> i32 {
        self.slot.flags() as i32
    }

    pub fn is_path_only(&self) -> bool {
        self.flags() & libc::O_PATH != 0
    }

    /// `O_PATH` descriptors answer EBADF to everything that reads, writes or changes; those of a
    /// session that the servers have ended, EIO.
    pub fn usable(&self) -> Result<(), Errno> {
        if self.is_path_only() {
            Err(Errno::EBADF)
        } else if self.slot.is_lost() {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }

    pub fn can_read(&self) -> bool {
        !self.is_path_only() && self.flags() & libc::O_ACCMODE != libc::O_WRONLY
    }

    pub fn can_write(&self) -> bool {
        !self.is_path_only()
            && matches!(
                self.flags() & libc::O_ACCMODE,
                libc::O_WRONLY | libc::O_RDWR
            )
    }

    /// The offset, held until the guard goes.
    pub fn lock_offset(&self) -> Result<OffsetGuard<'static>, Errno> {
        self.slot
            .lock_offset(process::me()?, process::deadline_ms())
    }
}
