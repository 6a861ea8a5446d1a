//! The ledger of a volume's quota, kept by the owner of its root: who may use how much.
//!
//! It lives in memory. Before it gives anything away the keeper must know what every shard holds: it
//! asks all of them to give back what they do not use (a *recall*) when it has nothing left or has
//! just started. Nothing is given away during a recall: it would not be given back by it. Away from the limit a shard gets some more than it asked for; near it, just that.
//! Messages may arrive late and twice, so every one to a shard carries a rising *turn*: a shard takes
//! only newer ones, and a report made before the last turn sent to it is no bound for what it holds.

use std::collections::{BTreeMap, BTreeSet};

use super::attempt::Attempt;
use super::peers::Purpose;
use super::quota::{Allowance, LATER_MAX, Over, fits, limit_of};
use super::task::{Answer, Task, TaskId, Waiting};
use super::{Action, Core, Halt, World};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{Errno, ShardId, VolumeId};

/// A shard that has not answered a recall for this long is left out of it, in ns.
const RECALL_NS: u64 = 1_000_000_000;
/// Of what is left, this part is shared out beyond what was asked for, among all shards.
const SHARED_PART: u64 = 2;

#[derive(Default)]
pub(crate) struct Ledger {
    /// The most that each shard may hold.
    bounds: BTreeMap<ShardId, Allowance>,
    turn: u64,
    /// Recalls begun and ended.
    begun: u64,
    ended: u64,
    /// Somewhere files were being removed when it was answered.
    removing: bool,
    /// Shards that have not answered the recall under way, and since when they are asked.
    missing: BTreeSet<ShardId>,
    since_ns: u64,
    waiting: Vec<TaskId>,
}

/// What the keeper says to a question.
enum Verdict {
    Allowed(Allowance),
    Denied,
    /// Not everybody has said what it holds.
    Unknown,
    /// There is no room, but removals are under way: ask again.
    Later,
    /// After the recall that begins.
    Wait,
}

impl Ledger {
    /// What a shard says that it holds.
    fn note(&mut self, shard: ShardId, held: Allowance) {
        let bound = self.bounds.entry(shard).or_insert(held);
        if held.turn >= bound.turn {
            *bound = held;
        }
    }

    /// What nobody holds; `None` if some shard's part is not known.
    fn left(&self, shards: &[ShardId], quota: Totals) -> Option<Totals> {
        let mut held = Totals::default();
        for shard in shards {
            held = held.plus(self.bounds.get(shard)?.cap);
        }
        Some(Totals {
            bytes: quota.bytes.saturating_sub(held.bytes),
            inodes: quota.inodes.saturating_sub(held.inodes),
        })
    }
}

impl<W: World> Core<W> {
    fn shards(&self) -> Vec<ShardId> {
        self.cluster.ring.shards.iter().map(|s| s.id).collect()
    }

    fn fresh_turn(&mut self, volume: VolumeId) -> u64 {
        // The wall clock keeps turns rising over restarts.
        let clock = self.now.wall_ns as u64;
        let ledger = self.ledgers.entry(volume).or_default();
        ledger.turn = (ledger.turn + 1).max(clock);
        ledger.turn
    }

    /// Another shard asks for an allowance.
    pub(crate) fn serve_allow(
        &mut self,
        task: &mut Task,
        over: Over,
        held: Allowance,
        state: u64,
    ) -> Attempt {
        if self.cluster.version < state {
            return self.wait_for_state(task);
        }
        let root = self.cluster.root(over.volume);
        if !self.cluster.is_mine(root.partition()) {
            let ring_version = self.cluster.ring_version();
            return Attempt::Done(Answer::Peer(PeerReply::WrongEpoch { ring_version }));
        }
        let reply = match self.decide_allowance(task, over, task.caller.peer, held) {
            Verdict::Allowed(Allowance { cap, turn }) => PeerReply::Allowed {
                cap,
                turn,
                removing: false,
            },
            Verdict::Denied => PeerReply::Failed(Errno::EDQUOT),
            Verdict::Later => PeerReply::Failed(Errno::EBUSY),
            Verdict::Unknown => PeerReply::Undecided,
            Verdict::Wait => return Attempt::Parked,
        };
        Attempt::Done(Answer::Peer(reply))
    }

