//! The side that decides, once all effects are known: votes, the decision and its telling.

use std::collections::BTreeMap;

use crate::core::attempt::Attempt;
use crate::core::locks::{Claim, TaskId};
use crate::core::peers::Purpose;
use crate::core::task::{Answer, Job, Shared, Task, Waiting, Work};
use crate::core::{Changes, Core, Halt, Next, Value, World, Write};
use crate::meta::db::{Db, Key, key};
use crate::records::{Record, TxnRecord};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::peer::{Effect, PeerReply, PeerRequest};
use sealfs_protocol::{Errno, PartitionId, ShardId, TxnId};

/// A transaction that this shard has decided to commit.
pub struct Coordinated {
    /// Who has not reported it durable.
    pub(super) open: Vec<ShardId>,
    /// Where its record is.
    pub(super) partition: PartitionId,
}

/// What a transaction changes on other shards.
type Effects = BTreeMap<ShardId, Vec<Effect>>;

impl<W: World> Core<W> {
    /// The operation changes nothing. What it has read elsewhere must still have been locked when
    /// the last of it was read, or the answer mixes moments: a shard that has restarted says so.
    pub(crate) fn confirm(&mut self, task: &mut Task, answer: Answer) -> Attempt {
        self.prepare(task, answer, Changes::default())
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
        if let Err(over) = self.check_quota(changes.writes.iter(), changes.expected) {
            self.abandon(changes);
            return self.over_quota(task, over);
        }
        let Some((own, effects)) = self.by_shard(txn, changes.writes) else {
            self.release_shared(task);
            return Attempt::Done(Self::io_error());
        };
        changes.writes = own;
        let nothing = effects.is_empty() && changes.is_empty();
        let flush = !nothing && self.wants_durable(task);
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
        let charges = changes.writes.iter().map(Write::whole_charge);
        self.quotas.reserve(charges);
        shared.outcome = Some((changes, answer));
        self.ask_votes(task, txn, effects, flush)
    }

    /// The writes of this shard, locked from now on, and the effects on the others; `None` if one of
    /// them has no owner.
    fn by_shard(&mut self, txn: TxnId, writes: Vec<Write>) -> Option<(Vec<Write>, Effects)> {
        let mut effects = Effects::new();
        let mut own = Vec::new();
        for write in writes {
            if self.cluster.is_mine(write.partition) {
                self.locks.prepare(txn, write.db, &write.key);
                own.push(write);
                continue;
            }
            let shard = self.cluster.owner(write.partition)?;
            let value = match write.value {
                Value::Put(bytes) => Some(bytes),
                _ => None,
            };
            effects.entry(shard).or_default().push(Effect {
                partition: write.partition,
                db: write.db as u8,
                key: write.key.to_vec(),
                value,
                charge: write.charge,
            });
        }
        Some((own, effects))
    }

    /// Parks the task until all shards that it has locked something on have voted.
    fn ask_votes(
        &mut self,
        task: &mut Task,
        txn: TxnId,
        mut effects: Effects,
        flush: bool,
    ) -> Attempt {
        let shared = task.shared.as_ref();
        let participants = shared.map_or(Vec::new(), |s| s.participants.clone());
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
        match reply {
            PeerReply::Prepared => {}
            PeerReply::Failed(Errno::EDQUOT) => task.denied = true,
            _ => task.died = true,
        }
        task.pending = task.pending.saturating_sub(1);
        if task.pending > 0 {
            return self.park(task);
        }
        if task.died {
            task.denied = false;
            self.restart(&mut task);
            return self.park(task);
        }
        if task.denied {
            let refused = self.halted(&mut task, Halt::Errno(Errno::EDQUOT), Vec::new(), &[]);
            return self.conclude_vote(task, refused);
        }
        self.resume_vote(task);
    }

    /// Every vote is there: on to the decision, and to the reply if it need not wait.
    fn resume_vote(&mut self, mut task: Task) {
        let attempt = self.voted(&mut task);
        self.conclude_vote(task, attempt);
    }

    fn conclude_vote(&mut self, mut task: Task, attempt: Attempt) {
        match attempt {
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
        task.pending = 0;
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
                task.pending = 1;
                self.send_peer(owner, request, &[], Purpose::Before(task.id));
            }
            _ => self.start_local(request, task.id),
        }
        Attempt::Parked
    }

    /// The point of no return: own effects, the decision and the reply in one log entry.
    fn decide(&mut self, task: &mut Task) -> Attempt {
        let durable = self.wants_durable(task);
        let Some(shared) = task.shared.as_mut() else {
            return Attempt::Done(Self::io_error());
        };
        let Some((mut changes, answer)) = shared.outcome.take() else {
            return Attempt::Done(Self::io_error());
        };
        let nothing = shared.changing.is_empty() && changes.is_empty();
        let flush = !nothing && durable;
        shared.decided = true;
        let charges = changes.writes.iter().map(Write::whole_charge);
        self.quotas.release(charges);
        let (txn, changing) = (shared.txn, shared.changing.clone());
        let partition = partition_of(task);
        if !changing.is_empty() {
            let record = TxnRecord::Committed {
                participants: changing.clone(),
            };
            let key = key::txn(partition, txn);
            let decision = Value::Put(record.encode());
            let write = Write::free(partition, Db::Txn, key, decision);
            changes.writes.push(write);
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
        let key = key::txn(partition, txn);
        let gone = Write::free(partition, Db::Txn, key, Value::Delete);
        if self.append(&mut vec![gone], TxnId(0)).is_err() {
            log::warn!("the record of transaction {txn} stays until the next start");
        }
    }

    /// What became of a transaction, for a participant that asks.
    pub(crate) fn outcome_of(&self, txn: TxnId) -> PeerReply {
        // A decision that is not durable yet may still be lost: its task waits for the flush.
        let mut shared = self.tasks.values().filter_map(|t| t.shared.as_ref());
        if shared.any(|s| s.txn == txn) {
            return PeerReply::Undecided;
        }
        let commit = self.coordinated.contains_key(&txn);
        PeerReply::Outcome { commit }
    }

    pub(crate) fn io_error() -> Answer {
        Answer::Op(sealfs_protocol::message::OpReply::Errno(Errno::EIO))
    }
}

/// The partition that the current operation names; its transaction's record lies there.
fn partition_of(task: &Task) -> PartitionId {
    match &task.work {
        Work::Request(request) => request.ops.get(task.index).map(|e| e.partition),
        Work::Job(Job::Split(ino)) => Some(ino.partition()),
        _ => None,
    }
    .unwrap_or_default()
}
