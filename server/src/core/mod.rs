//! The shard as a deterministic state machine: `step(event, now) -> actions`.
//!
//! A request's story: `frames` decodes it into a [`Task`], `run` executes its operations over a
//! [`View`] (the operations themselves are in `ops`), `commit` puts what they change into one log
//! entry with the reply of the request slot, and [`Core::finish_batch`] writes the log once for all
//! frames of a batch before the replies leave. A task that has to wait is kept and run again.
//! Changes over several shards go through `txn`. Nothing in here reads a clock, blocks or starts a
//! thread, so the simulator runs the very code that the server runs.

mod access;
pub(crate) mod attempt;
mod changes;
mod circles;
mod cluster;
mod commit;
mod control;
mod deadlock;
mod ends;
pub mod event;
pub mod flock;
mod frames;
mod grace;
mod hello;
mod homes;
mod ledger;
pub mod lock_ranges;
pub mod locks;
mod opens;
pub(crate) mod peers;
pub(crate) mod quota;
mod recover;
pub(crate) mod remembered;
mod replies;
mod run;
mod serve;
mod sessions;
mod slots;
pub mod task;
mod tick;
mod usage;
mod versions;
mod view;
mod view_chunks;
mod view_inodes;
mod view_shards;
mod wipe;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use access::AccessTimes;
pub use changes::MemoryChange;
pub use cluster::Cluster;
use ends::Ends;
pub use event::{Action, ConnId, Event, Fault, Halt, Now, OpResult, World};
pub use flock::FileLocks;
pub use opens::Opens;
pub use task::{Ended, Job, Reservation};
pub use versions::Versions;
pub use view::View;

use crate::meta::{Db, Key, LogIndex, Meta};
use crate::txn::{Coordinated, Participant};
pub(crate) use changes::{Changes, Value, Write};
pub(crate) use commit::Next;
use hello::WaitingHello;
use locks::KeyLocks;
use peers::Outstanding;
use remembered::Remembered;
use sealfs_protocol::manager::{ClusterState, Usage};
use sealfs_protocol::{
    ClientId, ClusterId, Incarnation, InodeId, Sequence, ShardId, TxnId, VolumeId,
};
use sessions::Sessions;
use slots::Slots;
use task::{Task, TaskId};

/// What a mutating operation may add to the log besides its payload, in bytes; asked for before it
/// runs.
const ROOM_BYTES: usize = 64 << 10;

/// Numbers of interest to whoever looks after the server.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counters {
    pub requests: u64,
    pub malformed: u64,
    pub replayed: u64,
    pub transactions: u64,
    pub died: u64,
    /// Times that other shards were asked for circles of lock waits.
    pub lock_searches: u64,
}

pub struct Core<W: World> {
    pub(crate) meta: Meta<W::Kv, W::Device>,
    pub(crate) cluster: Cluster,
    pub(crate) opens: Opens,
    pub(super) access: AccessTimes,
    pub(crate) file_locks: FileLocks,
    pub(crate) versions: Versions,
    pub(crate) locks: KeyLocks,
    pub(crate) slots: Slots,
    pub(crate) sessions: Sessions,
    pub(crate) quotas: quota::Quotas,
    /// Of the volumes whose roots this shard owns.
    pub(crate) ledgers: BTreeMap<VolumeId, ledger::Ledger>,

    pub(crate) tasks: HashMap<TaskId, Task>,
    pub(crate) next_task: TaskId,
    /// Tasks to run again, in order.
    pub(crate) ready: VecDeque<TaskId>,
    /// Work to begin.
    pub(crate) jobs: VecDeque<Job>,
    /// Requests that wait, by client, slot and sequence.
    pub(crate) in_flight: BTreeMap<(ClientId, u16, Sequence), TaskId>,
    /// Replies and tasks that wait for a flush, by the log entry that it must cover.
    pub(crate) flush_waits: BTreeMap<LogIndex, Vec<FlushWait<W>>>,
    pub(crate) flush_wanted: bool,
    /// Points of time at which a task runs again.
    pub(crate) timers: BTreeSet<(u64, TaskId)>,
    pub(crate) room_waits: Vec<TaskId>,
    pub(crate) ring_waits: Vec<TaskId>,
    /// Copies that wait until others have got the bytes they asked for.
    pub(crate) span_waits: Vec<TaskId>,
    pub(crate) hellos: Vec<WaitingHello>,
    /// The last entry appended.
    pub(crate) last_index: LogIndex,