    /// A task of this shard, which keeps the ledger, asks.
    pub(crate) fn allow_here(&mut self, task: &mut Task, over: Over, held: Allowance) -> Attempt {
        let me = self.cluster.shard;
        match self.decide_allowance(task, over, me, held) {
            Verdict::Allowed(given) => {
                self.take_allowance(over.volume, given);
                task.recall = 0;
                Attempt::Again
            }
            Verdict::Denied => self.halted(task, Halt::Errno(Errno::EDQUOT), Vec::new(), &[]),
            Verdict::Wait => Attempt::Parked,
            Verdict::Later => {
                task.recall = 0;
                self.ask_later(task);
                Attempt::Parked
            }
            Verdict::Unknown => {
                task.waiting = Waiting::Allowance;
                let ledger = self.ledgers.entry(over.volume).or_default();
                ledger.waiting.push(task.id);
                task.recall = 0;
                self.begin_recall(over.volume);
                Attempt::Parked
            }
        }
    }

    fn decide_allowance(
        &mut self,
        task: &mut Task,
        over: Over,
        asker: ShardId,
        held: Allowance,
    ) -> Verdict {
        let volume = over.volume;
        let Some(quota) = self.cluster.volume(volume).and_then(limit_of) else {
            // No limit any more: the asker will hear of it.
            return Verdict::Unknown;
        };
        let shards = self.shards();
        let ledger = self.ledgers.entry(volume).or_default();
        ledger.note(asker, held);
        let left = ledger.left(&shards, quota);
        let recalling = ledger.begun > ledger.ended;
        if let (Some(left), false) = (left, recalling)
            && fits(Totals::default(), over.want, left)
        {
            return Verdict::Allowed(self.give(volume, asker, over.want, left));
        }
        let ledger = self.ledgers.entry(volume).or_default();
        if task.recall > 0 && ledger.ended >= task.recall {
            return match left {
                Some(_) if ledger.removing && task.full < LATER_MAX => Verdict::Later,
                Some(_) => Verdict::Denied,
                None => Verdict::Unknown,
            };
        }
        if task.recall == 0 {
            // What is given back must have been asked for after this change was.
            task.recall = ledger.begun + 1;
        }
        ledger.waiting.push(task.id);
        task.waiting = Waiting::Allowance;
        self.begin_recall(volume);
        Verdict::Wait
    }

    fn give(&mut self, volume: VolumeId, asker: ShardId, want: Totals, left: Totals) -> Allowance {
        let turn = self.fresh_turn(volume);
        let parts = self.cluster.ring.shards.len() as u64 * SHARED_PART;
        let more = |want: u64, left: u64| want.saturating_add(left.saturating_sub(want) / parts);
        let ledger = self.ledgers.entry(volume).or_default();
        let before = ledger.bounds.get(&asker).copied().unwrap_or_default();
        let given = Allowance {
            cap: before.cap.plus(Totals {
                bytes: more(want.bytes, left.bytes),
                inodes: more(want.inodes, left.inodes),
            }),
            turn,
        };
        ledger.bounds.insert(asker, given);
        given
    }

