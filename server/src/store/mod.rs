//! The block store: the bytes of chunks, directly on a device or a preallocated file.
//!
//! A write goes copy-on-write to fresh blocks of 4 KiB, in place only past a chunk's committed
//! length and where a block is allocated and was never written; the change of the chunk's record,
//! with a checksum for every block, then goes through the log (`meta`). So a record never names
//! bytes that were not written before it, and what an older record names stays as it was until a
//! durable barrier covers its freeing. Reads verify every block: a mismatch is an error, never
//! wrong bytes. A part of the blocks is kept for changes that free as much as they take, so that
//! they go on when the store is full.
//!
//! `chunk` is the record and `extent` what it lists, `write` and `read` the data path, `reserve` space
//! without data and data without space, `alloc` and `release` the space, `superblock` what makes a
//! device ours, `foreign` what makes it somebody else's, `device` real devices and `memory` one in
//! memory.

pub mod alloc;
pub mod chunk;
mod chunk_bytes;
pub mod crc;
pub mod device;
mod error;
pub mod extent;
mod foreign;
pub mod memory;
mod read;
mod release;
mod reserve;
pub mod superblock;
mod write;

use std::sync::Arc;

use crate::env::BlockDevice;
use alloc::Allocator;
use sealfs_protocol::ids::{InodeId, TruncateGeneration, VolumeId};
use sealfs_protocol::usage::Charge;

pub use chunk::{BLOCK_BYTES, CHUNK_MAX_BYTES, ChunkRecord};
pub use device::FileDevice;
pub use error::{OpenError, StoreError};
pub use extent::{ChunkExtent, DeviceExtent, State};
pub use memory::MemoryDevice;

/// One block in this many is kept for changes that free as much as they take.
const KEPT_SHARE: u64 = 64;
/// But as many as a write of the largest size needs, and no more than are freed between two flushes
/// of a device that is written at full rate.
const KEPT_BLOCKS: std::ops::RangeInclusive<u64> = 272..=16384;
/// And of a small store no more than one in this many.
const KEPT_SHARE_MAX: u64 = 8;

/// A range of a device, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Region {
    pub offset: u64,
    pub len: u64,
}

/// Which chunk, for messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkName {
    pub ino: InodeId,
    pub index: u64,
}

/// What a write leaves in the record besides the data.
#[derive(Clone, Copy, Debug)]
pub struct WriteAs {
    pub volume: VolumeId,
    pub generation: TruncateGeneration,
    /// Since 1970, in ns.
    pub mtime_ns: i64,
    /// The volume's durability is `memory`: replay does not verify the data, so that its blocks
    /// may be reused as soon as their freeing is written.
    pub volatile: bool,
}

/// A change of one chunk, to be logged with `Group::put_chunk` or given up with
/// `BlockStore::abandon`. Reuse one: its vectors stay.
#[derive(Clone, Debug, Default)]
pub struct ChunkChange {
    /// The record after the change.
    pub record: ChunkRecord,
    pub(crate) allocated: Vec<DeviceExtent>,
    pub(crate) freed: Vec<DeviceExtent>,
    /// Blocks of the chunk that were written, as (first, number).
    pub(crate) written: Vec<(u32, u32)>,
}

impl ChunkChange {
    /// What it adds to the usage of the chunk's volume.
    pub fn charge(&self) -> Charge {
        let blocks = |extents: &[DeviceExtent]| -> i64 {
            let all = extents.iter().map(|e| i64::from(e.blocks));
            all.sum()
        };
        let more = blocks(&self.allocated) - blocks(&self.freed);
        Charge {
            volume: self.record.volume,
            bytes: more * i64::from(BLOCK_BYTES),
            inodes: 0,
        }
    }

    fn begin(&mut self, old: Option<&ChunkRecord>, how: WriteAs) {
        self.record.extents.clear();
        self.record.crcs.clear();
        self.record.end = 0;
        self.record.call = 0;
        if let Some(old) = old {
            self.record.extents.extend_from_slice(&old.extents);
            self.record.crcs.extend_from_slice(&old.crcs);
            self.record.end = old.end;
            self.record.call = old.call;
        }
        // A chunk stays with the volume that its space was charged to.
        self.record.volume = old.map_or(how.volume, |o| o.volume);
        self.record.generation = how.generation;
        self.record.mtime_ns = how.mtime_ns;
        self.record.volatile = how.volatile;
        self.allocated.clear();
        self.freed.clear();
        self.written.clear();
    }
}

