//! The listener of a seccomp filter: seccomp_unotify(2).
//!
//! # Safety
//! Structures have the kernel's layout and outlive the calls that get them.

use crate::sys::{self, check};
use core::sync::atomic::{AtomicI32, Ordering::Relaxed};
use sealfs_protocol::Errno;

/// `struct seccomp_notif`: a call that waits for an answer.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Notification {
    pub id: u64,
    /// The thread.
    pub tid: u32,
    flags: u32,
    pub number: i32,
    architecture: u32,
    pub at: u64,
    pub arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`
#[repr(C)]
struct AddFd {
    id: u64,
    flags: u32,
    source: u32,
    number: u32,
    number_flags: u32,
}

const fn request(direction: usize, number: usize, bytes: usize) -> usize {
    direction << 30 | bytes << 16 | (b'!' as usize) << 8 | number
}
const WRITE: usize = 1;
const BOTH: usize = 3;
const RECEIVE: usize = request(BOTH, 0, size_of::<Notification>());
const SEND: usize = request(BOTH, 1, size_of::<Response>());
const IS_VALID: usize = request(WRITE, 2, size_of::<u64>());
const ADD_FD: usize = request(WRITE, 3, size_of::<AddFd>());
const SET_FLAGS: usize = request(WRITE, 4, size_of::<u64>());
const SYNC_WAKE_UP: usize = 1;
const CONTINUE: u32 = 1;

static LISTENER: AtomicI32 = AtomicI32::new(-1);

/// The descriptor, and where it is found from now on. Whoever waits for the other is woken on the
/// same processor where the kernel can do that (Linux 6.6).
pub fn set_listener(fd: i32) {
    LISTENER.store(fd, Relaxed);
    let _ = ioctl(SET_FLAGS, SYNC_WAKE_UP);
}

pub fn listener() -> i32 {
    LISTENER.load(Relaxed)
}

fn ioctl(request: usize, structure: usize) -> Result<usize, Errno> {
    let nr = libc::SYS_ioctl as usize;
    // SAFETY: callers pass the structure of the request.
    check(unsafe { sys::syscall3(nr, listener() as usize, request, structure) }).map_err(Errno)
}

/// The next call. ENOENT: its thread was killed meanwhile.
pub fn receive() -> Result<Notification, Errno> {
    let mut one = Notification::default();
    ioctl(RECEIVE, (&raw mut one) as usize)?;
    Ok(one)
}

fn respond(id: u64, value: i64, error: i32, flags: u32) -> Result<(), Errno> {
    let response = Response {
        id,
        value,
        error,
        flags,
    };
    ioctl(SEND, (&raw const response) as usize).map(|_| ())
}

/// The kernel's word for the call: a value, or `-errno`.
pub fn answer(id: u64, said: isize) -> Result<(), Errno> {
    match check(said) {
        Ok(_) => respond(id, said as i64, 0, 0),
        Err(_) => respond(id, 0, said as i32, 0),
    }
}

/// The kernel does the call itself. (Another thread of the program may change what its pointers
/// name after they were looked at: this is no border of security, it only spares the kernel's part
/// of the tree from being served by us.)
pub fn go_on(id: u64) -> Result<(), Errno> {
    respond(id, 0, 0, CONTINUE)
}

/// Whether the call still waits for its answer.
pub fn is_waiting(id: u64) -> bool {
    ioctl(IS_VALID, (&raw const id) as usize).is_ok()
}

/// Puts a duplicate of `fd` into the program, at the lowest free number.
pub fn add_fd(id: u64, fd: u32, cloexec: bool) -> Result<u32, Errno> {
    let add = AddFd {
        id,
        flags: 0,
        source: fd,
        number: 0,
        number_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    ioctl(ADD_FD, (&raw const add) as usize).map(|number| number as u32)
}
