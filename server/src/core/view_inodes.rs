//! Inodes as an operation reads and changes them: with access times that the log has not heard of yet,
//! and with what they are charged to their volume.
//!
//! What must stay true: the charge of an operation is the difference to what its inodes were charged
//! before it, however often it writes them.

use super::changes::{MemoryChange, Value};
use super::event::{OpResult, World};
use super::view::View;
use crate::meta::db::{Db, Key, key};
use crate::records::{InodeRecord, Record};
use sealfs_protocol::usage::Charge;
use sealfs_protocol::{Errno, InodeId};

impl<W: World> View<'_, W> {
    pub fn inode(&mut self, ino: InodeId) -> OpResult<Option<InodeRecord>> {
        let key = key::ino(ino.partition(), ino);
        let mut record: Option<InodeRecord> = self.read(Db::Ino, &key)?;
        if let Some(record) = &mut record {
            self.remember_charge(ino, record.charge());
            // What this operation itself has set stands.
            if !self.has_written(Db::Ino, &key) {
                record.atime = self.access.of(ino).unwrap_or(record.atime);
            }
        }
        Ok(record)
    }

    /// An inode that something else names, so that it must be there.
    pub fn inode_named(&mut self, ino: InodeId) -> OpResult<InodeRecord> {
        if let Some(record) = self.inode(ino)? {
            return Ok(record);
        }
        log::error!("inode {ino} is named and not there");
        Err(Errno::EIO.into())
    }

    fn has_written(&self, db: Db, key: &Key) -> bool {
        let mut writes = self.changes.writes.iter();
        writes.any(|w| w.db == db && w.key == *key)
    }

    /// A read moves the access time of an inode; the log hears of it later.
    pub fn access(&mut self, ino: InodeId) {
        let now = self.time();
        self.remember(MemoryChange::Accessed(ino, Some(now)));
    }

    pub fn put_inode(&mut self, ino: InodeId, record: &InodeRecord) {
        let partition = ino.partition();
        let before = self.charge_before(ino);
        self.remember_charge(ino, before);
        let charge = record.charge().since(before);
        let value = Value::Put(record.encode());
        self.set(partition, Db::Ino, key::ino(partition, ino), value, charge);
    }

    /// Removes an inode that this operation has read.
    pub fn delete_inode(&mut self, ino: InodeId) {
        let partition = ino.partition();
        let charge = Charge::default().since(self.charge_before(ino));
        let key = key::ino(partition, ino);
        self.set(partition, Db::Ino, key, Value::Delete, charge);
    }

    /// The first that is known of an inode is how it was before this operation.
    fn remember_charge(&mut self, ino: InodeId, charge: Charge) {
        if !self.charged.iter().any(|(known, _)| *known == ino) {
            self.charged.push((ino, charge));
        }
    }

    /// What an inode was charged with before; nothing if it is new.
    fn charge_before(&self, ino: InodeId) -> Charge {
        let mut known = self.charged.iter();
        let found = known.find(|(known, _)| *known == ino);
        found.map_or(Charge::default(), |(_, charge)| *charge)
    }
}
