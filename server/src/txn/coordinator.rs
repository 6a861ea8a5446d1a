//! The side that decides.

use std::collections::BTreeMap;

use crate::core::locks::{Claim, TaskId};
use crate::core::peers::Purpose;
use crate::core::run::Attempt;
use crate::core::task::{Answer, Need, Shared, Task, Waiting, Work};
use crate::core::{Changes, Core, Next, Value, World, Write};
use crate::meta::db::{Db, Key, key};
use crate::records::{Record, TxnRecord};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::peer::{Effect, Key as WireKey, PeerReply, PeerRequest};
use sealfs_protocol::{Errno, PartitionId, ShardId, TxnId};

/// Pause after having lost against an older transaction, in ns; each further loss adds as much.
const BACKOFF_NS: u64 = 500_000;

/// A transaction that this shard has decided to commit.
pub struct Coordinated {
    /// Who has not reported it durable.
    pub(super) open: Vec<ShardId>,
    /// Where its record is.
    pub(super) partition: PartitionId,
}

impl<W: World> Core<W> {
    pub(crate) fn fresh_txn(&mut self) -> TxnId {
        // The wall clock keeps numbers apart over restarts within one incarnation.
        self.next_txn = (self.next_txn + 1).max(self.now.wall_ns as u64);
        let incarnation = self.incarnation().0 as u32;
        TxnId(
            u128::from(self.cluster.shard.0) << 96
                | u128::from(incarnation) << 64
                | u128::from(self.next_txn),
        )
    }

    /// When an operation began, unique enough: microseconds, then the shard.
    fn fresh_age(&self) -> u64 {
        (self.now.wall_ns as u64 / 1000) << 8 | u64::from(self.cluster.shard.0 & 0xff)
    }

    fn txn_of(&mut self, task: &mut Task) -> TxnId {
        if task.age == 0 {
            task.age = self.fresh_age();
        }
        if let Some(txn) = task.txn {
            return txn;
        }
        let txn = self.fresh_txn();
        task.txn = Some(txn);
        txn
    }

    /// Locks keys of this shard for an operation that goes on after a wait.
    pub(crate) fn keep_holds(
        &mut self,
        task: &mut Task,
        holds: Vec<(Db, Key)>,
    ) -> Result<(), (Db, Key)> {
        for (db, key) in holds {
            let txn = self.txn_of(task);
            if self.locks.claim(txn, task.age, db, &key) != Claim::Granted {
                return Err((db, key));
            }
        }
        Ok(())
    }

    /// Whether an operation that holds locks must give them back instead of waiting for a key.
    pub(crate) fn must_give_way(&mut self, task: &mut Task, db: Db, key: &Key) -> bool {
        let Some(txn) = task
            .txn
            .filter(|t| self.locks.holds(*t) || task.shared.is_some())
        else {
            return false;
        };
        self.locks.claim(txn, task.age, db, key) == Claim::Die
    }

    /// Sends for what an operation needs from other shards.
    pub(crate) fn fetch(&mut self, task: &mut Task, needs: Vec<Need>, data: &[u8]) -> Attempt {
        let mut reads: BTreeMap<ShardId, (Vec<WireKey>, Vec<PartitionId>)> = BTreeMap::new();
        let mut asked = 0;
        let payload_at = task.payload_at;
        for need in needs {
            let owner = match &need {
                Need::Key(partition, ..) | Need::Inode(partition) => self.cluster.owner(*partition),
                Need::Answer(shard, ..) => Some(*shard),
            };
            let Some(shard) = owner else {
                self.release_shared(task);
                return Attempt::Done(Self::io_error());
            };
            match need {
                Need::Key(_, db, key) => {
                    let wire = WireKey {
                        db: db as u8,
                        key: key.to_vec(),
                    };
                    reads.entry(shard).or_default().0.push(wire);
                }
                Need::Inode(partition) => reads.entry(shard).or_default().1.push(partition),
                Need::Answer(shard, request, range) => {
                    let range = range.start + payload_at..range.end + payload_at;
                    let bytes = data.get(range).unwrap_or_default();
                    asked += 1;
                    self.send_peer(shard, request, bytes, Purpose::Ask(task.id));
                }
            }
        }
        task.pending = asked + reads.len();
        task.waiting = Waiting::Peers;
        self.read_elsewhere(task, reads);
        Attempt::Parked
    }

