//! The numbers of the sockets in use, readable without a lock: a forked child closes its copies
//! while another thread of its parent may have held any lock.

use core::sync::atomic::AtomicI32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

/// Sockets that can be noted; a connection beyond that works, but a child keeps its copy.
const MAX: usize = 512;
const NONE: i32 = -1;

pub(crate) struct Descriptors([AtomicI32; MAX]);

impl Default for Descriptors {
    fn default() -> Descriptors {
        Descriptors([const { AtomicI32::new(NONE) }; MAX])
    }
}

impl Descriptors {
    pub fn add(&self, fd: i32) {
        for place in &self.0 {
            let free = place.compare_exchange(NONE, fd, AcqRel, Relaxed);
            if free.is_ok() {
                return;
            }
        }
    }

    pub fn remove(&self, fd: i32) {
        for place in &self.0 {
            if place.compare_exchange(fd, NONE, AcqRel, Relaxed).is_ok() {
                return;
            }
        }
    }

    pub fn all(&self) -> impl Iterator<Item = i32> + '_ {
        let numbers = self.0.iter().map(|place| place.load(Acquire));
        numbers.filter(|fd| *fd != NONE)
    }
}