    /// Requests to other shards that were not answered yet, by tag.
    pub(crate) outstanding: BTreeMap<u64, Outstanding>,
    pub(crate) next_tag: u64,
    /// Transactions that this shard has decided to commit.
    pub(crate) coordinated: BTreeMap<TxnId, Coordinated>,
    /// Transactions of other shards that hold locks here.
    pub(crate) participants: BTreeMap<TxnId, Participant>,
    /// Those of them that are over: late copies of their requests lock and apply nothing.
    pub(crate) settled: Remembered<TxnId>,
    pub(crate) next_txn: u64,

    /// Circles of processes that wait for record locks of several shards.
    pub(crate) search: deadlock::Search,

    pub(crate) ends: Ends,
    /// Inodes without names.
    pub(crate) orphans: BTreeSet<InodeId>,
    /// After a restart, until everybody has told what is open: no orphan is collected.
    pub(crate) grace: Option<grace::Grace>,
    /// What of this shard's log was lost last, for whoever tells of locks.
    pub(crate) lost_after: Option<LogIndex>,
    pub(crate) wipe: Option<wipe::Progress>,
    pub(crate) wiped: BTreeSet<VolumeId>,
    pub(crate) pushed_ns: u64,
    pub(crate) kept_house_ns: u64,
    pub(crate) started: bool,
    pub(crate) counters: Counters,
    pub(crate) now: Now,
    pub(crate) actions: Vec<Action<W>>,
}

/// What waits for a flush.
pub(crate) enum FlushWait<W: World> {
    Task(TaskId),
    /// The end of a session, which the other shards hear of once it cannot be lost.
    End(Ended),
    Action(Box<Action<W>>),
}

impl<W: World> Core<W> {
    /// A core over an opened store. It serves once it has adopted a state.
    pub fn new(meta: Meta<W::Kv, W::Device>, cluster: ClusterId, shard: ShardId) -> Core<W> {
        let ends = Ends::new(meta.first_sequence());
        let mut core = Core {
            meta,
            cluster: Cluster::new(cluster, shard),
            opens: Opens::default(),
            access: AccessTimes::default(),
            file_locks: FileLocks::default(),
            versions: Versions::default(),
            locks: KeyLocks::default(),
            slots: Slots::default(),
            sessions: Sessions::default(),
            quotas: quota::Quotas::default(),
            ledgers: BTreeMap::new(),
            tasks: HashMap::new(),
            next_task: 1,
            ready: VecDeque::new(),
            jobs: VecDeque::new(),
            in_flight: BTreeMap::new(),
            flush_waits: BTreeMap::new(),
            flush_wanted: false,
            timers: BTreeSet::new(),
            room_waits: Vec::new(),
            ring_waits: Vec::new(),
            span_waits: Vec::new(),
            hellos: Vec::new(),
            last_index: LogIndex(0),
            outstanding: BTreeMap::new(),
            next_tag: 1,
            coordinated: BTreeMap::new(),
            participants: BTreeMap::new(),
            settled: Remembered::default(),
            next_txn: 0,
            search: deadlock::Search::default(),
            ends,
            orphans: BTreeSet::new(),
            grace: None,
            lost_after: None,
            wipe: None,
            wiped: BTreeSet::new(),
            pushed_ns: 0,
            kept_house_ns: 0,
            started: false,
            counters: Counters::default(),
            now: Now::default(),
            actions: Vec::new(),
        };
        core.recover();
        core
    }

    /// Directories are split when they have so many names.
    pub fn splitting_at(mut self, entries: u64) -> Core<W> {
        self.cluster.split_entries = entries;
        self
    }

