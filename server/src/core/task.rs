//! A piece of work that may have to wait: a client's request, a peer's, or a job of this shard.
//!
//! Most requests run from start to end within one step and are never stored. One that has to wait
//! is kept with what it has learned so far ([`Memo`]) and runs again from the start of its current
//! operation when what it waits for has come.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::changes::Changes;
use super::event::ConnId;
use crate::meta::LogIndex;
use crate::meta::db::{Db, Key};
use sealfs_protocol::message::{Credentials, LockOwner, OpReply, Passed, Request};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{
    ClientId, InodeId, PartitionId, RenameVersion, RingVersion, Sequence, SessionId, ShardId,
    TxnId, VolumeId,
};

pub use super::locks::TaskId;

/// On whose behalf a task runs, and where its reply goes.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub conn: ConnId,
    pub tag: u64,
    pub flags: u32,
    pub client: ClientId,
    /// The shard that asks, for its requests.
    pub peer: ShardId,
    pub session: SessionId,
    pub volume: VolumeId,
    pub slot: u16,
    pub sequence: Sequence,
    pub credentials: Arc<Credentials>,
    pub rename_version: RenameVersion,
    pub ring_version: RingVersion,
    pub deadline_ns: u64,
}

/// Work of this shard on its own account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Job {
    /// Install the pending truncation of an inode on all its layout slots.
    Truncate(InodeId),
    /// Bytes may lie behind the end of a file that nobody will publish.
    Doubt(InodeId),
    /// Remove an inode without names if nobody has it open.
    Reap(InodeId),
    /// Split a directory that has grown large.
    Split(InodeId),
    /// Release the file locks of a client or session on an inode.
    Unlock(InodeId, Ended),
    /// Release the file locks of one owner on an inode.
    Drop(InodeId, LockOwner),
    /// Take back what a call of fallocate(2) has reserved that cannot have it all.
    GiveBack(Reservation),
}

/// A call of fallocate(2) that gives a byte range of a file space.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reservation {
    pub ino: InodeId,
    /// Its number: no other call on this file has the same.
    pub call: u64,
    pub from: u64,
    pub until: u64,
}

/// Who has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Ended {
    Client(ClientId),
    Session(SessionId),
}

impl Ended {
    /// Whether a lock was of the ended one. A session's processes end with it.
    pub fn owned(self, owner: &LockOwner) -> bool {
        match (self, owner) {
            (Ended::Client(gone), LockOwner::Process { client, .. }) => gone == *client,
            (
                Ended::Session(gone),
                LockOwner::Process { session, .. } | LockOwner::Description { session, .. },
            ) => gone == *session,
            (Ended::Client(_), LockOwner::Description { .. }) => false,
        }
    }
}

pub enum Work {
    Request(Request),
    Peer(PeerRequest),
    Job(Job),
}

/// Something that an operation needs from other shards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Need {
    Key(PartitionId, Db, Key),
    Inode(PartitionId),
    Answer(ShardId, PeerRequest, Range<usize>),
}

/// What an operation has learned from other shards.
#[derive(Default)]
pub struct Memo {
    values: HashMap<(Db, Key), Option<Vec<u8>>>,
    allocated: Vec<InodeId>,
    /// With the bytes that came along.
    answers: Vec<(ShardId, PeerRequest, (PeerReply, Vec<u8>))>,
    pub stage: u64,
    /// To be done before the answer if the operation fails.
    pub undo: Option<Job>,
    /// It will take its time although no other shard holds locks for it: what it reads here is to
    /// be locked as well.
    pub takes_time: bool,
    /// The log entry up to which everything was to be durable before it went on; 0: none.
    pub lasts: LogIndex,
}

impl Memo {
    /// Whether other shards hold locks for this operation.
    pub fn is_shared(&self) -> bool {
        !self.values.is_empty() || !self.allocated.is_empty()
    }

    /// Whether keys of this shard that are read must be locked before the changes take place.
    pub fn notes_reads(&self) -> bool {
        self.takes_time || self.is_shared()
    }

    pub fn value(&self, db: Db, key: &Key) -> Option<&Option<Vec<u8>>> {
        if self.values.is_empty() {
            return None;
        }
        self.values.get(&(db, key.clone()))
    }

    pub fn allocated(&self, partition: PartitionId) -> Option<InodeId> {
        let mut found = self.allocated.iter();
        found.find(|i| i.partition() == partition).copied()
    }

