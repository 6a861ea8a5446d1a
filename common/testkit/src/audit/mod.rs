//! What must be true of all shards' records together when nothing is under way: a small fsck.

mod files;
mod names;
mod parts;

use std::collections::BTreeMap;

use crate::cluster::{Cluster, VOLUME};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{InodeId, PartitionId};
use sealfs_server::meta::{Db, Key};
use sealfs_server::records::{
    DentryRecord, GenerationRecord, InodeRecord, ORIGINALS_PART, OriginalsRecord, PartRecord,
    PositionRecord, Record, SPLIT_PART, SessionRecord, VERSION_PART, entry_of_position,
    number_of_part, partition_of_key,
};
use sealfs_server::store::ChunkRecord;

/// What lies in a partition for an inode.
type Hosted = (InodeId, PartitionId);

/// The records of a cluster.
pub struct Audit {
    root: InodeId,
    ring: Ring,
    inodes: BTreeMap<InodeId, InodeRecord>,
    /// By directory and name; with the partition that hosts it.
    names: BTreeMap<(InodeId, Vec<u8>), (PartitionId, DentryRecord)>,
    positions: BTreeMap<(InodeId, u64), (PartitionId, PositionRecord)>,
    parts: BTreeMap<Hosted, PartRecord>,
    originals: BTreeMap<Hosted, OriginalsRecord>,
    generations: BTreeMap<Hosted, GenerationRecord>,
    chunks: BTreeMap<(InodeId, u64), (PartitionId, ChunkRecord)>,
    xattrs: BTreeMap<Hosted, u32>,
    /// Keys of what is gone when nothing is under way.
    leftovers: BTreeMap<&'static str, Vec<Key>>,
    problems: Vec<String>,
}

/// Databases that are empty once every client has ended, but for what [`stays`].
const PASSING: [Db; 5] = [Db::Txn, Db::Lock, Db::Orphan, Db::Slot, Db::Session];
const STAYING: [Db; 5] = [Db::Ino, Db::Dent, Db::Chunk, Db::Part, Db::Xattr];

/// That a session is over is remembered, so that it does not come back.
fn stays(db: Db, value: &[u8]) -> bool {
    let over = |record| matches!(record, Ok(SessionRecord::SessionOver { .. }));
    db == Db::Session && over(SessionRecord::decode(value))
}

fn ino_of(key: &[u8]) -> Option<InodeId> {
    let bytes: [u8; 8] = key.get(2..10)?.try_into().ok()?;
    Some(InodeId(u64::from_be_bytes(bytes)))
}

impl Audit {
    /// Reads what the shards hold that are up.
    pub fn of(cluster: &Cluster) -> Audit {
        let mut audit = Audit {
            root: InodeId::root(VOLUME, cluster.ring().partitions()),
            ring: cluster.ring().clone(),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            positions: BTreeMap::new(),
            parts: BTreeMap::new(),
            originals: BTreeMap::new(),
            generations: BTreeMap::new(),
            chunks: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            problems: Vec::new(),
        };
        for index in 0..cluster.shards() {
            let Some(core) = cluster.core(index) else {
                continue;
            };
            let owns = |p: PartitionId| cluster.owner(p) == index;
            for db in STAYING {
                for (key, value) in core.records(db) {
                    if !partition_of_key(&key).is_some_and(owns) {
                        audit.problem(format!("shard {index} holds a foreign {}", db.name()));
                    }
                    if audit.take(db, &key, &value) != Some(true) {
                        let name = db.name();
                        audit.problem(format!("{name} is damaged or there twice: {key:x?}"));
                    }
                }
            }
            for db in PASSING {
                let records = core.records(db).into_iter();
                let keys = records.filter(|(_, value)| !stays(db, value)).map(|r| r.0);
                audit.leftovers.entry(db.name()).or_default().extend(keys);
            }
        }
        audit
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }

    /// Whether this record is the first of its kind; `None` if it is damaged.
    fn take(&mut self, db: Db, key: &Key, value: &[u8]) -> Option<bool> {
        let (ino, host) = (ino_of(key)?, partition_of_key(key)?);
        match db {
            Db::Ino => {
                let record = InodeRecord::decode(value).ok()?;
                Some(self.inodes.insert(ino, record).is_none())
            }
            Db::Dent => {
                if let Some(number) = entry_of_position(key) {
                    let record = (host, PositionRecord::decode(value).ok()?);
                    return Some(self.positions.insert((ino, number), record).is_none());
                }
                let record = (host, DentryRecord::decode(value).ok()?);
                let name = key[10..].to_vec();
                Some(self.names.insert((ino, name), record).is_none())
            }
            Db::Chunk => {
                let index: [u8; 8] = key.get(10..)?.try_into().ok()?;
                let record = (host, ChunkRecord::decode(value).ok()?);
                let place = (ino, u64::from_be_bytes(index));
                Some(self.chunks.insert(place, record).is_none())
            }
            Db::Xattr => {
                *self.xattrs.entry((ino, host)).or_default() += 1;
                Some(true)
            }
            _ => self.take_part((ino, host), number_of_part(key)?, value),
        }
    }

    fn take_part(&mut self, place: Hosted, number: u16, value: &[u8]) -> Option<bool> {
        match number {
            0 => {
                let record = GenerationRecord::decode(value).ok()?;
                Some(self.generations.insert(place, record).is_none())
            }
            SPLIT_PART => {
                let record = PartRecord::decode(value).ok()?;
                Some(self.parts.insert(place, record).is_none())
            }
            ORIGINALS_PART => {
                let record = OriginalsRecord::decode(value).ok()?;
                Some(self.originals.insert(place, record).is_none())
            }
            VERSION_PART => Some(place.0 == self.root),
            _ => None,
        }
    }

    /// Names and inodes agree, and form a tree; split directories are complete.
    pub fn check_tree(mut self) -> Audit {
        self.check_names();
        self.check_positions();
        self.check_parts();
        self.check_inodes();
        self.check_xattrs();
        self
    }

    /// What each directory says of itself, which holds at every moment.
    pub fn check_listings(mut self) -> Audit {
        self.check_positions();
        self
    }

    /// Nothing is under way, and no client is left.
    pub fn check_rest(mut self) -> Audit {
        for (name, keys) in std::mem::take(&mut self.leftovers) {
            for key in keys {
                self.problem(format!("left of {name}: {key:x?}"));
            }
        }
        self
    }

    pub fn problems(self) -> Vec<String> {
        self.problems
    }
}