    /// Asks everybody to give back what is not used, unless that is under way.
    fn begin_recall(&mut self, volume: VolumeId) {
        let ledger = self.ledgers.entry(volume).or_default();
        if ledger.begun > ledger.ended {
            return;
        }
        ledger.begun += 1;
        ledger.since_ns = self.now.mono_ns;
        let turn = self.fresh_turn(volume);
        let own = self.give_back(volume, turn);
        let removing = self.hurry_removals(volume);
        let me = self.cluster.shard;
        let others: Vec<ShardId> = self.cluster.others().collect();
        let ledger = self.ledgers.entry(volume).or_default();
        ledger.bounds.insert(me, own);
        ledger.removing = removing;
        ledger.missing = others.iter().copied().collect();
        let state = self.cluster.version;
        for shard in others {
            let request = PeerRequest::Recall {
                volume,
                turn,
                state,
            };
            self.send_peer(shard, request, &[], Purpose::Recall(volume));
        }
        self.end_recall_if_complete(volume);
    }

    pub(crate) fn wait_for_state(&mut self, task: &mut Task) -> Attempt {
        task.waiting = Waiting::Ring;
        self.ring_waits.push(task.id);
        self.send_now(Action::FetchState);
        Attempt::Parked
    }

    /// The keeper asks for what is not used here.
    pub(crate) fn serve_recall(
        &mut self,
        task: &mut Task,
        volume: VolumeId,
        turn: u64,
        state: u64,
    ) -> Attempt {
        if self.cluster.version < state {
            // Under the state before there may have been no limit.
            return self.wait_for_state(task);
        }
        let Allowance { cap, turn } = self.give_back(volume, turn);
        let removing = self.hurry_removals(volume);
        Attempt::Done(Answer::Peer(PeerReply::Allowed {
            cap,
            turn,
            removing,
        }))
    }

    pub(crate) fn on_recalled(&mut self, volume: VolumeId, shard: ShardId, reply: &PeerReply) {
        let Some(ledger) = self.ledgers.get_mut(&volume) else {
            return;
        };
        if let PeerReply::Allowed {
            cap,
            turn,
            removing,
        } = *reply
        {
            ledger.removing |= removing;
            // A shard that has heard a later turn than ours says so.
            ledger.turn = ledger.turn.max(turn);
            ledger.note(shard, Allowance { cap, turn });
        }
        ledger.missing.remove(&shard);
        self.end_recall_if_complete(volume);
    }

    fn end_recall_if_complete(&mut self, volume: VolumeId) {
        let Some(ledger) = self.ledgers.get_mut(&volume) else {
            return;
        };
        if ledger.missing.is_empty() && ledger.begun > ledger.ended {
            ledger.ended = ledger.begun;
            let waiting = std::mem::take(&mut ledger.waiting);
            self.ready.extend(waiting);
        }
    }

    /// Recalls that some shard does not answer end without it: what it held stays counted.
    pub(super) fn give_up_recalls(&mut self) {
        let now = self.now.mono_ns;
        let over = self
            .ledgers
            .iter()
            .filter(|(_, l)| l.begun > l.ended && now.saturating_sub(l.since_ns) >= RECALL_NS);
        let over: Vec<VolumeId> = over.map(|(volume, _)| *volume).collect();
        for volume in over {
            let asked = |p: Purpose| p == Purpose::Recall(volume);
            self.outstanding.retain(|_, what| !asked(what.purpose));
            if let Some(ledger) = self.ledgers.get_mut(&volume) {
                ledger.missing.clear();
            }
            self.end_recall_if_complete(volume);
        }
    }

    /// A state with other quotas was adopted: everybody has to say anew what it holds.
    pub(super) fn quotas_changed(
        &mut self,
        before: &BTreeMap<VolumeId, Totals>,
        after: &BTreeMap<VolumeId, Totals>,
    ) {
        let all = before.keys().chain(after.keys());
        let changed = all.filter(|v| before.get(v) != after.get(v));
        let changed: BTreeSet<VolumeId> = changed.copied().collect();
        self.void_allowances(&changed);
        for volume in &changed {
            if let Some(ledger) = self.ledgers.get_mut(volume) {
                ledger.bounds.clear();
            }
        }
        let cluster = &self.cluster;
        self.ledgers
            .retain(|volume, _| cluster.volume(*volume).is_some());
        self.quotas
            .retain(|volume| cluster.volume(volume).is_some());
    }
}
