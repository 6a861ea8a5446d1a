//! The steps. Each names the function of `server/src` that it stands for.

use super::shard::{Claim, Entry};
use super::{Kind, Message, Mistake, Phase, Reply, ShardIndex, State, Transactions, Txn};
use std::collections::BTreeSet;

impl State {
    /// `send_peer`: sent now, and again to a receiver that died, until it is answered.
    fn request(&mut self, from: ShardIndex, to: ShardIndex, txn: Txn, kind: Kind) {
        let message = Message {
            to,
            from,
            txn,
            kind,
        };
        self.shards[from].outstanding.insert(message);
        self.network.insert(message);
    }

    fn current(&self, plan: usize) -> Txn {
        Txn {
            plan,
            attempt: self.tasks[plan].attempt,
        }
    }
}

impl Transactions {
    /// The client's request, for the first time or again. `check_slot` answers it if it was decided.
    pub fn send(&self, state: &mut State, plan: usize) {
        let home = self.plans[plan].home;
        let store = state.shards[home].written();
        if store.replies.iter().any(|t| t.plan == plan) {
            state.tasks[plan].phase = Phase::Done;
            return;
        }
        if state.tasks[plan].phase == Phase::Lost {
            return self.again(state, plan);
        }
        self.read(state, plan);
    }

    /// `fetch`, `read_elsewhere`
    fn read(&self, state: &mut State, plan: usize) {
        let task = &mut state.tasks[plan];
        task.phase = Phase::Reading;
        task.answers.clear();
        task.seen.clear();
        let txn = state.current(plan);
        for shard in self.plans[plan].remote() {
            state.request(self.plans[plan].home, shard, txn, Kind::Read);
        }
    }

    /// `restart`: as old as before, under a new number.
    fn again(&self, state: &mut State, plan: usize) {
        let task = &mut state.tasks[plan];
        if task.attempt + 1 < self.attempts {
            task.attempt += 1;
            self.read(state, plan);
        } else {
            task.phase = Phase::Failed;
        }
    }

    /// `release_shared`: gives back every lock, here and elsewhere.
    pub fn abort(&self, state: &mut State, plan: usize, phase: Phase) {
        let txn = state.current(plan);
        let home = self.plans[plan].home;
        state.tasks[plan].phase = phase;
        // `forget_questions`
        let outstanding = &mut state.shards[home].outstanding;
        outstanding.retain(|m| m.txn != txn || matches!(m.kind, Kind::Decide(_)));
        for shard in self.plans[plan].remote() {
            state.request(home, shard, txn, Kind::Decide(false));
        }
        state.shards[home].release(txn);
    }

    pub fn deliver(&self, state: &mut State, message: Message, answered: bool) {
        let reply = match message.kind {
            Kind::Read => self.lock_and_read(state, message),
            Kind::Prepare => self.prepare_here(state, message),
            Kind::Decide(commit) => self.obey(state, message, commit),
        };
        if answered && let Some(reply) = reply {
            self.on_peer_reply(state, message, reply);
        }
    }

    /// `lock_and_read`, `read_locked`
    fn lock_and_read(&self, state: &mut State, message: Message) -> Option<Reply> {
        let shard = &mut state.shards[message.to];
        if shard.settled.contains(&message.txn) && !self.makes(Mistake::TakesGhosts) {
            return Some(Reply::Die);
        }
        shard.participants.entry(message.txn).or_insert(false);
        let claim = if self.makes(Mistake::ReadsUnlocked) {
            Claim::Granted
        } else {
            shard.claim(message.txn)
        };
        match claim {
            Claim::Wait => None,
            Claim::Die => Some(Reply::Die),
            Claim::Granted => Some(Reply::Values(shard.written().history)),
        }
    }

