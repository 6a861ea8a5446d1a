//! The published state as this shard has adopted it: who owns what, and which volumes there are.

use std::collections::{BTreeMap, HashMap};

use super::quota;
use crate::records::Directory;

use sealfs_protocol::manager::{ClusterState, Durability, Volume};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{
    ClusterId, Epoch, InodeId, PartitionId, RingVersion, ShardId, VolumeId, hash,
};

/// Names after which a directory is split, if nobody says otherwise.
const SPLIT_ENTRIES: u64 = 4096;
/// Parts of a split directory: so many on each shard, and so many at most.
const PARTS_PER_SHARD: usize = 4;
const PARTS_MAX: usize = 256;

pub struct Cluster {
    pub id: ClusterId,
    pub shard: ShardId,
    pub ring: Ring,
    pub version: u64,
    volumes: HashMap<VolumeId, Volume>,
    pub deleted: Vec<VolumeId>,
    /// Names after which a directory is split.
    pub split_entries: u64,
    has_quotas: bool,
    /// Position of this shard in the ring.
    me: Option<u16>,
}

impl Cluster {
    pub fn new(id: ClusterId, shard: ShardId) -> Cluster {
        Cluster {
            id,
            shard,
            ring: Ring::empty(id, 1),
            version: 0,
            volumes: HashMap::new(),
            deleted: Vec::new(),
            split_entries: SPLIT_ENTRIES,
            has_quotas: false,
            me: None,
        }
    }

    /// Takes over a newer state; whether it was one.
    pub fn adopt(&mut self, state: ClusterState) -> bool {
        let newer = state.version > self.version && state.ring.version >= self.ring.version;
        if !newer || !state.ring.is_consistent() || state.ring.cluster != self.id {
            return false;
        }
        let mine = state.ring.shards.iter().position(|s| s.id == self.shard);
        self.me = mine.map(|i| i as u16);
        self.version = state.version;
        self.ring = state.ring;
        self.volumes = state.volumes.into_iter().map(|v| (v.id, v)).collect();
        self.deleted = state.deleted;
        self.has_quotas = self.volumes.values().any(|v| quota::limit_of(v).is_some());
        true
    }

    pub fn partitions(&self) -> u16 {
        self.ring.partitions()
    }

    pub fn is_mine(&self, partition: PartitionId) -> bool {
        self.me.is_some() && self.ring.owners.get(usize::from(partition.0)).copied() == self.me
    }

    pub fn serves(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.is_mine(partition) && self.ring.epoch(partition) == epoch
    }

    pub fn epoch(&self, partition: PartitionId) -> Epoch {
        self.ring.epoch(partition)
    }

    pub fn owner(&self, partition: PartitionId) -> Option<ShardId> {
        self.ring.owner(partition).map(|s| s.id)
    }

    /// Whether an unsplit directory is to be split.
    pub fn splits(&self, directory: &Directory) -> bool {
        directory.entries >= self.split_entries && directory.split.is_empty()
    }

    /// Where the parts of a directory that is about to be split shall be: on all shards in turn, each
    /// in a partition of its own. Empty if there are too few partitions.
    pub fn part_partitions(&self, directory: InodeId) -> Vec<PartitionId> {
        let shards = self.ring.shards.len();
        let count = (shards * PARTS_PER_SHARD).min(PARTS_MAX);
        let mut hosts: Vec<PartitionId> = Vec::with_capacity(count);
        for part in 1..=count {
            let turn = (directory.sequence() as usize).wrapping_add(part) % shards;
            let first = hash::directory_part_partition(directory, part as u16, self.partitions());
            let following = (first.0..self.partitions()).chain(0..first.0);
            let free = following.map(PartitionId).find(|p| {
                self.ring.owners.get(usize::from(p.0)) == Some(&(turn as u16))
                    && *p != directory.partition()
                    && !hosts.contains(p)
            });
            hosts.extend(free);
        }
        if hosts.len() < 2 {
            hosts.clear();
        }
        hosts
    }

    pub fn ring_version(&self) -> RingVersion {
        self.ring.version
    }

    /// The other shards of the ring.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + '_ {
        let ids = self.ring.shards.iter().map(|s| s.id);
        ids.filter(|id| *id != self.shard)
    }

    pub fn volume(&self, id: VolumeId) -> Option<&Volume> {
        self.volumes.get(&id)
    }

    /// In the order of their numbers.
    pub fn volumes(&self) -> Vec<VolumeId> {
        let mut ids: Vec<VolumeId> = self.volumes.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The limits of the volumes that have some.
    pub fn quotas(&self) -> BTreeMap<VolumeId, Totals> {
        let volumes = self.volumes.values();
        let limited = volumes.filter_map(|v| Some((v.id, quota::limit_of(v)?)));
        limited.collect()
    }

    pub fn has_quotas(&self) -> bool {
        self.has_quotas
    }

    pub fn root(&self, volume: VolumeId) -> InodeId {
        InodeId::root(volume, self.partitions())
    }

    pub fn durability(&self, volume: VolumeId) -> Durability {
        self.volumes
            .get(&volume)
            .map_or(Durability::default(), |v| v.durability)
    }
}
