//! Signals while a call may be ours. The entry blocks every asynchronous signal before it leaves
//! the caller's stack and restores the caller's mask after it is back there, so that no handler of
//! the program runs on our stack unforeseen, and none interrupts a holder of our locks. Calls that
//! wait interruptibly hand [`caller_mask`] to `ppoll` and its like.
//!
//! What must stay true: signals that faults raise are never blocked (`guard` needs them).
//!
//! # Safety
//! Masks are plain words of ours.

use super::{call::Call, call::native, stack};
use crate::sys;
use core::sync::atomic::Ordering::Relaxed;

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// All signals but those that the program's own instructions raise.
pub static BLOCKED: u64 = !(bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGFPE)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGSYS));

const MASK_BYTES: usize = 8;

/// Changes the thread's mask and returns the one before.
fn change(how: i32, mask: &u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: both masks are ours and of the size given.
    let _ = unsafe {
        sys::syscall4(
            libc::SYS_rt_sigprocmask as usize,
            how as usize,
            core::ptr::from_ref(mask) as usize,
            (&raw mut before) as usize,
            MASK_BYTES,
        )
    };
    before
}

/// The mask with which the program made the call that is being dispatched.
pub fn caller_mask() -> u64 {
    let frame = stack::frame();
    if frame.blocked.load(Relaxed) == 0 {
        return change(libc::SIG_BLOCK, &0);
    }
    frame.caller_mask.load(Relaxed)
}

/// Whether the caller blocks the signals that bad pointers raise, as far as it can be known without
/// asking.
pub fn caller_blocks_faults() -> bool {
    const FAULTS: u64 = bit(libc::SIGSEGV) | bit(libc::SIGBUS);
    let frame = stack::frame();
    frame.blocked.load(Relaxed) != 0 && frame.caller_mask.load(Relaxed) & FAULTS != 0
}

/// Blocks asynchronous signals until the call has left our stack, if the entry has not done so
/// already (it does not under seccomp, where it may not ask the kernel for anything by itself).
pub fn block() {
    let frame = stack::frame();
    if frame.blocked.load(Relaxed) == 0 {
        frame
            .caller_mask
            .store(change(libc::SIG_BLOCK, &BLOCKED), Relaxed);
        frame.blocked.store(1, Relaxed);
    }
}

/// Issues a call with the caller's mask, for calls that hand the mask on (exec) or must be
/// interruptible. Handlers may run, on our stack, before it returns.
///
/// # Safety
/// As for [`native`].
pub unsafe fn native_unmasked(call: &Call) -> isize {
    let blocked = stack::frame().blocked.load(Relaxed) != 0;
    if blocked {
        change(libc::SIG_SETMASK, &caller_mask());
    }
    // SAFETY: the caller vouches for the arguments.
    let result = unsafe { native(call) };
    if blocked {
        change(libc::SIG_BLOCK, &BLOCKED);
    }
    result
}
