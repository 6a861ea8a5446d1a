//! Runs of blocks: of a device, and of a chunk with their place on a device.
//!
//! A chunk's record (`chunk`) is a list of [`ChunkExtent`]s; allocation and release deal in
//! [`DeviceExtent`]s. What must stay true: whatever is cut off an extent keeps its blocks' places.

/// What an extent holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    #[default]
    Written,
    /// Nothing yet: it reads as zeros, and its first write goes in place.
    Unwritten,
    /// The same, added by the call of fallocate(2) that the record names: taken out again if that
    /// call fails.
    Added,
}

/// A run of blocks of the chunk and where it lies on the device, both in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChunkExtent {
    pub first: u32,
    pub blocks: u32,
    /// Block number from the start of the device's data region.
    pub device_block: u64,
    pub state: State,
}

impl ChunkExtent {
    pub fn until(self) -> u32 {
        self.first + self.blocks
    }

    pub fn is_written(self) -> bool {
        self.state == State::Written
    }

    /// Where it lies on the device.
    pub fn place(self) -> DeviceExtent {
        DeviceExtent {
            block: self.device_block,
            blocks: self.blocks,
        }
    }

    /// The part of it in `from..until`, if there is one.
    pub(super) fn cut(self, from: u32, until: u32) -> Option<ChunkExtent> {
        let first = self.first.max(from);
        let end = self.until().min(until);
        (first < end).then(|| ChunkExtent {
            first,
            blocks: end - first,
            device_block: self.device_block + u64::from(first - self.first),
            ..self
        })
    }

    pub(super) fn joins(self, next: ChunkExtent) -> bool {
        self.until() == next.first
            && self.device_block + u64::from(self.blocks) == next.device_block
            && self.state == next.state
    }
}

/// Block numbers of a device stay below this (2^48 blocks).
pub const DEVICE_BLOCK_LIMIT: u64 = 1 << 48;

/// A run of blocks of the device's data region.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceExtent {
    pub block: u64,
    pub blocks: u32,
}
