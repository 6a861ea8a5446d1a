//! The record of one chunk: which blocks of the device hold which blocks of the chunk, and the
//! checksum of each.
//!
//! What must stay true: extents are sorted and do not overlap; `crcs` has one entry per written
//! block in extent order; the checksum of block b covers the bytes below `end` only, so that the
//! rest of the last block may be written in place. Bytes in no written extent, or past `end`, are
//! zeros: what the device holds in a block that is allocated and not written is nobody's to read.
//! What an extent is, is `extent`'s; how the record is encoded is `chunk_bytes`'s.

use super::extent::{ChunkExtent, DeviceExtent, State};
use sealfs_protocol::ids::{TruncateGeneration, VolumeId};
use sealfs_protocol::usage::Charge;
use smallvec::SmallVec;

/// Unit of allocation, checksums and copy-on-write, in bytes.
pub const BLOCK_BYTES: u32 = 4096;
/// Largest chunk, in bytes.
pub const CHUNK_MAX_BYTES: u32 = 64 << 20;
pub(super) const CHUNK_MAX_BLOCKS: u32 = CHUNK_MAX_BYTES / BLOCK_BYTES;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChunkRecord {
    pub volume: VolumeId,
    pub generation: TruncateGeneration,
    /// Time of the last write, since 1970, in ns.
    pub mtime_ns: i64,
    /// The data need not survive a power cut and is not verified by replay.
    pub volatile: bool,
    /// Committed length, in bytes from the start of the chunk.
    pub end: u32,
    /// Which call of fallocate(2) has added the extents of that state; below 2^63.
    pub call: u64,
    pub extents: Vec<ChunkExtent>,
    pub crcs: Vec<u32>,
}

impl ChunkRecord {
    /// Committed length, in bytes.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Allocated blocks of 4 KiB, written or not.
    pub fn blocks(&self) -> u32 {
        self.extents.iter().map(|e| e.blocks).sum()
    }

    /// Where its last block ends, or its bytes do, whichever is later.
    pub fn reach(&self) -> u32 {
        let last = self.extents.last();
        self.end.max(last.map_or(0, |e| e.until() * BLOCK_BYTES))
    }

    /// Whether it has blocks that nothing was written to.
    pub fn has_unwritten(&self) -> bool {
        self.extents.iter().any(|e| !e.is_written())
    }

    /// Whether this call of fallocate(2) has added blocks that were not written since.
    pub fn has_added(&self, call: u64) -> bool {
        self.call == call && self.extents.iter().any(|e| e.state == State::Added)
    }

    /// Whether there is nothing else in it.
    pub fn is_all_added(&self) -> bool {
        self.end == 0 && self.extents.iter().all(|e| e.state == State::Added)
    }

    /// About what its encoding takes, in bytes.
    pub fn encoded_bytes(&self) -> usize {
        48 + self.extents.len() * 14 + self.crcs.len() * 4
    }

    /// What its removal adds to the usage of its volume.
    pub fn dropped(&self) -> Charge {
        Charge {
            volume: self.volume,
            bytes: -(i64::from(self.blocks()) * i64::from(BLOCK_BYTES)),
            inodes: 0,
        }
    }

    /// The first byte at or after `offset` that is not in a hole; `None` if only holes follow. A
    /// block that was written is data as a whole, also past the end of what was written to it.
    pub fn next_data(&self, offset: u32) -> Option<u32> {
        let block = offset / BLOCK_BYTES;
        let mut written = self.extents.iter().filter(|e| e.is_written());
        let extent = written.find(|e| e.until() > block)?;
        Some(offset.max(extent.first * BLOCK_BYTES))
    }

    /// The first byte at or after `offset` that is in a hole; what was not written is one.
    pub fn next_hole(&self, offset: u32) -> u32 {
        let mut block = offset / BLOCK_BYTES;
        for e in self.extents.iter().filter(|e| e.is_written()) {
            if e.first > block {
                break;
            }
            block = block.max(e.until());
        }
        offset.max(block * BLOCK_BYTES)
    }

    /// Where block `block` lies, and its checksum; `None` if it was not written.
    pub fn locate(&self, block: u32) -> Option<(u64, u32)> {
        let mut index = 0;
        for e in &self.extents {
            if block < e.first {
                return None;
            }
            if block < e.until() {
                if !e.is_written() {
                    return None;
                }
                let within = block - e.first;
                let crc = self.crcs[index + within as usize];
                return Some((e.device_block + u64::from(within), crc));
            }
            if e.is_written() {
                index += e.blocks as usize;
            }
        }
        None
    }

