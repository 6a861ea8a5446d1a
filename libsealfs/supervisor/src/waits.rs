//! A call that waits for a lock, and what other threads of the program ask meanwhile.
//!
//! A twin answers one call after the other. While one of them waits at the servers it looks around now
//! and then, and answers the others in between: one of them may hold what the first one waits for. A
//! second one that would wait is tried without waiting, and put off until its lock is there or the
//! first one has come to its end.
//!
//! What must stay true: one call of a process waits at the servers at a time; one that was put off is
//! answered, or its thread is gone.
//!
//! # Safety
//! The kernel call gets one element that outlives it.

use crate::sync::{Mutex, RawMutex};
use crate::{notify, pending, subject, sys, twin};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering::Relaxed};
use notify::Notification;
use sealfs_protocol::Errno;
use std::collections::VecDeque;

/// How long another thread's next call is waited for, in ms.
const QUIET_MS: usize = 5;
/// Calls that are answered in a row before the lock is looked at.
const IN_A_ROW: usize = 64;
const F_OFD_SETLK: u64 = 37;
const F_OFD_SETLKW: u64 = 38;

static CHANNEL: AtomicI32 = AtomicI32::new(-1);
static WAITING: AtomicBool = AtomicBool::new(false);
static PUT_OFF: Mutex<VecDeque<Notification>> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, VecDeque::new());

/// Where calls come from.
pub fn start(channel: i32) {
    CHANNEL.store(channel, Relaxed);
}

/// The next call: one that was put off, or one that comes.
pub fn next(channel: i32) -> Option<Notification> {
    let put_off = PUT_OFF.lock().pop_front();
    put_off.or_else(|| twin::receive(channel))
}

/// Whether something can be read from a channel within so many ms.
pub fn is_readable(channel: i32, wait_ms: usize) -> bool {
    let mut one = libc::pollfd {
        fd: channel,
        events: libc::POLLIN,
        revents: 0,
    };
    let nr = libc::SYS_poll as usize;
    // SAFETY: one element.
    unsafe { sys::syscall3(nr, (&raw mut one) as usize, 1, wait_ms) != 0 }
}

/// The same call in the form that does not wait; `None`: it does not anyway.
fn without_waiting(call: &Notification) -> Option<Notification> {
    let mut tried = *call;
    let what = &mut tried.arguments[1];
    *what = match i64::from(call.number) {
        libc::SYS_fcntl if *what as i32 == libc::F_SETLKW => libc::F_SETLK as u64,
        libc::SYS_fcntl if *what == F_OFD_SETLKW => F_OFD_SETLK,
        libc::SYS_flock if *what & libc::LOCK_NB as u64 == 0 => *what | libc::LOCK_NB as u64,
        _ => return None,
    };
    Some(tried)
}

/// Answers a call while another one waits.
fn serve_between(call: &Notification) {
    subject::set_call(call.tid, call.id);
    let Some(tried) = without_waiting(call) else {
        twin::serve(call);
        return;
    };
    match twin::decide_for(&tried) {
        Some(said) if said == -Errno::EAGAIN.0 as isize => {
            if !notify::is_waiting(call.id) {
                return;
            }
            if pending::is_interrupted(call.tid) {
                let _ = notify::answer(call.id, -twin::ERESTARTSYS);
                return;
            }
            PUT_OFF.lock().push_back(*call);
        }
        said => twin::answer(call, said),
    }
}

/// Answers what other threads ask, while the call that is answered now waits.
pub fn look_around() {
    if WAITING.swap(true, Relaxed) {
        return;
    }
    let (tid, id) = (subject::tid(), subject::call_id());
    subject::give_back();
    let put_off: Vec<Notification> = PUT_OFF.lock().drain(..).collect();
    put_off.iter().for_each(serve_between);
    let channel = CHANNEL.load(Relaxed);
    for _ in 0..IN_A_ROW {
        if !is_readable(channel, QUIET_MS) {
            break;
        }
        let Some(call) = twin::receive(channel) else {
            break;
        };
        serve_between(&call);
    }
    subject::set_call(tid, id);
    WAITING.store(false, Relaxed);
}
