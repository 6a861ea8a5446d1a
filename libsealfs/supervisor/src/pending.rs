//! Signals of the program that wait while a call of its is answered.
//!
//! What must stay true: a wait ends when the program has a signal pending that it lets in and that
//! does something; whether the call is then made again is the kernel's to decide, as for any other
//! (`twin` answers ERESTARTSYS). A signal that kills needs no help: the program is gone at once.

use crate::{notify, proc, subject, waits};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The call that is being answered was given up for a signal.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Signals that do nothing where no handler stands.
const NOTHING: u64 =
    bit(libc::SIGCHLD) | bit(libc::SIGURG) | bit(libc::SIGWINCH) | bit(libc::SIGCONT);

/// Asked while a lock is waited for: whether the wait has to end. Others are served meanwhile.
pub fn interrupted() -> bool {
    waits::look_around();
    let ends = is_interrupted(subject::tid()) || !notify::is_waiting(subject::call_id());
    if ends {
        GIVEN_UP.store(true, Relaxed);
    }
    ends
}

/// Whether a signal that does something waits for the thread.
pub fn is_interrupted(tid: u32) -> bool {
    let Some(status) = proc::Status::of(tid) else {
        return true;
    };
    let mask = |name: &str| status.mask(name);
    let waiting = (mask("SigPnd") | mask("ShdPnd")) & !mask("SigBlk") & !mask("SigIgn");
    waiting & (mask("SigCgt") | !NOTHING) != 0
}

pub fn restart_after_handlers() -> bool {
    false
}

/// Asked about every second of a long wait.
pub fn look() {}

/// Whether a call was given up since this was last asked.
pub fn take_given_up() -> bool {
    GIVEN_UP.swap(false, Relaxed)
}
