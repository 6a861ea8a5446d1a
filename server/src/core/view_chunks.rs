//! What an operation does with the chunks of its shard.
//!
//! Bytes go to fresh space at once; the record that makes them part of a file is one of the
//! operation's changes. What must stay true: space that was taken by an operation without an end is
//! given back.

use std::ops::Range;

use smallvec::SmallVec;

use super::changes::Value;
use super::event::{OpResult, World};
use super::view::View;
use crate::meta::db::{Db, key};
use crate::store::{ChunkChange, ChunkName, ChunkRecord, WriteAs};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::usage::Charge;
use sealfs_protocol::{Errno, InodeId, PartitionId, VolumeId};

impl<W: World> View<'_, W> {
    /// How a write to a file of `volume` is to be kept.
    pub fn write_as(
        &self,
        volume: VolumeId,
        generation: sealfs_protocol::TruncateGeneration,
    ) -> WriteAs {
        WriteAs {
            volume,
            generation,
            mtime_ns: self.now.wall_ns,
            volatile: self.cluster.durability(volume) == Durability::Memory,
        }
    }

    pub fn chunk(
        &mut self,
        partition: PartitionId,
        ino: InodeId,
        index: u64,
    ) -> OpResult<Option<ChunkRecord>> {
        let key = key::chunk(partition, ino, index);
        match self.meta.get(Db::Chunk, &key)? {
            Some(bytes) => Ok(Some(ChunkRecord::decode(bytes)?)),
            None => Ok(None),
        }
    }

    /// Writes bytes into a chunk; the record that this makes.
    pub fn write_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        old: Option<&ChunkRecord>,
        offset: u32,
        data: &[&[u8]],
        how: WriteAs,
    ) -> OpResult<&ChunkRecord> {
        let slices: SmallVec<[std::io::IoSlice<'_>; 4]> =
            data.iter().map(|d| std::io::IoSlice::new(d)).collect();
        let mut change = Box::<ChunkChange>::default();
        let store = self.meta.store_mut();
        let written = store.write(chunk_name(at), old, offset, &slices, how, &mut change);
        self.keep_change(at, change, written)
    }

    /// Cuts a chunk to `len` bytes, with all blocks behind or those alone that were written.
    pub fn shorten_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        old: &ChunkRecord,
        (len, spare): (u32, bool),
        how: WriteAs,
    ) -> OpResult<&ChunkRecord> {
        let mut change = Box::<ChunkChange>::default();
        let store = self.meta.store_mut();
        let done = store.truncate(chunk_name(at), old, (len, spare), how, &mut change);
        self.keep_change(at, change, done)
    }

    /// Gives all of `range` space, for a call of fallocate(2).
    pub fn reserve_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        old: Option<&ChunkRecord>,
        range: Range<u32>,
        call: u64,
        how: WriteAs,
    ) -> OpResult<&ChunkRecord> {
        let mut change = Box::<ChunkChange>::default();
        let range = (range.start, range.end);
        let store = self.meta.store_mut();
        let done = store.reserve(old, range, call, how, &mut change);
        self.keep_change(at, change, done)
    }

    /// Takes out what the call has added to a chunk.
    pub fn give_back_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        old: &ChunkRecord,
        call: u64,
        how: WriteAs,
    ) -> OpResult<&ChunkRecord> {
        let mut change = Box::<ChunkChange>::default();
        let store = self.meta.store_mut();
        store.give_back(old, call, how, &mut change);
        self.keep_change(at, change, Ok(()))
    }

    /// Zeroes `range` of a chunk; what has space keeps it.
    pub fn clear_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        old: &ChunkRecord,
        range: Range<u32>,
        how: WriteAs,
    ) -> OpResult<&ChunkRecord> {
        let mut change = Box::<ChunkChange>::default();
        let range = (range.start, range.end);
        let store = self.meta.store_mut();
        let done = store.clear(chunk_name(at), old, range, how, &mut change);
        self.keep_change(at, change, done)
    }

    /// Zeroes `range` of a chunk; whole blocks lose their space.
    pub fn punch_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        old: &ChunkRecord,
        range: Range<u32>,
        how: WriteAs,
    ) -> OpResult<&ChunkRecord> {
        let mut change = Box::<ChunkChange>::default();
        let len = range.end - range.start;
        let store = self.meta.store_mut();
        let done = store.punch(chunk_name(at), old, range.start, len, how, &mut change);
        self.keep_change(at, change, done)
    }

    fn keep_change(
        &mut self,
        at: (PartitionId, InodeId, u64),
        mut change: Box<ChunkChange>,
        made: Result<(), crate::store::StoreError>,
    ) -> OpResult<&ChunkRecord> {
        if let Err(error) = made {
            self.meta.store_mut().abandon(&mut change);
            return Err(error.into());
        }
        let key = key::chunk(at.0, at.1, at.2);
        self.set(
            at.0,
            Db::Chunk,
            key,
            Value::Chunk(change),
            Charge::default(),
        );
        match self.changes.writes.last().map(|w| &w.value) {
            Some(Value::Chunk(change)) => Ok(&change.record),
            _ => Err(Errno::EIO.into()),
        }
    }

    pub fn drop_chunk(&mut self, at: (PartitionId, InodeId, u64), old: ChunkRecord) {
        let key = key::chunk(at.0, at.1, at.2);
        let gone = Value::DropChunk(Box::new(old));
        self.set(at.0, Db::Chunk, key, gone, Charge::default());
    }

    /// Appends bytes of a chunk to the reply's payload.
    pub fn read_chunk(
        &mut self,
        at: (PartitionId, InodeId, u64),
        record: &ChunkRecord,
        offset: u32,
        len: usize,
    ) -> OpResult<()> {
        let from = self.out.len();
        self.out.resize(from + len, 0);
        let into = &mut self.out[from..];
        let read = self.meta.store().read(chunk_name(at), record, offset, into);
        if let Err(error) = read {
            self.out.truncate(from);
            return Err(error.into());
        }
        Ok(())
    }
}

fn chunk_name(at: (PartitionId, InodeId, u64)) -> ChunkName {
    ChunkName {
        ino: at.1,
        index: at.2,
    }
}
