//! One run of an operation over a view, and what follows from it: its changes, or a wait.

use super::changes::Changes;
use super::event::{Halt, OpResult};
use super::flock::Begun;
use super::task::{Answer, Shared, Task, Waiting, Work};
use super::view::View;
use super::{Core, FlushWait, World};
use crate::meta::db::{Db, Key};
use crate::ops;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::peer::PeerReply;
use sealfs_protocol::{Errno, PartitionId};

/// Flushes after which a write that finds no space gives up.
const FULL_RETRIES: u8 = 4;

/// What one run of an operation has led to.
pub(crate) enum Attempt {
    /// It is over.
    Done(Answer),
    /// A step was made; run it again.
    Again,
    /// It waits; see [`Waiting`].
    Parked,
}

/// A run's result before anything of it took place.
struct Outcome {
    result: OpResult<Answer>,
    changes: Changes,
    needs: Vec<super::task::Need>,
    holds: Vec<(Db, Key)>,
    shuts: bool,
}

impl<W: World> Core<W> {
    /// One run of the current operation, and whatever follows from it.
    pub(crate) fn attempt(&mut self, task: &mut Task, data: &[u8]) -> Attempt {
        if self.is_late(task) {
            return Attempt::Done(Answer::Nothing);
        }
        if let Work::Peer(request) = &task.work
            && request.state().is_some_and(|s| s > self.cluster.version)
        {
            return self.wait_for_state(task);
        }
        if let Some(wait) = self.check_room(task, data) {
            return wait;
        }
        if let Some(attempt) = self.serve_shard(task) {
            return attempt;
        }
        let Outcome {
            result,
            changes,
            needs,
            holds,
            shuts,
        } = self.run_once(task, data);
        let goes_on = changes.again
            || matches!(result, Err(Halt::Need))
            || shuts && matches!(result, Err(Halt::Flush { .. }));
        if goes_on && let Err((db, key)) = self.keep_holds(task, holds, shuts) {
            self.abandon(changes);
            return self.wait_for_key(task, db, key);
        }
        match result {
            Ok(answer) => self.conclude(task, answer, changes),
            Err(halt) => {
                self.abandon(changes);
                self.halted(task, halt, needs, data)
            }
        }
    }

    /// It changes chunks for another shard that has come anew while it waited: it was sent again, or
    /// nobody knows of it any more, and the file may be gone since.
    fn is_late(&self, task: &Task) -> bool {
        let Work::Peer(request) = &task.work else {
            return false;
        };
        request.writes_to().is_some() && !self.knows_connection(task.caller.conn)
    }

    fn check_room(&mut self, task: &mut Task, data: &[u8]) -> Option<Attempt> {
        let changes_something = match &task.work {
            Work::Request(request) => request
                .ops
                .get(task.index)
                .is_some_and(|e| ops::is_mutation(&e.op)),
            _ => true,
        };
        if !changes_something || self.meta.has_room(super::ROOM_BYTES + data.len() / 256) {
            return None;
        }
        if self.meta.failed().is_some() {
            return Some(Attempt::Done(Self::errno_answer(Errno::EROFS)));
        }
        Some(self.wait_for_room(task))
    }

    fn wait_for_room(&mut self, task: &mut Task) -> Attempt {
        task.waiting = Waiting::Room;
        self.room_waits.push(task.id);
        self.flush_wanted = true;
        Attempt::Parked
    }

    fn run_once(&mut self, task: &mut Task, data: &[u8]) -> Outcome {
        let mut unused = Vec::new();
        // What an earlier run of this operation has read is read again.
        task.out.truncate(task.out_at);
        let (partition, payload) = match &task.work {
            Work::Request(request) => {
                let entry = request.ops.get(task.index);
                let len = entry.map_or(0, |e| ops::payload_bytes(&e.op));
                let range = task.payload_at..task.payload_at + len;
                let partition = entry.map_or(PartitionId::default(), |e| e.partition);
                (partition, data.get(range).unwrap_or_default())
            }
            _ => (PartitionId::default(), data),
        };
        let passed = if task.index == 0 {
            task.passed.clear();
            &mut task.passed
        } else {
            &mut unused
        };
        let mut view = View::<W> {
            now: self.now,
            cluster: &self.cluster,
            opens: &self.opens,
            access: &self.access,
            ends: &self.ends,
            file_locks: &self.file_locks,
            versions: &self.versions,
            caller: &task.caller,
            partition,
            payload,
            out: &mut task.out,
            passed,
            grace: self.grace.is_some(),
            locks_rest: self.locks_rest(),
            lost_after: self.lost_after,
            last_index: self.last_index,
            meta: &mut self.meta,
            locks: &self.locks,
            memo: &task.memo,
            txn: task.txn,
            changes: Changes::default(),
            needs: Vec::new(),
            holds: Vec::new(),
            shuts: false,
            charged: smallvec::SmallVec::new(),
        };
        let result = match &task.work {
            Work::Request(request) => match request.ops.get(task.index) {
                Some(entry) => ops::run(&mut view, &entry.op).map(Answer::Op),
                None => Err(Errno::EIO.into()),
            },
            Work::Peer(request) => ops::serve(&mut view, request).map(Answer::Peer),
            Work::Job(job) => ops::run_job(&mut view, *job).map(|()| Answer::Nothing),
        };
        let outcome = Outcome {
            changes: std::mem::take(&mut view.changes),
            needs: std::mem::take(&mut view.needs),
            holds: std::mem::take(&mut view.holds),
            shuts: view.shuts,
            result,
        };
        if outcome.result.is_err() || outcome.changes.again {
            task.out.truncate(task.out_at);
        }
        outcome
    }

