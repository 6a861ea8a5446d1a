//! Circles of processes that wait for each other's record locks, over several shards.
//!
//! A circle on one shard is seen when the wait that closes it begins (`flock`). For all others a
//! shard whose waits have lasted for a while asks the others whom those wait for who are in the way,
//! again and again until no new process is named, and looks for circles in what it has gathered
//! (`circles`). One search serves all waits that have begun since the last; a lock that is granted at
//! once, or soon, costs nothing.
//!
//! What must stay true:
//! - No circle is missed: a circle stays, so that the search for the wait that began last sees all
//!   of it. A wait is settled only by a search that began after it and was answered by all.
//! - No circle is seen that is none: what was gathered is gathered once more, and only waits that
//!   stood both times, for the same processes, count. A process that waits gives nothing back.
//! - One wait of a circle is ended, the one that closed it: the latest of those that are not
//!   settled. Its own shard ends it, unless it is settled by then, so that searches of several
//!   shards that see the same circle end the same wait.
//! - A restart of a shard changes nothing in who waits for whom: those whose waits it has forgotten
//!   ask again, and then all of a circle count, by the time at which they began first.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::circles::{Graph, both, closed_circle, last_of};
use super::flock::Waiter;
use super::peers::{Outstanding, Purpose};
use super::task::{TaskId, Waiting};
use super::{Core, World};
use sealfs_protocol::peer::{LockWait, LockWaitId, PeerReply, PeerRequest};
use sealfs_protocol::{ClientId, Errno, ShardId};

const MS: u64 = 1_000_000;
/// Most waits are over by then, and are not worth a search, in ns.
const DELAY_NS: u64 = 2 * MS;
/// Between the end of a search and the next, in ns.
const PAUSE_NS: u64 = 10 * MS;
/// A shard that has not answered by then is left out, in ns. Its waits begin anew if it was
/// restarted; but it may have been cut off only, so that the search is repeated.
const SILENCE_NS: u64 = 1_000 * MS;
/// Waits that one search is for.
const COVERED_MAX: usize = 1_024;
/// Processes that one search asks for.
const ASKED_MAX: usize = 4_096;
/// Processes named in one answer.
const NAMED_MAX: usize = 16_384;

#[derive(Default)]
pub(crate) struct Search {
    /// When the next begins, if nothing is under way.
    due_ns: Option<u64>,
    /// And not before.
    rest_until_ns: u64,
    now: Under,
}

/// What is under way.
#[derive(Default)]
enum Under {
    #[default]
    Nothing,
    Gathering(Gathering),
    /// A wait is to be ended.
    Breaking,
}

#[derive(Default)]
struct Gathering {
    /// What was gathered the first time, if this is the second.
    before: Option<Graph>,
    graph: Graph,
    /// Waits that stood before anybody was asked: number, and when they were not settled.
    covered: Vec<(u64, u64)>,
    asked: BTreeSet<ClientId>,
    /// Answers that have not come.
    pending: usize,
    /// Somebody did not answer.
    incomplete: bool,
}

impl Search {
    pub fn due_ns(&self) -> Option<u64> {
        match self.now {
            Under::Nothing => self.due_ns,
            _ => None,
        }
    }
}

impl<W: World> Core<W> {
    /// A process has begun to wait, or waits for somebody else than before.
    pub(crate) fn search_soon(&mut self, resumed: bool) {
        if !resumed && self.cluster.others().next().is_none() {
            return;
        }
        let at = self.now.mono_ns + DELAY_NS;
        let at = at.max(self.search.rest_until_ns);
        self.search.due_ns = Some(self.search.due_ns.map_or(at, |due| due.min(at)));
    }

    /// A circle was broken, or is none any more: look what is left.
    pub(crate) fn search_again(&mut self) {
        self.search.now = Under::Nothing;
        self.search.due_ns = Some(self.now.mono_ns);
    }

    pub(crate) fn search_if_due(&mut self) {
        if self
            .search
            .due_ns()
            .is_some_and(|at| at <= self.now.mono_ns)
        {
            self.search.due_ns = None;
            self.gather(None);
        }
    }

