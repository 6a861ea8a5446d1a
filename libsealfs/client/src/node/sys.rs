//! The system calls of this folder, with plain descriptor numbers and our own `Errno`.
//!
//! rustix's `OwnedFd` must never be dropped inside somebody's program: with its `std` feature it
//! would call libc's `close`, which is our own hook. So every descriptor is a number here, closed
//! by [`close`] or by [`Fd`].
#![allow(
    unsafe_code,
    reason = "descriptor numbers become borrowed descriptors for one call"
)]
//!
//! # Safety
//! `BorrowedFd::borrow_raw` is used for the length of one call with a number that is open or for
//! which the kernel answers EBADF; no memory depends on it.

use rustix::fd::{BorrowedFd, IntoRawFd};
use rustix::fs::{self, AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, Stat, Timestamps};
use rustix::path::Arg;
use rustix::time::{ClockId, Timespec};
use sealfs_protocol::Errno;

pub type RawFd = i32;
pub type Result<T> = core::result::Result<T, Errno>;

/// The directory that relative paths start from, as the kernel takes it.
pub const CWD: RawFd = -100;

pub fn errno(e: rustix::io::Errno) -> Errno {
    Errno(e.raw_os_error())
}

/// A number as a descriptor for the length of a call.
pub fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the number is passed to the kernel only; -1 is the one forbidden value.
    unsafe { BorrowedFd::borrow_raw(if fd == -1 { i32::MAX } else { fd }) }
}

/// A descriptor that is closed when it goes out of scope, past libc.
#[derive(Debug)]
pub struct Fd(RawFd);

impl Fd {
    pub fn new(fd: RawFd) -> Fd {
        Fd(fd)
    }
    pub fn raw(&self) -> RawFd {
        self.0
    }
    pub fn into_raw(self) -> RawFd {
        let fd = self.0;
        core::mem::forget(self);
        fd
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        close(self.0);
    }
}

pub fn close(fd: RawFd) {
    if fd >= 0 {
        // SAFETY: the caller owns the number.
        unsafe { rustix::io::close(fd) }
    }
}

pub fn open(path: impl Arg, flags: OFlags, mode: u32) -> Result<Fd> {
    openat(CWD, path, flags, mode)
}

pub fn openat(dir: RawFd, path: impl Arg, flags: OFlags, mode: u32) -> Result<Fd> {
    fs::openat(borrow(dir), path, flags, Mode::from_raw_mode(mode))
        .map(|fd| Fd(fd.into_raw_fd()))
        .map_err(errno)
}

pub fn fstat(fd: RawFd) -> Result<Stat> {
    fs::fstat(borrow(fd)).map_err(errno)
}

pub fn stat_at(dir: RawFd, path: impl Arg, flags: AtFlags) -> Result<Stat> {
    fs::statat(borrow(dir), path, flags).map_err(errno)
}

pub fn mkdir(path: impl Arg, mode: u32) -> Result<()> {
    fs::mkdirat(borrow(CWD), path, Mode::from_raw_mode(mode)).map_err(errno)
}

pub fn mkdir_at(dir: RawFd, path: impl Arg, mode: u32) -> Result<()> {
    fs::mkdirat(borrow(dir), path, Mode::from_raw_mode(mode)).map_err(errno)
}

/// Sets the mode whatever the file mode mask took off it.
pub fn chmod_at(dir: RawFd, path: impl Arg, mode: u32) -> Result<()> {
    let none = AtFlags::empty();
    fs::chmodat(borrow(dir), path, Mode::from_raw_mode(mode), none).map_err(errno)
}

pub fn rmdir_at(dir: RawFd, path: impl Arg) -> Result<()> {
    fs::unlinkat(borrow(dir), path, AtFlags::REMOVEDIR).map_err(errno)
}

pub fn rmdir(path: impl Arg) -> Result<()> {
    fs::unlinkat(borrow(CWD), path, AtFlags::REMOVEDIR).map_err(errno)
}

pub fn unlink(path: impl Arg) -> Result<()> {
    fs::unlinkat(borrow(CWD), path, AtFlags::empty()).map_err(errno)
}

pub fn rename(from: impl Arg, to: impl Arg) -> Result<()> {
    fs::renameat(borrow(CWD), from, borrow(CWD), to).map_err(errno)
}

/// Sets both times of `path` to the same instant.
pub fn set_times_at(dir: RawFd, path: impl Arg, seconds: i64, nanoseconds: i64) -> Result<()> {
    let at = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: at,
        last_modification: at,
    };
    fs::utimensat(borrow(dir), path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(errno)
}

/// Backs a range of a file with pages; a pending signal makes the kernel start over.
pub fn allocate(fd: RawFd, offset: u64, len: u64) -> Result<()> {
    const TRIES: u32 = 100;
    let mut last = Errno::EINTR;
    for _ in 0..TRIES {
        match fs::fallocate(borrow(fd), FallocateFlags::empty(), offset, len).map_err(errno) {
            Err(Errno::EINTR) => last = Errno::EINTR,
            other => return other,
        }
    }
    Err(last)
}

pub fn flock(fd: RawFd, operation: FlockOperation) -> Result<()> {
    fs::flock(borrow(fd), operation).map_err(errno)
}

/// A duplicate at the lowest free number from `from` on, closed at exec.
pub fn duplicate(fd: RawFd, from: RawFd) -> Result<Fd> {
    rustix::io::fcntl_dupfd_cloexec(borrow(fd), from)
        .map(|fd| Fd(fd.into_raw_fd()))
        .map_err(errno)
}

/// Reads until the buffer is full or the file ends.
pub fn read_all(fd: RawFd, into: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match rustix::io::read(borrow(fd), &mut into[done..]).map_err(errno) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

pub fn write_all(fd: RawFd, bytes: &[u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::write(borrow(fd), &bytes[done..]).map_err(errno) {
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => done += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Random bytes for identities.
pub fn random_u128() -> Result<u128> {
    let mut bytes = [0u8; 16];
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(u128::from_le_bytes(bytes))
}

/// Time since boot, sleep included, in ms: the same for every process of the node.
pub fn boot_ms() -> u64 {
    let now = rustix::time::clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// Sleeps at most this long; a signal may end it earlier.
pub fn pause_ms(ms: u64) {
    let time = Timespec {
        tv_sec: (ms / 1000) as i64,
        tv_nsec: (ms % 1000) as i64 * 1_000_000,
    };
    let _ = rustix::thread::nanosleep(&time);
}

/// Reads at an offset until the buffer is full or the file ends.
pub fn read_at(fd: RawFd, offset: u64, into: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match rustix::io::pread(borrow(fd), &mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(done)
}

/// Writes all of `bytes` at an offset.
pub fn write_at(fd: RawFd, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(borrow(fd), &bytes[done..], offset + done as u64) {
            Ok(0) => return Err(Errno::EIO),
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    Ok(())
}
