//! The supervisor's own processes: made, ended, waited for, and how soon they run.
//!
//! # Safety
//! The kernel calls get numbers, or structures of ours that outlive them.

use crate::sys::{self, check};
use sealfs_protocol::Errno;

/// Has the kernel run this process as soon as there is something to hear, where it may: until a call
/// is heard, a signal whose handler does not ask for SA_RESTART ends it with EINTR. Its children are
/// in no such hurry.
pub fn hurry() {
    /// `struct sched_attr` in its first version (sched_setattr(2)).
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    const RESET_ON_FORK: u64 = 1;
    const SLICE_NS: u64 = 100_000;
    let with = |policy: i32, priority: u32, runtime: u64| Attributes {
        size: size_of::<Attributes>() as u32,
        policy: policy as u32,
        flags: RESET_ON_FORK,
        nice: 0,
        priority,
        runtime,
        deadline: 0,
        period: 0,
    };
    // What needs rights first; then a short slice, which newer kernels take for "soon".
    for wanted in [
        with(libc::SCHED_FIFO, 1, 0),
        with(libc::SCHED_OTHER, 0, SLICE_NS),
    ] {
        let (nr, at) = (
            libc::SYS_sched_setattr as usize,
            (&raw const wanted) as usize,
        );
        // SAFETY: the structure names its own size.
        if check(unsafe { sys::syscall3(nr, 0, at, 0) }).is_ok() {
            return;
        }
    }
}

/// A child that goes on where we are.
pub fn fork() -> Result<i32, Errno> {
    // SAFETY: this process has one thread, and the child goes on where we are.
    let born = unsafe { libc::fork() };
    if born < 0 {
        Err(Errno::EAGAIN)
    } else {
        Ok(born)
    }
}

/// The calling process is killed when its parent is gone.
pub fn die_with(parent: i32) {
    let (nr, what) = (libc::SYS_prctl as usize, libc::PR_SET_PDEATHSIG as usize);
    // SAFETY: numbers.
    unsafe {
        let _ = sys::syscall3(nr, what, libc::SIGKILL as usize, 0);
        if sys::syscall3(libc::SYS_getppid as usize, 0, 0, 0) != parent as isize {
            exit();
        }
    }
}

/// Ends the calling process, and nothing else.
pub fn exit() -> ! {
    // SAFETY: a number.
    unsafe {
        sys::syscall3(libc::SYS_exit_group as usize, 0, 0, 0);
    }
    std::process::abort()
}

/// Ends a process at once.
pub fn kill(pid: i32) {
    let nr = libc::SYS_kill as usize;
    // SAFETY: numbers.
    let _ = unsafe { sys::syscall3(nr, pid as usize, libc::SIGKILL as usize, 0) };
}

/// A child that has ended.
pub fn reap() -> Option<i32> {
    let flags = libc::WNOHANG as usize;
    let nr = libc::SYS_wait4 as usize;
    // SAFETY: no status is asked for.
    match check(unsafe { sys::syscall4(nr, usize::MAX, 0, flags, 0) }) {
        Ok(0) | Err(_) => None,
        Ok(pid) => Some(pid as i32),
    }
}
