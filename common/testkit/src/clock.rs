//! The one clock of a simulated cluster. Time passes only when the simulation says so.

use sealfs_server::core::Now;

/// Where every simulation begins: monotonic and since 1970, in ns.
const START: Now = Now {
    mono_ns: 1_000_000_000,
    wall_ns: 1_700_000_000_000_000_000,
};

#[derive(Clone, Copy, Debug)]
pub struct SimClock {
    now: Now,
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock { now: START }
    }
}

impl SimClock {
    pub fn now(&self) -> Now {
        self.now
    }

    /// What a machine reads whose wall clock is off by `skew_ns`.
    pub fn skewed(&self, skew_ns: i64) -> Now {
        Now {
            wall_ns: self.now.wall_ns + skew_ns,
            ..self.now
        }
    }

    /// Lets time pass until `mono_ns`, unless that is over already.
    pub fn pass_until(&mut self, mono_ns: u64) {
        let passed = mono_ns.saturating_sub(self.now.mono_ns);
        self.now.mono_ns += passed;
        self.now.wall_ns += passed as i64;
    }
}
