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
//! `durability` begins and ends flushes and commits; `replay` opens a store; `sequences` mints inode numbers; `usage` sums up what volumes take; `read` reads, with the help of `listings` and `recent`; `lmdb` and `memory` are indices.

pub mod db;
mod durability;
mod group;
mod identity;
mod jobs;
mod listings;
mod lmdb;
mod log;
mod log_reader;
mod memory;
mod overlay;
mod read;
mod recent;
mod replay;
mod resident;
mod sequences;
mod usage;

use std::collections::{BTreeMap, VecDeque};

use sealfs_protocol::ids::{Incarnation, PartitionId, VolumeId};
use sealfs_protocol::usage::Totals;
use smallvec::SmallVec;

use crate::env::{BlockDevice, Kv};
use crate::store::{BlockStore, DeviceExtent, StoreError};
use group::{Item, Items};
use listings::Listings;
use log::{Kind, Log};
use overlay::Overlay;
use recent::Recent;
use sequences::{Partitions, Sequences};
use usage::Usages;

pub use crate::store::OpenError;
pub use db::{Db, Key};
pub use group::Group;
pub use jobs::{CommitDone, CommitJob, FlushDone, FlushJob, Retired};
pub use listings::Span;
pub use lmdb::{LmdbKv, LmdbWriter};
pub use log::{BODY_MAX_BYTES, LogIndex};
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
    /// If this life begins an incarnation: the last entry that is left of the one before.
    lost_after: Option<LogIndex>,
    sequences: Sequences,
    partitions: Partitions,
    usages: Usages,
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
    listings: Listings,
    recent: Recent,
}

impl<K: Kv, D: BlockDevice> Meta<K, D> {
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
        group.close();
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
        let mut current = PartitionId::default();
        for item in Items::new(body) {
            match item.map_err(|_| StoreError::Invalid("log entry"))? {
                Item::Sub {
                    partition,
                    sequence,
                    ..
                } => {
                    current = partition;
                    self.partitions.advance(partition, sequence);
                }
                Item::Usage(charge) => {
                    if !self.usages.apply(current, charge) {
                        let volume = charge.volume;
                        ::log::error!("volume {volume} has given back more than it had taken");
                        debug_assert!(false, "usage below zero");
                    }
                }
                Item::Put { db, key, value } => self.set(db, key, Some(value)),
                Item::Delete { db, key } => self.set(db, key, None),
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

    fn set(&mut self, db: Db, key: &[u8], value: Option<&[u8]>) {
        if db == Db::Dent {
            self.listings.changed(key);
        }
        self.recent.changed(db, key);
        self.overlay.active.set(db, key, value);
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

    /// If this life began an incarnation: the last entry that was left of the one before.
    pub fn lost_after(&self) -> Option<LogIndex> {
        self.lost_after
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

    /// Inodes with lower sequences are of earlier lives of the shard.
    pub fn first_sequence(&self) -> u64 {
        self.sequences.first()
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

    /// What a volume takes on this shard.
    pub fn usage(&self, volume: VolumeId) -> Totals {
        self.usages.volume(volume)
    }

    /// The same in one partition.
    pub fn usage_in(&self, partition: PartitionId, volume: VolumeId) -> Totals {
        self.usages.partition(partition, volume)
    }

    pub fn usages(&self) -> impl Iterator<Item = (VolumeId, Totals)> + '_ {
        self.usages.volumes()
    }

    /// The same by partition, for whoever counts again.
    pub fn usages_by_partition(&self) -> BTreeMap<(PartitionId, VolumeId), Totals> {
        self.usages.partitions()
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