    /// `prepare_here`. A vote that waits for its flush is given when the request comes again.
    fn prepare_here(&self, state: &mut State, message: Message) -> Option<Reply> {
        let txn = message.txn;
        let changes = self.plans[txn.plan].changing().contains(&message.to);
        let shard = &mut state.shards[message.to];
        let Some(prepared) = shard.participants.get(&txn).copied() else {
            return Some(Reply::Die);
        };
        if !prepared {
            if changes && shard.claim(txn) != Claim::Granted {
                return Some(Reply::Die);
            }
            if changes {
                shard.lock = Some((txn, true));
                shard.tail.push(Entry::Prepared(txn));
            }
            shard.participants.insert(txn, true);
        }
        let may_vote = if changes {
            shard.flushed.prepared.contains(&txn) || self.makes(Mistake::VotesUnflushed)
        } else {
            shard.tail.is_empty() || self.makes(Mistake::VotesOnUnflushedReads)
        };
        may_vote.then_some(Reply::Prepared)
    }

    /// `obey`
    fn obey(&self, state: &mut State, message: Message, commit: bool) -> Option<Reply> {
        self.settle(state, message.to, message.txn, commit);
        let tail = &state.shards[message.to].tail;
        let durable = !tail.contains(&Entry::Settled(message.txn, true));
        let may_say = !commit || durable || self.makes(Mistake::AcknowledgesUnflushed);
        may_say.then_some(Reply::Acknowledged)
    }

    /// `settle`
    fn settle(&self, state: &mut State, at: ShardIndex, txn: Txn, commit: bool) {
        let changes = self.plans[txn.plan].changing().contains(&at);
        let shard = &mut state.shards[at];
        shard.settled.insert(txn);
        if let Some(prepared) = shard.participants.remove(&txn) {
            if changes && prepared {
                shard.tail.push(Entry::Settled(txn, commit));
            }
            shard.release(txn);
        }
    }

    /// `ask_outcomes` here, `outcome_of` there, `on_outcome` here again.
    pub fn ask(&self, state: &mut State, at: ShardIndex, txn: Txn) {
        let home = self.plans[txn.plan].home;
        let task = &state.tasks[txn.plan];
        let under_way = task.attempt == txn.attempt
            && match task.phase {
                Phase::Reading | Phase::Voting => true,
                Phase::Decided => !self.makes(Mistake::TellsUnflushed),
                _ => false,
            };
        if !under_way {
            let commit = state.shards[home].coordinated.contains_key(&txn);
            self.settle(state, at, txn, commit);
        }
    }

    /// An answer to a question that nobody asks any more is dropped.
    fn on_peer_reply(&self, state: &mut State, question: Message, reply: Reply) {
        if !state.shards[question.from].outstanding.remove(&question) {
            return;
        }
        if reply == Reply::Acknowledged {
            return self.on_decided(state, question);
        }
        let task = &mut state.tasks[question.txn.plan];
        task.answers.insert(question.to, reply != Reply::Die);
        if let Reply::Values(seen) = reply {
            task.seen.insert(question.to, seen);
        }
        self.one_answer_less(state, question);
    }

    /// `on_read`, `on_vote`: with the last answer it goes on, or gives way if one was a refusal.
    fn one_answer_less(&self, state: &mut State, question: Message) {
        let plan = question.txn.plan;
        let task = &state.tasks[plan];
        if task.answers.len() < self.plans[plan].remote().len() {
            return;
        }
        if task.answers.values().any(|yes| !yes) {
            self.abort(state, plan, Phase::Reading);
            self.again(state, plan);
        } else if question.kind == Kind::Prepare {
            self.decide(state, plan);
        }
    }

    /// `prepare`: `claim_local`, then the votes are asked for.
    pub fn proceed(&self, state: &mut State, plan: usize) {
        let txn = state.current(plan);
        let remote = self.plans[plan].remote();
        let home = self.plans[plan].home;
        if state.tasks[plan].answers.len() < remote.len() {
            return;
        }
        if self.plans[plan].touches_home() {
            match state.shards[home].claim(txn) {
                Claim::Wait => return,
                Claim::Die => {
                    self.abort(state, plan, Phase::Reading);
                    return self.again(state, plan);
                }
                Claim::Granted => {
                    let seen = state.shards[home].written().history;
                    state.tasks[plan].seen.insert(home, seen);
                }
            }
        }
        if self.plans[plan].writes.contains(&home) {
            state.shards[home].lock = Some((txn, true));
        }
        state.tasks[plan].phase = Phase::Voting;
        state.tasks[plan].answers.clear();
        for shard in &remote {
            state.request(home, *shard, txn, Kind::Prepare);
        }
        if remote.is_empty() {
            self.decide(state, plan);
        }
    }

