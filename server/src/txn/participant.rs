//! The side that locks, prepares and obeys.
//!
//! `core::serve` brings what a coordinator asks; what is done when it stays silent, and after a
//! restart, is in `recovery`. What must stay true: what is promised here is in the log before the
//! promise leaves, and stands until the decision has come.

use crate::core::attempt::Attempt;
use crate::core::locks::Claim;
use crate::core::task::{Answer, Task, Waiting, Work};
use crate::core::{Core, Fault, Value, World, Write};
use crate::meta::db::{Db, Key, key};
use crate::records::{DentryRecord, Record, TxnRecord, entry_of_position, partition_of_key};
use sealfs_protocol::peer::{Effect, Key as WireKey, PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, PartitionId, ShardId, TxnId};

/// A transaction of another shard.
pub struct Participant {
    pub(super) coordinator: ShardId,
    pub(super) age: u64,
    /// What takes place if it commits; empty before it is prepared.
    pub(super) effects: Vec<Effect>,
    pub(super) prepared: bool,
    /// Decisions must be durable before they are acknowledged.
    pub(super) flush: bool,
    pub(super) heard_ns: u64,
}

/// Where the record of a prepared transaction lies: with its first effect.
fn record_partition(effects: &[Effect]) -> PartitionId {
    effects.first().map_or(PartitionId(0), |e| e.partition)
}

impl<W: World> Core<W> {
    /// What a coordinator asks of this shard.
    pub(crate) fn serve_transaction(&mut self, task: &mut Task) -> Option<Attempt> {
        let Work::Peer(request) = &task.work else {
            return None;
        };
        let reply = match request {
            PeerRequest::Read {
                txn,
                age,
                first,
                keys,
                allocate,
            } => {
                let (txn, age) = (*txn, *age);
                if !first && !self.participants.contains_key(&txn) {
                    return Some(Attempt::Done(Answer::Peer(PeerReply::Die)));
                }
                let (keys, allocate) = (keys.clone(), allocate.clone());
                return Some(self.lock_and_read(task, txn, age, &keys, &allocate));
            }
            PeerRequest::Prepare {
                txn,
                effects,
                flush,
            } => {
                let (txn, effects, flush) = (*txn, effects.clone(), *flush);
                return Some(self.prepare_here(task, txn, effects, flush));
            }
            PeerRequest::Decide { txn, commit } => {
                let (txn, commit) = (*txn, *commit);
                return Some(self.obey(task, txn, commit));
            }
            PeerRequest::Outcome { txn } => self.outcome_of(*txn),
            _ => return None,
        };
        Some(Attempt::Done(Answer::Peer(reply)))
    }

    fn wrong_epoch(&self) -> Attempt {
        let ring_version = self.cluster.ring_version();
        Attempt::Done(Answer::Peer(PeerReply::WrongEpoch { ring_version }))
    }

    fn lock_and_read(
        &mut self,
        task: &mut Task,
        txn: TxnId,
        age: u64,
        keys: &[WireKey],
        allocate: &[PartitionId],
    ) -> Attempt {
        let mut names = Vec::with_capacity(keys.len());
        for wire in keys {
            let (Ok(db), Some(partition)) = (Db::try_from(wire.db), partition_of_key(&wire.key))
            else {
                return Attempt::Done(Answer::Peer(PeerReply::Failed(Errno::EPROTO)));
            };
            if !self.cluster.is_mine(partition) {
                return self.wrong_epoch();
            }
            names.push((db, Key::from_slice(&wire.key)));
        }
        if allocate.iter().any(|p| !self.cluster.is_mine(*p)) {
            return self.wrong_epoch();
        }
        if self.settled.contains(txn) {
            return Attempt::Done(Answer::Peer(PeerReply::Die));
        }
        let known = self.participants.entry(txn).or_insert_with(|| Participant {
            coordinator: task.caller.peer,
            age,
            effects: Vec::new(),
            prepared: false,
            flush: false,
            heard_ns: 0,
        });
        known.heard_ns = self.now.mono_ns;
        let forgotten = usize::from(W::plants(Fault::ForgetKey) && names.len() > 1);
        for (db, key) in &names[forgotten..] {
            match self.locks.claim(txn, age, *db, key) {
                Claim::Granted => {}
                Claim::Die => return Attempt::Done(Answer::Peer(PeerReply::Die)),
                Claim::Wait => {
                    task.waiting = Waiting::Key;
                    self.locks.wait(*db, key.clone(), task.id);
                    return Attempt::Parked;
                }
            }
        }
        self.read_locked(task, (txn, age), &names, allocate)
    }

    fn read_locked(
        &mut self,
        task: &mut Task,
        txn: (TxnId, u64),
        names: &[(Db, Key)],
        allocate: &[PartitionId],
    ) -> Attempt {
        let mut allocated = Vec::with_capacity(allocate.len());
        for partition in allocate {
            let Some(sequence) = self.meta.next_sequence(*partition) else {
                task.waiting = Waiting::Room;
                self.room_waits.push(task.id);
                self.flush_wanted = true;
                return Attempt::Parked;
            };
            allocated.push(InodeId::new(*partition, sequence));
        }
        let mut values = Vec::with_capacity(names.len());
        for (db, key) in names {
            match self.meta.get(*db, key) {
                Ok(value) => values.push(value.map(<[u8]>::to_vec)),
                Err(error) => {
                    return Attempt::Done(Answer::Peer(PeerReply::Failed(error.errno())));
                }
            }
        }
        let mut named = Vec::new();
        for ((db, key), value) in names.iter().zip(&values) {
            named.extend(self.inode_named(txn, *db, key, value.as_deref()));
        }
        Attempt::Done(Answer::Peer(PeerReply::Values {
            values,
            allocated,
            named,
        }))
    }

