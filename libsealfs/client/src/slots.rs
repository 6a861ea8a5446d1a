//! Request slots: what makes a repeated request take effect once.
//!
//! A client has 64 slots, as in NFSv4.1; a call takes one, numbers its requests upwards in it, and
//! repeats an unanswered request under the same number. What must stay true: a slot belongs to one
//! call at a time, and its numbers never go down.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::time::Duration;
use sealfs_protocol::Sequence;
use sealfs_protocol::limits::REQUEST_SLOTS;
use sealfs_transport::sync;

/// Slots that waits for file locks may hold: the others stay for everybody else.
pub(crate) const LOCK_WAITERS_MAX: u32 = 32;

pub(crate) struct Slots {
    /// One bit for each slot in use.
    used: AtomicU64,
    /// Raised by each slot that is given back.
    freed: AtomicU32,
    sequences: [AtomicU64; REQUEST_SLOTS as usize],
    pub lock_waiters: AtomicU32,
}

/// A slot in use; given back when dropped.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    index: u16,
}

impl Slots {
    pub fn new(first_sequence: u64) -> Slots {
        Slots {
            used: AtomicU64::new(0),
            freed: AtomicU32::new(0),
            sequences: core::array::from_fn(|_| AtomicU64::new(first_sequence)),
            lock_waiters: AtomicU32::new(0),
        }
    }

    /// A free slot. All are in use only if 64 calls are under way, each with a deadline.
    pub fn take(&self) -> Slot<'_> {
        loop {
            let freed = self.freed.load(Acquire);
            let used = self.used.load(Relaxed);
            let index = (!used).trailing_zeros();
            if index < u32::from(REQUEST_SLOTS) {
                let taken = used | 1 << index;
                let won = self.used.compare_exchange(used, taken, Acquire, Relaxed);
                if won.is_ok() {
                    return Slot {
                        slots: self,
                        index: index as u16,
                    };
                }
            } else {
                sync::sleep_while(&self.freed, freed, Some(Duration::from_millis(100)));
            }
        }
    }
}

impl Slot<'_> {
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The number of the next request.
    pub fn next(&self) -> Sequence {
        Sequence(self.slots.sequences[usize::from(self.index)].fetch_add(1, Relaxed) + 1)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let before = self.slots.used.fetch_and(!(1 << self.index), Release);
        self.slots.freed.fetch_add(1, Release);
        if before == u64::MAX {
            sync::wake(&self.slots.freed, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_one_holder_and_its_numbers_rise() {
        let slots = Slots::new(10);
        let (a, b) = (slots.take(), slots.take());
        assert_ne!(a.index(), b.index());
        assert_eq!((a.next(), a.next()), (Sequence(11), Sequence(12)));
        let index = a.index();
        drop(a);
        let again = slots.take();
        assert_eq!((again.index(), again.next()), (index, Sequence(13)));
    }

    #[test]
    fn many_threads_share_the_slots_without_doubling_a_number() {
        let slots = Slots::new(0);
        let seen = sync::Mutex::new(std::collections::HashSet::new());
        std::thread::scope(|s| {
            for _ in 0..100 {
                s.spawn(|| {
                    for _ in 0..20 {
                        let slot = slots.take();
                        assert!(seen.lock().insert((slot.index(), slot.next().0)));
                    }
                });
            }
        });
        assert_eq!(seen.lock().len(), 2_000);
    }
}