    /// `decide`: own change, decision and reply in one entry.
    fn decide(&self, state: &mut State, plan: usize) {
        let txn = state.current(plan);
        let home = self.plans[plan].home;
        let participants = self.plans[plan].changing();
        let shard = &mut state.shards[home];
        shard.tail.push(Entry::Decided {
            txn,
            changes: self.plans[plan].writes.contains(&home),
            participants: participants.clone(),
        });
        shard.release(txn);
        if !participants.is_empty() {
            shard.coordinated.insert(txn, participants);
        }
        state.tasks[plan].phase = Phase::Decided;
        let seen = state.tasks[plan].seen.clone();
        state.decided.insert(txn, seen);
    }

    /// The flush ends, and with it the wait of a decision (`release_flushed`).
    pub fn flush(&self, state: &mut State, at: ShardIndex) {
        let shard = &mut state.shards[at];
        shard.flushed = shard.written();
        shard.tail.clear();
        for plan in 0..self.plans.len() {
            let decided = state.tasks[plan].phase == Phase::Decided;
            if decided && self.plans[plan].home == at {
                self.tell_decision(state, plan);
            }
        }
    }

    /// `tell_decision`: the participants, and the client.
    fn tell_decision(&self, state: &mut State, plan: usize) {
        let txn = state.current(plan);
        state.tasks[plan].phase = Phase::Done;
        for shard in self.plans[plan].remote() {
            state.request(self.plans[plan].home, shard, txn, Kind::Decide(true));
        }
    }

    /// `on_decided`, `forget_txn`
    fn on_decided(&self, state: &mut State, message: Message) {
        let Message { txn, from, to, .. } = message;
        let shard = &mut state.shards[from];
        let Some(open) = shard.coordinated.get_mut(&txn) else {
            return;
        };
        open.remove(&to);
        if open.is_empty() || self.makes(Mistake::ForgetsEarly) {
            shard.coordinated.remove(&txn);
            shard.tail.push(Entry::Forgotten(txn));
        }
    }

    pub fn crash(&self, state: &mut State, at: ShardIndex, keep: usize) {
        state.crashes += 1;
        let mut shard = state.shards[at].restarted(keep);
        if self.makes(Mistake::DecidesAlone) {
            let dropped: BTreeSet<Txn> = shard.participants.keys().copied().collect();
            shard
                .tail
                .extend(dropped.iter().map(|t| Entry::Settled(*t, false)));
            shard.participants.clear();
            shard.lock = None;
        }
        state.shards[at] = shard;
        for (plan, task) in state.tasks.iter_mut().enumerate() {
            let busy = matches!(task.phase, Phase::Reading | Phase::Voting | Phase::Decided);
            if self.plans[plan].home == at && busy {
                task.phase = Phase::Lost;
            }
        }
        // `repeat_decisions`
        for (txn, open) in state.shards[at].coordinated.clone() {
            for shard in open {
                state.request(at, shard, txn, Kind::Decide(true));
            }
        }
        // `on_peer_up` on the others: what was on the way to it is lost, what is unanswered comes again.
        state.network.retain(|m| m.to != at);
        let unanswered = state.shards.iter().flat_map(|s| s.outstanding.iter());
        let again: Vec<Message> = unanswered.filter(|m| m.to == at).copied().collect();
        state.network.extend(again);
    }

    /// Copies that can change nothing any more are left out, to keep the number of states down: of a
    /// request that was answered, what its receiver remembers makes every further copy void.
    pub fn forget_old_copies(&self, state: &mut State) {
        if self.makes(Mistake::TakesGhosts) {
            return;
        }
        let shards = &state.shards;
        state.network.retain(|m| {
            let receiver = &shards[m.to];
            let void = receiver.settled.contains(&m.txn)
                || match m.kind {
                    Kind::Read => receiver.lock.is_some_and(|(txn, _)| txn == m.txn),
                    Kind::Prepare => receiver.participants.get(&m.txn) == Some(&true),
                    Kind::Decide(_) => false,
                };
            !void || shards[m.from].outstanding.contains(m)
        });
    }
}
