//! The two-phase commit over shards (`server/src/txn`, docs/decisions/0002).
//!
//! Every shard has one key. A plan is an operation: a home that coordinates, keys elsewhere that it
//! locks and reads, keys that it changes. The value of a key is the list of the changes made to it,
//! so that a change lost, doubled or made on a stale value shows.
//!
//! The network is the worst that the rules allow: a message that was sent may arrive at any time
//! later, any number of times, or never, and each of its answers may be lost; only the death of its
//! receiver takes it away, as the connection breaks. A shard dies with any part of its unflushed tail and is there again at once (a
//! shard that is away is one that takes no step).

mod judge;
mod plans;
mod rules;
mod shard;

use self::shard::{Shard, Store};
use stateright::{Model, Property};
use std::collections::{BTreeMap, BTreeSet};

pub type ShardIndex = usize;

/// One run of a plan. A plan that lost against an older one runs again under a new number and the
/// old age (`txn_of`, `restart`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Txn {
    pub plan: usize,
    pub attempt: u8,
}

/// An operation. Plans are in the order of their age.
#[derive(Clone, Debug)]
pub struct Plan {
    pub home: ShardIndex,
    pub reads: &'static [ShardIndex],
    pub writes: &'static [ShardIndex],
}

impl Plan {
    /// Shards whose locks it needs besides its home's.
    pub fn remote(&self) -> BTreeSet<ShardIndex> {
        let all = self.reads.iter().chain(self.writes).copied();
        all.filter(|s| *s != self.home).collect()
    }

    pub fn touches_home(&self) -> bool {
        self.reads.contains(&self.home) || self.writes.contains(&self.home)
    }

    /// Shards elsewhere that change (`Shared::changing`).
    pub fn changing(&self) -> BTreeSet<ShardIndex> {
        let all = self.writes.iter().copied();
        all.filter(|s| *s != self.home).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    Read,
    Prepare,
    Decide(bool),
}

/// Answers travel with their request's delivery, or are lost: then the request comes again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The value read: the changes it had.
    Values(Vec<Txn>),
    Die,
    Prepared,
    Acknowledged,
}

/// A request of one shard to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Message {
    pub to: ShardIndex,
    pub from: ShardIndex,
    pub txn: Txn,
    pub kind: Kind,
}

/// Where a plan stands (`core::task::Waiting`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    Idle,
    /// Waits for what it reads elsewhere, then for its own key.
    Reading,
    Voting,
    /// Its decision is in the log and not flushed (`Shared::decided`).
    Decided,
    /// Its home died; the client will send it again.
    Lost,
    /// The client has its reply.
    Done,
    Failed,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Task {
    pub attempt: u8,
    pub phase: Phase,
    /// Who has answered, and whether with a yes.
    pub answers: BTreeMap<ShardIndex, bool>,
    /// What it read.
    pub seen: BTreeMap<ShardIndex, Vec<Txn>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub shards: Vec<Shard>,
    pub tasks: Vec<Task>,
    /// Requests that may still arrive.
    pub network: BTreeSet<Message>,
    pub crashes: u8,
    pub gave_up: u8,
    /// What every decided run had read, for the judge.
    pub decided: BTreeMap<Txn, BTreeMap<ShardIndex, Vec<Txn>>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The client sends its request, or sends it again.
    Send(usize),
    /// A request arrives; whether its answer does.
    Deliver(Message, bool),
    /// A task that waits for a key of its own shard looks again (`run_ready`).
    Proceed(usize),
    Flush(ShardIndex),
    /// A participant asks what became of a transaction, and is told (`ask_outcomes`). One step: an
    /// answer is never another one later, so how long it travels does not matter.
    Ask(ShardIndex, Txn),
    /// The caller's deadline has passed (`give_up`).
    GiveUp(usize),
    /// A shard dies; so many entries of its unflushed tail survive.
    Crash(ShardIndex, usize),
}

/// Rules that can be broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mistake {
    /// A vote leaves before its record is flushed.
    VotesUnflushed,
    /// A participant that asks is told of a decision that is not flushed.
    TellsUnflushed,
    /// A decision is acknowledged before its effects are flushed.
    AcknowledgesUnflushed,
    /// The first acknowledgement makes the coordinator forget.
    ForgetsEarly,
    /// A restarted participant drops what it had prepared.
    DecidesAlone,
    /// Copies of requests of a transaction that is over are taken for a new one.
    TakesGhosts,
    /// Reading locks nothing.
    ReadsUnlocked,
    /// A vote on what was only read does not wait until that is flushed.
    VotesOnUnflushedReads,
}

