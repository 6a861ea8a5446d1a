//! How a chunk's record lies in the index and the log: compactly, a 4 KiB file's takes some 30 bytes.
//!
//! The byte table stands in docs/on-disk-format.md. What must stay true: reading is total, and what it
//! takes keeps to what `chunk` says of a record.

use sealfs_protocol::ids::{TruncateGeneration, VolumeId};

use super::StoreError;
use super::chunk::{CHUNK_MAX_BLOCKS, CHUNK_MAX_BYTES, ChunkRecord};
use super::extent::{ChunkExtent, DEVICE_BLOCK_LIMIT, State};

const VERSION: u8 = 2;
const FLAG_VOLATILE: u8 = 1;
const FLAG_CALL: u8 = 2;
/// Bits of an extent's length that hold its state.
const STATE_BITS: u32 = 2;

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
        let flags = r.byte()?;
        self.volatile = flags & FLAG_VOLATILE != 0;
        self.volume = VolumeId(u32::try_from(r.varint()?).ok()?);
        self.generation = TruncateGeneration(u32::try_from(r.varint()?).ok()?);
        self.mtime_ns = i64::from_le_bytes(r.take(8)?.try_into().ok()?);
        self.end = u32::try_from(r.varint()?).ok()?;
        self.call = if flags & FLAG_CALL == 0 {
            0
        } else {
            r.varint()?
        };
        let count = r.varint()?;
        self.extents.clear();
        self.crcs.clear();
        if self.end > CHUNK_MAX_BYTES || count > u64::from(CHUNK_MAX_BLOCKS) {
            return None;
        }
        let mut at = 0u32;
        let mut written = 0u32;
        for _ in 0..count {
            let first = at.checked_add(u32::try_from(r.varint()?).ok()?)?;
            let length = u32::try_from(r.varint()?).ok()?;
            let device_block = r.varint()?;
            let blocks = length >> STATE_BITS;
            let state = match length & ((1 << STATE_BITS) - 1) {
                0 => State::Written,
                1 => State::Unwritten,
                2 => State::Added,
                _ => return None,
            };
            at = first.checked_add(blocks)?;
            if blocks == 0 || at > CHUNK_MAX_BLOCKS || device_block >= DEVICE_BLOCK_LIMIT {
                return None;
            }
            if state == State::Written {
                written += blocks;
            }
            self.extents.push(ChunkExtent {
                first,
                blocks,
                device_block,
                state,
            });
        }
        let crcs = r.take(written as usize * 4)?;
        let crcs = crcs.chunks_exact(4);
        self.crcs
            .extend(crcs.map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])));
        r.bytes.is_empty().then_some(())
    }

    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let volatile = if self.volatile { FLAG_VOLATILE } else { 0 };
        let added = self.extents.iter().any(|e| e.state == State::Added);
        let call = if added { FLAG_CALL } else { 0 };
        out.push(volatile | call);
        varint(out, u64::from(self.volume.0));
        varint(out, u64::from(self.generation.0));
        out.extend_from_slice(&self.mtime_ns.to_le_bytes());
        varint(out, u64::from(self.end));
        if added {
            varint(out, self.call);
        }
        varint(out, self.extents.len() as u64);
        let mut at = 0;
        for e in &self.extents {
            varint(out, u64::from(e.first - at));
            let state = match e.state {
                State::Written => 0,
                State::Unwritten => 1,
                State::Added => 2,
            };
            varint(out, u64::from(e.blocks) << STATE_BITS | state);
            varint(out, e.device_block);
            at = e.until();
        }
        for crc in &self.crcs {
            out.extend_from_slice(&crc.to_le_bytes());
        }
    }
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
