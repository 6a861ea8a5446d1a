//! A directory as far as one of its names is concerned, and the entries in it.
//!
//! Names of a directory lie with its inode; those of a split one in its parts, by the hash of the
//! name, but for its originals. [`Dir`] is whichever of the two hosts a name, so that operations need not tell them apart:
//! checks look at its record, counts and times change in it, and new files live beside it.

use super::permission::{self, X};
use crate::core::{MemoryChange, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{
    DentryRecord, InodeRecord, ORIGINALS_PART, OriginalsRecord, PartRecord, PositionRecord,
    SPLIT_PART, position_name,
};
use sealfs_protocol::limits::NAME_MAX_BYTES;
use sealfs_protocol::{Errno, InodeId, PartitionId, hash};

#[derive(Clone)]
pub struct Dir {
    pub ino: InodeId,
    /// The directory's inode, or the copy of a part with counts and times of its own.
    pub record: InodeRecord,
    /// The part that hosts the name.
    part: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Part {
    host: PartitionId,
    index: u16,
    parts: u16,
}

/// The partition that hosts a name of a split directory.
pub fn host_of(record: &InodeRecord, name: &[u8]) -> Option<PartitionId> {
    let split = record.directory().map_or(&[][..], |d| &d.split);
    let parts = u16::try_from(split.len()).ok()?;
    let index = hash::directory_part(name, parts)?;
    split.get(usize::from(index) - 1).copied()
}

impl Dir {
    pub fn whole(ino: InodeId, record: InodeRecord) -> Dir {
        Dir {
            ino,
            record,
            part: None,
        }
    }

    /// The part of `ino` that `host` keeps; `None` if there is none.
    pub fn part<W: World>(
        v: &mut View<W>,
        ino: InodeId,
        host: PartitionId,
    ) -> OpResult<Option<Dir>> {
        let key = key::part(host, ino, SPLIT_PART);
        let stored: Option<PartRecord> = v.read(Db::Part, &key)?;
        Ok(stored.map(|stored| Dir {
            ino,
            record: stored.record,
            part: Some(Part {
                host,
                index: stored.part,
                parts: stored.parts,
            }),
        }))
    }

    /// What hosts `name`, on whichever shard it is. ESTALE if the directory is gone.
    pub fn around<W: World>(v: &mut View<W>, ino: InodeId, name: &[u8]) -> OpResult<Dir> {
        let record = v.inode(ino)?.ok_or(Errno::ESTALE)?;
        if !record.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        permission::check(&record, &v.caller.credentials, X)?;
        let Some(host) = host_of(&record, name).filter(|_| record.nlink > 0) else {
            return Ok(Dir::whole(ino, record));
        };
        let known = ino.partition();
        let known = if v.is_mine(known) { known } else { host };
        if is_original(v, known, ino, name)? {
            return Ok(Dir::whole(ino, record));
        }
        Dir::part_named(v, ino, host)
    }

    /// A part that the directory's inode names, so that it must be there.
    pub fn part_named<W: World>(v: &mut View<W>, ino: InodeId, host: PartitionId) -> OpResult<Dir> {
        if let Some(dir) = Dir::part(v, ino, host)? {
            return Ok(dir);
        }
        log::error!("directory {ino} has no part in partition {}", host.0);
        Err(Errno::EIO.into())
    }

    /// Whether this is the part that a name's hash leads to.
    pub fn covers(&self, name: &[u8]) -> bool {
        let part = self.part;
        part.is_some_and(|p| hash::directory_part(name, p.parts) == Some(p.index))
    }

    pub fn is_part(&self) -> bool {
        self.part.is_some()
    }

    /// Where the names are, and the inodes of new files.
    pub fn host(&self) -> PartitionId {
        self.part.map_or(self.ino.partition(), |p| p.host)
    }

    /// The number of this part and of all; `None` for a directory as a whole.
    pub fn part_number(&self) -> Option<(u16, u16)> {
        self.part.map(|p| (p.index, p.parts))
    }

    /// Whether both are the same record.
    pub fn is(&self, other: &Dir) -> bool {
        self.ino == other.ino && self.part == other.part
    }

    pub fn store<W: World>(&self, v: &mut View<W>) {
        let Some(part) = self.part else {
            return v.put_inode(self.ino, &self.record);
        };
        let stored = PartRecord {
            part: part.index,
            parts: part.parts,
            record: self.record.clone(),
        };
        let key = key::part(part.host, self.ino, SPLIT_PART);
        v.put(part.host, Db::Part, key, &stored);
    }

    pub fn dentry<W: World>(&self, v: &mut View<W>, name: &[u8]) -> OpResult<Option<DentryRecord>> {
        dentry(v, self.host(), self.ino, name)
    }

    /// Puts a name in; [`Dir::store`] comes afterwards.
    pub fn add<W: World>(&mut self, v: &mut View<W>, name: &[u8], ino: InodeId, kind: u32) {
        self.touch(v);
        let whole = self.part.is_none();
        let Some(directory) = self.record.directory_mut() else {
            return;
        };
        let entry = directory.next_entry;
        directory.next_entry += 1;
        directory.entries += 1;
        if whole && v.cluster.splits(directory) {
            v.remember(MemoryChange::Grown(self.ino));
        }
        self.put(v, name, DentryRecord { ino, kind, entry });
    }

    /// Takes a name out; [`Dir::store`] comes afterwards.
    pub fn remove<W: World>(&mut self, v: &mut View<W>, name: &[u8], dentry: &DentryRecord) {
        self.touch(v);
        if let Some(directory) = self.record.directory_mut() {
            directory.entries = directory.entries.saturating_sub(1);
        }
        let host = self.host();
        v.delete(host, Db::Dent, key::dent(host, self.ino, name));
        let place = key::dent(host, self.ino, &position_name(dentry.entry));
        v.delete(host, Db::Dent, place);
    }

    /// Stores both records of an entry.
    pub fn put<W: World>(&self, v: &mut View<W>, name: &[u8], dentry: DentryRecord) {
        let host = self.host();
        v.put(host, Db::Dent, key::dent(host, self.ino, name), &dentry);
        let position = PositionRecord {
            ino: dentry.ino,
            kind: dentry.kind,
            name: name.to_vec(),
        };
        let place = key::dent(host, self.ino, &position_name(dentry.entry));
        v.put(host, Db::Dent, place, &position);
    }

    /// A name was made, removed or changed.
    pub fn touch<W: World>(&mut self, v: &View<W>) {
        self.record.mtime = v.time();
        self.record.ctime = v.time();
    }
}

/// Whether a split directory had a name with this hash when it was split, as is known in partition
/// `known`: the directory's own, or that of the part which the hash leads to.
pub fn is_original<W: World>(
    v: &mut View<W>,
    known: PartitionId,
    dir: InodeId,
    name: &[u8],
) -> OpResult<bool> {
    let key = key::part(known, dir, ORIGINALS_PART);
    let hash = hash::name(name);
    let found = v.look(Db::Part, &key, |bytes| OriginalsRecord::has(bytes, hash))?;
    Ok(found.unwrap_or(false))
}

pub fn dentry<W: World>(
    v: &mut View<W>,
    host: PartitionId,
    dir: InodeId,
    name: &[u8],
) -> OpResult<Option<DentryRecord>> {
    if name.len() > NAME_MAX_BYTES {
        return Err(Errno::ENAMETOOLONG.into());
    }
    v.read(Db::Dent, &key::dent(host, dir, name))
}
