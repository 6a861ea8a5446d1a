//! Behind the ends of which files bytes may lie that nobody has published, so that they are cut before
//! a gap shows them.
//!
//! Memory alone: a shard that starts doubts the end of every file that is older, since it does not know
//! what earlier lives have lost, nor what it was not told while it was down. What must stay true: a doubt
//! is never forgotten before the file is cut; that one was settled may be.

use std::collections::HashSet;

use super::remembered::Remembered;
use sealfs_protocol::InodeId;

/// Doubts that are kept one by one; with more of them every file is in doubt.
const DOUBTS_MAX: usize = 65_536;

#[derive(Default)]
pub struct Ends {
    /// Inodes with lower sequences are in doubt unless they were settled.
    first: u64,
    settled: Remembered<InodeId>,
    doubted: HashSet<InodeId>,
}

impl Ends {
    /// `first`: the least sequence that this life gives to inodes.
    pub fn new(first: u64) -> Ends {
        Ends {
            first,
            ..Ends::default()
        }
    }

    pub fn is_doubted(&self, ino: InodeId) -> bool {
        let old = ino.sequence() < self.first && !self.settled.contains(ino);
        old || self.doubted.contains(&ino)
    }

    pub fn doubt(&mut self, ino: InodeId) {
        if self.doubted.len() < DOUBTS_MAX {
            self.doubted.insert(ino);
        } else {
            *self = Ends::new(u64::MAX);
        }
    }

    /// What lay behind the end is cut.
    pub fn settle(&mut self, ino: InodeId) {
        self.doubted.remove(&ino);
        if ino.sequence() < self.first {
            self.settled.insert(ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_in_doubt_until_they_are_settled_and_new_ones_once_somebody_says_so() {
        let mut ends = Ends::new(100);
        assert!(ends.is_doubted(InodeId(7)) && !ends.is_doubted(InodeId(100)));
        ends.doubt(InodeId(100));
        assert!(ends.is_doubted(InodeId(100)));
        for ino in [InodeId(7), InodeId(100)] {
            ends.settle(ino);
            assert!(!ends.is_doubted(ino));
            ends.doubt(ino);
            assert!(ends.is_doubted(ino));
        }
    }

    #[test]
    fn no_doubt_is_lost_when_there_are_too_many() {
        let mut ends = Ends::new(0);
        for n in 0..=DOUBTS_MAX as u64 {
            ends.doubt(InodeId(n));
        }
        assert!((0..=DOUBTS_MAX as u64).all(|n| ends.is_doubted(InodeId(n))));
        ends.settle(InodeId(3));
        assert!(!ends.is_doubted(InodeId(3)) && ends.is_doubted(InodeId(4)));
    }
}
