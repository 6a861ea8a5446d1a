//! From freed to free: blocks that a log entry has freed wait here until nothing that a power cut
//! could bring back names them, and long runs are discarded before they are used again.

use std::collections::VecDeque;

use super::alloc::Allocator;
use super::extent::DeviceExtent;

/// Freed runs shorter than this are not worth a discard.
const DISCARD_MIN_BLOCKS: u32 = 16;
/// Nothing is held back for a discard while less than one block in this many is free.
const DISCARD_FREE_SHARE: u64 = 8;

/// Freed blocks that are still marked, each with the index of the entry that freed it.
pub(super) struct Pending {
    /// Free once a durable barrier or a commit covers the entry.
    durable: VecDeque<(u64, DeviceExtent)>,
    /// Of `memory` volumes: free once the entry is written.
    volatile: VecDeque<(u64, DeviceExtent)>,
    /// Free once they are discarded.
    to_discard: Vec<DeviceExtent>,
    discards: bool,
    blocks: u64,
}

impl Pending {
    pub fn new(discards: bool) -> Pending {
        Pending {
            durable: VecDeque::new(),
            volatile: VecDeque::new(),
            to_discard: Vec::new(),
            discards,
            blocks: 0,
        }
    }
}

impl Allocator {
    /// Freed, but not yet reusable.
    pub fn pending_blocks(&self) -> u64 {
        self.pending.blocks
    }

    /// Blocks freed by log entry `index`: reusable once `release_through` reaches it, or, if
    /// nobody verifies them (`volatile`), once the entry is written.
    pub fn free_at(&mut self, index: u64, extent: DeviceExtent, volatile: bool) {
        let pending = &mut self.pending;
        let queue = if volatile {
            &mut pending.volatile
        } else {
            &mut pending.durable
        };
        queue.push_back((index, extent));
        pending.blocks += u64::from(extent.blocks);
    }

    /// Whether blocks wait for a durable barrier.
    pub fn waits_for_barrier(&self) -> bool {
        !self.pending.durable.is_empty()
    }

    pub fn release_through(&mut self, index: u64) {
        while let Some(extent) = due(&mut self.pending.durable, index) {
            self.let_go(extent);
        }
    }

    pub fn release_volatile_through(&mut self, index: u64) {
        while let Some(extent) = due(&mut self.pending.volatile, index) {
            self.let_go(extent);
        }
    }

    fn let_go(&mut self, extent: DeviceExtent) {
        let plenty = self.free >= self.blocks / DISCARD_FREE_SHARE;
        if self.pending.discards && extent.blocks >= DISCARD_MIN_BLOCKS && plenty {
            self.pending.to_discard.push(extent);
        } else {
            self.pending.blocks -= u64::from(extent.blocks);
            self.release(extent);
        }
    }

    /// Space is short: what was to be discarded is free at once.
    pub fn forgo_discards(&mut self) {
        let runs = self.take_discards();
        self.discarded(&runs);
    }

    /// Runs to be discarded now; `discarded` then makes them free.
    pub fn take_discards(&mut self) -> Vec<DeviceExtent> {
        std::mem::take(&mut self.pending.to_discard)
    }

    pub fn discarded(&mut self, extents: &[DeviceExtent]) {
        for &extent in extents {
            self.pending.blocks -= u64::from(extent.blocks);
            self.release(extent);
        }
    }
}

fn due(queue: &mut VecDeque<(u64, DeviceExtent)>, index: u64) -> Option<DeviceExtent> {
    let (freed_at, extent) = *queue.front()?;
    if freed_at > index {
        return None;
    }
    queue.pop_front();
    Some(extent)
}