/// Space of the data region, in bytes, without what is kept for changes that free as much as they
/// take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// Freed, and reusable once flushes have covered the freeing.
    pub pending_bytes: u64,
}

pub struct BlockStore<D> {
    device: Arc<D>,
    region: Region,
    alloc: Allocator,
    /// Blocks kept for changes that free as much as they take.
    kept: u64,
    /// Written since the last flush began.
    dirty: bool,
}

impl<D: BlockDevice> BlockStore<D> {
    /// A store over `region` with all blocks free; the owner then loads the bitmaps.
    pub(crate) fn new(device: Arc<D>, region: Region) -> BlockStore<D> {
        let blocks = region.len / u64::from(BLOCK_BYTES);
        let discards = device.wants_discard();
        BlockStore {
            device,
            region,
            alloc: Allocator::new(blocks, discards),
            kept: (blocks / KEPT_SHARE)
                .clamp(*KEPT_BLOCKS.start(), *KEPT_BLOCKS.end())
                .min(blocks / KEPT_SHARE_MAX),
            dirty: false,
        }
    }

    pub fn space(&self) -> Space {
        let bytes = u64::from(BLOCK_BYTES);
        Space {
            total_bytes: (self.region.len / bytes - self.kept) * bytes,
            free_bytes: self.alloc.free_blocks().saturating_sub(self.kept) * bytes,
            pending_bytes: self.alloc.pending_blocks() * bytes,
        }
    }

    /// Refuses to take `blocks`, of which `growth` are more than the change frees, unless they are
    /// there. What is kept serves changes without growth; if it is used up they wait for a flush.
    fn admit(&mut self, blocks: u32, growth: u32) -> Result<(), StoreError> {
        let (blocks, growth) = (u64::from(blocks), u64::from(growth));
        let fits = |free: u64| growth == 0 || growth + self.kept <= free;
        let free = self.alloc.free_blocks();
        if blocks <= free && fits(free) {
            return Ok(());
        }
        self.alloc.forgo_discards();
        let free = self.alloc.free_blocks();
        match blocks <= free {
            true if fits(free) => Ok(()),
            false if fits(free) && blocks <= free + self.alloc.pending_blocks() => {
                Err(StoreError::Awaited)
            }
            _ => Err(StoreError::Full),
        }
    }

    pub(crate) fn device(&self) -> &Arc<D> {
        &self.device
    }

    pub(crate) fn alloc(&mut self) -> &mut Allocator {
        &mut self.alloc
    }

    /// A flush that begins now covers everything written so far.
    pub(crate) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    pub(crate) fn waits_for_barrier(&self) -> bool {
        self.alloc.waits_for_barrier()
    }

    /// Gives back what a change that will not be logged had taken.
    pub fn abandon(&mut self, change: &mut ChunkChange) {
        for extent in change.allocated.drain(..) {
            self.alloc.release(extent);
        }
        change.freed.clear();
        change.written.clear();
    }

    /// A run of blocks as a range of the device.
    pub(crate) fn place(&self, extent: DeviceExtent) -> Region {
        Region {
            offset: self.device_offset(extent.block),
            len: u64::from(extent.blocks) * u64::from(BLOCK_BYTES),
        }
    }

    fn device_offset(&self, block: u64) -> u64 {
        self.region.offset + block * u64::from(BLOCK_BYTES)
    }

    /// Whether an extent lies inside the data region.
    pub(crate) fn contains(&self, extent: DeviceExtent) -> bool {
        let blocks = self.region.len / u64::from(BLOCK_BYTES);
        extent
            .block
            .checked_add(u64::from(extent.blocks))
            .is_some_and(|until| until <= blocks)
    }

    /// Whether the blocks `first..first + blocks` of a chunk hold what the record's checksums
    /// say. Unreadable counts as no. Replay asks this for entries past the last barrier.
    pub(crate) fn holds(&self, record: &ChunkRecord, first: u32, blocks: u32) -> bool {
        let mut buffer = [0; BLOCK_BYTES as usize];
        (first..first.saturating_add(blocks)).all(|block| {
            let Some((device_block, crc)) = record.locate(block) else {
                return false;
            };
            let covered = &mut buffer[..record.committed_in(block) as usize];
            let at = self.device_offset(device_block);
            self.device.read_at(covered, at).is_ok() && crc::crc32c(covered) == crc
        })
    }
}
