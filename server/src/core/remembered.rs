//! What is over, so that what comes late does not bring it back: ended clients and sessions, settled
//! transactions.
//!
//! A request is sent again over another connection until it is answered, and a copy on the old one may
//! arrive last. Memory is enough where that is the danger, since no copy outlives the connection to
//! the process that forgets; ends of sessions are in their home's log as well.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// How many are remembered; whoever is later than so many others comes too late to be expected.
const REMEMBERED_MAX: usize = 65_536;

pub struct Remembered<T> {
    known: HashSet<T>,
    order: VecDeque<T>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Remembered<T> {
        Remembered {
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: Hash + Eq + Copy> Remembered<T> {
    pub fn contains(&self, what: T) -> bool {
        self.known.contains(&what)
    }

    /// Remembers `what`; the oldest if that is forgotten for it.
    pub fn insert(&mut self, what: T) -> Option<T> {
        if !self.known.insert(what) {
            return None;
        }
        self.order.push_back(what);
        if self.order.len() <= REMEMBERED_MAX {
            return None;
        }
        let oldest = self.order.pop_front()?;
        self.known.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut remembered = Remembered::default();
        for n in 0..REMEMBERED_MAX {
            assert_eq!(remembered.insert(n), None);
            assert_eq!(remembered.insert(n), None);
        }
        assert_eq!(remembered.insert(REMEMBERED_MAX), Some(0));
        assert!(!remembered.contains(0) && remembered.contains(1));
    }
}
