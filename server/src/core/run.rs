//! Running tasks: from the first operation of a request to its reply, with the waits in between.

use super::attempt::Attempt;
use super::slots::Verdict;
use super::task::{Answer, Caller, Job, Task, TaskId, Waiting, Work};
use super::{ConnId, Core, Fault, MemoryChange, World};
use crate::ops;
use sealfs_protocol::Errno;
use sealfs_protocol::message::{Entry, Op, OpReply, Refusal};
use sealfs_protocol::peer::PeerReply;

impl<W: World> Core<W> {
    pub(super) fn run_ready(&mut self) {
        loop {
            if let Some(id) = self.ready.pop_front() {
                if self.tasks.get(&id).is_some_and(|t| self.may_run(t))
                    && let Some(task) = self.tasks.remove(&id)
                {
                    self.drive(task, None);
                }
            } else if let Some(job) = self.jobs.pop_front() {
                self.start_job(job, None);
            } else {
                return;
            }
        }
    }

    /// Whether what a task waits for has come. It may be woken by something that it does not wait
    /// for any more.
    fn may_run(&self, task: &Task) -> bool {
        let answered = task.held.is_some();
        match task.waiting {
            Waiting::Peers | Waiting::Votes => answered || task.pending == 0,
            Waiting::Until(at) => answered || at <= self.now.mono_ns,
            Waiting::Flush => false,
            _ => true,
        }
    }

    /// Runs a task until it ends or has to wait. `payload` is borrowed from the frame the first
    /// time, and kept if the task has to wait.
    pub(crate) fn drive(&mut self, mut task: Task, payload: Option<&[u8]>) {
        if task.held.is_some() && task.shared.as_ref().is_some_and(|s| s.decided) {
            self.tell_decision(&mut task);
        }
        let kept = std::mem::take(&mut task.payload);
        let data = payload.unwrap_or(&kept);
        let over = match &task.work {
            Work::Request(_) => self.drive_request(&mut task, data),
            Work::Peer(_) | Work::Job(_) => self.drive_single(&mut task, data),
        };
        if over {
            return self.finish_task(task);
        }
        task.payload = match payload {
            Some(borrowed) => borrowed.to_vec(),
            None => kept,
        };
        self.note_in_flight(&task);
        self.tasks.insert(task.id, task);
    }

    /// Whether all operations of a request are over.
    fn drive_request(&mut self, task: &mut Task, data: &[u8]) -> bool {
        loop {
            let Work::Request(request) = &task.work else {
                return true;
            };
            let Some(entry) = request.ops.get(task.index) else {
                return true;
            };
            let bytes = ops::payload_bytes(&entry.op);
            let reply = match self.drive_op(task, data) {
                None => return false,
                Some(Answer::Op(reply)) => reply,
                Some(_) => OpReply::Errno(Errno::EIO),
            };
            self.remember(task, &reply);
            task.replies.push(reply);
            task.index += 1;
            task.payload_at += bytes;
            task.out_at = task.out.len();
            self.end_operation(task);
        }
    }

    /// The same for work that is one operation.
    fn drive_single(&mut self, task: &mut Task, data: &[u8]) -> bool {
        let answer = match task.held.take() {
            Some(answer) => answer,
            None => loop {
                match self.attempt(task, data) {
                    Attempt::Again => {}
                    Attempt::Parked => return false,
                    Attempt::Done(answer) => break answer,
                }
            },
        };
        self.end_operation(task);
        match (&task.work, answer) {
            (Work::Peer(request), Answer::Peer(reply)) => {
                let out = std::mem::take(&mut task.out);
                self.reply_peer(&task.caller, request, &reply, out);
            }
            (Work::Peer(request), Answer::Op(OpReply::Errno(errno))) => {
                let failed = PeerReply::Failed(errno);
                self.reply_peer(&task.caller, request, &failed, Vec::new());
            }
            (Work::Job(job), Answer::Op(OpReply::Errno(errno))) => {
                log::warn!("{job:?} failed ({errno}) and is tried again");
                return self.retry_job(task);
            }
            _ => {}
        }
        true
    }

    /// Runs the current operation of a request as far as it comes.
    fn drive_op(&mut self, task: &mut Task, data: &[u8]) -> Option<Answer> {
        if let Some(answer) = task.held.take() {
            return Some(answer);
        }
        if let Some(attempt) = self.resumed_vote(task) {
            return match attempt {
                Attempt::Done(answer) => Some(answer),
                _ => None,
            };
        }
        let Work::Request(request) = &task.work else {
            return None;
        };
        let entry = request.ops.get(task.index)?;
        if let Some(early) = self.check_entry(task, entry) {
            return match early {
                Early::Answer(reply) => Some(Answer::Op(reply)),
                Early::WaitForRing => {
                    self.release_shared(task);
                    task.waiting = Waiting::Ring;
                    self.ring_waits.push(task.id);
                    self.actions.push(super::Action::FetchState);
                    None
                }
            };
        }
        if let Some(attempt) = self.control(task) {
            return match attempt {
                Attempt::Done(answer) => Some(answer),
                _ => None,
            };
        }
        loop {
            match self.attempt(task, data) {
                Attempt::Done(answer) => return Some(answer),
                Attempt::Parked => return None,
                Attempt::Again => {}
            }
        }
    }

    /// A step of this shard before the decision is over: on to the decision.
    fn resumed_vote(&mut self, task: &mut Task) -> Option<Attempt> {
        let prepared = task.waiting == Waiting::Votes
            && task.pending == 0
            && task.shared.as_ref().is_some_and(|s| s.outcome.is_some());
        prepared.then(|| self.voted(task))
    }

