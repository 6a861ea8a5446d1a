//! From what an operation wants to change to one log entry, and what follows from it in memory.
//!
//! `run` comes here with every operation that has come to its end; one that touches other shards goes
//! on to `txn`. What must stay true: all changes of an operation on this shard, and the reply that is
//! kept for it (`replies`), are one entry, and memory changes only once it is in the log.

use super::attempt::Attempt;
use super::changes::{Bump, Changes, MemoryChange, Value, Write};
use super::event::{Action, Halt};
use super::task::{Answer, Task, Waiting, Work};
use super::{Core, FlushWait, Job, World};
use crate::meta::LogIndex;
use crate::meta::db::{Db, Key, key};
use crate::records::{InodeRecord, OrphanRecord, Record, VERSION_PART, VersionRecord};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::peer::Effect;
use sealfs_protocol::{InodeId, RenameVersion, TxnId, VolumeId};

impl<W: World> Core<W> {
    /// An operation has come to its end: its changes take place here at once, or over several
    /// shards through a transaction.
    pub(crate) fn conclude(
        &mut self,
        task: &mut Task,
        answer: Answer,
        mut changes: Changes,
    ) -> Attempt {
        let alone = self.cluster.others().next().is_none();
        if alone && let Some(bump) = changes.bump.take() {
            self.bump_alone(&mut changes, bump);
        }
        let elsewhere = changes.writes.iter();
        let elsewhere = elsewhere.filter(|w| !self.cluster.is_mine(w.partition));
        let shared = task.shared.is_some() || elsewhere.count() > 0 || changes.bump.is_some();
        if shared {
            if changes.is_empty() {
                return self.confirm(task, answer);
            }
            if !task.memo.notes_reads() {
                task.memo.takes_time = true;
                self.abandon(changes);
                return Attempt::Again;
            }
            return self.prepare(task, answer, changes);
        }
        if let Some((db, key)) = self.blocked(&changes, task.txn) {
            self.abandon(changes);
            return self.wait_for_key(task, db, key);
        }
        if let Err(over) = self.check_quota(changes.writes.iter(), changes.expected) {
            self.abandon(changes);
            return self.over_quota(task, over);
        }
        match self.commit(task, &answer, changes) {
            Ok(then) => self.after_commit(task, answer, then),
            Err(halt) => self.commit_failed(task, halt),
        }
    }

    fn commit_failed(&mut self, task: &mut Task, halt: Halt) -> Attempt {
        match halt {
            Halt::Room => {
                task.waiting = Waiting::Room;
                self.room_waits.push(task.id);
                self.flush_wanted = true;
                Attempt::Parked
            }
            Halt::Errno(errno) => Attempt::Done(Self::errno_answer(errno)),
            _ => Attempt::Done(Self::errno_answer(sealfs_protocol::Errno::EIO)),
        }
    }

    /// What is left to do once the changes have taken place.
    pub(crate) fn after_commit(&mut self, task: &mut Task, answer: Answer, then: Next) -> Attempt {
        match then {
            Next::Again => Attempt::Again,
            // At the next tick, which comes after the frames that have arrived.
            Next::Rest => self.come_back(task, 0),
            Next::Nothing => Attempt::Done(answer),
            Next::Job(job) => self.answer_after(task, job, answer),
        }
    }

    /// Parks a task until a job is over; then `answer` goes out.
    pub(crate) fn answer_after(&mut self, task: &mut Task, job: Job, answer: Answer) -> Attempt {
        if let Some(txn) = task.txn.take() {
            self.release_keys(txn);
        }
        task.held = Some(answer);
        task.waiting = Waiting::Job;
        self.start_job(job, Some(task.id));
        Attempt::Parked
    }

    /// A key that the changes touch and another transaction holds.
    fn blocked(&self, changes: &Changes, me: Option<TxnId>) -> Option<(Db, Key)> {
        if self.locks.is_empty() {
            return None;
        }
        let mut writes = changes.writes.iter();
        let found = writes.find(|w| self.locks.blocks_write(w.db, &w.key, me));
        found.map(|w| (w.db, w.key.clone()))
    }