    /// Takes one event. Actions are appended; replies among them may be sent only after the next
    /// [`Core::finish_batch`].
    pub fn step(&mut self, event: Event<'_>, now: Now, actions: &mut Vec<Action<W>>) {
        self.now = now;
        self.actions.append(actions);
        match event {
            Event::Frame {
                conn,
                header,
                body,
                payload,
            } => self.on_frame(conn, header, body, payload),
            Event::PeerReply {
                from,
                header,
                body,
                payload,
            } => self.on_peer_reply(from, header.tag, body, payload),
            Event::PeerUp(shard) => self.on_peer_up(shard),
            Event::Disconnected(conn) => self.disconnected(conn),
            Event::State(state) => self.on_state(state),
            Event::FlushDone(done) => self.on_flush_done(done),
            Event::CommitDone(done) => self.on_commit_done(done),
            Event::Tick => self.on_tick(),
        }
        self.run_ready();
        std::mem::swap(&mut self.actions, actions);
    }

    /// Ends a batch: everything that was changed is written to the log, the acknowledgement point;
    /// flushes and commits that are due begin.
    pub fn finish_batch(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        self.now = now;
        self.actions.append(actions);
        if let Err(error) = self.meta.write_out() {
            self.on_store_failure(&error);
        }
        self.begin_jobs();
        std::mem::swap(&mut self.actions, actions);
    }

    /// When the core wants a [`Event::Tick`] at the latest.
    pub fn next_wake_ns(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let wipe = self.kept_house_ns + tick::HOUSEKEEPING_NS;
        let wipe = self.wipe.is_some().then_some(wipe);
        let search = self.search.due_ns();
        timer.into_iter().chain(wipe).chain(search).min()
    }

    pub fn usage(&self) -> Usage {
        let space = self.meta.store().space();
        let free = space.free_bytes + space.pending_bytes;
        Usage {
            size_bytes: space.total_bytes,
            used_bytes: space.total_bytes.saturating_sub(free),
            inodes: self.meta.usages().map(|(_, t)| t.inodes).sum(),
        }
    }

    /// Version of the published state that this shard works by.
    pub fn state_version(&self) -> u64 {
        self.cluster.version
    }

    pub fn incarnation(&self) -> Incarnation {
        self.meta.incarnation()
    }

    /// Whether a peer has said Hello over this connection and not broken the rules since.
    pub fn knows_connection(&self, conn: ConnId) -> bool {
        self.sessions.connection(conn).is_some()
    }

    /// The last entry of the log.
    pub fn last_index(&self) -> LogIndex {
        self.last_index
    }

    /// Everything appended is durable.
    pub fn is_flushed(&self) -> bool {
        self.last_index <= self.meta.flushed()
    }

    /// Nothing is under way: no task waits, no lock is held, no request is unanswered.
    pub fn is_idle(&self) -> bool {
        let pushes = |o: &Outstanding| o.purpose == peers::Purpose::Push;
        self.tasks.is_empty()
            && self.locks.is_empty()
            && self.outstanding.values().all(pushes)
            && self.participants.is_empty()
            && self.coordinated.is_empty()
    }

    /// All records of a database, for whoever checks a whole store.
    pub fn records(&self, db: Db) -> Vec<(Key, Vec<u8>)> {
        let end = Key::from_slice(&[0xff; 3]);
        self.meta
            .scan(db, &[], &end, usize::MAX)
            .unwrap_or_default()
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn on_state(&mut self, state: ClusterState) {
        let before = self.cluster.quotas();
        if !self.cluster.adopt(state) {
            return;
        }
        let after = self.cluster.quotas();
        self.quotas_changed(&before, &after);
        self.start_volumes();
        let waiting = std::mem::take(&mut self.ring_waits);
        self.ready.extend(waiting);
        for waiting in std::mem::take(&mut self.hellos) {
            self.on_hello(waiting.conn, waiting.tag, waiting.hello, waiting.until_ns);
        }
    }

    /// Gives a task a number of its own.
    fn fresh_task(&mut self) -> TaskId {
        self.next_task += 1;
        self.next_task
    }
}
