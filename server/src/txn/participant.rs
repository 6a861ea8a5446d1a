//! The side that locks, prepares and obeys.

use crate::core::attempt::Attempt;
use crate::core::locks::Claim;
use crate::core::peers::Purpose;
use crate::core::quota::{Allowance, Over};
use crate::core::task::{Answer, Ended, Task, Waiting, Work};
use crate::core::{Core, Fault, Value, World, Write};
use crate::meta::db::{Db, Key, key};
use crate::records::{DentryRecord, Record, TxnRecord, entry_of_position, partition_of_key};
use sealfs_protocol::peer::{Effect, Key as WireKey, PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, PartitionId, ShardId, TxnId};

use super::Coordinated;

/// A coordinator that says nothing for this long is asked for the outcome, in ns.
const SILENCE_NS: u64 = 1_000_000_000;
/// A rename version that was pushed stands this long, in ns.
const VERSION_LEASE_NS: u64 = crate::core::VERSION_LEASE_MS * 1_000_000;

/// A transaction of another shard.
pub struct Participant {
    coordinator: ShardId,
    age: u64,
    /// What takes place if it commits; empty before it is prepared.
    effects: Vec<Effect>,
    prepared: bool,
    /// Decisions must be durable before they are acknowledged.
    flush: bool,
    heard_ns: u64,
}

/// Where the record of a prepared transaction lies: with its first effect.
fn record_partition(effects: &[Effect]) -> PartitionId {
    effects.first().map_or(PartitionId(0), |e| e.partition)
}

impl<W: World> Core<W> {
    /// Requests of other shards that are no operation over a view.
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
            PeerRequest::Allow {
                volume,
                held,
                turn,
                want,
                state,
            } => {
                let held = Allowance {
                    cap: *held,
                    turn: *turn,
                };
                let over = Over {
                    volume: *volume,
                    want: *want,
                };
                let state = *state;
                return Some(self.serve_allow(task, over, held, state));
            }
            PeerRequest::Recall {
                volume,
                turn,
                state,
            } => {
                let (volume, turn, state) = (*volume, *turn, *state);
                return Some(self.serve_recall(task, volume, turn, state));
            }
            PeerRequest::PushRenameVersion {
                volume,
                version,
                directories,
            } => {
                let until = self.now.mono_ns + VERSION_LEASE_NS;
                self.versions
                    .learn(*volume, *version, directories, Some(until));
                PeerReply::Acknowledged
            }
            PeerRequest::Ended { client, session } => {
                let ended = [client.map(Ended::Client), session.map(Ended::Session)];
                return Some(self.end_here(task, ended));
            }
            PeerRequest::Attend { session } => self.attend(*session),
            PeerRequest::Sessions => self.live_sessions(),
            PeerRequest::LockWaits { clients } => self.lock_waits(clients),
            PeerRequest::BreakLockWait {
                wait,
                though_settled,
            } => self.break_lock_wait(*wait, *though_settled),
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
    fn settle(&mut self, txn: TxnId, commit: bool) -> bool {
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

    /// A connection to this shard was lost, perhaps with all that it did: what became of its
    /// transactions is asked now, since others wait for the keys that they hold here.
    pub(crate) fn doubt_coordinator(&mut self, shard: ShardId) {
        for known in self.participants.values_mut() {
            if known.coordinator == shard {
                known.heard_ns = 0;
            }
        }
        self.ask_outcomes();
    }

    /// Coordinators that have been silent are asked, and tasks that still wait for keys on behalf
    /// of a transaction that is over find it gone.
    pub(crate) fn ask_outcomes(&mut self) {
        let now = self.now.mono_ns;
        let mut due = Vec::new();
        for (txn, known) in &mut self.participants {
            if now.saturating_sub(known.heard_ns) >= SILENCE_NS {
                known.heard_ns = now;
                due.push((*txn, known.coordinator));
            }
        }
        for (txn, coordinator) in due {
            let asked = self.outstanding.values();
            let mut asked = asked.filter(|o| o.purpose == Purpose::Outcome(txn));
            if asked.next().is_none() {
                let request = PeerRequest::Outcome { txn };
                self.send_peer(coordinator, request, &[], Purpose::Outcome(txn));
            }
        }
    }

    pub(crate) fn on_outcome(&mut self, txn: TxnId, reply: &PeerReply) {
        if let PeerReply::Outcome { commit } = reply {
            self.settle(txn, *commit);
        }
    }

    /// Takes up transactions of an earlier life, on both sides.
    pub(crate) fn recover_transactions(&mut self) {
        let end = Key::from_slice(&[0xff; 3]);
        let found = match self.meta.scan(Db::Txn, &[], &end, usize::MAX) {
            Ok(found) => found,
            Err(error) => return log::error!("transactions cannot be read: {error}"),
        };
        for (name, value) in found {
            let (Some(partition), Some(id)) = (partition_of_key(&name), name.get(2..18)) else {
                continue;
            };
            let txn = TxnId(u128::from_be_bytes(id.try_into().unwrap_or_default()));
            match TxnRecord::decode(&value) {
                Ok(TxnRecord::Committed { participants }) => {
                    let open = participants;
                    let decided = Coordinated { open, partition };
                    self.coordinated.insert(txn, decided);
                }
                Ok(TxnRecord::Prepared {
                    coordinator,
                    age,
                    effects,
                }) => {
                    for effect in &effects {
                        if let Ok(db) = Db::try_from(effect.db) {
                            let key = Key::from_slice(&effect.key);
                            self.locks.claim(txn, age, db, &key);
                            self.locks.prepare(txn, db, &key);
                        }
                    }
                    self.quotas.reserve(effects.iter().map(|e| e.charge));
                    let known = Participant {
                        coordinator,
                        age,
                        effects,
                        prepared: true,
                        flush: true,
                        heard_ns: 0,
                    };
                    self.participants.insert(txn, known);
                }
                Err(_) => log::error!("the record of transaction {txn} is damaged"),
            }
        }
    }

    /// Repeats the decisions of an earlier life.
    pub(crate) fn repeat_decisions(&mut self) {
        let open = self.coordinated.iter();
        let open: Vec<(TxnId, Vec<ShardId>)> = open.map(|(t, c)| (*t, c.open.clone())).collect();
        for (txn, shards) in open {
            for shard in shards {
                let request = PeerRequest::Decide { txn, commit: true };
                self.send_peer(shard, request, &[], Purpose::Decide(txn));
            }
        }
    }
}
