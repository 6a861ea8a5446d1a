//! Access times that have moved and are not in the log yet.
//!
//! A read must not wait for a write of the log, so what it moves is kept here and written later, many
//! at a time. What must stay true: whoever reads an inode sees the time that is kept here; a time
//! set by hand replaces it; a server that is killed loses the last [`KEPT_NS`] of them and nothing
//! else.

use super::{Core, Value, World, Write};
use crate::meta::db::{Db, key};
use crate::records::{InodeRecord, Record};
use sealfs_protocol::attr::Time;
use sealfs_protocol::{InodeId, TxnId};
use std::collections::BTreeMap;

/// For how long a time is kept, at most, where nothing is in the way of writing it.
const KEPT_NS: u64 = 1_000_000_000;
/// Times that are kept, at most.
const KEPT_MAX: usize = 4096;
/// Times in one entry of the log.
const STEP: usize = 512;
/// Room in the log that one step may take, in bytes.
const STEP_BYTES: usize = 256 << 10;

#[derive(Default)]
pub struct AccessTimes {
    kept: BTreeMap<InodeId, Time>,
    /// Since when some have been kept.
    since_ns: u64,
}

impl AccessTimes {
    pub fn of(&self, ino: InodeId) -> Option<Time> {
        self.kept.get(&ino).copied()
    }
}

impl<W: World> Core<W> {
    /// An access time has moved, or (`None`) was set by hand.
    pub(super) fn keep_access_time(&mut self, ino: InodeId, time: Option<Time>) {
        let Some(time) = time else {
            self.access.kept.remove(&ino);
            return;
        };
        if self.access.kept.is_empty() {
            self.access.since_ns = self.now.mono_ns;
        }
        self.access.kept.insert(ino, time);
        if self.access.kept.len() >= KEPT_MAX {
            self.write_access_times();
        }
    }

    pub(super) fn write_due_access_times(&mut self) {
        let age_ns = self.now.mono_ns.saturating_sub(self.access.since_ns);
        if !self.access.kept.is_empty() && age_ns >= KEPT_NS {
            self.write_access_times();
        }
    }

    /// Writes what is kept, a step's worth at a time; what a transaction holds waits for the next turn.
    pub fn write_access_times(&mut self) {
        self.access.since_ns = self.now.mono_ns;
        let all: Vec<InodeId> = self.access.kept.keys().copied().collect();
        for step in all.chunks(STEP) {
            if !self.meta.has_room(STEP_BYTES) {
                return;
            }
            let mut writes: Vec<Write> = Vec::with_capacity(step.len());
            for ino in step {
                if let Some(write) = self.access_time_write(*ino) {
                    writes.push(write);
                }
            }
            if self.append(&mut writes, TxnId(0)).is_err() {
                return;
            }
        }
    }

    /// Takes one time out; the write that is left to do, if there is one.
    fn access_time_write(&mut self, ino: InodeId) -> Option<Write> {
        let partition = ino.partition();
        let key = key::ino(partition, ino);
        if self.locks.blocks_write(Db::Ino, &key, None) {
            return None;
        }
        let time = self.access.kept.remove(&ino)?;
        if !self.cluster.is_mine(partition) {
            return None;
        }
        let stored = self.meta.get(Db::Ino, &key).ok()??;
        let mut record = InodeRecord::decode(stored).ok()?;
        if record.atime == time {
            return None;
        }
        record.atime = time;
        let value = Value::Put(record.encode());
        Some(Write::free(partition, Db::Ino, key, value))
    }

    /// Writes the time of one inode, so that a flush has it.
    pub(super) fn write_access_time(&mut self, ino: InodeId) {
        let write = self.access_time_write(ino);
        let mut writes: Vec<Write> = write.into_iter().collect();
        if self.append(&mut writes, TxnId(0)).is_err() {
            log::error!("the access time of inode {ino} cannot be written");
        }
    }
}
