//! What an operation sees of the world, and what it wants to change.
//!
//! Operations are written once, as functions over a [`View`]. Keys of this shard are read directly;
//! a key of another shard halts the operation ([`Halt::Need`]) until the coordinator has read it
//! there under a lock, and then it runs again from its start. So what must stay true is that an
//! operation has no effect but through its view: changes are collected here and take place all at
//! once when it has come to its end, or not at all.

use std::ops::ControlFlow;

use super::access::AccessTimes;
use super::changes::{Bump, Changes, MemoryChange, Value, Write};
use super::cluster::Cluster;
use super::ends::Ends;
use super::event::{Halt, Now, OpResult, World};
use super::flock::FileLocks;
use super::locks::KeyLocks;
use super::opens::Opens;
use super::task::{Caller, Job, Memo, Need};
use super::versions::Versions;
use crate::meta::db::{Db, Key};
use crate::meta::{LogIndex, Meta, Span};
use crate::records::Record;
use sealfs_protocol::attr::Time;
use sealfs_protocol::codec::Malformed;
use sealfs_protocol::manager::Durability;
use sealfs_protocol::message::Passed;
use sealfs_protocol::usage::Charge;
use sealfs_protocol::{Errno, InodeId, PartitionId, TxnId, VolumeId};
use smallvec::SmallVec;

pub struct View<'a, W: World> {
    pub now: Now,
    pub cluster: &'a Cluster,
    pub opens: &'a Opens,
    pub(super) access: &'a AccessTimes,
    pub ends: &'a Ends,
    pub file_locks: &'a FileLocks,
    pub versions: &'a Versions,
    pub caller: &'a Caller,
    /// The partition that the operation names.
    pub partition: PartitionId,
    /// The bytes that came with this operation.
    pub payload: &'a [u8],
    /// Bytes that go with the reply.
    pub out: &'a mut Vec<u8>,
    /// Directories passed by the first operation's walk.
    pub passed: &'a mut Vec<Passed>,
    /// No nameless file may be collected yet.
    pub grace: bool,
    /// No lock may be changed yet, nor asked for.
    pub locks_rest: bool,
    /// Entries of the log after this one were lost, if they were of the incarnation before.
    pub lost_after: Option<LogIndex>,
    pub(super) last_index: LogIndex,
    pub(super) meta: &'a mut Meta<W::Kv, W::Device>,
    pub(super) locks: &'a KeyLocks,
    pub(super) memo: &'a Memo,
    pub(super) txn: Option<TxnId>,
    pub(super) changes: Changes,
    pub(super) needs: Vec<Need>,
    /// Local keys to be held from now on, while other shards work for this operation.
    pub(super) holds: Vec<(Db, Key)>,
    /// And not to be read either.
    pub(super) shuts: bool,
    /// What the inodes that were read or made here were charged with before this operation.
    pub(super) charged: SmallVec<[(InodeId, Charge); 4]>,
}