    /// Where block `block` lies, written or not.
    pub(super) fn place_of(&self, block: u32) -> Option<u64> {
        let e = self.extents_in(block, block + 1).next()?;
        Some(e.device_block)
    }

    /// What lies in the blocks `from..until`, cut to them.
    pub(super) fn extents_in(
        &self,
        from: u32,
        until: u32,
    ) -> impl Iterator<Item = ChunkExtent> + '_ {
        let i = self.extents.partition_point(|e| e.until() <= from);
        let rest = self.extents[i..].iter();
        rest.map_while(move |e| e.cut(from, until))
    }

    /// The blocks in `from..until` that have no place, as (first, end).
    pub fn missing_in(&self, from: u32, until: u32) -> SmallVec<[(u32, u32); 4]> {
        let mut missing = SmallVec::new();
        let mut at = from;
        for e in self.extents_in(from, until) {
            if at < e.first {
                missing.push((at, e.first));
            }
            at = e.until();
        }
        if at < until {
            missing.push((at, until));
        }
        missing
    }

    /// How many bytes of block `block` its checksum covers.
    pub fn committed_in(&self, block: u32) -> u32 {
        self.end
            .saturating_sub(block * BLOCK_BYTES)
            .min(BLOCK_BYTES)
    }

    /// Number of crcs of extents that begin below block `block`, counting only blocks below it.
    fn crcs_below(&self, block: u32) -> usize {
        self.extents
            .iter()
            .take_while(|e| e.first < block)
            .filter(|e| e.is_written())
            .map(|e| (e.until().min(block) - e.first) as usize)
            .sum()
    }

    /// Takes the blocks `from..until` out; what they occupied goes to `freed`.
    pub(super) fn remove(&mut self, from: u32, until: u32, freed: &mut Vec<DeviceExtent>) {
        freed.extend(self.extents_in(from, until).map(ChunkExtent::place));
        self.take_out(from, until);
    }

    /// Takes the blocks `from..until` out; what becomes of their places is the caller's business.
    pub(super) fn take_out(&mut self, from: u32, until: u32) {
        let crcs = self.crcs_below(from)..self.crcs_below(until);
        self.crcs.drain(crcs);
        let mut i = self.extents.partition_point(|e| e.until() <= from);
        while i < self.extents.len() && self.extents[i].first < until {
            let e = self.extents[i];
            let (before, after) = (e.cut(0, from), e.cut(until, u32::MAX));
            self.extents.splice(i..=i, before.into_iter().chain(after));
            i += usize::from(before.is_some()) + usize::from(after.is_some());
        }
    }

    /// Puts an extent and its checksums (none if it is not written) into a place that is free,
    /// joining neighbours.
    pub(super) fn insert(&mut self, extent: ChunkExtent, crcs: &[u32]) {
        debug_assert!(extent.is_written() || crcs.is_empty());
        debug_assert!(!extent.is_written() || extent.blocks as usize == crcs.len());
        let at = self.crcs_below(extent.first);
        self.crcs.splice(at..at, crcs.iter().copied());
        let i = self.extents.partition_point(|e| e.first < extent.first);
        self.extents.insert(i, extent);
        if i + 1 < self.extents.len() && self.extents[i].joins(self.extents[i + 1]) {
            self.extents[i].blocks += self.extents[i + 1].blocks;
            self.extents.remove(i + 1);
        }
        if i > 0 && self.extents[i - 1].joins(self.extents[i]) {
            self.extents[i - 1].blocks += self.extents[i].blocks;
            self.extents.remove(i);
        }
    }

    /// What an earlier call has added stays: one call at a time works on a file.
    pub(super) fn begin_call(&mut self, call: u64) {
        if self.call == call {
            return;
        }
        self.call = call;
        for e in &mut self.extents {
            if e.state == State::Added {
                e.state = State::Unwritten;
            }
        }
        self.extents.dedup_by(|next, e| {
            let joins = e.joins(*next);
            if joins {
                e.blocks += next.blocks;
            }
            joins
        });
    }

    pub(super) fn set_crc(&mut self, block: u32, crc: u32) {
        let index = self.crcs_below(block);
        self.crcs[index] = crc;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(extents: &[(u32, u32, u64)]) -> ChunkRecord {
        let mut r = ChunkRecord {
            volume: VolumeId(3),
            end: 1 << 20,
            mtime_ns: -5,
            ..ChunkRecord::default()
        };
        for &(first, blocks, device_block) in extents {
            let crcs: Vec<u32> = (first..first + blocks).collect();
            let extent = ChunkExtent {
                first,
                blocks,
                device_block,
                state: State::Written,
            };
            r.insert(extent, &crcs);
        }
        r
    }

    #[test]
    fn a_record_reads_back_and_refuses_every_cut() {
        let r = record(&[(0, 4, 100), (10, 1, 7), (11, 2, 1 << 40)]);
        let mut bytes = Vec::new();
        r.encode_into(&mut bytes);
        assert_eq!(ChunkRecord::decode(&bytes).unwrap(), r);
        for len in 0..bytes.len() {
            assert!(ChunkRecord::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn the_record_of_a_small_file_takes_less_than_32_bytes() {
        let mut r = record(&[(0, 1, 1 << 27)]);
        r.end = 4096;
        let mut bytes = Vec::new();
        r.encode_into(&mut bytes);
        assert!(bytes.len() < 32, "{} bytes", bytes.len());
    }

    #[test]
    fn neighbours_join_and_a_cut_leaves_both_sides() {
        let mut r = record(&[(0, 4, 100), (8, 2, 108), (4, 4, 104)]);
        assert_eq!(r.extents.len(), 1);
        let mut freed = Vec::new();
        r.remove(3, 7, &mut freed);
        assert_eq!(
            freed,
            [DeviceExtent {
                block: 103,
                blocks: 4
            }]
        );
        assert_eq!(r.crcs, [0, 1, 2, 7, 8, 9]);
        assert_eq!(r.locate(2), Some((102, 2)));
        assert_eq!(r.locate(3), None);
        assert_eq!(r.locate(7), Some((107, 7)));
    }

    #[test]
    fn data_and_holes_alternate_up_to_the_end() {
        let mut r = record(&[(1, 1, 100), (3, 1, 200)]);
        r.end = 3 * 4096 + 10;
        assert_eq!(r.next_data(0), Some(4096));
        assert_eq!(r.next_hole(4100), 8192);
        assert_eq!(r.next_data(8192), Some(3 * 4096));
        assert_eq!(r.next_hole(3 * 4096), 4 * 4096);
        assert_eq!(r.next_data(3 * 4096 + 10), Some(3 * 4096 + 10));
        assert_eq!(r.next_data(4 * 4096), None);
    }

    #[test]
    fn states_read_back_and_only_what_was_written_has_checksums() {
        let mut r = record(&[(0, 2, 100)]);
        let extent = |first, device_block, state| ChunkExtent {
            first,
            blocks: 2,
            device_block,
            state,
        };
        r.begin_call(77);
        r.insert(extent(2, 102, State::Unwritten), &[]);
        r.insert(extent(4, 104, State::Added), &[]);
        r.insert(extent(6, 200, State::Added), &[]);
        let mut bytes = Vec::new();
        r.encode_into(&mut bytes);
        assert_eq!(ChunkRecord::decode(&bytes).unwrap(), r);
        assert_eq!((r.extents.len(), r.crcs.len(), r.blocks()), (4, 2, 8));
        assert_eq!(r.locate(1), Some((101, 1)));
        assert_eq!(r.locate(3), None);
        assert_eq!(r.place_of(3), Some(103));
        assert_eq!((r.next_data(4096), r.next_data(8192)), (Some(4096), None));
        assert_eq!(r.next_hole(0), 8192);
        assert_eq!(r.reach(), 1 << 20);
        r.end = 100;
        assert_eq!(r.reach(), 8 * 4096);
    }

    #[test]
    fn a_new_call_settles_what_an_older_one_has_added() {
        let mut r = ChunkRecord::default();
        let extent = |first, state| ChunkExtent {
            first,
            blocks: 1,
            device_block: 50 + u64::from(first),
            state,
        };
        r.begin_call(1);
        r.insert(extent(0, State::Unwritten), &[]);
        r.insert(extent(1, State::Added), &[]);
        r.insert(extent(2, State::Unwritten), &[]);
        assert!(r.has_added(1) && !r.has_added(2));
        r.begin_call(1);
        assert_eq!(r.extents.len(), 3);
        r.begin_call(2);
        assert_eq!(r.extents.len(), 1);
        assert_eq!(r.blocks(), 3);
        assert!(!r.has_added(2));
    }
}
