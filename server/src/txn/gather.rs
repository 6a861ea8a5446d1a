//! The deciding side, until it has all that an operation reads: keys locked and read on other
//! shards, by age.

use std::collections::BTreeMap;

use crate::core::attempt::Attempt;
use crate::core::locks::{Claim, TaskId};
use crate::core::peers::Purpose;
use crate::core::task::{Need, Shared, Task, Waiting};
use crate::core::{Core, World, Write};
use crate::meta::db::{Db, Key};
use sealfs_protocol::peer::{Key as WireKey, PeerReply, PeerRequest};
use sealfs_protocol::{PartitionId, ShardId, TxnId};

/// Pause after having lost against an older transaction, in ns; each further loss adds as much.
const BACKOFF_NS: u64 = 500_000;

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

    pub(super) fn txn_of(&mut self, task: &mut Task) -> TxnId {
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
        shuts: bool,
    ) -> Result<(), (Db, Key)> {
        for (db, key) in holds {
            let txn = self.txn_of(task);
            if self.locks.claim(txn, task.age, db, &key) != Claim::Granted {
                return Err((db, key));
            }
            if shuts {
                self.locks.prepare(txn, db, &key);
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
        let spans = |need: &Need| matches!(need, Need::Answer(_, PeerRequest::ReadSpan { .. }, _));
        if needs.iter().any(spans) && !self.may_ask_span() {
            task.pending = 0;
            task.waiting = Waiting::Peers;
            self.span_waits.push(task.id);
            return Attempt::Parked;
        }
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
            let first = !shared.participants.contains(&shard);
            if first {
                shared.participants.push(shard);
            }
            let request = PeerRequest::Read {
                txn,
                age: task.age,
                first,
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
            (
                PeerRequest::Read { keys, .. },
                PeerReply::Values {
                    values,
                    allocated,
                    named,
                },
            ) if keys.len() == values.len() => {
                for (key, value) in named {
                    if let Ok(db) = Db::try_from(key.db) {
                        task.memo
                            .add_value(db, Key::from_slice(&key.key), Some(value));
                    }
                }
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

    pub(super) fn park(&mut self, task: Task) {
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
        self.come_back(task, pause);
        self.counters.died += 1;
    }

    /// Gives back all locks of an operation, here and elsewhere, without a change.
    pub(crate) fn release_shared(&mut self, task: &mut Task) {
        if let Some(shared) = task.shared.take() {
            if let Some((changes, _)) = shared.outcome {
                let charges = changes.writes.iter().map(Write::whole_charge);
                self.quotas.release(charges);
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
}
