//! What a restarted shard takes up again from its store, and what it makes of the volumes it is
//! told of.

use super::changes::{Value, Write};
use super::grace::Grace;
use super::task::Job;
use super::{Core, MemoryChange, World};
use crate::meta::db::{Db, Key, key};
use crate::records::{
    Body, Directory, InodeRecord, LockRecord, OrphanRecord, Record, SlotRecord, VERSION_PART,
    VersionRecord, partition_of_key,
};
use sealfs_protocol::attr::{S_IFDIR, Time};
use sealfs_protocol::limits::SESSION_LEASE_MS;
use sealfs_protocol::manager::Volume;
use sealfs_protocol::{ClientId, RenameVersion, TruncateGeneration, TxnId};

/// How far a version is raised by each start of its owner: past every version that an earlier life
/// may have pushed and lost with an unflushed tail.
const VERSIONS_PER_LIFE: u64 = 1 << 20;

impl<W: World> Core<W> {
    /// Everything under a database that can be understood; damage is said and left out.
    fn recover_all<R: Record>(&self, db: Db) -> Vec<(Key, R)> {
        let end = Key::from_slice(&[0xff; 3]);
        let found = match self.meta.scan(db, &[], &end, usize::MAX) {
            Ok(found) => found,
            Err(error) => {
                log::error!("{} cannot be read: {error}", db.name());
                return Vec::new();
            }
        };
        let mut records = Vec::with_capacity(found.len());
        for (key, value) in found {
            match R::decode(&value) {
                Ok(record) => records.push((key, record)),
                Err(_) => log::error!("a record of {} is damaged", db.name()),
            }
        }
        records
    }

    /// State that lives in memory and in the store, read once at the start.
    pub(super) fn recover(&mut self) {
        self.last_index = self.meta.written();
        for (key, record) in self.recover_all::<SlotRecord>(Db::Slot) {
            if let Some((partition, client, slot)) = slot_of_key(&key) {
                self.slots.set(client, partition, slot, record);
            }
        }
        for (key, record) in self.recover_all::<LockRecord>(Db::Lock) {
            if let Some(ino) = super::commit::inode_of_key(&key) {
                self.file_locks.set(ino, record.held);
            }
        }
        self.recover_transactions();
    }

    /// Work left undone, taken up when the ring is known: orphans, truncations, ends.
    fn resume(&mut self) {
        // Before the ends of an earlier life are carried out, which would collect what is open.
        let until_ns = self.now.mono_ns + u64::from(SESSION_LEASE_MS) * 1_000_000;
        self.grace = Some(Grace::new(until_ns, self.cluster.others().collect()));
        for (key, _) in self.recover_all::<OrphanRecord>(Db::Orphan) {
            let Some(ino) = super::commit::inode_of_key(&key) else {
                continue;
            };
            let stored = self.meta.get(Db::Ino, &key::ino(ino.partition(), ino));
            let inode = stored.ok().flatten().map(InodeRecord::decode);
            match inode {
                Some(Ok(inode)) => {
                    if inode.pending.is_some() {
                        self.jobs.push_back(Job::Truncate(ino));
                    }
                    if inode.nlink > 0 {
                        continue;
                    }
                }
                Some(Err(_)) => continue,
                None => {}
            }
            self.orphans.insert(ino);
        }
        let end = Key::from_slice(&[0xff; 3]);
        if matches!(self.meta.scan(Db::Ino, &[], &end, 1), Ok(found) if found.is_empty()) {
            // A fresh store: nobody can have anything open here.
            self.grace = None;
        }
        self.recover_homes();
        self.begin_grace();
        self.repeat_decisions();
    }

    /// A state was adopted: roots of new volumes are made, versions of ours are known.
    pub(super) fn start_volumes(&mut self) {
        if !self.started {
            self.started = true;
            self.resume();
        }
        for id in self.cluster.volumes() {
            let root = self.cluster.root(id);
            let here = self.cluster.is_mine(root.partition());
            let known = self.versions.current(id, self.now.mono_ns) != RenameVersion(0);
            if !here || known {
                continue;
            }
            if let Some(volume) = self.cluster.volume(id).cloned() {
                self.start_volume(&volume);
            }
        }
    }

    fn start_volume(&mut self, volume: &Volume) {
        let root = self.cluster.root(volume.id);
        let partition = root.partition();
        let ino_key = key::ino(partition, root);
        let version_key = key::part(partition, root, VERSION_PART);
        let mut writes = Vec::new();
        if matches!(self.meta.get(Db::Ino, &ino_key), Ok(None)) {
            let time = Time::from_ns(i128::from(self.now.wall_ns));
            let inode = root_inode(volume, root, time);
            writes.push(Write {
                partition,
                db: Db::Ino,
                key: ino_key,
                value: Value::Put(inode.encode()),
                charge: inode.charge(),
            });
        }
        let stored = self.meta.get(Db::Part, &version_key).ok().flatten();
        let stored = stored.and_then(|bytes| VersionRecord::decode(bytes).ok());
        let version = RenameVersion(stored.map_or(1, |r| r.version.0 + VERSIONS_PER_LIFE));
        let raised = Value::Put(VersionRecord { version }.encode());
        writes.push(Write::free(partition, Db::Part, version_key, raised));
        match self.append(&mut writes, TxnId(0)) {
            Ok(_) => {
                let change = MemoryChange::Version(volume.id, version, Vec::new());
                self.change_memory(change);
            }
            Err(_) => log::error!("the root of volume {} could not be stored", volume.name),
        }
    }
}

fn root_inode(volume: &Volume, root: sealfs_protocol::InodeId, time: Time) -> InodeRecord {
    InodeRecord {
        volume: volume.id,
        mode: S_IFDIR | volume.root_mode & 0o7777,
        nlink: 2,
        uid: volume.root_uid,
        gid: volume.root_gid,
        rdev: 0,
        size_bytes: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        layout: volume.layout,
        generation: TruncateGeneration(0),
        wide: false,
        pending: None,
        pending_spares: false,
        reserves: false,
        has_xattrs: false,
        linkable: false,
        body: Body::Directory(Directory::new(root, b"")),
    }
}

fn slot_of_key(key: &[u8]) -> Option<(sealfs_protocol::PartitionId, ClientId, u16)> {
    let client: [u8; 16] = key.get(2..18)?.try_into().ok()?;
    let slot: [u8; 2] = key.get(18..20)?.try_into().ok()?;
    Some((
        partition_of_key(key)?,
        ClientId(u128::from_be_bytes(client)),
        u16::from_be_bytes(slot),
    ))
}