pub struct Transactions {
    pub plans: Vec<Plan>,
    pub shards: usize,
    pub attempts: u8,
    pub crashes: u8,
    /// Calls whose deadline passes.
    pub give_ups: u8,
    pub mistake: Option<Mistake>,
}

impl Transactions {
    pub fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Nothing but deaths, new requests' deadlines and time can follow.
    fn is_quiet(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let goes_on = |a: &Action| !matches!(a, Action::Crash(..) | Action::GiveUp(_));
        let mut left = actions.into_iter().filter(goes_on);
        left.all(|action| self.next_state(state, action).is_none())
    }

    fn stores(state: &State) -> Vec<Store> {
        state.shards.iter().map(Shard::written).collect()
    }
}

impl Model for Transactions {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let idle = Task {
            attempt: 0,
            phase: Phase::Idle,
            answers: BTreeMap::new(),
            seen: BTreeMap::new(),
        };
        vec![State {
            shards: vec![Shard::default(); self.shards],
            tasks: vec![idle; self.plans.len()],
            network: BTreeSet::new(),
            crashes: 0,
            gave_up: 0,
            decided: BTreeMap::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(
            state
                .network
                .iter()
                .flat_map(|m| [Action::Deliver(*m, true), Action::Deliver(*m, false)]),
        );
        for (plan, task) in state.tasks.iter().enumerate() {
            match task.phase {
                Phase::Idle | Phase::Lost => actions.push(Action::Send(plan)),
                Phase::Reading => actions.push(Action::Proceed(plan)),
                Phase::Voting | Phase::Decided | Phase::Done | Phase::Failed => {}
            }
            let waits = matches!(task.phase, Phase::Reading | Phase::Voting);
            if waits && state.gave_up < self.give_ups {
                actions.push(Action::GiveUp(plan));
            }
        }
        for (index, shard) in state.shards.iter().enumerate() {
            if shard.wants_flush() {
                actions.push(Action::Flush(index));
            }
            actions.extend(shard.participants.keys().map(|t| Action::Ask(index, *t)));
            if state.crashes < self.crashes {
                actions.extend((0..=shard.tail.len()).map(|keep| Action::Crash(index, keep)));
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Send(plan) => self.send(&mut state, plan),
            Action::Deliver(message, answered) => self.deliver(&mut state, message, answered),
            Action::Proceed(plan) => self.proceed(&mut state, plan),
            Action::Flush(shard) => self.flush(&mut state, shard),
            Action::Ask(shard, txn) => self.ask(&mut state, shard, txn),
            Action::GiveUp(plan) => {
                state.gave_up += 1;
                self.abort(&mut state, plan, Phase::Failed);
            }
            Action::Crash(shard, keep) => self.crash(&mut state, shard, keep),
        }
        self.forget_old_copies(&mut state);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(WHOLE, |model: &Self, state| {
                !model.is_quiet(state) || judge::is_whole(model, state)
            }),
            Property::always(ONCE, |_, state| judge::is_once(state)),
            Property::always(ALONE, judge::nobody_decides_alone),
            Property::always(KEPT, |model: &Self, state| {
                !model.is_quiet(state) || judge::is_kept(model, state)
            }),
            Property::always(SERIAL, |model: &Self, state| {
                !model.is_quiet(state) || judge::is_serial(model, state)
            }),
            Property::always(FREE, |model: &Self, state| {
                !model.is_quiet(state) || judge::is_free(state)
            }),
            Property::sometimes("all plans are done", |_, state: &State| {
                state.tasks.iter().all(|t| t.phase == Phase::Done)
            }),
            Property::sometimes("a plan fails and another is done", |_, state: &State| {
                let mut tasks = state.tasks.iter();
                let failed = tasks.clone().any(|t| t.phase == Phase::Failed);
                failed && tasks.any(|t| t.phase == Phase::Done)
            }),
        ]
    }
}

const WHOLE: &str = "a change takes place on all its shards or on none";
const ONCE: &str = "a change takes place once";
const ALONE: &str = "no participant decides alone";
const KEPT: &str = "what was answered is never lost";
const SERIAL: &str =
    "there is an order in which one after the other would have read and left the same";
const FREE: &str = "when all servers are there nobody stays blocked";
