//! After a restart: opens are memory, so that no orphan is collected before everybody has told what is
//! open; and after the loss of a tail of the log no lock is given before everybody has told what
//! locks there were.
//!
//! The homes are asked whose leases run. Each of those sessions is waited for until its keeper has
//! said that everything was reasserted, or it has ended. What must stay true: nobody gets a lock
//! that a live session may still go by. A description whose last lock change is in what is left of
//! the log has lost nothing; any other seals its file until it is closed.

use std::collections::{BTreeSet, HashSet};

use super::attempt::Attempt;
use super::changes::{Value, Write};
use super::peers::Purpose;
use super::task::{Ended, Task, TaskId, Waiting};
use super::{Core, Job, World};
use crate::meta::db::{Db, key};
use crate::records::{Record, SessionRecord};
use sealfs_protocol::message::LockOwner;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, PartitionId, SessionId, ShardId, TxnId};

#[derive(Default)]
pub(crate) struct Grace {
    /// Whoever has no lease (yet) may come until then, in ns.
    until_ns: u64,
    /// Homes that have not said whose leases run.
    homes: BTreeSet<ShardId>,
    /// Sessions that live and have not told everything.
    awaited: BTreeSet<SessionId>,
    told: HashSet<SessionId>,
    /// Locks are neither given nor taken back.
    locks_rest: bool,
    /// The log says so.
    noted: bool,
    /// Tasks that wait for that.
    waiting: Vec<TaskId>,
}

impl Grace {
    pub fn new(until_ns: u64, homes: BTreeSet<ShardId>) -> Grace {
        Grace {
            until_ns,
            homes,
            ..Grace::default()
        }
    }

    fn all_told(&self) -> bool {
        self.homes.is_empty() && self.awaited.is_empty()
    }
}

impl<W: World> Core<W> {
    pub(super) fn begin_grace(&mut self) {
        let lost = self.meta.lost_after();
        self.lost_after = lost.or(self.lost_after);
        let Some(mut grace) = self.grace.take() else {
            // Nothing is stored here, and nothing can be locked.
            if self.lost_after.is_some() {
                self.log_unsettled(Value::Delete);
            }
            return;
        };
        grace.awaited = self.sessions.leased().collect();
        grace.locks_rest = self.lost_after.is_some();
        grace.noted = grace.locks_rest;
        self.grace = Some(grace);
        if let Some(last) = lost {
            // A life that is killed before everybody has told leaves the question to the next.
            let record = SessionRecord::LocksUnsettled { written: last.0 };
            if !self.log_unsettled(Value::Put(record.encode())) {
                log::warn!("that locks are not settled could not be logged");
            }
        }
        self.look_at_grace();
    }

    /// Whether it could be logged.
    fn log_unsettled(&mut self, value: Value) -> bool {
        let partitions = (0..self.cluster.partitions()).map(PartitionId);
        let Some(partition) = partitions.into_iter().find(|p| self.cluster.is_mine(*p)) else {
            return true;
        };
        let write = Write::free(partition, Db::Session, key::session(partition, 0), value);
        self.append(&mut vec![write], TxnId(0)).is_ok()
    }

    /// Asks homes that have not answered, and ends what need not be waited for any more.
    pub(super) fn look_at_grace(&mut self) {
        let Some(grace) = &self.grace else {
            return;
        };
        let asked = |shard: &ShardId| {
            let mut outstanding = self.outstanding.values();
            outstanding.any(|o| o.purpose == Purpose::Sessions && o.shard == *shard)
        };
        let unasked = grace.homes.iter().filter(|shard| !asked(shard));
        for shard in unasked.copied().collect::<Vec<_>>() {
            self.send_peer(shard, PeerRequest::Sessions, &[], Purpose::Sessions);
        }
        self.end_grace_if_over();
    }

    fn end_grace_if_over(&mut self) {
        let Some(grace) = self.grace.as_mut().filter(|g| g.all_told()) else {
            return;
        };
        let over = self.now.mono_ns >= grace.until_ns;
        let noted = grace.noted;
        let waiting = std::mem::take(&mut grace.waiting);
        grace.locks_rest = false;
        self.ready.extend(waiting);
        // A full log says no: once more later.
        let noted = noted && !self.log_unsettled(Value::Delete);
        if let Some(grace) = &mut self.grace {
            grace.noted = noted;
        }
        if over && !noted {
            self.grace = None;
            for ino in self.orphans.clone() {
                self.reap_soon(ino);
            }
        }
    }

    /// Descriptions that were closed, or whose session holds nothing of the file, have no locks: that
    /// they were given back was lost, or could not be said while this shard was away.
    fn drop_locks_of_closed(&mut self, told: SessionId) {
        let mut released = Vec::new();
        for (ino, held) in self.file_locks.all() {
            for lock in held {
                let (session, gone) = match lock.owner {
                    LockOwner::Description { session, open } => {
                        (session, !self.opens.contains(ino, session, open))
                    }
                    LockOwner::Process { session, .. } => {
                        (session, !self.opens.is_open_in(ino, session))
                    }
                };
                if gone && session == told {
                    released.push((ino, lock.owner));
                }
            }
        }
        for (ino, owner) in released {
            self.start_job(Job::Drop(ino, owner), None);
        }
    }

    pub(super) fn on_sessions(&mut self, home: ShardId, reply: PeerReply) {
        let Some(grace) = &mut self.grace else {
            return;
        };
        let PeerReply::Sessions(sessions) = reply else {
            // Asked again.
            return;
        };
        grace.homes.remove(&home);
        for session in sessions {
            let over = self.sessions.has_ended(Ended::Session(session));
            if !over && !grace.told.contains(&session) {
                grace.awaited.insert(session);
            }
        }
        self.end_grace_if_over();
    }

    /// A session has told everything, or ended.
    pub(super) fn session_told(&mut self, session: SessionId) {
        let Some(grace) = &mut self.grace else {
            return;
        };
        grace.awaited.remove(&session);
        if grace.told.insert(session) {
            self.drop_locks_of_closed(session);
        }
        self.end_grace_if_over();
    }

    pub(super) fn is_awaited(&self, session: SessionId) -> bool {
        let grace = self.grace.as_ref();
        grace.is_some_and(|g| !g.told.contains(&session))
    }

    pub(crate) fn live_sessions(&self) -> PeerReply {
        if self.started {
            PeerReply::Sessions(self.sessions.leased().collect())
        } else {
            PeerReply::Failed(Errno::EAGAIN)
        }
    }

    pub(super) fn locks_rest(&self) -> bool {
        self.grace.as_ref().is_some_and(|g| g.locks_rest)
    }

    pub(super) fn wait_for_grace(&mut self, task: &mut Task) -> Attempt {
        task.waiting = Waiting::Grace;
        if let Some(grace) = &mut self.grace {
            grace.waiting.push(task.id);
        }
        Attempt::Parked
    }
}
