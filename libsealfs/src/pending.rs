//! Signals that wait while a call of ours runs with all of them blocked.
//!
//! What must stay true: a wait that a signal may interrupt ends when one is pending that the
//! program lets in and that does something; one that kills by default is not held back for longer
//! than about a second.
//!
//! # Safety
//! The kernel calls get addresses of local values.

use crate::patch::signals;
use crate::sys;

/// `struct sigaction` as the kernel has it on x86-64.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SIGNALS: u32 = 64;
const SET_BYTES: usize = 8;
/// The signal by which glibc cancels threads; its handler must run on the program's stack.
const SIGCANCEL: u32 = 32;

/// What an unblocked signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Kills,
    Stops,
    /// A handler; `restarts`: the call it interrupts goes on afterwards.
    Handled {
        restarts: bool,
    },
}

/// Signals that are pending and that the program lets in.
fn deliverable() -> u64 {
    let mut set = 0u64;
    let address = (&raw mut set) as usize;
    // SAFETY: the set has the size that is named.
    unsafe { sys::syscall3(libc::SYS_rt_sigpending as usize, address, SET_BYTES, 0) };
    set & !signals::caller_mask()
}

fn signals_in(set: u64) -> impl Iterator<Item = u32> {
    (1..=SIGNALS).filter(move |signal| set & bit(*signal) != 0)
}

fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

fn effect(signal: u32) -> Effect {
    let mut action = Action::default();
    let address = (&raw mut action) as usize;
    // SAFETY: asks for the action only, into a structure of the kernel's layout.
    unsafe {
        sys::syscall4(
            libc::SYS_rt_sigaction as usize,
            signal as usize,
            0,
            address,
            SET_BYTES,
        )
    };
    match action.handler {
        libc::SIG_IGN => Effect::Nothing,
        libc::SIG_DFL => match signal as i32 {
            libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => Effect::Nothing,
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGSTOP => Effect::Stops,
            _ => Effect::Kills,
        },
        _ => {
            let restarts = action.flags & libc::SA_RESTART as u64 != 0 && signal != SIGCANCEL;
            Effect::Handled { restarts }
        }
    }
}

/// Lets `set` in for a moment: what is pending of it takes effect now.
fn let_in(set: u64) {
    let change = |how: i32, set: &u64, old: usize| {
        let address = core::ptr::from_ref(set) as usize;
        // SAFETY: both sets have the size that is named.
        unsafe {
            sys::syscall4(
                libc::SYS_rt_sigprocmask as usize,
                how as usize,
                address,
                old,
                SET_BYTES,
            )
        };
    };
    let mut before = 0u64;
    change(libc::SIG_UNBLOCK, &set, (&raw mut before) as usize);
    change(libc::SIG_SETMASK, &before, 0);
}

/// Asked while a lock is waited for: whether the wait has to end.
pub fn interrupted() -> bool {
    let set = deliverable();
    for signal in signals_in(set) {
        match effect(signal) {
            Effect::Nothing => {}
            Effect::Stops => let_in(bit(signal)),
            Effect::Kills | Effect::Handled { .. } => return true,
        }
    }
    false
}

/// After a wait ended so: `true` if every handler asked for the call to go on, and has run by now.
pub fn restart_after_handlers() -> bool {
    let set = deliverable();
    let restarts = signals_in(set).all(|signal| {
        matches!(
            effect(signal),
            Effect::Nothing | Effect::Handled { restarts: true }
        )
    });
    if restarts {
        let_in(set);
    }
    restarts
}

/// Asked about every second of a long wait: a pending signal that kills does it now.
pub fn look() {
    for signal in signals_in(deliverable()) {
        if effect(signal) == Effect::Kills {
            let_in(bit(signal));
        }
    }
}