    /// Begins to gather for all waits here that are not settled.
    fn gather(&mut self, before: Option<Gathering>) {
        let mut gathering = Gathering::default();
        let mut first = BTreeSet::new();
        let unsettled = self.file_locks.waits();
        let unsettled = unsettled.filter_map(|(n, client, w)| Some((n, client, w, w.unsettled?)));
        let mut unsettled: Vec<_> = unsettled.collect();
        // The latest are those that may have closed something.
        unsettled.drain(..unsettled.len().saturating_sub(COVERED_MAX));
        for (number, client, waiter, since) in unsettled {
            gathering.covered.push((number, since));
            let wait = self.on_the_wire(number, client, waiter);
            first.extend(&wait.blockers);
            gathering.graph.insert(wait.id, wait);
        }
        if let Some(before) = before {
            gathering.incomplete = before.incomplete;
            gathering.before = Some(before.graph);
        }
        if gathering.covered.is_empty() {
            return;
        }
        self.counters.lock_searches += 1;
        self.ask_for(gathering, first);
    }

    /// Asks everybody whom these processes wait for.
    fn ask_for(&mut self, mut gathering: Gathering, clients: BTreeSet<ClientId>) {
        let room = ASKED_MAX.saturating_sub(gathering.asked.len());
        let clients: Vec<ClientId> = clients.into_iter().take(room).collect();
        if clients.is_empty() {
            return self.gathered(gathering);
        }
        gathering.asked.extend(&clients);
        for wait in self.waits_from(&clients) {
            gathering.graph.insert(wait.id, wait);
        }
        let others: Vec<ShardId> = self.cluster.others().collect();
        gathering.pending = others.len();
        self.search.now = Under::Gathering(gathering);
        if others.is_empty() {
            return self.all_answered();
        }
        for shard in others {
            let clients = clients.clone();
            let question = PeerRequest::LockWaits { clients };
            self.send_peer(shard, question, &[], Purpose::LockWaits);
        }
    }

    pub(crate) fn on_lock_waits(&mut self, reply: PeerReply) {
        let Under::Gathering(gathering) = &mut self.search.now else {
            return;
        };
        match reply {
            PeerReply::LockWaits(waits) => {
                gathering.graph.extend(waits.into_iter().map(|w| (w.id, w)));
            }
            _ => gathering.incomplete = true,
        }
        gathering.pending = gathering.pending.saturating_sub(1);
        if gathering.pending == 0 {
            self.all_answered();
        }
    }

    /// Everybody has answered, or is left out: whoever was named is asked for in turn.
    fn all_answered(&mut self) {
        if let Under::Gathering(gathering) = std::mem::take(&mut self.search.now) {
            let named = gathering.graph.values().flat_map(|w| &w.blockers);
            let named = named.filter(|c| !gathering.asked.contains(c)).copied();
            let named = named.collect();
            self.ask_for(gathering, named);
        }
    }

    /// No new process is named.
    fn gathered(&mut self, gathering: Gathering) {
        let me = self.cluster.shard;
        let circle = match &gathering.before {
            None => closed_circle(&gathering.graph, &gathering.covered, me),
            Some(before) => {
                let stood = both(before, &gathering.graph);
                closed_circle(&stood, &gathering.covered, me)
            }
        };
        match circle {
            Some(_) if gathering.before.is_none() => self.gather(Some(gathering)),
            Some(circle) => match last_of(&circle) {
                Some((wait, though_settled)) => self.break_circle(wait, though_settled),
                None => self.search_again(),
            },
            None => self.end_search(&gathering),
        }
    }

    fn end_search(&mut self, gathering: &Gathering) {
        let rest = if gathering.incomplete {
            SILENCE_NS
        } else {
            for (number, since) in &gathering.covered {
                self.file_locks.settle(*number, *since);
            }
            PAUSE_NS
        };
        self.search.rest_until_ns = self.now.mono_ns + rest;
        let mut waits = self.file_locks.waits();
        let more = waits.any(|(_, _, w)| w.unsettled.is_some());
        self.search.due_ns = more.then_some(self.search.rest_until_ns);
    }

