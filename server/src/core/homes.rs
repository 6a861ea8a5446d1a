//! Ends of clients and node sessions: logged by their home, pushed to every shard until
//! acknowledged, and carried out by each.

use super::attempt::Attempt;
use super::changes::{Value, Write};
use super::peers::Purpose;
use super::task::{Answer, Ended, Task, Waiting};
use super::{Core, FlushWait, Job, World};
use crate::meta::LogIndex;
use crate::meta::db::{Db, Key, key};
use crate::records::{Record, SessionRecord};
use sealfs_protocol::message::{OpReply, Who};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, SessionId, ShardId, TxnId, hash};

/// Pause before a shard looks again whether an ended client's file locks are released, in ns.
const RELEASE_NS: u64 = 10_000_000;
/// Slot records removed in one log entry.
const STEP_SLOTS: usize = 1024;

impl<W: World> Core<W> {
    /// Where the home keeps a session or the end of one.
    fn home_key(&self, who: Ended) -> Write {
        let partitions = self.cluster.partitions();
        let (partition, id) = match who {
            Ended::Client(c) => (hash::client_home(c, partitions), c.0),
            Ended::Session(s) => (hash::session_home(s, partitions), s.0),
        };
        let key = key::session(partition, id);
        Write::free(partition, Db::Session, key, Value::Delete)
    }

    fn log_home(&mut self, who: Ended, record: Option<&SessionRecord>) {
        let mut write = self.home_key(who);
        if !self.cluster.is_mine(write.partition) {
            return;
        }
        if let Some(record) = record {
            write.value = Value::Put(record.encode());
        }
        if self.append(&mut vec![write], TxnId(0)).is_err() {
            log::warn!("the end of {who:?} could not be logged");
        }
    }

    /// A keeper says that its session lives.
    pub(super) fn renew(&mut self, task: &mut Task, session: SessionId) -> Attempt {
        if self.sessions.has_ended(Ended::Session(session)) {
            return Attempt::Done(Self::errno_answer(Errno::ESTALE));
        }
        let done = Answer::Op(OpReply::Done);
        if !self.sessions.renew(session, self.now.mono_ns) {
            return Attempt::Done(done);
        }
        // The lease outlives a power cut: its end must come even if the node is gone by then.
        let live = SessionRecord::Live { session };
        self.log_home(Ended::Session(session), Some(&live));
        self.answer_after_flush(task, self.last_index, done, true)
    }

    /// At the home: whether state may be kept for a session.
    pub(crate) fn attend(&mut self, session: SessionId) -> PeerReply {
        if self.sessions.has_ended(Ended::Session(session)) {
            return PeerReply::Failed(Errno::ESTALE);
        }
        PeerReply::Acknowledged
    }

    /// Whether the session of a peer that says Hello lives; `None`: its home is asked.
    pub(super) fn is_alive(&mut self, who: &Who) -> Option<bool> {
        let (Who::Client { session, .. } | Who::Keeper { session, .. }) = *who else {
            return Some(true);
        };
        if self.sessions.has_ended(Ended::Session(session)) {
            return Some(false);
        }
        let home = self.home_key(Ended::Session(session)).partition;
        if self.sessions.is_attended(session) || self.cluster.is_mine(home) {
            return Some(true);
        }
        let asked = Purpose::Attend(session);
        if !self.outstanding.values().any(|o| o.purpose == asked)
            && let Some(shard) = self.cluster.owner(home)
        {
            self.send_peer(shard, PeerRequest::Attend { session }, &[], asked);
        }
        None
    }

    pub(super) fn on_attended(&mut self, session: SessionId, reply: &PeerReply) {
        match reply {
            PeerReply::Acknowledged => self.sessions.attended(session),
            PeerReply::Failed(Errno::ESTALE) => self.carry_out_end(Ended::Session(session)),
            // Asked again by the next Hello.
            _ => return,
        }
        for waiting in std::mem::take(&mut self.hellos) {
            self.on_hello(waiting.conn, waiting.tag, waiting.hello, waiting.until_ns);
        }
    }

    /// At the home: somebody has ended.
    pub(super) fn end(&mut self, who: Ended) {
        let alone = self.cluster.others().next().is_none();
        let record = match who {
            Ended::Client(_) if alone => None,
            Ended::Client(client) => Some(SessionRecord::ClientEnded { client }),
            Ended::Session(session) if alone => Some(SessionRecord::SessionOver { session }),
            Ended::Session(session) => Some(SessionRecord::SessionEnded { session }),
        };
        self.log_home(who, record.as_ref());
        match who {
            _ if alone => {}
            // A dead process cannot come back; whoever waits for its locks gets them at once.
            Ended::Client(_) => self.push_end(who),
            Ended::Session(_) => self.wait_for_flush(self.last_index, FlushWait::End(who)),
        }
        self.carry_out_end(who);
        for session in self.sessions.take_forgotten() {
            self.log_home(Ended::Session(session), None);
        }
    }