    /// Locks and reads the inode that a dentry names, if it is here and that can be done at once.
    fn inode_named(
        &mut self,
        (txn, age): (TxnId, u64),
        db: Db,
        key: &Key,
        value: Option<&[u8]>,
    ) -> Option<(WireKey, Vec<u8>)> {
        if db != Db::Dent || entry_of_position(key).is_some() {
            return None;
        }
        let ino = DentryRecord::decode(value?).ok()?.ino;
        if !self.cluster.is_mine(ino.partition()) {
            return None;
        }
        let key = key::ino(ino.partition(), ino);
        if self.locks.claim(txn, age, Db::Ino, &key) != Claim::Granted {
            return None;
        }
        let record = self.meta.get(Db::Ino, &key).ok()??.to_vec();
        let key = WireKey {
            db: Db::Ino as u8,
            key: key.to_vec(),
        };
        Some((key, record))
    }

    fn prepare_here(
        &mut self,
        task: &mut Task,
        txn: TxnId,
        effects: Vec<Effect>,
        flush: bool,
    ) -> Attempt {
        let yes = Answer::Peer(PeerReply::Prepared);
        let no = Attempt::Done(Answer::Peer(PeerReply::Die));
        let Some(known) = self.participants.get_mut(&txn) else {
            // Its locks were lost or given up: what it has read may have changed.
            return no;
        };
        known.heard_ns = self.now.mono_ns;
        if known.prepared {
            return self.answer_after_flush(task, self.last_index, yes, flush);
        }
        let age = known.age;
        if let Err(over) = self.check_charges(effects.iter().map(|e| e.charge)) {
            return self.over_quota(task, over);
        }
        for effect in &effects {
            let (Ok(db), Some(partition)) =
                (Db::try_from(effect.db), partition_of_key(&effect.key))
            else {
                return no;
            };
            let key = Key::from_slice(&effect.key);
            let ours = partition == effect.partition && self.cluster.is_mine(partition);
            if !ours || self.locks.claim(txn, age, db, &key) != Claim::Granted {
                return no;
            }
            self.locks.prepare(txn, db, &key);
        }
        if !effects.is_empty() && !W::plants(Fault::SkipPrepareRecord) {
            let partition = record_partition(&effects);
            let record = TxnRecord::Prepared {
                coordinator: task.caller.peer,
                age,
                effects: effects.clone(),
            };
            let key = key::txn(partition, txn);
            let write = Write::free(partition, Db::Txn, key, Value::Put(record.encode()));
            if self.append(&mut vec![write], txn).is_err() {
                return no;
            }
        }
        if W::plants(Fault::ReleaseEarly) {
            self.release_keys(txn);
        }
        self.quotas.reserve(effects.iter().map(|e| e.charge));
        if let Some(known) = self.participants.get_mut(&txn) {
            known.effects = effects;
            known.prepared = true;
            known.flush = flush;
        }
        if !flush {
            return Attempt::Done(yes);
        }
        // What was only read must last as well, if the outcome is to rest on it.
        self.answer_after_flush(task, self.last_index, yes, true)
    }

    fn obey(&mut self, task: &mut Task, txn: TxnId, commit: bool) -> Attempt {
        let done = Answer::Peer(PeerReply::Acknowledged);
        let flush = self.participants.get(&txn).is_none_or(|p| p.flush);
        if !self.settle(txn, commit) {
            // Not applied: it will be told again.
            return Attempt::Done(Answer::Peer(PeerReply::Failed(Errno::EAGAIN)));
        }
        if !commit || !flush {
            return Attempt::Done(done);
        }
        self.answer_after_flush(task, self.last_index, done, false)
    }

    /// Applies or forgets a transaction and releases what it held; false if the log is full.
    pub(super) fn settle(&mut self, txn: TxnId, commit: bool) -> bool {
        let Some(known) = self.participants.remove(&txn) else {
            self.settled.insert(txn);
            return true;
        };
        let mut writes = Vec::with_capacity(known.effects.len() + 1);
        if commit {
            for effect in &known.effects {
                let Ok(db) = Db::try_from(effect.db) else {
                    continue;
                };
                writes.push(Write {
                    partition: effect.partition,
                    db,
                    key: Key::from_slice(&effect.key),
                    value: match &effect.value {
                        Some(bytes) => Value::Put(bytes.clone()),
                        None => Value::Delete,
                    },
                    charge: effect.charge,
                });
            }
        }
        if !known.effects.is_empty() {
            let partition = record_partition(&known.effects);
            let key = key::txn(partition, txn);
            writes.push(Write::free(partition, Db::Txn, key, Value::Delete));
        }
        if self.append(&mut writes, txn).is_err() {
            self.participants.insert(txn, known);
            return false;
        }
        if known.prepared {
            self.quotas.release(known.effects.iter().map(|e| e.charge));
        }
        self.settled.insert(txn);
        self.release_keys(txn);
        if commit {
            self.split_grown(&known.effects);
        }
        true
    }
}
