//! Monotonic time and deadlines, in nanoseconds.

use core::time::Duration;

/// A point of monotonic time, in ns. In a simulated world: of that world.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(pub u64);

impl Instant {
    /// CLOCK_MONOTONIC of this machine.
    pub fn now() -> Instant {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Instant(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64)
    }

    /// The point `ms` later.
    #[must_use]
    pub fn after_ms(self, ms: u32) -> Instant {
        Instant(self.0.saturating_add(u64::from(ms) * 1_000_000))
    }

    /// Time from `self` until `later`; zero if that has passed.
    pub fn until(self, later: Instant) -> Duration {
        Duration::from_nanos(later.0.saturating_sub(self.0))
    }
}