    /// Puts changes of this shard into the log, with the reply for the request slot.
    pub(crate) fn commit(
        &mut self,
        task: &mut Task,
        answer: &Answer,
        mut changes: Changes,
    ) -> Result<Next, Halt> {
        let slot = if changes.again {
            None
        } else {
            self.slot_write(task, answer, &changes)
        };
        if let Some(slot) = &slot {
            changes.writes.push(Write::free(
                slot.partition,
                Db::Slot,
                key::slot(slot.partition, slot.client, slot.slot),
                Value::Put(slot.record.encode()),
            ));
        }
        if let Some(txn) = task.shared.as_ref().map(|s| s.txn) {
            self.append(&mut changes.writes, txn)?;
        } else {
            self.append(&mut changes.writes, TxnId(0))?;
        }
        if let Some(slot) = slot {
            self.slots
                .set(slot.client, slot.partition, slot.slot, slot.record);
        }
        for change in std::mem::take(&mut changes.memory) {
            self.change_memory(change);
        }
        if let Some(stage) = changes.stage {
            task.memo.stage = stage;
        }
        if changes.undo.is_some() {
            task.memo.undo = changes.undo;
        }
        Ok(if changes.rest {
            Next::Rest
        } else if changes.again {
            Next::Again
        } else {
            changes.then.map_or(Next::Nothing, Next::Job)
        })
    }

    /// Appends writes of this shard as one log entry, and draws the consequences.
    pub(crate) fn append(&mut self, writes: &mut Vec<Write>, txn: TxnId) -> Result<LogIndex, Halt> {
        if writes.is_empty() {
            return Ok(self.last_index);
        }
        writes.sort_by_key(|w| w.partition);
        let mut group = self.meta.group();
        let mut current = None;
        for write in writes.iter() {
            if current != Some(write.partition) {
                current = Some(write.partition);
                let epoch = self.cluster.epoch(write.partition);
                group.sub(write.partition, epoch, txn);
            }
            group.charge(write.charge);
            match &write.value {
                Value::Put(bytes) => group.put(write.db, &write.key, bytes),
                Value::Delete => group.delete(write.db, &write.key),
                Value::Chunk(change) => group.put_chunk(&write.key, change),
                Value::DropChunk(record) => group.drop_chunk(&write.key, record),
            }
        }
        let freed = self.freed_by(writes);
        match self.meta.append(group) {
            Ok(index) => {
                self.last_index = index;
                self.free(index, freed);
            }
            Err(error) => {
                for write in writes.drain(..) {
                    if let Value::Chunk(mut change) = write.value {
                        self.meta.store_mut().abandon(&mut change);
                    }
                }
                return Err(error.into());
            }
        }
        for write in writes.drain(..).filter(|w| w.db == Db::Orphan) {
            self.orphan_changed(&write);
        }
        Ok(self.last_index)
    }

    fn orphan_changed(&mut self, write: &Write) {
        let Some(ino) = inode_of_key(&write.key) else {
            return;
        };
        match &write.value {
            Value::Put(bytes) if OrphanRecord::decode(bytes) == Ok(OrphanRecord::Nameless) => {
                self.orphans.insert(ino);
                self.reap_soon(ino);
            }
            Value::Delete => {
                self.orphans.remove(&ino);
            }
            _ => {}
        }
    }

    /// Collects a nameless inode unless somebody may still have it open.
    pub(crate) fn reap_soon(&mut self, ino: InodeId) {
        let due = self.orphans.contains(&ino) && self.grace.is_none() && !self.opens.is_open(ino);
        if due && !self.jobs.contains(&Job::Reap(ino)) {
            self.jobs.push_back(Job::Reap(ino));
        }
    }

    /// Names that another shard has added may have made directories of this one large.
    pub(crate) fn split_grown(&mut self, effects: &[Effect]) {
        for effect in effects.iter().filter(|e| e.db == Db::Ino as u8) {
            let record = effect.value.as_deref().map(InodeRecord::decode);
            let Some(Ok(record)) = record else {
                continue;
            };
            if record.directory().is_some_and(|d| self.cluster.splits(d))
                && let Some(ino) = inode_of_key(&effect.key)
            {
                self.split_soon(ino);
            }
        }
    }

    /// Splits a directory unless that is under way.
    fn split_soon(&mut self, ino: InodeId) {
        let job = Job::Split(ino);
        let running = |t: &Task| matches!(t.work, Work::Job(j) if j == job);
        if !self.jobs.contains(&job) && !self.tasks.values().any(running) {
            self.jobs.push_back(job);
        }
    }

