//! The record of one chunk: which blocks of the device hold which blocks of the chunk, and the
//! checksum of each.
//!
//! What must stay true: extents are sorted and do not overlap; `crcs` has one entry per allocated
//! block in extent order; the checksum of block b covers the bytes below `end` only, so that the
//! rest of the last block may be written in place. Bytes in no extent, or past `end`, are zeros.
//! Encoded compactly (a 4 KiB file's record is some 30 bytes); the byte table stands in
//! docs/on-disk-format.md.

use sealfs_protocol::ids::{TruncateGeneration, VolumeId};
use sealfs_protocol::usage::Charge;

use super::StoreError;

/// Unit of allocation, checksums and copy-on-write, in bytes.
pub const BLOCK_BYTES: u32 = 4096;
/// Largest chunk, in bytes.
pub const CHUNK_MAX_BYTES: u32 = 64 << 20;
const CHUNK_MAX_BLOCKS: u32 = CHUNK_MAX_BYTES / BLOCK_BYTES;

const VERSION: u8 = 1;
const FLAG_VOLATILE: u8 = 1;

/// A run of blocks of the chunk and where it lies on the device, both in blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkExtent {
    pub first: u32,
    pub blocks: u32,
    /// Block number from the start of the device's data region.
    pub device_block: u64,
}

impl ChunkExtent {
    pub fn until(self) -> u32 {
        self.first + self.blocks
    }
}

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
    pub extents: Vec<ChunkExtent>,
    pub crcs: Vec<u32>,
}

impl ChunkRecord {
    pub fn decode(bytes: &[u8]) -> Result<ChunkRecord, StoreError> {
        let mut record = ChunkRecord::default();
        record.decode_into(bytes)?;
        Ok(record)
    }

    /// Like `decode`, but reuses the vectors.
    pub fn decode_into(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.parse(&mut Reader { bytes })
            .ok_or(StoreError::Invalid("chunk record"))
    }

