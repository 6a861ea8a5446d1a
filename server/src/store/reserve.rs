//! Space without data, and data without space: what fallocate(2) does to a chunk.
//!
//! A block that is allocated and not written reads as zeros whatever the device holds there, so its
//! first write goes in place. What must stay true: no record that a power cut could bring back has
//! a checksum at such a place. So a written block never becomes an unwritten one where it lies: what
//! is to be zeros again gets a fresh place, and the old one is free once its freeing is durable.

use super::chunk::{BLOCK_BYTES, CHUNK_MAX_BYTES, ChunkExtent, ChunkRecord, State};
use super::{BlockStore, ChunkChange, ChunkName, StoreError, WriteAs};
use crate::env::BlockDevice;

impl<D: BlockDevice> BlockStore<D> {
    /// Gives every block of the bytes `from..until` a place. What it adds is marked with `call`, so
    /// that `give_back` can undo it; the committed length stays.
    pub fn reserve(
        &mut self,
        old: Option<&ChunkRecord>,
        (from, until): (u32, u32),
        call: u64,
        how: WriteAs,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        if until > CHUNK_MAX_BYTES {
            return Err(StoreError::TooLarge);
        }
        out.begin(old, how);
        let missing = out
            .record
            .missing_in(from / BLOCK_BYTES, until.div_ceil(BLOCK_BYTES));
        let blocks = missing.iter().map(|(first, end)| end - first).sum();
        if blocks == 0 {
            return Ok(());
        }
        self.admit(blocks, blocks)?;
        out.record.begin_call(call);
        let result = missing.iter().try_for_each(|(first, end)| {
            self.add_unwritten(*first, end - first, State::Added, out)
        });
        self.settle(result, out)
    }

    /// Takes out what `call` has added and nobody has written to since.
    pub fn give_back(&mut self, old: &ChunkRecord, call: u64, how: WriteAs, out: &mut ChunkChange) {
        out.begin(Some(old), how);
        if old.call == call {
            let added = old.extents.iter().filter(|e| e.state == State::Added);
            for e in added {
                out.record.remove(e.first, e.until(), &mut out.freed);
            }
        }
    }

    /// Makes `len` bytes from `offset` on zeros, and gives whole blocks back. The committed
    /// length stays.
    pub fn punch(
        &mut self,
        name: ChunkName,
        old: &ChunkRecord,
        offset: u32,
        len: u32,
        how: WriteAs,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        out.begin(Some(old), how);
        let until = offset.saturating_add(len);
        let whole = (offset.div_ceil(BLOCK_BYTES), until / BLOCK_BYTES);
        if whole.0 < whole.1 {
            out.record.remove(whole.0, whole.1, &mut out.freed);
        }
        let result = self.zero_edges(name, (offset, until), out);
        self.settle(result, out)
    }

    /// The same, but whole blocks that have a place keep one. Those that have none get none.
    pub fn clear(
        &mut self,
        name: ChunkName,
        old: &ChunkRecord,
        (from, until): (u32, u32),
        how: WriteAs,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        out.begin(Some(old), how);
        let whole = (from.div_ceil(BLOCK_BYTES), until / BLOCK_BYTES);
        let result = self
            .unwrite(old, whole, out)
            .and_then(|()| self.zero_edges(name, (from, until), out));
        self.settle(result, out)
    }

    /// Written blocks of `from..until` become unwritten ones elsewhere.
    fn unwrite(
        &mut self,
        old: &ChunkRecord,
        (from, until): (u32, u32),
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        let written = |e: &ChunkExtent| e.is_written();
        let blocks = old.extents_in(from, until).filter(written);
        self.admit(blocks.map(|e| e.blocks).sum(), 0)?;
        for e in old.extents_in(from, until).filter(written) {
            out.record.remove(e.first, e.until(), &mut out.freed);
            self.add_unwritten(e.first, e.blocks, State::Unwritten, out)?;
        }
        Ok(())
    }

    /// Zeroes what is written of the first and the last block of `from..until` if those are not
    /// whole.
    fn zero_edges(
        &mut self,
        name: ChunkName,
        (from, until): (u32, u32),
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        let until = until.min(out.record.end);
        let head_end = from.next_multiple_of(BLOCK_BYTES).min(until);
        self.write_zeros(name, (from, head_end), out)?;
        let tail = (until / BLOCK_BYTES * BLOCK_BYTES).max(head_end).max(from);
        self.write_zeros(name, (tail, until), out)
    }

    /// Fresh blocks for a place that is free. That there are enough was seen to before.
    fn add_unwritten(
        &mut self,
        first: u32,
        blocks: u32,
        state: State,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        let before = first.checked_sub(1);
        let before = before.and_then(|b| out.record.place_of(b));
        let begun = out.allocated.len();
        let goal = before.map(|block| block + 1);
        if !self.alloc.allocate(blocks, goal, &mut out.allocated) {
            return Err(StoreError::Full);
        }
        let mut at = first;
        for fresh in &out.allocated[begun..] {
            let extent = ChunkExtent {
                first: at,
                blocks: fresh.blocks,
                device_block: fresh.block,
                state,
            };
            out.record.insert(extent, &[]);
            at += fresh.blocks;
        }
        Ok(())
    }
}
