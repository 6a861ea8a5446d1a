//! How to wait for an answer: a little by polling, then by yielding, then asleep.
//!
//! Waking a sleeping core costs 40–60 µs, an answer that comes while we poll about 10. But a poll
//! that finds nothing takes the core from whoever would have answered. So the bounds adapt to what
//! worked lately: each phase that brought the answer earns more tries, each that did not loses a quarter,
//! and now and then a phase that lost all its tries is given a few again.

use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::Relaxed;

/// Most polls with a pause between them. One is a system call that finds nothing: 0.2–0.4 µs.
const POLLS_MAX: u32 = 200;
/// After so many polls we look whether we stand in the way of the answer.
const POLLS_BLIND: u32 = 4;
/// Most polls with a yield between them.
const YIELDS_MAX: u32 = 50;
/// `spin_loop` hints between two polls.
const PAUSES: u32 = 8;
/// One wait in so many tries the polls again that an earlier failure has stopped.
const RETRY_EVERY: u32 = 16;

/// What worked lately, shared by the threads that wait on one connection.
pub struct Patience {
    polls: AtomicU32,
    yields: AtomicU32,
    waits: AtomicU32,
}

/// One wait.
pub struct Wait<'a> {
    patience: &'a Patience,
    polls: u32,
    yields: u32,
    polled: u32,
    yielded: u32,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Polling,
    Yielding,
    Asleep,
}

impl Patience {
    pub const fn new() -> Patience {
        Patience {
            polls: AtomicU32::new(POLLS_MAX),
            yields: AtomicU32::new(YIELDS_MAX),
            waits: AtomicU32::new(0),
        }
    }

    /// Begins a wait. The counters are hints: racing updates do no harm.
    pub fn begin(&self) -> Wait<'_> {
        let n = self.waits.load(Relaxed).wrapping_add(1);
        self.waits.store(n, Relaxed);
        let retry = n.is_multiple_of(RETRY_EVERY);
        let tries = |bound: &AtomicU32, max: u32| {
            let lately = bound.load(Relaxed);
            if retry { lately.max(max / 2) } else { lately }
        };
        Wait {
            patience: self,
            polls: tries(&self.polls, POLLS_MAX),
            yields: tries(&self.yields, YIELDS_MAX),
            polled: 0,
            yielded: 0,
            phase: Phase::Polling,
        }
    }
}

impl Wait<'_> {
    /// After a poll that found nothing: true to poll again, false to go to sleep. `shares_core` says
    /// whether whoever is to answer runs where we do; it is asked once.
    pub fn again(&mut self, shares_core: impl FnOnce() -> bool) -> bool {
        if self.polled < self.polls {
            self.polled += 1;
            if self.polled == POLLS_BLIND && shares_core() {
                self.polls = 0;
            }
            for _ in 0..PAUSES {
                core::hint::spin_loop();
            }
            return true;
        }
        self.phase = Phase::Yielding;
        if self.yielded < self.yields {
            self.yielded += 1;
            rustix::thread::sched_yield();
            return true;
        }
        self.phase = Phase::Asleep;
        false
    }

    /// The answer came; what brought it is rewarded.
    pub fn succeeded(self) {
        let reward = |bound: &AtomicU32, used: u32, max: u32| {
            bound.store((4 * used + 16).max(bound.load(Relaxed)).min(max), Relaxed);
        };
        let reduce = |bound: &AtomicU32| bound.store(bound.load(Relaxed) * 3 / 4, Relaxed);
        let p = self.patience;
        match self.phase {
            Phase::Polling => reward(&p.polls, self.polled, POLLS_MAX),
            Phase::Yielding => {
                reduce(&p.polls);
                reward(&p.yields, self.yielded, YIELDS_MAX);
            }
            Phase::Asleep => {
                reduce(&p.polls);
                reduce(&p.yields);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(p: &Patience, answer_after: Option<u32>) -> u32 {
        let mut wait = p.begin();
        let mut n = 0;
        while answer_after != Some(n) && wait.again(|| false) {
            n += 1;
        }
        wait.succeeded();
        n
    }

    #[test]
    fn polling_that_never_helps_stops_and_is_tried_again_seldom() {
        let p = Patience::new();
        let total: u32 = (0..160).map(|_| tries(&p, None)).sum();
        let all = POLLS_MAX + YIELDS_MAX;
        assert!(total < 4 * all + 10 * all / 2, "{total}");
    }

    #[test]
    fn answers_that_are_late_now_and_then_do_not_stop_it() {
        let p = Patience::new();
        for n in 0..300 {
            let answer_after = (n % 3 > 0).then_some(40);
            let used = tries(&p, answer_after);
            assert!(answer_after.is_none() || used == 40, "{n}: {used}");
        }
    }

    #[test]
    fn polling_that_helps_comes_back() {
        let p = Patience::new();
        for _ in 0..20 {
            tries(&p, None);
        }
        for _ in 0..64 {
            tries(&p, Some(10));
        }
        assert_eq!(tries(&p, Some(20)), 20);
    }
}