impl<W: World> View<'_, W> {
    pub fn time(&self) -> Time {
        Time::from_ns(i128::from(self.now.wall_ns))
    }

    pub fn is_mine(&self, partition: PartitionId) -> bool {
        self.cluster.is_mine(partition)
    }

    /// EROFS if nothing in the volume may change.
    pub fn check_writable(&self, volume: VolumeId) -> OpResult<()> {
        let found = self.cluster.volume(volume);
        if found.is_some_and(|v| v.read_only) {
            return Err(Errno::EROFS.into());
        }
        Ok(())
    }

    /// Whether other shards hold locks for this operation.
    pub fn is_shared(&self) -> bool {
        self.memo.is_shared()
    }

    /// What the run before this one has left with [`View::next_stage`]; 0 at first.
    pub fn stage(&self) -> u64 {
        self.memo.stage
    }

    // ---- reading ---------------------------------------------------------------------------

    /// The record under a key, as this operation has left it.
    pub fn read<R: Record>(&mut self, db: Db, key: &Key) -> OpResult<Option<R>> {
        self.with(db, key, |bytes| R::decode(bytes).map_err(|_| damaged(db)))
    }

    /// What `parse` finds in the record under a key.
    pub fn look<T>(
        &mut self,
        db: Db,
        key: &Key,
        parse: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> OpResult<Option<T>> {
        self.with(db, key, |bytes| parse(bytes).map_err(|_| damaged(db)))
    }

    pub fn read_bytes(&mut self, db: Db, key: &Key) -> OpResult<Option<Vec<u8>>> {
        self.with(db, key, |bytes| Ok(bytes.to_vec()))
    }

    fn with<T>(
        &mut self,
        db: Db,
        key: &Key,
        parse: impl Fn(&[u8]) -> OpResult<T>,
    ) -> OpResult<Option<T>> {
        let written = self.changes.writes.iter().rev();
        if let Some(write) = written.into_iter().find(|w| w.db == db && w.key == *key) {
            return match &write.value {
                Value::Put(bytes) => parse(bytes).map(Some),
                _ => Ok(None),
            };
        }
        let partition = crate::records::partition_of_key(key).unwrap_or_default();
        if !self.is_mine(partition) {
            return match self.memo.value(db, key) {
                Some(Some(bytes)) => parse(bytes).map(Some),
                Some(None) => Ok(None),
                None => {
                    self.needs.push(Need::Key(partition, db, key.clone()));
                    Err(Halt::Need)
                }
            };
        }
        if self.locks.blocks_read(db, key, self.txn) {
            return Err(Halt::Key(db, key.clone()));
        }
        if self.memo.notes_reads() {
            self.changes.reads.push((db, key.clone()));
        }
        match self
            .meta
            .get_kept(db, key, crate::records::is_of_directory)?
        {
            Some(bytes) => parse(bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Asks for several keys of other shards in one go, before they are read one by one.
    pub fn prefetch(&mut self, keys: &[(Db, Key)]) -> OpResult<()> {
        for (db, key) in keys {
            let partition = crate::records::partition_of_key(key).unwrap_or_default();
            if !self.is_mine(partition) && self.memo.value(*db, key).is_none() {
                self.needs.push(Need::Key(partition, *db, key.clone()));
            }
        }
        if self.needs.is_empty() {
            Ok(())
        } else {
            Err(Halt::Need)
        }
    }

    /// Visits the keys of this shard in `from..until`. Own changes are not seen.
    pub fn scan(
        &mut self,
        db: Db,
        from: &Key,
        until: &Key,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> OpResult<()> {
        self.may_scan(db, from, until)?;
        Ok(self.meta.scan_with(db, from, until, visit)?)
    }

    fn may_scan(&self, db: Db, from: &Key, until: &Key) -> OpResult<()> {
        match self.locks.blocks_scan(db, from, until, self.txn) {
            Some(key) => Err(Halt::Key(db, key)),
            None => Ok(()),
        }
    }

    /// Appends the records that a scan of `from..until` would make to the payload, if they are kept and
    /// take `limit` bytes at most.
    pub fn append_listing(
        &mut self,
        (from, until): (&Key, &Key),
        span: Span,
        limit: usize,
    ) -> OpResult<bool> {
        self.may_scan(Db::Dent, from, until)?;
        match self.meta.listing(span) {
            Some(records) if records.len() <= limit => {
                self.out.extend_from_slice(records);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The payload from `start` on are the records of a whole listing.
    pub fn keep_listing(&mut self, span: Span, start: usize) {
        self.meta.keep_listing(span, &self.out[start..]);
    }

    // ---- changing --------------------------------------------------------------------------

    pub(super) fn set(
        &mut self,
        partition: PartitionId,
        db: Db,
        key: Key,
        value: Value,
        charge: Charge,
    ) {
        let found = self.changes.writes.iter_mut();
        if let Some(w) = found.into_iter().find(|w| w.db == db && w.key == key) {
            w.charge = charge;
            let old = std::mem::replace(&mut w.value, value);
            if let Value::Chunk(mut change) = old {
                self.meta.store_mut().abandon(&mut change);
            }
            return;
        }
        self.changes.writes.push(Write {
            partition,
            db,
            key,
            value,
            charge,
        });
    }

    pub fn put<R: Record>(&mut self, partition: PartitionId, db: Db, key: Key, record: &R) {
        self.put_bytes(partition, db, key, record.encode());
    }

    pub fn put_bytes(&mut self, partition: PartitionId, db: Db, key: Key, bytes: Vec<u8>) {
        self.set(partition, db, key, Value::Put(bytes), Charge::default());
    }

    pub fn delete(&mut self, partition: PartitionId, db: Db, key: Key) {
        self.set(partition, db, key, Value::Delete, Charge::default());
    }

    pub fn remember(&mut self, change: MemoryChange) {
        self.changes.memory.push(change);
    }

    /// Later writes will want this much: refused now if there is no quota for it.
    pub fn expect_space(&mut self, volume: VolumeId, bytes: u64) {
        self.changes.expected = Some(Charge {
            volume,
            bytes: bytes.min(i64::MAX as u64) as i64,
            inodes: 0,
        });
    }

    /// Work on an inode that must be over before the reply goes out.
    pub fn then(&mut self, job: Job) {
        self.changes.then = Some(job);
    }

    /// Only a part of the work was done; run again after it has taken place.
    pub fn again(&mut self) {
        self.changes.again = true;
    }

    pub fn next_stage(&mut self, stage: u64) {
        self.changes.stage = Some(stage);
        self.again();
    }

    /// A step of many: the next begins at `stage`, after others have had their turn.
    pub fn step_to(&mut self, stage: u64) {
        self.next_stage(stage);
        self.changes.rest = true;
    }

    /// If the operation fails from now on, the job is done before its answer.
    pub fn or_else(&mut self, undo: Job) {
        self.changes.undo = Some(undo);
    }

    /// A number that no other operation of this shard has; from its second run on.
    pub fn number(&self) -> Option<u64> {
        self.txn.map(|txn| txn.0 as u64 & (u64::MAX >> 1))
    }

    /// Clients may have cached walks through these directories: they are told before this takes
    /// place.
    pub fn bump_version(&mut self, volume: VolumeId, directories: Vec<InodeId>) {
        self.changes.bump = Some(Bump {
            volume,
            directories,
        });
    }

    /// Excludes every other operation that locks this key, here or elsewhere.
    pub fn lock(&mut self, db: Db, key: Key) -> OpResult<()> {
        let partition = crate::records::partition_of_key(&key).unwrap_or_default();
        if !self.is_mine(partition) {
            return self.prefetch(&[(db, key)]);
        }
        if self.locks.blocks_write(db, &key, self.txn) {
            return Err(Halt::Key(db, key));
        }
        if self.memo.notes_reads() {
            self.changes.reads.push((db, key));
        }
        Ok(())
    }

    /// A number for a new inode in a partition, here or elsewhere.
    pub fn allocate(&mut self, partition: PartitionId) -> OpResult<InodeId> {
        if self.is_mine(partition) {
            let next = self.meta.next_sequence(partition).ok_or(Halt::Room)?;
            return Ok(InodeId::new(partition, next));
        }
        if let Some(ino) = self.memo.allocated(partition) {
            return Ok(ino);
        }
        self.needs.push(Need::Inode(partition));
        Err(Halt::Need)
    }

    /// What led to this operation cannot be lost any more: before another shard is told to take away
    /// what could not be had again. In a volume that promises nothing it may be lost all the same.
    pub fn wait_until_durable(&self, volume: VolumeId, hurry: bool) -> OpResult<()> {
        let wanted = match self.memo.lasts {
            LogIndex(0) => self.last_index,
            index => index,
        };
        let promises = self.cluster.durability(volume) != Durability::Memory;
        if promises && wanted > self.meta.flushed() {
            return Err(Halt::Flush { hurry });
        }
        Ok(())
    }

    pub fn incarnation(&self) -> sealfs_protocol::Incarnation {
        self.meta.incarnation()
    }
}

fn damaged(db: Db) -> Halt {
    log::error!("a record of {} is damaged", db.name());
    Halt::Errno(Errno::EIO)
}