    pub(super) fn push_end(&mut self, who: Ended) {
        let shards: Vec<ShardId> = self.cluster.others().collect();
        let (client, session) = match who {
            Ended::Client(c) => (Some(c), None),
            Ended::Session(s) => (None, Some(s)),
        };
        for shard in &shards {
            let request = PeerRequest::Ended { client, session };
            self.send_peer(*shard, request, &[], Purpose::End(who));
        }
        self.sessions.begin_end(who, shards);
    }

    pub(super) fn end_acknowledged(&mut self, who: Ended, shard: ShardId) {
        if !self.sessions.acknowledged(who, shard) {
            return;
        }
        let over = match who {
            Ended::Client(_) => None,
            Ended::Session(session) => Some(SessionRecord::SessionOver { session }),
        };
        self.log_home(who, over.as_ref());
    }

    /// At another shard than the home. The home forgets whom everybody has acknowledged, so that
    /// the acknowledgement waits until what is gone is durably gone.
    pub(crate) fn end_here(&mut self, task: &mut Task, ended: [Option<Ended>; 2]) -> Attempt {
        let mut holds = false;
        for who in ended.into_iter().flatten() {
            self.carry_out_end(who);
            holds |= self.file_locks.is_held_by(who);
        }
        if holds {
            // The jobs that release them are under way.
            return self.come_back(task, RELEASE_NS);
        }
        let done = Answer::Peer(PeerReply::Acknowledged);
        self.answer_after_flush(task, self.last_index, done, false)
    }

    /// On every shard: what the ended one held here goes.
    pub(crate) fn carry_out_end(&mut self, who: Ended) {
        for client in self.sessions.end(who) {
            let places = self.slots.end_client(client);
            for step in places.chunks(STEP_SLOTS) {
                let gone = step.iter().map(|(partition, slot)| {
                    let key = key::slot(*partition, client, *slot);
                    Write::free(*partition, Db::Slot, key, Value::Delete)
                });
                if self.append(&mut gone.collect(), TxnId(0)).is_err() {
                    log::warn!("request slots of client {client} could not be removed");
                }
            }
            let waiting = self.tasks.iter().filter(|(_, t)| {
                t.caller.client == client && matches!(t.waiting, Waiting::FileLock(_))
            });
            let mut waiting: Vec<_> = waiting.map(|(id, _)| *id).collect();
            waiting.sort_unstable();
            for id in waiting {
                self.end_lock_wait(id, Errno::EINTR);
            }
        }
        for ino in self.file_locks.inodes_of(who) {
            self.jobs.push_back(Job::Unlock(ino, who));
        }
        if let Ended::Session(session) = who {
            for ino in self.opens.end_session(session) {
                // It may have ended in the middle of a write.
                self.ends.doubt(ino);
                self.reap_soon(ino);
            }
            for ino in self.file_locks.unseal_session(session) {
                self.ready.extend(self.file_locks.waiters(ino));
            }
            self.session_told(session);
        }
    }

    /// Resumes leases and unacknowledged ends of an earlier life.
    pub(super) fn recover_homes(&mut self) {
        let end = Key::from_slice(&[0xff; 3]);
        let Ok(found) = self.meta.scan(Db::Session, &[], &end, usize::MAX) else {
            return;
        };
        for (_, value) in found {
            match SessionRecord::decode(&value) {
                Ok(SessionRecord::Live { session }) => {
                    self.sessions.renew(session, self.now.mono_ns);
                }
                Ok(SessionRecord::ClientEnded { client }) => {
                    self.push_end(Ended::Client(client));
                    self.carry_out_end(Ended::Client(client));
                }
                Ok(SessionRecord::SessionEnded { session }) => {
                    self.push_end(Ended::Session(session));
                    self.carry_out_end(Ended::Session(session));
                }
                Ok(SessionRecord::SessionOver { session }) => {
                    self.carry_out_end(Ended::Session(session));
                }
                Ok(SessionRecord::LocksUnsettled { written }) => {
                    self.lost_after = Some(LogIndex(written));
                }
                Err(_) => log::error!("a session record is damaged"),
            }
        }
    }
}
