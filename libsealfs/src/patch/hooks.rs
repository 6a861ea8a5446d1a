//! Calls that change what the ways in rest on, looked at before the dispatcher: fault handlers,
//! signal stacks, threads of odd kinds, seccomp.
//!
//! # Safety
//! Structures of the program are read through `guard`.

use super::call::{Call, Route};
use super::{Mode, class::SECCOMPED, off, sigaction, stack};
use crate::{guard, interpose};
use core::sync::atomic::Ordering::Relaxed;

const SS_AUTODISARM: i32 = 1 << 31;
const SECCOMP_SET_MODE_STRICT: usize = 0;
const SECCOMP_SET_MODE_FILTER: usize = 1;

/// Every call that `entry` could not judge.
pub fn dispatch(call: &mut Call) -> Route {
    match super::mode() {
        Mode::Full => {}
        Mode::Partial => return interpose::dispatch(call),
        Mode::Off | Mode::Inert => return off::answer(call),
    }
    match call.nr as i64 {
        libc::SYS_rt_sigaction => sigaction::answer(call),
        libc::SYS_sigaltstack => {
            note_signal_stack(call);
            interpose::dispatch(call)
        }
        libc::SYS_clone => {
            note_clone(call.args[0] as u64);
            interpose::dispatch(call)
        }
        libc::SYS_clone3 => {
            // The flags are the structure's first word.
            if let Ok(flags) = guard::read_user(call.args[0] as *const u64) {
                note_clone(flags);
            }
            interpose::dispatch(call)
        }
        libc::SYS_prctl if call.args[0] == libc::PR_SET_SECCOMP as usize => enter_seccomp(call),
        libc::SYS_seccomp
            if matches!(
                call.args[0],
                SECCOMP_SET_MODE_STRICT | SECCOMP_SET_MODE_FILTER
            ) =>
        {
            enter_seccomp(call)
        }
        #[cfg(feature = "selftest")]
        super::selftest::NUMBER => super::selftest::answer(call),
        _ => interpose::dispatch(call),
    }
}

fn note_signal_stack(call: &Call) {
    if let Ok(wanted) = guard::read_user(call.args[0] as *const libc::stack_t)
        && wanted.ss_flags & SS_AUTODISARM != 0
    {
        stack::SIGNAL_STACK_HIDDEN.store(true, Relaxed);
    }
}

fn note_clone(flags: u64) {
    let has = |flag: i32| flags & flag as u64 != 0;
    if has(libc::CLONE_VM) && !has(libc::CLONE_SETTLS) && !has(libc::CLONE_VFORK) {
        stack::OWNERS_UNCLEAR.store(true, Relaxed);
    }
}

/// The dispatcher goes first (it classifies what is open while it still may), then the process
/// counts as sandboxed, whether the kernel agrees to the call or not.
fn enter_seccomp(call: &mut Call) -> Route {
    let route = interpose::dispatch(call);
    if !SECCOMPED.load(Relaxed) {
        stack::prepare_for_seccomp();
        SECCOMPED.store(true, Relaxed);
    }
    route
}