    fn parse(&mut self, r: &mut Reader<'_>) -> Option<()> {
        if r.byte()? != VERSION {
            return None;
        }
        self.volatile = r.byte()? & FLAG_VOLATILE != 0;
        self.volume = VolumeId(u32::try_from(r.varint()?).ok()?);
        self.generation = TruncateGeneration(u32::try_from(r.varint()?).ok()?);
        self.mtime_ns = i64::from_le_bytes(r.take(8)?.try_into().ok()?);
        self.end = u32::try_from(r.varint()?).ok()?;
        let count = r.varint()?;
        self.extents.clear();
        self.crcs.clear();
        if self.end > CHUNK_MAX_BYTES || count > u64::from(CHUNK_MAX_BLOCKS) {
            return None;
        }
        let mut at = 0u32;
        let mut total = 0u32;
        for _ in 0..count {
            let first = at.checked_add(u32::try_from(r.varint()?).ok()?)?;
            let blocks = u32::try_from(r.varint()?).ok()?;
            let device_block = r.varint()?;
            at = first.checked_add(blocks)?;
            if blocks == 0 || at > CHUNK_MAX_BLOCKS || device_block >= DEVICE_BLOCK_LIMIT {
                return None;
            }
            total += blocks;
            self.extents.push(ChunkExtent {
                first,
                blocks,
                device_block,
            });
        }
        let crcs = r.take(total as usize * 4)?;
        let crcs = crcs.chunks_exact(4);
        self.crcs
            .extend(crcs.map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
        r.bytes.is_empty().then_some(())
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.push(if self.volatile { FLAG_VOLATILE } else { 0 });
        varint(out, u64::from(self.volume.0));
        varint(out, u64::from(self.generation.0));
        out.extend_from_slice(&self.mtime_ns.to_le_bytes());
        varint(out, u64::from(self.end));
        varint(out, self.extents.len() as u64);
        let mut at = 0;
        for e in &self.extents {
            varint(out, u64::from(e.first - at));
            varint(out, u64::from(e.blocks));
            varint(out, e.device_block);
            at = e.until();
        }
        for crc in &self.crcs {
            out.extend_from_slice(&crc.to_le_bytes());
        }
    }

    /// Committed length, in bytes.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Allocated blocks of 4 KiB.
    pub fn blocks(&self) -> u32 {
        self.crcs.len() as u32
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
    /// block that is there is data as a whole, also past the end of what was written to it.
    pub fn next_data(&self, offset: u32) -> Option<u32> {
        let block = offset / BLOCK_BYTES;
        let extent = self.extents.iter().find(|e| e.until() > block)?;
        Some(offset.max(extent.first * BLOCK_BYTES))
    }

    /// The first byte at or after `offset` that is in a hole.
    pub fn next_hole(&self, offset: u32) -> u32 {
        let mut block = offset / BLOCK_BYTES;
        for e in &self.extents {
            if e.first > block {
                break;
            }
            block = block.max(e.until());
        }
        offset.max(block * BLOCK_BYTES)
    }

    /// Where block `block` lies, and its checksum; `None` for a hole.
    pub fn locate(&self, block: u32) -> Option<(u64, u32)> {
        let mut index = 0;
        for e in &self.extents {
            if block < e.first {
                return None;
            }
            if block < e.until() {
                let within = block - e.first;
                let crc = self.crcs[index + within as usize];
                return Some((e.device_block + u64::from(within), crc));
            }
            index += e.blocks as usize;
        }
        None
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
            .map(|e| (e.until().min(block) - e.first) as usize)
            .sum()
    }

    /// Takes the blocks `from..until` out; what they occupied goes to `freed`.
    pub(super) fn remove(&mut self, from: u32, until: u32, freed: &mut Vec<DeviceExtent>) {
        let crcs = self.crcs_below(from)..self.crcs_below(until);
        self.crcs.drain(crcs);
        let mut i = self.extents.partition_point(|e| e.until() <= from);
        while i < self.extents.len() && self.extents[i].first < until {
            let e = self.extents[i];
            let cut_from = e.first.max(from);
            let cut_until = e.until().min(until);
            freed.push(DeviceExtent {
                block: e.device_block + u64::from(cut_from - e.first),
                blocks: cut_until - cut_from,
            });
            let before = (cut_from > e.first).then(|| ChunkExtent {
                blocks: cut_from - e.first,
                ..e
            });
            let after = (cut_until < e.until()).then(|| ChunkExtent {
                first: cut_until,
                blocks: e.until() - cut_until,
                device_block: e.device_block + u64::from(cut_until - e.first),
            });
            self.extents.splice(i..=i, before.into_iter().chain(after));
            i += usize::from(before.is_some()) + usize::from(after.is_some());
        }
    }

    /// Puts an extent and its checksums into a place that is free, joining neighbours.
    pub(super) fn insert(&mut self, extent: ChunkExtent, crcs: &[u32]) {
        debug_assert_eq!(extent.blocks as usize, crcs.len());
        let at = self.crcs_below(extent.first);
        self.crcs.splice(at..at, crcs.iter().copied());
        let i = self.extents.partition_point(|e| e.first < extent.first);
        let joins = |a: ChunkExtent, b: ChunkExtent| {
            a.until() == b.first && a.device_block + u64::from(a.blocks) == b.device_block
        };
        self.extents.insert(i, extent);
        if i + 1 < self.extents.len() && joins(self.extents[i], self.extents[i + 1]) {
            self.extents[i].blocks += self.extents[i + 1].blocks;
            self.extents.remove(i + 1);
        }
        if i > 0 && joins(self.extents[i - 1], self.extents[i]) {
            self.extents[i - 1].blocks += self.extents[i].blocks;
            self.extents.remove(i);
        }
    }

    pub(super) fn set_crc(&mut self, block: u32, crc: u32) {
        let index = self.crcs_below(block);
        self.crcs[index] = crc;
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

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }

    /// LEB128, at most 63 bits.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
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
}
