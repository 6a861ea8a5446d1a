//! Handlers of SIGCHLD.
//!
//! A call that has asked and was not yet heard ends with EINTR when a signal comes whose handler does
//! not ask for SA_RESTART (seccomp_unotify(2)), and close(2), open(2) and fork(2) are not made for
//! that: a shell that is told so of a close keeps a pipe open. The signal that comes at any time is
//! SIGCHLD; so its handlers ask for SA_RESTART here. A wait(2) that it would have ended ends by itself;
//! poll(2), sigsuspend(2) and their like are ended by it all the same.
//!
//! # Safety
//! The structure has the kernel's layout.

use crate::patch::call::Call;
use crate::{drive, guard};

/// `struct sigaction` as the kernel has it on x86-64.
#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// rt_sigaction(SIGCHLD, action, …); `None`: as the program has it.
pub fn answer(call: &Call) -> Option<isize> {
    let mut action: Action = guard::read_user(call.args[1] as *const Action).ok()?;
    let handled = !matches!(action.handler, libc::SIG_DFL | libc::SIG_IGN);
    if !handled || action.flags & libc::SA_RESTART as u64 != 0 {
        return None;
    }
    action.flags |= libc::SA_RESTART as u64;
    let at = core::ptr::from_ref(&action).cast::<u8>();
    // SAFETY: the structure's own bytes, none of which is padding.
    let bytes = unsafe { core::slice::from_raw_parts(at, size_of::<Action>()) };
    let lent = drive::lend(bytes);
    if lent == 0 {
        return None;
    }
    let mut call = *call;
    call.args[1] = lent;
    Some(drive::native(&call))
}