    fn break_circle(&mut self, wait: LockWaitId, though_settled: bool) {
        log::debug!("a circle of lock waits is broken at {wait:?}");
        if wait.shard == self.cluster.shard {
            self.break_lock_wait(wait, though_settled);
            return self.search_again();
        }
        self.search.now = Under::Breaking;
        let request = PeerRequest::BreakLockWait {
            wait,
            though_settled,
        };
        self.send_peer(wait.shard, request, &[], Purpose::BreakLockWait);
    }

    /// Shards that do not answer are left out, and asked again after a pause.
    pub(crate) fn give_up_lock_questions(&mut self) {
        let ours = |p: Purpose| matches!(p, Purpose::LockWaits | Purpose::BreakLockWait);
        let now = self.now.mono_ns;
        let over = |o: &Outstanding| ours(o.purpose) && now - o.first_ns.min(now) >= SILENCE_NS;
        if !self.outstanding.values().any(over) {
            return;
        }
        self.outstanding.retain(|_, o| !ours(o.purpose));
        match &mut self.search.now {
            Under::Gathering(gathering) => {
                gathering.incomplete = true;
                self.all_answered();
            }
            Under::Breaking => {
                self.search.now = Under::Nothing;
                self.search.due_ns = Some(now + SILENCE_NS);
            }
            Under::Nothing => {}
        }
    }

    // ---- what is asked of this shard ------------------------------------------------------------

    pub(crate) fn lock_waits(&self, clients: &[ClientId]) -> PeerReply {
        PeerReply::LockWaits(self.waits_from(clients))
    }

    fn on_the_wire(&self, number: u64, client: ClientId, waiter: &Waiter) -> LockWait {
        LockWait {
            id: LockWaitId {
                begun_ns: waiter.begun.ns,
                shard: self.cluster.shard,
                number,
            },
            client,
            blockers: waiter.blockers.clone(),
            settled: waiter.unsettled.is_none(),
            resumed: waiter.begun.resumed,
        }
    }

    /// The waits here of these processes, and of those in their way.
    fn waits_from(&self, clients: &[ClientId]) -> Vec<LockWait> {
        let mut by_client: HashMap<ClientId, Vec<(u64, &Waiter)>> = HashMap::new();
        for (number, client, waiter) in self.file_locks.waits() {
            by_client.entry(client).or_default().push((number, waiter));
        }
        let mut found = Vec::new();
        let mut named = 0;
        let mut todo: VecDeque<ClientId> = clients.iter().copied().collect();
        while let Some(client) = todo.pop_front() {
            for (number, waiter) in by_client.remove(&client).unwrap_or_default() {
                named += waiter.blockers.len();
                if named > NAMED_MAX {
                    return found;
                }
                todo.extend(&waiter.blockers);
                found.push(self.on_the_wire(number, client, waiter));
            }
        }
        found
    }

    pub(crate) fn break_lock_wait(&mut self, wait: LockWaitId, though_settled: bool) -> PeerReply {
        let waiter = self.file_locks.waiter(wait.number);
        let waiter = waiter.filter(|w| w.begun.ns == wait.begun_ns);
        let waiter = waiter.filter(|w| though_settled || w.unsettled.is_some());
        match waiter.map(|w| w.task) {
            Some(task) if self.end_lock_wait(task, Errno::EDEADLK) => PeerReply::Acknowledged,
            _ => PeerReply::Failed(Errno::ESRCH),
        }
    }

    /// Ends a wait for a file lock with an error, if it is one.
    pub(crate) fn end_lock_wait(&mut self, id: TaskId, errno: Errno) -> bool {
        match self.tasks.get_mut(&id) {
            Some(task)
                if matches!(task.waiting, Waiting::FileLock(_) | Waiting::Grace)
                    && task.held.is_none() =>
            {
                task.held = Some(Self::errno_answer(errno));
                self.ready.push_back(id);
                true
            }
            _ => false,
        }
    }
}
