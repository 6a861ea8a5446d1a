//! The storage of one shard: log, overlay and index, with the block store beside them.
//!
//! A change is one `Group`: `append` queues it as a log entry and puts its effects into the
//! overlay; `write_out` writes everything queued, and only then may replies go out. Flushes and
//! commits are jobs (`jobs`). What must stay true:
//! - data is on the device before the record that names it is in the log;
//! - the index commits entry i only once log and data are flushed through i, so that after a power
//!   cut it is never ahead of the log;
//! - a freed block is used again only once its freeing is in the index, or a *durable* barrier
//!   covers it: replay then neither meets nor verifies an entry that names the old contents;
//! - after a failed flush, log write or commit nothing is tried again: the store is read-only.
//!
//! `replay` opens a store; `sequences` mints inode numbers; `lmdb` and `memory` are indices.

pub mod db;
mod group;
mod identity;
mod jobs;
mod lmdb;
mod log;
mod memory;
mod overlay;
mod replay;
mod sequences;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use sealfs_protocol::ids::{Incarnation, PartitionId};
use smallvec::SmallVec;

use crate::env::{BlockDevice, Kv};
use crate::store::{BlockStore, DeviceExtent, StoreError};
use group::{Item, Items};
use log::{Kind, Log};
use overlay::Overlay;
use sequences::{Partitions, Sequences};

pub use crate::store::OpenError;
pub use db::{Db, Key};
pub use group::Group;
pub use jobs::{CommitDone, CommitJob, FlushDone, FlushJob, Retired};
pub use lmdb::{LmdbKv, LmdbWriter};
pub use log::{BODY_MAX_BYTES, LOG_MIN_BYTES, LogIndex};
pub use memory::{MemoryKv, MemoryKvWriter};
pub use replay::{Options, boot_id};

/// When to flush and commit, and how much memory to use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A dirty log is flushed after this long, in ns.
    pub flush_after_ns: u64,
    /// The overlay is committed when it has grown to this, in bytes,
    pub commit_bytes: usize,
    /// or is this old, in ns.
    pub commit_after_ns: u64,
    /// The overlay's two generations together never exceed this, in bytes.
    pub overlay_max_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            flush_after_ns: 1_000_000_000,
            commit_bytes: 16 << 20,
            commit_after_ns: 5_000_000_000,
            overlay_max_bytes: 64 << 20,
        }
    }
}

/// Room that a reservation of inode sequences takes, at most, in bytes.
const RESERVATION_BYTES: usize = 64;

/// Keys of the `Meta` database.
mod meta_key {
    use sealfs_protocol::ids::PartitionId;

    /// Identity of the store.
    pub const STORE: &[u8] = b"store";
    /// How far the log is applied to this index.
    pub const APPLIED: &[u8] = b"applied";
    /// End of the reserved inode sequences.
    pub const SEQUENCES: &[u8] = b"sequences";
    /// Before a partition's number: its last sequence applied to this index.
    pub const PARTITION: &[u8] = b"partition";

    pub fn partition(partition: PartitionId) -> [u8; 11] {
        let mut key = [0; 11];
        key[..9].copy_from_slice(PARTITION);
        key[9..].copy_from_slice(&partition.0.to_be_bytes());
        key
    }
}

pub struct Meta<K: Kv, D: BlockDevice> {
    kv: K,
    overlay: Overlay,
    log: Log<D>,
    store: BlockStore<D>,
    limits: Limits,
    incarnation: Incarnation,
    sequences: Sequences,
    partitions: Partitions,
    /// The last entry with effects; barriers do not count.
    last_group: LogIndex,
    flushed: LogIndex,
    committed: LogIndex,
    /// Written barriers that are not durable yet: (index of the barrier, what it covers).
    barriers: VecDeque<(LogIndex, LogIndex)>,
    last_barrier: LogIndex,
    flush_under_way: bool,
    commit_under_way: bool,
    dirty_since_ns: Option<u64>,
    uncommitted_since_ns: Option<u64>,
    failed: Option<String>,
    spare_group: Group,
}