    /// What can be said about an operation without running it. A refusal says that nothing was
    /// executed, so the stored reply of an operation that was comes before every other.
    fn check_entry(&mut self, task: &Task, entry: &Entry) -> Option<Early> {
        let caller = &task.caller;
        if let Some(refusal) = self.refusal(caller) {
            return Some(Early::Answer(OpReply::Refused(refusal)));
        }
        if ops::is_mutation(&entry.op)
            && caller.client.0 != 0
            && !W::plants(Fault::ApplyDuplicate)
            && let Some(stored) = self.check_slot(task, entry)
        {
            return Some(stored);
        }
        if !self.cluster.serves(entry.partition, entry.epoch) {
            if caller.ring_version > self.cluster.ring_version() {
                return Some(Early::WaitForRing);
            }
            let ring_version = self.cluster.ring_version();
            let refusal = Refusal::WrongEpoch { ring_version };
            return Some(Early::Answer(OpReply::Refused(refusal)));
        }
        if self.has_lost_volume(caller) && !matches!(entry.op, Op::Close { .. }) {
            return Some(Early::Answer(OpReply::Errno(Errno::ESTALE)));
        }
        if ops::is_walk(&entry.op)
            && let Some(refusal) =
                self.versions
                    .check(caller.volume, caller.rename_version, self.now.mono_ns)
        {
            return Some(Early::Answer(OpReply::Refused(refusal)));
        }
        failed_before(task, &entry.op).map(Early::Answer)
    }

    /// The volume that the caller works on was deleted.
    fn has_lost_volume(&self, caller: &Caller) -> bool {
        caller.volume.0 != 0 && self.cluster.volume(caller.volume).is_none()
    }

    /// The answer of an operation that was executed before, or must not be any more.
    fn check_slot(&mut self, task: &Task, entry: &Entry) -> Option<Early> {
        let caller = &task.caller;
        let verdict = self.slots.check(
            caller.client,
            entry.partition,
            caller.slot,
            caller.sequence,
            task.index as u16,
        );
        match verdict {
            Verdict::Execute => None,
            Verdict::Refuse => Some(Early::Answer(OpReply::Refused(Refusal::OldSequence))),
            Verdict::Replay(reply) => {
                self.counters.replayed += 1;
                // Opens are memory: one whose reply was lost in a restart is nobody's to reassert.
                if let (Op::Open { open, .. }, OpReply::Opened { attr, .. }) = (&entry.op, &*reply)
                {
                    let opened = MemoryChange::Open(attr.ino, caller.session, *open);
                    self.change_memory(opened);
                }
                Some(Early::Answer(*reply))
            }
        }
    }

    /// The current operation is over: what it has learned and locked goes, here and elsewhere. A
    /// refusal may have ended it between its steps (a newer rename version came).
    fn end_operation(&mut self, task: &mut Task) {
        self.release_shared(task);
        if task.parked {
            self.file_locks.leave(task.id);
        }
        task.memo.clear();
        task.age = 0;
        task.full = 0;
        task.losses = 0;
        task.recall = 0;
        task.denied = false;
        task.waiting = Waiting::Nothing;
    }

    fn finish_task(&mut self, mut task: Task) {
        self.ready.extend(task.followers.drain(..));
        if let Work::Request(_) = task.work {
            self.forget_in_flight(&task);
            self.reply_request(&mut task);
        }
    }

    /// Begins work of this shard; `follower` is woken when it is over.
    pub(super) fn start_job(&mut self, job: Job, follower: Option<TaskId>) {
        let id = self.fresh_task();
        let caller = super::task::Caller {
            conn: ConnId::default(),
            deadline_ns: u64::MAX,
            ..Default::default()
        };
        let mut task = Task::new(id, caller, Work::Job(job));
        task.followers.extend(follower);
        self.drive(task, Some(&[]));
    }

    /// A job that failed is kept and tried again later; whoever waits for it goes on waiting.
    fn retry_job(&mut self, task: &mut Task) -> bool {
        const PAUSE_NS: u64 = 1_000_000_000;
        self.come_back(task, PAUSE_NS);
        false
    }

    /// Parks a task for a time.
    pub(crate) fn come_back(&mut self, task: &mut Task, pause_ns: u64) -> Attempt {
        let at = self.now.mono_ns + pause_ns;
        task.waiting = Waiting::Until(at);
        self.timers.insert((at, task.id));
        Attempt::Parked
    }
}

/// A size is published only if the bytes below it were written, and nothing is written behind what
/// there was no room for: the failure of an earlier write of the same request is the answer.
fn failed_before(task: &Task, op: &Op) -> Option<OpReply> {
    let Work::Request(request) = &task.work else {
        return None;
    };
    let earlier = request.ops.iter().zip(&task.replies);
    if let Op::Write { .. } | Op::Copy { .. } = op {
        let mut failed = earlier.filter(|(e, r)| is_part_of_write(&e.op) && is_full(r));
        return failed.next().map(|(_, reply)| reply.clone());
    }
    let Op::Publish {
        size_at_least_bytes: 1..,
        ..
    } = op
    else {
        return None;
    };
    let mut writes = earlier.filter(|(e, _)| is_part_of_write(&e.op));
    let failed = writes.find(|(_, r)| !matches!(r, OpReply::Written { .. }));
    failed.map(|(_, reply)| reply.clone())
}

fn is_full(reply: &OpReply) -> bool {
    matches!(reply, OpReply::Errno(Errno::EDQUOT | Errno::ENOSPC))
}

/// What must have taken place before a size is published in the same request.
fn is_part_of_write(op: &Op) -> bool {
    matches!(op, Op::Write { .. } | Op::Copy { .. } | Op::Publish { .. })
}

/// An answer before the operation has run.
enum Early {
    Answer(OpReply),
    WaitForRing,
}