    fn read_elsewhere(
        &mut self,
        task: &mut Task,
        reads: BTreeMap<ShardId, (Vec<WireKey>, Vec<PartitionId>)>,
    ) {
        if reads.is_empty() {
            return;
        }
        let txn = self.txn_of(task);
        let shared = task.shared.get_or_insert_with(|| Shared {
            txn,
            participants: Vec::new(),
            changing: Vec::new(),
            outcome: None,
            decided: false,
        });
        for (shard, (keys, allocate)) in reads {
            if !shared.participants.contains(&shard) {
                shared.participants.push(shard);
            }
            let request = PeerRequest::Read {
                txn,
                age: task.age,
                keys,
                allocate,
            };
            self.send_peer(shard, request, &[], Purpose::Read(task.id));
        }
    }

    /// The values that a shard has locked and read, or its refusal.
    pub(crate) fn on_read(&mut self, id: TaskId, request: PeerRequest, reply: PeerReply) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        match (request, reply) {
            (PeerRequest::Read { keys, .. }, PeerReply::Values { values, allocated })
                if keys.len() == values.len() =>
            {
                for (key, value) in keys.into_iter().zip(values) {
                    if let Ok(db) = Db::try_from(key.db) {
                        task.memo.add_value(db, Key::from_slice(&key.key), value);
                    }
                }
                for ino in allocated {
                    task.memo.add_allocated(ino);
                }
            }
            _ => task.died = true,
        }
        let lost = task.pending <= 1 && task.died;
        if lost && let Some(mut task) = self.tasks.remove(&id) {
            self.restart(&mut task);
            self.park(task);
        } else {
            self.one_answer_less(id);
        }
    }

    fn park(&mut self, task: Task) {
        self.tasks.insert(task.id, task);
    }

    /// Gives everything back and runs the operation again after a pause, as old as before.
    pub(crate) fn restart(&mut self, task: &mut Task) {
        let age = task.age;
        self.forget_questions(task.id);
        self.release_shared(task);
        task.memo.clear();
        task.age = age;
        task.died = false;
        task.pending = 0;
        task.losses = task.losses.saturating_add(1);
        let pause = BACKOFF_NS * u64::from(task.losses) + (task.id % 8) * BACKOFF_NS / 8;
        let at = self.now.mono_ns + pause;
        task.waiting = Waiting::Until(at);
        self.timers.insert((at, task.id));
        self.counters.died += 1;
    }

    /// Gives back all locks of an operation, here and elsewhere, without a change.
    pub(crate) fn release_shared(&mut self, task: &mut Task) {
        if let Some(shared) = task.shared.take() {
            if let Some((changes, _)) = shared.outcome {
                self.abandon(changes);
            }
            for shard in shared.participants {
                let request = PeerRequest::Decide {
                    txn: shared.txn,
                    commit: false,
                };
                self.send_peer(shard, request, &[], Purpose::Decide(shared.txn));
            }
        }
        if let Some(txn) = task.txn.take() {
            self.release_keys(txn);
        }
        task.memo.forget_shared();
    }

    /// All effects are known: locks what is read and written here, and asks for the votes.
    pub(crate) fn prepare(
        &mut self,
        task: &mut Task,
        answer: Answer,
        mut changes: Changes,
    ) -> Attempt {
        let txn = self.txn_of(task);
        if let Err((db, key)) = self.claim_local(task, txn, &changes) {
            self.abandon(changes);
            return self.wait_for_key(task, db, key);
        }
        let mut effects: BTreeMap<ShardId, Vec<Effect>> = BTreeMap::new();
        let mut own = Vec::new();
        for write in changes.writes {
            if self.cluster.is_mine(write.partition) {
                self.locks.prepare(txn, write.db, &write.key);
                own.push(write);
                continue;
            }
            let Some(shard) = self.cluster.owner(write.partition) else {
                self.release_shared(task);
                return Attempt::Done(Self::io_error());
            };
            let value = match write.value {
                Value::Put(bytes) => Some(bytes),
                _ => None,
            };
            effects.entry(shard).or_default().push(Effect {
                partition: write.partition,
                db: write.db as u8,
                key: write.key.to_vec(),
                value,
            });
        }
        changes.writes = own;
        let flush = self.wants_durable(task);
        let shared = task.shared.get_or_insert_with(|| Shared {
            txn,
            participants: Vec::new(),
            changing: Vec::new(),
            outcome: None,
            decided: false,
        });
        shared.changing = effects.keys().copied().collect();
        for shard in &shared.changing {
            if !shared.participants.contains(shard) {
                shared.participants.push(*shard);
            }
        }
        shared.outcome = Some((changes, answer));
        let participants = shared.participants.clone();
        task.pending = participants.len();
        task.waiting = Waiting::Votes;
        for shard in participants {
            let request = PeerRequest::Prepare {
                txn,
                effects: effects.remove(&shard).unwrap_or_default(),
                flush,
            };
            self.send_peer(shard, request, &[], Purpose::Vote(task.id));
        }
        if task.pending == 0 {
            return self.voted(task);
        }
        Attempt::Parked
    }

    fn claim_local(&mut self, task: &Task, txn: TxnId, changes: &Changes) -> Result<(), (Db, Key)> {
        let reads = changes.reads.iter().map(|(db, key)| (*db, key));
        let writes = changes.writes.iter();
        let writes = writes
            .filter(|w| self.cluster.is_mine(w.partition))
            .map(|w| (w.db, &w.key));
        let all: Vec<(Db, Key)> = reads
            .chain(writes)
            .map(|(db, key)| (db, key.clone()))
            .collect();
        for (db, key) in all {
            if self.locks.claim(txn, task.age, db, &key) != Claim::Granted {
                return Err((db, key));
            }
        }
        Ok(())
    }

    fn wants_durable(&self, task: &Task) -> bool {
        self.cluster.durability(task.caller.volume) != Durability::Memory
    }

    pub(crate) fn on_vote(&mut self, id: TaskId, reply: &PeerReply) {
        let Some(mut task) = self.tasks.remove(&id) else {
            return;
        };
        if *reply != PeerReply::Prepared {
            task.died = true;
        }
        task.pending = task.pending.saturating_sub(1);
        if task.pending > 0 {
            return self.park(task);
        }
        if task.died {
            self.restart(&mut task);
            return self.park(task);
        }
        self.resume_vote(task);
    }

    /// Every vote is there: on to the decision, and to the reply if it need not wait.
    fn resume_vote(&mut self, mut task: Task) {
        match self.voted(&mut task) {
            Attempt::Done(answer) => {
                task.held = Some(answer);
                self.drive(task, None);
            }
            _ => self.park(task),
        }
    }

    /// The step before the decision was made, by this shard or another.
    pub(crate) fn on_before(&mut self, id: TaskId, reply: &PeerReply) {
        let Some(mut task) = self.tasks.remove(&id) else {
            return;
        };
        if *reply == PeerReply::Acknowledged {
            self.resume_vote(task);
        } else {
            self.restart(&mut task);
            self.park(task);
        }
    }

    /// Everybody is prepared: what clients cache is voided first, then the decision is taken.
    pub(crate) fn voted(&mut self, task: &mut Task) -> Attempt {
        let outcome = task.shared.as_mut().and_then(|s| s.outcome.as_mut());
        let bump = outcome.and_then(|(changes, _)| changes.bump.take());
        let Some(bump) = bump else {
            return self.decide(task);
        };
        let root = self.cluster.root(bump.volume);
        let request = PeerRequest::BumpRenameVersion {
            volume: bump.volume,
            directories: bump.directories,
        };
        task.waiting = Waiting::Votes;
        match self.cluster.owner(root.partition()) {
            Some(owner) if owner != self.cluster.shard => {
                self.send_peer(owner, request, &[], Purpose::Before(task.id));
            }
            _ => self.start_local(request, task.id),
        }
        Attempt::Parked
    }

    /// The point of no return: own effects, the decision and the reply in one log entry.
    fn decide(&mut self, task: &mut Task) -> Attempt {
        let flush = self.wants_durable(task);
        let Some(shared) = task.shared.as_mut() else {
            return Attempt::Done(Self::io_error());
        };
        let Some((mut changes, answer)) = shared.outcome.take() else {
            return Attempt::Done(Self::io_error());
        };
        shared.decided = true;
        let (txn, changing) = (shared.txn, shared.changing.clone());
        let partition = partition_of(task);
        if !changing.is_empty() {
            let record = TxnRecord::Committed {
                participants: changing.clone(),
            };
            changes.writes.push(Write {
                partition,
                db: Db::Txn,
                key: key::txn(partition, txn),
                value: Value::Put(record.encode()),
            });
        }
        match self.commit(task, &answer, changes) {
            Ok(Next::Job(job)) => self.jobs.push_back(job),
            Ok(_) => {}
            Err(_) => {
                // Nothing was logged, so nothing is decided: the participants forget.
                if let Some(shared) = task.shared.as_mut() {
                    shared.decided = false;
                }
                self.release_shared(task);
                return Attempt::Done(Self::io_error());
            }
        }
        self.counters.transactions += 1;
        if let Some(own) = task.txn {
            self.release_keys(own);
        }
        if !changing.is_empty() {
            let open = Coordinated {
                open: changing,
                partition,
            };
            self.coordinated.insert(txn, open);
        }
        let index = self.last_index;
        if flush && index > self.meta.flushed() {
            return self.answer_after_flush(task, index, answer, true);
        }
        self.tell_decision(task);
        Attempt::Done(answer)
    }

    /// Tells every participant of a decision that is durable.
    pub(crate) fn tell_decision(&mut self, task: &mut Task) {
        let Some(shared) = task.shared.take() else {
            return;
        };
        for shard in shared.participants {
            let request = PeerRequest::Decide {
                txn: shared.txn,
                commit: true,
            };
            self.send_peer(shard, request, &[], Purpose::Decide(shared.txn));
        }
    }

    /// A participant has the decision durably; with the last one the transaction is forgotten.
    pub(crate) fn on_decided(&mut self, txn: TxnId, shard: ShardId) {
        let Some(decided) = self.coordinated.get_mut(&txn) else {
            return;
        };
        decided.open.retain(|s| *s != shard);
        if decided.open.is_empty() {
            let partition = decided.partition;
            self.coordinated.remove(&txn);
            self.forget_txn(txn, partition);
        }
    }

    /// Removes the record of a transaction that nobody will ask about.
    pub(super) fn forget_txn(&mut self, txn: TxnId, partition: PartitionId) {
        let gone = Write {
            partition,
            db: Db::Txn,
            key: key::txn(partition, txn),
            value: Value::Delete,
        };
        if self.append(&mut vec![gone], TxnId(0)).is_err() {
            log::warn!("the record of transaction {txn} stays until the next start");
        }
    }

    /// What became of a transaction, for a participant that asks.
    pub(crate) fn outcome_of(&self, txn: TxnId) -> PeerReply {
        if self.coordinated.contains_key(&txn) {
            return PeerReply::Outcome { commit: true };
        }
        let mut shared = self.tasks.values().filter_map(|t| t.shared.as_ref());
        if shared.any(|s| s.txn == txn) {
            return PeerReply::Undecided;
        }
        PeerReply::Outcome { commit: false }
    }

    pub(crate) fn io_error() -> Answer {
        Answer::Op(sealfs_protocol::message::OpReply::Errno(Errno::EIO))
    }
}

/// The partition that the current operation names; its transaction's record lies there.
fn partition_of(task: &Task) -> PartitionId {
    match &task.work {
        Work::Request(request) => request.ops.get(task.index).map(|e| e.partition),
        _ => None,
    }
    .unwrap_or_default()
}
