//! How the shard's thread waits: poll a little, yield a little, then sleep.
//!
//! Waking a sleeping core costs tens of microseconds, a request a few. So after work the thread looks
//! again at once, then yields its core between looks (a client on the same core then runs), and only
//! then sleeps. The bounds adapt: looks that found nothing lately are cut short, so that an idle
//! server costs nothing.

use std::time::Duration;

/// Looks without a yield, after work was found.
const LOOKS: u32 = 24;
/// Looks with a yield after those, at most and at least.
const YIELDS_MAX: u32 = 160;
const YIELDS_MIN: u32 = 8;

pub struct Waiting {
    looks: u32,
    yields: u32,
}

impl Waiting {
    pub fn new() -> Waiting {
        Waiting {
            looks: LOOKS + YIELDS_MAX,
            yields: YIELDS_MAX,
        }
    }

    /// The timeout of the next wait: zero while it pays to look, else `longest`.
    pub fn timeout(&self, longest: Duration) -> Duration {
        if self.looks < LOOKS + self.yields {
            Duration::ZERO
        } else {
            longest
        }
    }

    /// After a wait: whether it found work.
    pub fn after(&mut self, found: bool) {
        let limit = LOOKS + self.yields;
        if found {
            // Found while looking: looking pays. Found after sleeping: it may again.
            self.yields = (self.yields * 2).min(YIELDS_MAX);
            self.looks = 0;
            return;
        }
        if self.looks >= limit {
            return;
        }
        self.looks += 1;
        if self.looks == LOOKS + self.yields {
            self.yields = (self.yields - self.yields / 4).max(YIELDS_MIN);
        } else if self.looks > LOOKS {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sleeps_when_nothing_comes_and_looks_again_after_work() {
        let mut w = Waiting::new();
        let longest = Duration::from_millis(100);
        assert_eq!(w.timeout(longest), longest);
        w.after(true);
        let mut looks = 0;
        while w.timeout(longest) == Duration::ZERO {
            w.after(false);
            looks += 1;
        }
        assert!((LOOKS..=LOOKS + YIELDS_MAX).contains(&looks));
    }
}