impl<K: Kv, D: BlockDevice> Meta<K, D> {
    /// The value of a key, with everything appended so far.
    pub fn get(&self, db: Db, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        let value = self.overlay.get(&self.kv, db, key);
        value.map_err(StoreError::io("index"))
    }

    /// Visits the keys in `from..until` in key order until the visitor breaks.
    pub fn scan_with(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let scanned = self.overlay.scan(&self.kv, db, from, until, visit);
        scanned.map_err(StoreError::io("index"))
    }

    /// The first `limit` keys in `from..until`, with their values.
    pub fn scan(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        self.scan_with(db, from, until, |key, value| {
            found.push((Key::from_slice(key), value.to_vec()));
            if found.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(found)
    }

    pub fn store(&self) -> &BlockStore<D> {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut BlockStore<D> {
        &mut self.store
    }

    /// An empty group, with the buffer of the last one.
    pub fn group(&mut self) -> Group {
        std::mem::take(&mut self.spare_group)
    }

    /// Whether an entry of `bytes` can be appended without waiting for a commit. Ask before
    /// running a request that changes something.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.log.has_room(bytes, 1) && self.overlay.bytes() + bytes <= self.limits.overlay_max_bytes
    }

    /// Queues a group as one atomic log entry; its effects are visible at once. After an error
    /// nothing of it is, and its chunk changes must be abandoned.
    pub fn append(&mut self, mut group: Group) -> Result<LogIndex, StoreError> {
        self.check_writable()?;
        if group.bytes() > BODY_MAX_BYTES || !self.log.has_room(group.bytes(), 1) {
            return Err(StoreError::LogFull);
        }
        let mut numbered: SmallVec<[(PartitionId, u64); 8]> = SmallVec::new();
        group.number(|partition| {
            let earlier = numbered.iter().rev().find(|(p, _)| *p == partition);
            let last = earlier.map_or_else(|| self.partitions.last(partition), |(_, s)| *s);
            numbered.push((partition, last + 1));
            last + 1
        });
        let index = LogIndex(self.log.last().0 + 1);
        if let Err(e) = self.apply(index, group.encoded(), false) {
            return Err(self.fail(format!("an entry could not be applied: {e}")));
        }
        self.log.push(Kind::Group, group.encoded());
        self.last_group = index;
        group.clear();
        self.spare_group = group;
        Ok(index)
    }

    /// Puts the effects of an entry into the overlay and the allocator. During replay blocks are
    /// free at once: everything replayed is durable before the store serves.
    fn apply(&mut self, index: LogIndex, body: &[u8], replaying: bool) -> Result<(), StoreError> {
        for item in Items::new(body) {
            match item.map_err(|_| StoreError::Invalid("log entry"))? {
                Item::Sub {
                    partition,
                    sequence,
                    ..
                } => self.partitions.advance(partition, sequence),
                Item::Put { db, key, value } => self.overlay.active.set(db, key, Some(value)),
                Item::Delete { db, key } => self.overlay.active.set(db, key, None),
                Item::Allocated(extent) => {
                    self.mark(extent, true)?;
                    if replaying {
                        self.store.alloc().mark(extent);
                    }
                }
                Item::Freed { extent, volatile } => {
                    self.mark(extent, false)?;
                    if replaying {
                        self.store.alloc().release(extent);
                    } else {
                        self.store.alloc().free_at(index.0, extent, volatile);
                    }
                }
                Item::Written { .. } => {}
            }
        }
        Ok(())
    }

    fn mark(&mut self, extent: DeviceExtent, used: bool) -> Result<(), StoreError> {
        if !self.store.contains(extent) {
            return Err(StoreError::Invalid("extent"));
        }
        let marked = self.overlay.mark(&self.kv, extent, used);
        marked.map_err(StoreError::io("index"))
    }

    /// Writes everything queued with one device write: the acknowledgement point.
    pub fn write_out(&mut self) -> Result<LogIndex, StoreError> {
        self.check_writable()?;
        if let Err(e) = self.log.write_out() {
            let device = self.log.device().name().to_owned();
            return Err(self.fail(format!("writing the log on {device} failed: {e}")));
        }
        let written = self.log.written();
        self.store.alloc().release_volatile_through(written.0);
        Ok(written)
    }

    /// The last entry on the device; it survives a kill.
    pub fn written(&self) -> LogIndex {
        self.log.written()
    }

    /// The last entry that survives a power cut.
    pub fn flushed(&self) -> LogIndex {
        self.flushed
    }

    /// The last entry that is in the index.
    pub fn committed(&self) -> LogIndex {
        self.committed
    }

    /// Nothing appended is unflushed: an fsync may answer at once.
    pub fn clean(&self) -> bool {
        self.last_group <= self.flushed
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Why the store is read-only, if it is.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// A sequence for a new inode of `partition`, out of the range whose reservation is flushed.
    /// `None`: wait for the next flush (`wants_flush` is true then).
    pub fn next_sequence(&mut self, partition: PartitionId) -> Option<u64> {
        self.reserve_sequences();
        self.sequences.next(partition)
    }

    /// Logs the next range of inode sequences when it is time to. Left alone when the log is full
    /// or broken: the range in hand serves meanwhile.
    fn reserve_sequences(&mut self) {
        let Some(until) = self.sequences.reservation_due() else {
            return;
        };
        if self.failed.is_some() || !self.log.has_reserve(RESERVATION_BYTES) {
            return;
        }
        let mut group = self.group();
        let until_bytes = until.to_le_bytes();
        group.put(Db::Meta, meta_key::SEQUENCES, &until_bytes);
        let index = self.log.push(Kind::Group, group.encoded());
        let active = &mut self.overlay.active;
        active.set(Db::Meta, meta_key::SEQUENCES, Some(&until_bytes));
        self.last_group = index;
        self.sequences.reserved(until, index);
        group.clear();
        self.spare_group = group;
    }

    /// The shard takes `partition` over: its sequences below `floor` may be in use.
    pub fn raise_sequence(&mut self, partition: PartitionId, floor: u64) {
        self.sequences.raise(partition, floor);
    }

    /// The last sequence in the partition's own order of changes.
    pub fn partition_sequence(&self, partition: PartitionId) -> u64 {
        self.partitions.last(partition)
    }

    /// Whether to begin a flush that nobody asked for: something has been dirty for long enough, or
    /// a commit, freed space or inode numbers wait for it.
    pub fn wants_flush(&mut self, now_ns: u64) -> bool {
        if self.flush_under_way || self.failed.is_some() {
            return false;
        }
        let barrier_wanted = self.store.waits_for_barrier() && !self.barriers.is_empty();
        if self.clean() && !barrier_wanted {
            self.dirty_since_ns = None;
            return false;
        }
        let since = *self.dirty_since_ns.get_or_insert(now_ns);
        let frozen = self.overlay.frozen.as_ref();
        let commit_waits = frozen.is_some_and(|f| f.through > self.flushed);
        let space = self.store.space();
        let space_low = space.free_bytes < space.total_bytes / 16 && space.pending_bytes > 0;
        commit_waits
            || space_low
            || self.sequences.wait_for_flush()
            || now_ns.saturating_sub(since) >= self.limits.flush_after_ns
    }

    /// Begins a flush of everything appended so far. `None` if one is under way (then begin again
    /// when it has finished, unless `flushed` says it was enough) or if there is nothing to flush.
    pub fn begin_flush(&mut self) -> Result<Option<FlushJob<D>>, StoreError> {
        self.check_writable()?;
        if self.flush_under_way {
            return Ok(None);
        }
        let through = self.write_out()?;
        if through == self.flushed {
            return Ok(None);
        }
        self.flush_under_way = true;
        let data_dirty = self.store.take_dirty();
        Ok(Some(FlushJob {
            data: data_dirty.then(|| self.store.device().clone()),
            log: self.log.device().clone(),
            through,
        }))
    }

    /// Takes a flush's result: `flushed` moves, and a barrier is queued. After a failure the store
    /// is read-only.
    pub fn finish_flush(&mut self, done: FlushDone) -> Result<LogIndex, StoreError> {
        self.flush_under_way = false;
        self.dirty_since_ns = None;
        if let Err((device, e)) = done.result {
            return Err(self.fail(format!("flushing {device} failed: {e}")));
        }
        self.check_writable()?;
        self.flushed = done.through;
        self.sequences.flushed(done.through);
        let mut durable = LogIndex(0);
        while let Some(&(barrier, covers)) = self.barriers.front()
            && barrier <= self.flushed
        {
            durable = covers;
            self.barriers.pop_front();
        }
        self.store.alloc().release_through(durable.0);
        // A barrier that says nothing new is left out, else an idle store would never be clean.
        let news = self.last_group.min(done.through) > self.last_barrier;
        if news && self.log.has_reserve(8) {
            let covers = done.through;
            let barrier = self.log.push(Kind::Barrier, &covers.0.to_le_bytes());
            self.barriers.push_back((barrier, covers));
            self.last_barrier = covers;
        }
        Ok(self.flushed)
    }

    /// Whether `begin_commit` would do something.
    pub fn wants_commit(&mut self, now_ns: u64) -> bool {
        if self.commit_under_way || self.failed.is_some() {
            return false;
        }
        if let Some(frozen) = &self.overlay.frozen {
            return frozen.through <= self.flushed;
        }
        let bytes = self.overlay.active.bytes();
        if bytes == 0 {
            self.uncommitted_since_ns = None;
            return false;
        }
        let since = *self.uncommitted_since_ns.get_or_insert(now_ns);
        bytes >= self.limits.commit_bytes
            || self.log.used() >= self.log.capacity() / 2
            || now_ns.saturating_sub(since) >= self.limits.commit_after_ns
    }

    /// Freezes the overlay, and hands out its commit once everything in it is flushed. `None`: a
    /// flush is needed first (`wants_flush` is true then), or a commit is under way, or there is
    /// nothing to commit.
    pub fn begin_commit(&mut self) -> Result<Option<CommitJob<K>>, StoreError> {
        self.check_writable()?;
        if self.commit_under_way {
            return Ok(None);
        }
        if self.overlay.frozen.is_none() {
            if self.overlay.active.bytes() == 0 {
                return Ok(None);
            }
            self.write_out()?;
            self.freeze();
        }
        let frozen = self.overlay.frozen.as_ref();
        let ready = frozen.filter(|f| f.through <= self.flushed).cloned();
        Ok(ready.map(|generation| {
            self.commit_under_way = true;
            CommitJob {
                generation,
                writer: self.kv.writer(),
            }
        }))
    }

    fn freeze(&mut self) {
        let through = self.log.last();
        let position = self.log.tail();
        let active = &mut self.overlay.active;
        active.through = through;
        active.through_position = position;
        let applied = replay::encode_applied(through, position, self.log.life());
        active.set(Db::Meta, meta_key::APPLIED, Some(&applied));
        for partition in self.partitions.take_changed() {
            let key = meta_key::partition(partition);
            let last = self.partitions.last(partition).to_le_bytes();
            active.set(Db::Meta, &key, Some(&last));
        }
        self.uncommitted_since_ns = None;
        self.overlay.freeze();
    }

    /// Takes a commit's result. Drop what it returns on the commit thread.
    pub fn finish_commit(&mut self, done: CommitDone) -> Result<Retired, StoreError> {
        self.commit_under_way = false;
        if let Err(e) = done.result.and_then(|()| self.kv.refresh()) {
            return Err(self.fail(format!("committing to the index failed: {e}")));
        }
        self.overlay.frozen = None;
        self.committed = done.generation.through;
        self.log.trim(done.generation.through_position);
        self.store.alloc().release_through(self.committed.0);
        Ok(Retired {
            _generation: done.generation,
        })
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        match &self.failed {
            None => Ok(()),
            Some(why) => Err(StoreError::ReadOnly(why.clone())),
        }
    }

    /// The store is read-only from now on: after a failed flush or write nobody knows what the
    /// device holds, and trying again would only hide it.
    fn fail(&mut self, why: String) -> StoreError {
        ::log::error!("{why}; the store is read-only until the server is restarted");
        let why = self.failed.get_or_insert(why);
        StoreError::ReadOnly(why.clone())
    }
}
