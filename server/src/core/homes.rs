//! Ends of clients and node sessions: logged by their home, pushed to every shard until
//! acknowledged, and carried out by each.

use super::attempt::Attempt;
use super::changes::{Value, Write};
use super::peers::Purpose;
use super::task::{Answer, Ended, Task, Waiting};
use super::{Core, Job, World};
use crate::meta::db::{Db, Key, key};
use crate::records::{Record, SessionRecord};
use sealfs_protocol::message::OpReply;
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
    pub(super) fn renew(&mut self, session: SessionId) -> OpReply {
        if self.sessions.has_ended(Ended::Session(session)) {
            return OpReply::Errno(Errno::ESTALE);
        }
        if self.sessions.renew(session, self.now.mono_ns) {
            let live = SessionRecord::Live { session };
            self.log_home(Ended::Session(session), Some(&live));
        }
        OpReply::Done
    }

    /// At the home: somebody has ended.
    pub(super) fn end(&mut self, who: Ended) {
        let others: Vec<ShardId> = self.cluster.others().collect();
        if others.is_empty() {
            self.log_home(who, None);
        } else {
            let record = match who {
                Ended::Client(client) => SessionRecord::ClientEnded { client },
                Ended::Session(session) => SessionRecord::SessionEnded { session },
            };
            self.log_home(who, Some(&record));
            self.push_end(who, others);
        }
        self.carry_out_end(who);
    }

    pub(super) fn push_end(&mut self, who: Ended, shards: Vec<ShardId>) {
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
        if self.sessions.acknowledged(who, shard) {
            self.log_home(who, None);
        }
    }

    /// At another shard than the home. The home forgets whom everybody has acknowledged, so that
    /// the acknowledgement waits until what is gone is durably gone.
    pub(crate) fn end_here(&mut self, task: &mut Task, ended: [Option<Ended>; 2]) -> Attempt {
        let mut holds = false;
        for who in ended.into_iter().flatten() {
            self.carry_out_end(who);
            holds |= match who {
                Ended::Client(c) => !self.file_locks.inodes_of_client(c).is_empty(),
                Ended::Session(s) => !self.file_locks.inodes_of_session(s).is_empty(),
            };
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
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.held = Some(Self::errno_answer(Errno::EINTR));
                    self.ready.push_back(id);
                }
            }
            let gone = Ended::Client(client);
            for ino in self.file_locks.inodes_of_client(client) {
                self.jobs.push_back(Job::Unlock(ino, gone));
            }
        }
        if let Ended::Session(session) = who {
            for ino in self.file_locks.inodes_of_session(session) {
                self.jobs.push_back(Job::Unlock(ino, who));
            }
            for ino in self.opens.end_session(session) {
                self.reap_soon(ino);
            }
        }
    }

    /// Resumes leases and unacknowledged ends of an earlier life.
    pub(super) fn recover_homes(&mut self) {
        let end = Key::from_slice(&[0xff; 3]);
        let Ok(found) = self.meta.scan(Db::Session, &[], &end, usize::MAX) else {
            return;
        };
        let others: Vec<ShardId> = self.cluster.others().collect();
        for (_, value) in found {
            match SessionRecord::decode(&value) {
                Ok(SessionRecord::Live { session }) => {
                    self.sessions.renew(session, self.now.mono_ns);
                }
                Ok(SessionRecord::ClientEnded { client }) => {
                    self.push_end(Ended::Client(client), others.clone());
                    self.carry_out_end(Ended::Client(client));
                }
                Ok(SessionRecord::SessionEnded { session }) => {
                    self.push_end(Ended::Session(session), others.clone());
                    self.carry_out_end(Ended::Session(session));
                }
                Err(_) => log::error!("a session record is damaged"),
            }
        }
    }
}
