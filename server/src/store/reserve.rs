//! Space without data, and data without space: what fallocate(2) does to a chunk.
//!
//! A block that is allocated and not written reads as zeros whatever the device holds there, so its
//! first write goes in place. What must stay true: no record that a power cut could bring back has
//! a checksum at such a place. So a written block never becomes an unwritten one where it lies: what
//! is to be zeros again gets a fresh place, and the old one is free once its freeing is durable.

use super::chunk::{BLOCK_BYTES, CHUNK_MAX_BYTES, ChunkRecord};
use super::extent::{ChunkExtent, State};
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

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::sync::Arc;

    use super::*;
    use crate::store::{MemoryDevice, Region};
    use sealfs_protocol::ids::{InodeId, TruncateGeneration, VolumeId};

    const BLOCK: u32 = BLOCK_BYTES;
    const NAME: ChunkName = ChunkName {
        ino: InodeId(1),
        index: 0,
    };
    const HOW: WriteAs = WriteAs {
        volume: VolumeId(1),
        generation: TruncateGeneration(0),
        mtime_ns: 0,
        volatile: false,
    };

    struct Chunk {
        store: BlockStore<MemoryDevice>,
        record: ChunkRecord,
        change: ChunkChange,
    }

    impl Chunk {
        /// In a store of as many blocks, whose device is full of what others have left there.
        fn new(blocks: u64) -> Chunk {
            let len = blocks * u64::from(BLOCK);
            let device = Arc::new(MemoryDevice::new("disk", len as usize));
            let left = vec![0xee; len as usize];
            device.write_at(&[IoSlice::new(&left)], 0).unwrap();
            Chunk {
                store: BlockStore::new(device, Region { offset: 0, len }),
                record: ChunkRecord::default(),
                change: ChunkChange::default(),
            }
        }

        fn took(&mut self, done: Result<(), StoreError>) -> Result<i64, StoreError> {
            done?;
            self.record = self.change.record.clone();
            Ok(self.change.charge().bytes / i64::from(BLOCK))
        }

        fn reserve(&mut self, from: u32, until: u32, call: u64) -> Result<i64, StoreError> {
            let range = (from, until);
            let out = &mut self.change;
            let done = self
                .store
                .reserve(Some(&self.record), range, call, HOW, out);
            self.took(done)
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<i64, StoreError> {
            let data = [IoSlice::new(bytes)];
            let out = &mut self.change;
            let done = self
                .store
                .write(NAME, Some(&self.record), offset, &data, HOW, out);
            self.took(done)
        }

        fn clear(&mut self, from: u32, until: u32) -> Result<i64, StoreError> {
            let (range, out) = ((from, until), &mut self.change);
            let done = self.store.clear(NAME, &self.record, range, HOW, out);
            self.took(done)
        }

        fn read(&self, offset: u32, len: usize) -> Vec<u8> {
            let mut out = vec![1; len];
            self.store
                .read(NAME, &self.record, offset, &mut out)
                .unwrap();
            out
        }

        /// The freed blocks are used again, as after a durable barrier.
        fn let_go(&mut self) {
            for extent in std::mem::take(&mut self.change.freed) {
                self.store.alloc().release(extent);
            }
        }
    }

    #[test]
    fn what_lies_in_a_reserved_block_is_never_read() {
        let mut chunk = Chunk::new(4096);
        assert_eq!(chunk.reserve(100, 3 * BLOCK + 1, 1).unwrap(), 4);
        assert_eq!(chunk.read(0, 20_000), vec![0; 20_000]);
        assert_eq!(chunk.write(5000, &[7; 10]).unwrap(), 0);
        let mut expected = vec![0; 20_000];
        expected[5000..5010].fill(7);
        assert_eq!(chunk.read(0, 20_000), expected);
        // An append behind it, and one over the edge of what is reserved.
        assert_eq!(chunk.write(8000, &[8; 100]).unwrap(), 0);
        assert_eq!(chunk.write(3 * BLOCK + 100, &[9; 4096]).unwrap(), 1);
        expected[8000..8100].fill(8);
        let at = 3 * BLOCK as usize + 100;
        expected[at..at + 4096].fill(9);
        assert_eq!(chunk.read(0, 20_000), expected);
    }

    #[test]
    fn only_the_first_write_goes_in_place_and_zeroed_blocks_move() {
        let mut chunk = Chunk::new(4096);
        chunk.reserve(0, 4 * BLOCK, 1).unwrap();
        let place = chunk.record.place_of(1);
        chunk.write(BLOCK, &[1; 4096]).unwrap();
        assert_eq!(chunk.record.place_of(1), place);
        assert!(chunk.change.allocated.is_empty());
        chunk.write(BLOCK, &[2; 4096]).unwrap();
        let second = chunk.record.place_of(1);
        assert_ne!(second, place);
        assert_eq!(chunk.clear(0, 4 * BLOCK).unwrap(), 0);
        assert_ne!(chunk.record.place_of(1), second);
        assert_eq!(chunk.record.place_of(0), place.map(|p| p - 1));
        assert_eq!(chunk.record.next_data(0), None);
        assert_eq!(chunk.record.blocks(), 4);
    }

    #[test]
    fn a_call_takes_back_what_it_has_added_and_nothing_else() {
        let mut chunk = Chunk::new(4096);
        chunk.write(0, &[1; 4096]).unwrap();
        chunk.reserve(0, 2 * BLOCK, 1).unwrap();
        assert_eq!(chunk.reserve(0, 8 * BLOCK, 2).unwrap(), 6);
        // The same again adds nothing, and what was written meanwhile stays.
        assert_eq!(chunk.reserve(0, 8 * BLOCK, 2).unwrap(), 0);
        chunk.write(4 * BLOCK, &[3; 10]).unwrap();
        for (call, left) in [(1, 8), (2, 3), (2, 3)] {
            let out = &mut chunk.change;
            chunk.store.give_back(&chunk.record, call, HOW, out);
            chunk.took(Ok(())).unwrap();
            assert_eq!(chunk.record.blocks(), left);
        }
        assert_eq!(chunk.read(4 * BLOCK, 10), [3; 10]);
    }

    #[test]
    fn a_full_store_overwrites_from_what_is_kept_and_then_waits_for_a_flush() {
        let mut chunk = Chunk::new(4096);
        let kept = 4096 - chunk.store.space().total_bytes / u64::from(BLOCK);
        let room = (4096 - kept) as u32;
        assert!(matches!(
            chunk.reserve(0, (room + 1) * BLOCK, 1),
            Err(StoreError::Full)
        ));
        assert_eq!(chunk.reserve(0, room * BLOCK, 1).unwrap(), i64::from(room));
        assert_eq!(chunk.store.space().free_bytes, 0);
        // Nothing that grows is taken any more, but everything that was promised.
        let mib = vec![1; 256 * BLOCK as usize];
        let end = room * BLOCK;
        assert!(matches!(chunk.write(end, &[1]), Err(StoreError::Full)));
        assert_eq!(chunk.write(0, &mib).unwrap(), 0);
        assert_eq!(chunk.write(100, &mib[..4096]).unwrap(), 0);
        assert_eq!(chunk.write(BLOCK, &mib[BLOCK as usize..]).unwrap(), 0);
        let freed = chunk.change.freed.clone();
        for &extent in &freed {
            chunk.store.alloc().free_at(1, extent, false);
        }
        let more = chunk.write(0, &mib);
        assert!(matches!(more, Err(StoreError::Awaited)), "{more:?}");
        chunk.store.alloc().release_through(1);
        assert_eq!(chunk.write(0, &mib).unwrap(), 0);
        chunk.let_go();
        assert!(matches!(chunk.write(end, &[1]), Err(StoreError::Full)));
    }
}
