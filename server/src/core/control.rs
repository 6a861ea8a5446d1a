//! Operations that concern the shard rather than files: flushing, credentials, waits taken back.

use super::attempt::Attempt;
use super::task::{Answer, Ended, Task, TaskId, Work};
use super::{Core, World};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, Incarnation, Sequence};

impl<W: World> Core<W> {
    /// Runs the current operation if it is one of these.
    pub(super) fn control(&mut self, task: &mut Task) -> Option<Attempt> {
        let Work::Request(request) = &task.work else {
            return None;
        };
        let op = &request.ops.get(task.index)?.op;
        let reply = match op {
            Op::Fsync {
                ino, written_in, ..
            } => {
                let (ino, written_in) = (*ino, *written_in);
                self.write_access_time(ino);
                return Some(self.sync(task, written_in));
            }
            Op::SyncFs => {
                self.write_access_times();
                return Some(self.sync(task, Incarnation(0)));
            }
            Op::Credential { index, credentials } => {
                let connection = self.sessions.connection_mut(task.caller.conn);
                let set = connection.is_some_and(|c| c.set_credential(*index, credentials.clone()));
                if set {
                    OpReply::Done
                } else {
                    OpReply::Errno(Errno::ENOMEM)
                }
            }
            Op::CancelWait { slot, .. } => {
                self.cancel_wait(task.caller.client, *slot);
                OpReply::Done
            }
            Op::Renew { session } => {
                let session = *session;
                return Some(self.renew(task, session));
            }
            Op::IsAwaited { session } if self.is_awaited(*session) => OpReply::Errno(Errno::EAGAIN),
            Op::IsAwaited { .. } => OpReply::Done,
            Op::Reasserted { session } => {
                let session = *session;
                self.session_told(session);
                OpReply::Done
            }
            Op::EndClient { client } => {
                let who = Ended::Client(*client);
                return Some(self.end_for_good(task, who));
            }
            Op::EndSession { session } => {
                let who = Ended::Session(*session);
                return Some(self.end_for_good(task, who));
            }
            _ => return None,
        };
        Some(Attempt::Done(Answer::Op(reply)))
    }

    /// Who was told of an end forgets it, so that the end must be durable.
    fn end_for_good(&mut self, task: &mut Task, who: Ended) -> Attempt {
        self.end(who);
        let done = Answer::Op(OpReply::Done);
        self.answer_after_flush(task, self.last_index, done, true)
    }

    /// fsync(2): everything appended so far, whoever wrote it.
    fn sync(&mut self, task: &mut Task, written_in: Incarnation) -> Attempt {
        if self.cluster.durability(task.caller.volume) == Durability::Memory {
            return Attempt::Done(Answer::Op(OpReply::Done));
        }
        let lost = written_in.0 != 0 && self.meta.incarnation() > written_in;
        if lost || self.meta.failed().is_some() {
            return Attempt::Done(Self::errno_answer(Errno::EIO));
        }
        let index = self.last_index;
        let done = Answer::Op(OpReply::Done);
        self.answer_after_flush(task, index, done, true)
    }

    /// Ends a client's wait for a file lock with EINTR.
    fn cancel_wait(&mut self, client: sealfs_protocol::ClientId, slot: u16) {
        let all = (client, slot, Sequence(0))..=(client, slot, Sequence(u64::MAX));
        let waiting: Vec<TaskId> = self.in_flight.range(all).map(|(_, id)| *id).collect();
        for id in waiting {
            self.end_lock_wait(id, Errno::EINTR);
        }
    }
}