    pub(crate) fn change_memory(&mut self, change: MemoryChange) {
        match change {
            MemoryChange::Open(ino, session, open) => self.opens.add(ino, session, open),
            MemoryChange::Close(ino, session, open) => {
                self.opens.remove(ino, session, open);
                if self.file_locks.unseal(ino, session, open) {
                    self.ready.extend(self.file_locks.waiters(ino));
                }
                self.reap_soon(ino);
            }
            MemoryChange::Sealed(ino, session, open) => self.file_locks.seal(ino, session, open),
            MemoryChange::FileLocks(ino, held) => {
                self.file_locks.set(ino, held);
                self.ready.extend(self.file_locks.waiters(ino));
            }
            MemoryChange::Accessed(ino, time) => self.keep_access_time(ino, time),
            MemoryChange::Doubted(ino) => self.ends.doubt(ino),
            MemoryChange::Settled(ino) => self.ends.settle(ino),
            // Its owner alone knows the names that it has.
            MemoryChange::Grown(ino) if self.cluster.is_mine(ino.partition()) => {
                self.split_soon(ino);
            }
            MemoryChange::Grown(_) => {}
            MemoryChange::Version(volume, version, directories) => {
                self.versions.learn(volume, version, &directories, None);
            }
        }
    }

    /// In a cluster of one shard the version is raised in the same log entry.
    fn bump_alone(&mut self, changes: &mut Changes, bump: Bump) {
        let root = self.cluster.root(bump.volume);
        let partition = root.partition();
        let key = key::part(partition, root, VERSION_PART);
        let stored = self.meta.get(Db::Part, &key).ok().flatten();
        let stored = stored.and_then(|bytes| VersionRecord::decode(bytes).ok());
        let version = RenameVersion(stored.map_or(0, |r| r.version.0) + 1);
        let raised = Value::Put(VersionRecord { version }.encode());
        let write = Write::free(partition, Db::Part, key, raised);
        changes.writes.push(write);
        let change = MemoryChange::Version(bump.volume, version, bump.directories);
        changes.memory.push(change);
    }

    pub(crate) fn release_keys(&mut self, txn: TxnId) {
        let woken = self.locks.release(txn);
        self.ready.extend(woken);
    }

    /// A reply that was just queued waits for a flush if its volume wants it so.
    pub(super) fn hold_for_flush(&mut self, volume: VolumeId) {
        if self.cluster.durability(volume) != Durability::Always
            || self.last_index <= self.meta.flushed()
        {
            return;
        }
        if let Some(reply) = self.actions.pop() {
            self.wait_for_flush(self.last_index, FlushWait::Action(Box::new(reply)));
        }
    }

    /// A reply that was just queued waits for the next flush, which it does not hurry.
    pub(super) fn hold_until_flushed(&mut self) {
        if self.last_index > self.meta.flushed()
            && let Some(reply) = self.actions.pop()
        {
            let waits = self.flush_waits.entry(self.last_index).or_default();
            waits.push(FlushWait::Action(Box::new(reply)));
        }
    }

    pub(super) fn wait_for_flush(&mut self, index: LogIndex, what: FlushWait<W>) {
        self.flush_waits.entry(index).or_default().push(what);
        self.flush_wanted = true;
    }

    /// Parks a task until everything through `index` is durable; then `answer` goes out.
    pub(crate) fn answer_after_flush(
        &mut self,
        task: &mut Task,
        index: LogIndex,
        answer: Answer,
        hurry: bool,
    ) -> Attempt {
        if index <= self.meta.flushed() {
            return Attempt::Done(answer);
        }
        task.held = Some(answer);
        task.waiting = Waiting::Flush;
        let waits = self.flush_waits.entry(index).or_default();
        waits.push(FlushWait::Task(task.id));
        self.flush_wanted |= hurry;
        Attempt::Parked
    }

    pub(super) fn send_now(&mut self, action: Action<W>) {
        self.actions.push(action);
    }
}

/// What follows a commit.
pub(crate) enum Next {
    Nothing,
    Again,
    Rest,
    Job(Job),
}

/// The inode in a key of the form (partition, be64 ino).
pub(crate) fn inode_of_key(key: &[u8]) -> Option<InodeId> {
    let bytes: [u8; 8] = key.get(2..10)?.try_into().ok()?;
    Some(InodeId(u64::from_be_bytes(bytes)))
}