    pub fn answer(&self, shard: ShardId, request: &PeerRequest) -> Option<&(PeerReply, Vec<u8>)> {
        let mut found = self.answers.iter();
        let found = found.find(|(s, r, _)| *s == shard && r == request);
        found.map(|(_, _, answer)| answer)
    }

    pub fn add_value(&mut self, db: Db, key: Key, value: Option<Vec<u8>>) {
        self.values.insert((db, key), value);
    }

    pub fn add_allocated(&mut self, ino: InodeId) {
        self.allocated.push(ino);
    }

    pub fn add_answer(
        &mut self,
        shard: ShardId,
        request: PeerRequest,
        answer: (PeerReply, Vec<u8>),
    ) {
        self.answers.push((shard, request, answer));
    }

    /// Forgets what was read under locks that are given back.
    pub fn forget_shared(&mut self) {
        self.values.clear();
        self.allocated.clear();
    }

    pub fn clear(&mut self) {
        self.forget_shared();
        self.answers.clear();
        self.stage = 0;
        self.undo = None;
        self.takes_time = false;
        self.lasts = LogIndex(0);
    }
}

/// What a stored task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// Nothing: it is about to run.
    Nothing,
    /// Answers of other shards.
    Peers,
    /// A locked key.
    Key,
    /// A file lock on an inode.
    FileLock(InodeId),
    /// Everybody's word on the locks that were held before a power cut.
    Grace,
    /// Room in the log or overlay.
    Room,
    /// A newer ring.
    Ring,
    /// A point of time, in ns, after having lost against an older transaction.
    Until(u64),
    /// Votes of the participants.
    Votes,
    /// More of a volume's quota.
    Allowance,
    /// The flush of its decision or record.
    Flush,
    /// Another task that finishes its work.
    Job,
}

/// A change over several shards, from its first remote read to its decision.
pub struct Shared {
    pub txn: TxnId,
    /// Shards that hold locks for it.
    pub participants: Vec<ShardId>,
    /// Those of them that will change something.
    pub changing: Vec<ShardId>,
    /// What is to take place here when all have voted, and the answer then.
    pub outcome: Option<(Changes, Answer)>,
    /// The decision is taken; only its flush is waited for.
    pub decided: bool,
}

/// The result of an operation, by the kind of its task.
#[derive(Clone, Debug)]
pub enum Answer {
    Op(OpReply),
    Peer(PeerReply),
    Nothing,
}

pub struct Task {
    pub id: TaskId,
    pub caller: Caller,
    pub work: Work,
    /// The request's payload; kept only when the task had to wait.
    pub payload: Vec<u8>,
    /// Where the current operation's bytes begin in it.
    pub payload_at: usize,
    /// Position of the current operation.
    pub index: usize,
    pub replies: Vec<OpReply>,
    /// Bytes that go with the reply, and where those of the current operation begin.
    pub out: Vec<u8>,
    pub out_at: usize,
    pub passed: Vec<Passed>,
    pub memo: Memo,
    /// Holds keys of this shard, if only locally.
    pub txn: Option<TxnId>,
    pub shared: Option<Shared>,
    /// When its current operation began; decides who waits and who dies. 0: not yet asked.
    pub age: u64,
    pub waiting: Waiting,
    /// Answers that have not come.
    pub pending: usize,
    /// Another transaction was in the way, on another shard.
    pub died: bool,
    /// Times that the current operation found the store full.
    pub full: u8,
    /// Times that it lost against an older transaction.
    pub losses: u8,
    /// The recall that must have ended before it may be refused for want of quota; 0: none yet.
    pub recall: u64,
    /// There is no quota left for it.
    pub denied: bool,
    /// Tasks to wake when this job is over.
    pub followers: Vec<TaskId>,
    /// It waits for a file lock and its connection knows.
    pub parked: bool,
    /// The answer that waits for a job, a flush or a decision.
    pub held: Option<Answer>,
}

impl Task {
    pub fn new(id: TaskId, caller: Caller, work: Work) -> Task {
        Task {
            id,
            caller,
            work,
            payload: Vec::new(),
            payload_at: 0,
            index: 0,
            replies: Vec::new(),
            out: Vec::new(),
            out_at: 0,
            passed: Vec::new(),
            memo: Memo::default(),
            txn: None,
            shared: None,
            age: 0,
            waiting: Waiting::Nothing,
            pending: 0,
            died: false,
            full: 0,
            losses: 0,
            recall: 0,
            denied: false,
            followers: Vec::new(),
            parked: false,
            held: None,
        }
    }
}
