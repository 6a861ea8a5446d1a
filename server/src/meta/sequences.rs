//! Inode sequences, and partitions' own counts of their changes.
//!
//! Inode sequences are minted in memory out of a range whose reservation is durable. One range for all partitions of the shard: below the reserved end every partition counts on its
//! own. A restart begins every partition at the end that was reserved before, so that no number is
//! ever handed out twice, whatever a power cut took with it.

use std::collections::BTreeSet;

use sealfs_protocol::ids::PartitionId;
use sealfs_protocol::limits::SEQUENCE_FIRST;

use super::log::LogIndex;

/// Sequences reserved at a time.
const RESERVE: u64 = 1 << 20;

pub struct Sequences {
    /// Where partitions without a counter begin.
    base: u64,
    /// Next sequence of each partition; 0: `base`.
    next: Vec<u64>,
    /// Below this, sequences may be handed out.
    usable_until: u64,
    /// A reservation that is logged but not flushed.
    pending: Option<(u64, LogIndex)>,
    due: bool,
    /// A sequence that was asked for and could not be given.
    refused: Option<u64>,
}

impl Sequences {
    /// All below `reserved` may have been handed out by earlier lives; 0 in a new store. Nothing
    /// is usable before a reservation is flushed.
    pub fn new(reserved: u64) -> Sequences {
        let base = reserved.max(SEQUENCE_FIRST);
        Sequences {
            base,
            next: Vec::new(),
            usable_until: base,
            pending: None,
            due: true,
            refused: None,
        }
    }

    /// The least that this life gives: inodes with lower ones are of earlier lives.
    pub fn first(&self) -> u64 {
        self.base
    }

    /// The end to reserve up to, if it is time to.
    pub fn reservation_due(&self) -> Option<u64> {
        let above = self.refused.map_or(0, |sequence| sequence + 1);
        let until = self.usable_until.max(above) + RESERVE;
        (self.due && self.pending.is_none()).then_some(until)
    }

    pub fn reserved(&mut self, until: u64, index: LogIndex) {
        self.pending = Some((until, index));
    }

    /// The log is durable through `through`.
    pub fn flushed(&mut self, through: LogIndex) {
        if let Some((until, index)) = self.pending
            && index <= through
        {
            self.usable_until = until;
            self.pending = None;
            self.due = false;
            self.refused = None;
        }
    }

    /// Somebody was refused: do not wait for the flush that is due anyway.
    pub fn wait_for_flush(&self) -> bool {
        self.refused.is_some() && self.pending.is_some()
    }

    pub fn next(&mut self, partition: PartitionId) -> Option<u64> {
        let next = self.counter(partition);
        let sequence = *next;
        if sequence >= self.usable_until {
            self.due = true;
            self.refused = Some(sequence);
            return None;
        }
        *self.counter(partition) += 1;
        self.due |= sequence + RESERVE / 2 >= self.usable_until;
        Some(sequence)
    }

    pub fn raise(&mut self, partition: PartitionId, floor: u64) {
        let next = self.counter(partition);
        *next = floor.max(*next);
    }

    fn counter(&mut self, partition: PartitionId) -> &mut u64 {
        let at = usize::from(partition.0);
        if at >= self.next.len() {
            self.next.resize(at + 1, self.base);
        }
        &mut self.next[at]
    }
}

/// The last sequence of each partition in its own order of changes.
#[derive(Default)]
pub struct Partitions {
    last: Vec<u64>,
    /// Changed since the last commit began.
    changed: BTreeSet<PartitionId>,
}

impl Partitions {
    pub fn last(&self, partition: PartitionId) -> u64 {
        let at = usize::from(partition.0);
        self.last.get(at).copied().unwrap_or(0)
    }

    /// What the index says.
    pub fn load(&mut self, partition: PartitionId, last: u64) {
        let at = usize::from(partition.0);
        if at >= self.last.len() {
            self.last.resize(at + 1, 0);
        }
        self.last[at] = last;
    }

    /// A change was applied.
    pub fn advance(&mut self, partition: PartitionId, sequence: u64) {
        self.load(partition, sequence);
        self.changed.insert(partition);
    }

    pub fn take_changed(&mut self) -> BTreeSet<PartitionId> {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_usable_only_once_its_range_is_flushed() {
        let mut sequences = Sequences::new(0);
        let p = PartitionId(3);
        assert_eq!(sequences.next(p), None);
        let until = sequences.reservation_due().unwrap();
        sequences.reserved(until, LogIndex(7));
        assert_eq!(sequences.next(p), None);
        assert!(sequences.wait_for_flush());
        sequences.flushed(LogIndex(6));
        assert_eq!(sequences.next(p), None);
        sequences.flushed(LogIndex(7));
        assert_eq!(sequences.next(p), Some(SEQUENCE_FIRST));
        assert_eq!(sequences.next(PartitionId(9)), Some(SEQUENCE_FIRST));
        assert_eq!(sequences.next(p), Some(SEQUENCE_FIRST + 1));
    }

    #[test]
    fn the_next_range_is_reserved_long_before_the_last_number() {
        let mut sequences = Sequences::new(1 << 30);
        sequences.reserved((1 << 30) + RESERVE, LogIndex(1));
        sequences.flushed(LogIndex(1));
        let p = PartitionId(0);
        while sequences.reservation_due().is_none() {
            sequences.next(p).unwrap();
        }
        assert!(sequences.next(p).is_some());
    }

    #[test]
    fn a_partition_taken_over_begins_at_its_floor() {
        let mut sequences = Sequences::new(0);
        sequences.reserved(SEQUENCE_FIRST + RESERVE, LogIndex(1));
        sequences.flushed(LogIndex(1));
        sequences.raise(PartitionId(1), SEQUENCE_FIRST + 500);
        assert_eq!(sequences.next(PartitionId(1)), Some(SEQUENCE_FIRST + 500));
    }
}
