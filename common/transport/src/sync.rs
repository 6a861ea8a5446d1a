//! A mutex on the raw futex system call, for code that lives inside other people's programs.
//!
//! It keeps no table of waiters outside itself and no thread-local state, so a forked child that
//! makes fresh ones is sound whatever its parent's were doing. What must stay true: it is held for
//! short stretches only, never while user code runs.
//!
//! # Safety
//! `lock_api::RawMutex` asks for mutual exclusion: the word leaves 0 only by a compare-and-swap of
//! the one who then holds the lock, and only its holder stores 0 again.

#![allow(
    unsafe_code,
    reason = "implements lock_api's RawMutex, an unsafe trait"
)]

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::time::Duration;
use rustix::thread::futex;

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and somebody may sleep on it.
const CONTENDED: u32 = 2;

/// Tries before sleeping; the critical sections are shorter than a system call.
const SPINS: u32 = 100;

pub struct RawMutex(AtomicU32);

pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

impl RawMutex {
    #[cold]
    fn lock_slowly(&self) {
        for _ in 0..SPINS {
            if self.0.load(Relaxed) == FREE
                && self
                    .0
                    .compare_exchange(FREE, HELD, Acquire, Relaxed)
                    .is_ok()
            {
                return;
            }
            core::hint::spin_loop();
        }
        while self.0.swap(CONTENDED, Acquire) != FREE {
            sleep_while(&self.0, CONTENDED, None);
        }
    }
}

// SAFETY: `lock` returns only after this thread moved the word from FREE, which nobody else can do
// until `unlock` has stored FREE again; acquire and release order the data in between.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "the form that lock_api asks for"
    )]
    const INIT: RawMutex = RawMutex(AtomicU32::new(FREE));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        if self
            .0
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_err()
        {
            self.lock_slowly();
        }
    }

    fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_ok()
    }

    unsafe fn unlock(&self) {
        if self.0.swap(FREE, Release) == CONTENDED {
            wake(&self.0, 1);
        }
    }

    fn is_locked(&self) -> bool {
        self.0.load(Relaxed) != FREE
    }
}

/// How a sleep on a word ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// Somebody woke us, or the word was another already.
    Changed,
    /// A signal handler ran.
    Interrupted,
    TimedOut,
}

/// Sleeps while `word` is `value`, at most `timeout`. May also return without a reason.
pub fn sleep_while(word: &AtomicU32, value: u32, timeout: Option<Duration>) -> Woken {
    let limit = timeout.map(timespec);
    match futex::wait(word, futex::Flags::PRIVATE, value, limit.as_ref()) {
        Err(rustix::io::Errno::INTR) => Woken::Interrupted,
        Err(rustix::io::Errno::TIMEDOUT) => Woken::TimedOut,
        _ => Woken::Changed,
    }
}

/// Wakes up to `count` sleepers of `word`.
pub fn wake(word: &AtomicU32, count: u32) {
    // The only errors are those of a bad address.
    let _ = futex::wake(word, futex::Flags::PRIVATE, count);
}

pub(crate) fn timespec(d: Duration) -> rustix::thread::Timespec {
    rustix::thread::Timespec {
        tv_sec: d.as_secs() as i64,
        tv_nsec: i64::from(d.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_increment_is_lost_between_threads() {
        let counter = Mutex::new(0u64);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        *counter.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*counter.lock(), 80_000);
    }
}
