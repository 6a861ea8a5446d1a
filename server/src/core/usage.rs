//! What volumes take on this shard, as told to the manager and as counted again from the records.
//!
//! The running totals (`meta::usage`) are what everybody uses. The count from the records is their
//! oracle: whatever was done, killed and replayed, both are the same.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Core, World};
use crate::meta::db::Db;
use crate::records::{InodeRecord, Record, partition_of_key};
use crate::store::{BLOCK_BYTES, ChunkRecord};
use sealfs_protocol::manager::VolumeUse;
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{PartitionId, VolumeId};

/// Totals by partition and volume, without those of nothing.
pub type ByPartition = BTreeMap<(PartitionId, VolumeId), Totals>;

impl<W: World> Core<W> {
    /// What this shard has of each volume, and how many clients of it are connected.
    pub fn volume_uses(&self) -> Vec<VolumeUse> {
        let mut uses: BTreeMap<VolumeId, VolumeUse> = BTreeMap::new();
        for (volume, used) in self.meta.usages() {
            uses.entry(volume).or_default().used = used;
        }
        for (volume, clients) in self.sessions.clients_by_volume() {
            uses.entry(volume).or_default().clients = clients;
        }
        let named = uses.into_iter();
        let named = named.map(|(volume, share)| VolumeUse { volume, ..share });
        named.collect()
    }

    /// The running totals.
    pub fn usage_by_partition(&self) -> ByPartition {
        self.meta.usages_by_partition()
    }

    /// The same, counted from every record of this shard: slow.
    pub fn recount_usage(&self) -> ByPartition {
        let mut counted = ByPartition::new();
        let mut add = |key: &[u8], volume: VolumeId, more: Totals| {
            let partition = partition_of_key(key).unwrap_or_default();
            let totals = counted.entry((partition, volume)).or_default();
            *totals = totals.plus(more);
        };
        self.visit_all(Db::Ino, |key, value| {
            if let Ok(inode) = InodeRecord::decode(value) {
                let charge = inode.charge();
                let bytes = charge.bytes.unsigned_abs();
                let inodes = charge.inodes.unsigned_abs();
                add(key, inode.volume, Totals { bytes, inodes });
            }
        });
        self.visit_all(Db::Chunk, |key, value| {
            if let Ok(chunk) = ChunkRecord::decode(value) {
                let bytes = u64::from(chunk.blocks()) * u64::from(BLOCK_BYTES);
                add(key, chunk.volume, Totals { bytes, inodes: 0 });
            }
        });
        counted.retain(|_, totals| *totals != Totals::default());
        counted
    }

    fn visit_all(&self, db: Db, mut visit: impl FnMut(&[u8], &[u8])) {
        let visited = self.meta.scan_with(db, &[], &[0xff; 3], |key, value| {
            visit(key, value);
            ControlFlow::Continue(())
        });
        if let Err(error) = visited {
            log::error!("{} cannot be read: {error}", db.name());
        }
    }
}
