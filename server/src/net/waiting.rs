//! How the shard's thread waits: poll a little, yield a little, then sleep.
//!
//! Waking a sleeping core costs tens of microseconds, a request a few. So after work the thread looks
//! again at once, then yields its core between looks (a client on the same core then runs), and only
//! then sleeps. For how long it looks follows from how soon work came lately: a few times that, so
//! that clients at full speed find it awake, and an idle server, or the last of many requests, costs
//! next to nothing.

use sealfs_transport::tcp::loopback;

/// Looks without a yield, after work was found.
const LOOKS: u32 = 24;
/// After so many looks it asks whether it stands in the way of the next request.
const LOOKS_BLIND: u32 = 2;
/// For how long it looks, at most and at least, in ns. The upper bound is a few wake-ups of a
/// sleeping core: beyond it, sleeping is cheaper for everybody. The lower one is the usual pause
/// of a client between two calls, and a little more: it grows with the first longer one.
const WINDOW_MAX_NS: u64 = 200_000;
const WINDOW_MIN_NS: u64 = 32_000;
/// The window is this many times the usual gap between one request and the next.
const GAPS: u64 = 2;
/// It shrinks by this part of the excess with each request: a client that pauses now and then does
/// not find it asleep each time.
const SHRINK: u64 = 64;

/// After so many requests in a row from the core that it runs on, the thread leaves that core,
const SHARED_MAX: u32 = 4;
/// but no sooner than this after it did so last, in ns.
const STAY_NS: u64 = 20_000_000;

pub struct Waiting {
    /// When work was last done.
    worked_ns: u64,
    window_ns: u64,
    looks: u32,
    /// Requests in a row whose sender ran on this core.
    shared: u32,
    left_ns: u64,
}

impl Waiting {
    pub fn new(now_ns: u64) -> Waiting {
        Waiting {
            worked_ns: now_ns,
            window_ns: WINDOW_MAX_NS,
            looks: 0,
            shared: 0,
            left_ns: 0,
        }
    }

    /// Whether it pays to look again rather than to sleep.
    pub fn looks(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.worked_ns) < self.window_ns
    }

    /// After work that was found at `found_ns` and done by `done_ns`.
    pub fn worked(&mut self, found_ns: u64, done_ns: u64) {
        self.adapt(found_ns.saturating_sub(self.worked_ns));
        self.worked_ns = done_ns;
        self.looks = 0;
    }

    /// As [`Waiting::found_nothing`], and leaves the core if it is time to.
    pub fn pause(&mut self, now_ns: u64, shares_core: impl FnOnce() -> bool) {
        self.found_nothing(now_ns, shares_core);
        if self.is_in_the_way(now_ns) {
            loopback::leave_core();
        }
    }

    /// After a look, or a sleep, that found nothing and ended at `now_ns`. `shares_core` says whether
    /// whoever asked last runs where we do; it is asked once between two requests.
    fn found_nothing(&mut self, now_ns: u64, shares_core: impl FnOnce() -> bool) {
        if self.looks(now_ns) {
            self.looks += 1;
            if self.looks == LOOKS_BLIND {
                if shares_core() {
                    self.looks = LOOKS;
                    self.shared += 1;
                } else {
                    self.shared = 0;
                }
            }
            if self.looks > LOOKS {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Whether it is time to leave this core to whoever asks.
    fn is_in_the_way(&mut self, now_ns: u64) -> bool {
        let leaves = self.shared >= SHARED_MAX && now_ns.saturating_sub(self.left_ns) > STAY_NS;
        if leaves {
            (self.shared, self.left_ns) = (0, now_ns);
        }
        leaves
    }

    fn adapt(&mut self, gap_ns: u64) {
        let wanted = if gap_ns < WINDOW_MAX_NS {
            (GAPS * gap_ns).clamp(WINDOW_MIN_NS, WINDOW_MAX_NS)
        } else {
            // No window would have caught it.
            WINDOW_MIN_NS
        };
        let excess = self.window_ns.saturating_sub(wanted);
        self.window_ns = self.window_ns.max(wanted) - excess.div_ceil(SHRINK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time from the last work until it would sleep, after requests that came `gap_ns` apart.
    fn window(gap_ns: u64, requests: u64) -> u64 {
        let mut waiting = Waiting::new(0);
        for n in 1..=requests {
            waiting.worked(n * gap_ns, n * gap_ns);
        }
        let last = requests * gap_ns;
        (0..)
            .step_by(500)
            .find(|t| !waiting.looks(last + t))
            .unwrap_or(0)
    }

    #[test]
    fn it_looks_for_a_few_times_the_usual_gap() {
        assert!((80_000..=82_000).contains(&window(40_000, 1000)));
        assert!((WINDOW_MIN_NS..=WINDOW_MIN_NS + 1_000).contains(&window(1_000, 1000)));
        assert_eq!(window(100_000, 1000), WINDOW_MAX_NS);
        assert!(window(10_000_000, 1000) <= WINDOW_MIN_NS + 1_000);
    }

    #[test]
    fn one_longer_gap_is_remembered_for_many_requests() {
        let mut waiting = Waiting::new(0);
        (1..1000).for_each(|n| waiting.worked(n * 5_000, n * 5_000));
        let mut now = 999 * 5_000 + 40_000;
        waiting.worked(now, now);
        for _ in 0..32 {
            now += 5_000;
            waiting.worked(now, now);
        }
        assert!(waiting.looks(now + 55_000));
        assert!(!waiting.looks(now + WINDOW_MAX_NS));
    }

    #[test]
    fn it_leaves_a_core_that_it_shares_for_several_requests_and_not_at_once_again() {
        let mut waiting = Waiting::new(0);
        let mut ask = |now_ns: u64, shares: bool| {
            waiting.worked(now_ns, now_ns);
            for look in 1..6 {
                waiting.found_nothing(now_ns + look, || shares);
            }
            waiting.is_in_the_way(now_ns)
        };
        let start = 10 * STAY_NS;
        assert!(!(1..100).any(|n| ask(start + n * 10_000, n % 4 != 0)));
        let left = (100..200).filter(|n| ask(start + n * 10_000, true)).count();
        assert_eq!(left, 1);
        assert!((0..4).any(|n| ask(start + 2 * STAY_NS + n * 10_000, true)));
    }
}
