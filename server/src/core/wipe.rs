//! Deleted volumes: what they have on this shard is removed in bounded steps between requests.
//!
//! The inodes of all partitions are gone through in key order; what belongs to a deleted volume is
//! removed with its entries, attributes and chunks. Chunks beyond the first are found by their own
//! records, which carry the volume too.

use std::collections::BTreeSet;

use super::changes::{Value, Write};
use super::commit::inode_of_key;
use super::{Core, World};
use crate::meta::db::{Db, Key, key, until};
use crate::records::{
    GenerationRecord, InodeRecord, ORIGINALS_PART, PartRecord, Record, SPLIT_PART, number_of_part,
    partition_of_key,
};
use crate::store::ChunkRecord;
use sealfs_protocol::usage::{Charge, Totals};
use sealfs_protocol::{InodeId, TxnId, VolumeId};

/// Records looked at in one step.
const STEP_RECORDS: usize = 256;
/// Keys removed in one log entry.
const STEP_KEYS: usize = 1024;

/// Where the walk through the store stands.
pub(crate) struct Progress {
    volumes: BTreeSet<VolumeId>,
    phase: Phase,
    next: Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Inodes,
    Chunks,
    Generations,
}

impl Phase {
    fn db(self) -> Db {
        match self {
            Phase::Inodes => Db::Ino,
            Phase::Chunks => Db::Chunk,
            Phase::Generations => Db::Part,
        }
    }

    fn following(self) -> Option<Phase> {
        match self {
            Phase::Inodes => Some(Phase::Chunks),
            Phase::Chunks => Some(Phase::Generations),
            Phase::Generations => None,
        }
    }
}

impl<W: World> Core<W> {
    /// Goes on with the walk, or begins one for volumes that were deleted since the last.
    pub(super) fn wipe_step(&mut self) {
        if !self.meta.has_room(1 << 20) {
            return;
        }
        if self.wipe.is_none() {
            let deleted = self.cluster.deleted.iter().copied();
            // A change that another shard had decided on may come after the walk.
            let left =
                |v: &VolumeId| !self.wiped.contains(v) || self.meta.usage(*v) != Totals::default();
            let volumes: BTreeSet<VolumeId> = deleted.filter(left).collect();
            if volumes.is_empty() {
                return;
            }
            for volume in &volumes {
                self.versions.forget(*volume);
            }
            self.wipe = Some(Progress {
                volumes,
                phase: Phase::Inodes,
                next: Key::new(),
            });
        }
        if let Some(progress) = self.wipe.take() {
            self.wipe = self.wipe_some(progress);
        }
    }

    fn wipe_some(&mut self, mut progress: Progress) -> Option<Progress> {
        let db = progress.phase.db();
        let end = Key::from_slice(&[0xff; 3]);
        let found = self.meta.scan(db, &progress.next, &end, STEP_RECORDS);
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                log::error!("deleted volumes cannot be removed: {error}");
                return None;
            }
        };
        let Some((last, _)) = found.last() else {
            let Some(phase) = progress.phase.following() else {
                self.wiped.extend(progress.volumes);
                return None;
            };
            progress.phase = phase;
            progress.next = Key::new();
            return Some(progress);
        };
        let mut after = last.clone();
        after.push(0);
        let mut writes = Vec::new();
        for (key, value) in &found {
            if writes.len() >= STEP_KEYS {
                after.clone_from(key);
                break;
            }
            let whole = self.wipe_record(&progress, key, value, &mut writes);
            if !whole {
                after.clone_from(key);
                break;
            }
        }
        if self.append(&mut writes, TxnId(0)).is_ok() {
            progress.next = after;
        }
        Some(progress)
    }

    /// What goes with one record; false if it holds more than one step may remove.
    fn wipe_record(
        &self,
        progress: &Progress,
        key: &Key,
        value: &[u8],
        writes: &mut Vec<Write>,
    ) -> bool {
        let partition = partition_of_key(key).unwrap_or_default();
        let is_gone = |volume| progress.volumes.contains(volume);
        let mut remove = |db, value| {
            writes.push(Write::free(partition, db, key.clone(), value));
        };
        match progress.phase {
            Phase::Chunks => {
                if let Ok(record) = ChunkRecord::decode(value)
                    && is_gone(&record.volume)
                {
                    remove(Db::Chunk, Value::DropChunk(Box::new(record)));
                }
            }
            Phase::Generations => match number_of_part(key) {
                Some(SPLIT_PART) => {
                    if let Ok(part) = PartRecord::decode(value)
                        && is_gone(&part.record.volume)
                    {
                        return self.wipe_part(key, writes);
                    }
                }
                Some(0) => {
                    if let Ok(record) = GenerationRecord::decode(value)
                        && is_gone(&record.volume)
                    {
                        remove(Db::Part, Value::Delete);
                    }
                }
                _ => {}
            },
            Phase::Inodes => {
                if let Ok(inode) = InodeRecord::decode(value)
                    && is_gone(&inode.volume)
                {
                    return self.wipe_inode(key, &inode, writes);
                }
            }
        }
        true
    }

    /// A part of a split directory, as [`Core::wipe_record`]: its names, then itself.
    fn wipe_part(&self, key: &Key, writes: &mut Vec<Write>) -> bool {
        let Some(ino) = inode_of_key(key) else {
            return true;
        };
        let partition = partition_of_key(key).unwrap_or_default();
        let mut remove = |db, key| writes.push(Write::free(partition, db, key, Value::Delete));
        let prefix = key::dent_prefix(partition, ino);
        let names = self
            .meta
            .scan(Db::Dent, &prefix, &until(&prefix), STEP_KEYS);
        let names = names.unwrap_or_default();
        let whole = names.len() < STEP_KEYS;
        for (name, _) in names {
            remove(Db::Dent, name);
        }
        if whole {
            remove(Db::Part, key::part(partition, ino, ORIGINALS_PART));
            remove(Db::Part, key.clone());
        }
        whole
    }

    /// An inode, as [`Core::wipe_record`]: what hangs on it, then itself.
    fn wipe_inode(&self, key: &Key, inode: &InodeRecord, writes: &mut Vec<Write>) -> bool {
        let Some(ino) = inode_of_key(key) else {
            return true;
        };
        let partition = partition_of_key(key).unwrap_or_default();
        let below = self.keys_of(ino);
        let whole = below.len() < STEP_KEYS;
        for (db, key) in below {
            writes.push(Write::free(partition, db, key, Value::Delete));
        }
        if whole {
            writes.push(Write {
                partition,
                db: Db::Ino,
                key: key.clone(),
                value: Value::Delete,
                charge: Charge::default().since(inode.charge()),
            });
        }
        whole
    }

    /// Entries, attributes, locks and marks of an inode, a step's worth at most.
    fn keys_of(&self, ino: InodeId) -> Vec<(Db, Key)> {
        let partition = ino.partition();
        let mut keys = Vec::new();
        for (db, prefix) in [
            (Db::Dent, key::dent_prefix(partition, ino)),
            (Db::Xattr, key::xattr_prefix(partition, ino)),
            (Db::Lock, key::lock(partition, ino)),
            (Db::Orphan, key::orphan(partition, ino)),
            (Db::Part, key::ino(partition, ino)),
        ] {
            let left = STEP_KEYS - keys.len();
            let found = self.meta.scan(db, &prefix, &until(&prefix), left);
            keys.extend(found.unwrap_or_default().into_iter().map(|(k, _)| (db, k)));
        }
        keys
    }
}
