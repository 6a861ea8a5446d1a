//! What must be true of all shards' records together when nothing is under way: a small fsck.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Cluster, VOLUME};
use sealfs_protocol::attr::S_IFMT;
use sealfs_protocol::{InodeId, PartitionId};
use sealfs_server::meta::{Db, Key};
use sealfs_server::records::{
    DentryRecord, InodeRecord, PositionRecord, Record, SessionRecord, entry_of_position,
    partition_of_key,
};

/// The records of a cluster.
pub struct Audit {
    root: InodeId,
    inodes: BTreeMap<InodeId, InodeRecord>,
    names: BTreeMap<(InodeId, Vec<u8>), DentryRecord>,
    positions: BTreeMap<(InodeId, u64), PositionRecord>,
    /// Inodes that chunks belong to.
    chunks: BTreeSet<InodeId>,
    /// Keys of what is gone when nothing is under way.
    leftovers: BTreeMap<&'static str, Vec<Key>>,
    problems: Vec<String>,
}

/// Databases that are empty once every client has ended, but for what [`stays`].
const PASSING: [Db; 5] = [Db::Txn, Db::Lock, Db::Orphan, Db::Slot, Db::Session];

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
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            positions: BTreeMap::new(),
            chunks: BTreeSet::new(),
            leftovers: BTreeMap::new(),
            problems: Vec::new(),
        };
        for index in 0..cluster.shards() {
            let Some(core) = cluster.core(index) else {
                continue;
            };
            let owns = |p: PartitionId| cluster.owner(p) == index;
            for db in [Db::Ino, Db::Dent, Db::Chunk] {
                for (key, value) in core.records(db) {
                    if !partition_of_key(&key).is_some_and(owns) {
                        audit.problem(format!("shard {index} holds a foreign {}", db.name()));
                    }
                    audit.take(db, &key, &value);
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

    fn take(&mut self, db: Db, key: &Key, value: &[u8]) {
        let Some(ino) = ino_of(key) else {
            return self.problem(format!("a key of {} is damaged", db.name()));
        };
        let parsed = match (db, entry_of_position(key)) {
            (Db::Ino, _) => {
                InodeRecord::decode(value).map(|record| self.inodes.insert(ino, record).is_some())
            }
            (Db::Dent, Some(number)) => PositionRecord::decode(value)
                .map(|record| self.positions.insert((ino, number), record).is_some()),
            (Db::Dent, None) => DentryRecord::decode(value).map(|record| {
                let name = (ino, key[10..].to_vec());
                self.names.insert(name, record).is_some()
            }),
            _ => {
                self.chunks.insert(ino);
                Ok(false)
            }
        };
        if parsed != Ok(false) {
            self.problem(format!(
                "{} of {ino:?} is damaged or there twice",
                db.name()
            ));
        }
    }

    /// Names and inodes agree, and form a tree. What is wrong, if anything.
    pub fn check_tree(mut self) -> Audit {
        self.check_names();
        self.check_positions();
        self.check_inodes();
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

    /// Every chunk belongs to a file.
    pub fn check_chunks(mut self) -> Audit {
        for ino in self.chunks.clone() {
            if !self.inodes.contains_key(&ino) {
                self.problem(format!("chunks of {ino:?}, which is not there"));
            }
        }
        self
    }

    pub fn problems(self) -> Vec<String> {
        self.problems
    }

    fn check_names(&mut self) {
        let mut found = Vec::new();
        for ((dir, name), dentry) in &self.names {
            let name = String::from_utf8_lossy(name);
            match self.inodes.get(dir) {
                Some(record) if record.is_dir() && record.nlink > 0 => {}
                Some(_) => found.push(format!("{name} is in {dir:?}, which was removed")),
                None => found.push(format!("{name} is in {dir:?}, which is not there")),
            }
            match self.inodes.get(&dentry.ino) {
                Some(record) if record.mode & S_IFMT == dentry.kind => {}
                Some(_) => found.push(format!("{name} in {dir:?} is of another type")),
                None => found.push(format!("{name} in {dir:?} leads nowhere")),
            }
            let position = self.positions.get(&(*dir, dentry.entry));
            let same =
                |p: &PositionRecord| p.ino == dentry.ino && p.name == name.as_bytes().to_vec();
            if !position.is_some_and(same) {
                found.push(format!("{name} in {dir:?} is not listed"));
            }
        }
        self.problems.extend(found);
    }

    fn check_positions(&mut self) {
        let mut count: BTreeMap<InodeId, (u64, u64)> = BTreeMap::new();
        for (dir, _) in self.names.keys() {
            count.entry(*dir).or_default().0 += 1;
        }
        for (dir, number) in self.positions.keys() {
            let next = self.inodes.get(dir).and_then(|r| r.directory());
            if next.is_none_or(|d| *number >= d.next_entry) {
                self.problems
                    .push(format!("{dir:?} lists {number}, never given"));
            }
            count.entry(*dir).or_default().1 += 1;
        }
        for (dir, record) in &self.inodes {
            let Some(directory) = record.directory() else {
                continue;
            };
            let counted = count.get(dir).copied().unwrap_or_default();
            if counted != (directory.entries, directory.entries) {
                let says = directory.entries;
                let text = format!("{dir:?} says {says} entries, and has {counted:?}");
                self.problems.push(text);
            }
        }
    }

    fn check_inodes(&mut self) {
        let mut named: BTreeMap<InodeId, Vec<(InodeId, &[u8])>> = BTreeMap::new();
        for ((dir, name), dentry) in &self.names {
            named.entry(dentry.ino).or_default().push((*dir, name));
        }
        let mut found = Vec::new();
        for (ino, record) in &self.inodes {
            let names = named.get(ino).map_or(&[][..], Vec::as_slice);
            let Some(directory) = record.directory() else {
                if record.nlink as usize != names.len() || names.is_empty() {
                    let nlink = record.nlink;
                    found.push(format!("{ino:?} has {nlink} links and names {names:?}"));
                }
                continue;
            };
            let subdirs = self.names.iter().filter(|((dir, _), dentry)| {
                dir == ino
                    && self
                        .inodes
                        .get(&dentry.ino)
                        .is_some_and(InodeRecord::is_dir)
            });
            let nlink = 2 + subdirs.count() as u32;
            if record.nlink != nlink {
                found.push(format!("{ino:?} has {} links, not {nlink}", record.nlink));
            }
            let home = (directory.parent, directory.name.as_slice());
            if *ino != self.root && names != [home] {
                found.push(format!("{ino:?} believes in {home:?} and is {names:?}"));
            }
            if !self.reaches_root(*ino) {
                found.push(format!("{ino:?} does not lie below the root"));
            }
        }
        self.problems.extend(found);
    }

    fn reaches_root(&self, dir: InodeId) -> bool {
        let mut at = dir;
        for _ in 0..=self.inodes.len() {
            if at == self.root {
                return true;
            }
            match self.inodes.get(&at).and_then(|r| r.directory()) {
                Some(d) => at = d.parent,
                None => return false,
            }
        }
        false
    }
}