    /// Gives back the space that an operation without end has taken.
    pub(crate) fn abandon(&mut self, changes: Changes) {
        for write in changes.writes {
            if let super::Value::Chunk(mut change) = write.value {
                self.meta.store_mut().abandon(&mut change);
            }
        }
    }

    pub(crate) fn halted(
        &mut self,
        task: &mut Task,
        halt: Halt,
        needs: Vec<super::task::Need>,
        data: &[u8],
    ) -> Attempt {
        let reply = match halt {
            Halt::Need => return self.fetch(task, needs, data),
            Halt::Key(db, key) => return self.wait_for_key(task, db, key),
            Halt::FileLock => {
                self.wait_for_file_lock(task);
                return Attempt::Parked;
            }
            Halt::Flush { hurry } => return self.wait_until_durable(task, hurry),
            Halt::Room => return self.wait_for_room(task),
            Halt::Grace => {
                // That may take as long as a lease.
                self.release_shared(task);
                return self.wait_for_grace(task);
            }
            Halt::Errno(Errno::ENOSPC) if self.space_is_coming(task) => {
                task.full += 1;
                return self.wait_for_room(task);
            }
            Halt::Errno(errno) => OpReply::Errno(errno),
            Halt::Refused(refusal) => OpReply::Refused(refusal),
            Halt::Walked(walked) => OpReply::Walked(walked),
        };
        // Once votes were asked for, nothing but to give everything back will do.
        let unasked = |shared: &Shared| shared.outcome.is_none();
        if task.shared.as_ref().is_some_and(unasked) && matches!(reply, OpReply::Errno(_)) {
            return self.confirm(task, Answer::Op(reply));
        }
        self.release_shared(task);
        let answer = match (&task.work, reply) {
            (Work::Peer(_), OpReply::Errno(errno)) => Answer::Peer(PeerReply::Failed(errno)),
            (Work::Peer(_), _) => Answer::Peer(PeerReply::Failed(Errno::ESTALE)),
            (_, reply) => Answer::Op(reply),
        };
        match task.memo.undo.take() {
            Some(undo) => self.answer_after(task, undo, answer),
            None => Attempt::Done(answer),
        }
    }

    /// Runs an operation again once all that is in the log now is durable.
    fn wait_until_durable(&mut self, task: &mut Task, hurry: bool) -> Attempt {
        task.memo.lasts = self.last_index;
        task.waiting = Waiting::Flush;
        let waits = self.flush_waits.entry(self.last_index).or_default();
        waits.push(FlushWait::Task(task.id));
        self.flush_wanted |= hurry;
        Attempt::Parked
    }

    fn space_is_coming(&self, task: &Task) -> bool {
        task.full < FULL_RETRIES && self.meta.store().space().pending_bytes > 0
    }

    fn wait_for_file_lock(&mut self, task: &mut Task) {
        let Work::Request(request) = &task.work else {
            return;
        };
        let Some(Op::Lock { ino, range, wait }) = request.ops.get(task.index).map(|e| &e.op) else {
            return;
        };
        task.waiting = Waiting::FileLock(*ino);
        if !task.parked {
            task.parked = true;
            self.actions.push(super::Action::Park(task.caller.conn));
        }
        let waited_ms = wait.unwrap_or(0);
        let begun = Begun {
            ns: self.now.wall_ns - i64::from(waited_ms) * 1_000_000,
            resumed: waited_ms > 0,
        };
        if self.file_locks.wait(task.id, *ino, *range, begun) {
            self.search_soon(begun.resumed);
        }
    }

    /// An operation met a locked key: it waits, or gives way if it holds locks elsewhere and is
    /// the younger.
    pub(crate) fn wait_for_key(&mut self, task: &mut Task, db: Db, key: Key) -> Attempt {
        if task.txn.is_some() && self.must_give_way(task, db, &key) {
            self.restart(task);
            return Attempt::Parked;
        }
        task.waiting = Waiting::Key;
        self.locks.wait(db, key, task.id);
        Attempt::Parked
    }
}
