//! Requests to other shards: numbered, repeated until answered, and brought back to who asked.
//!
//! They are sent again over a new connection, whose Hello shuts the earlier ones, or when no answer
//! has come for a while. What must stay true: one that is executed twice does no harm. Those that
//! write bytes do none as long as both copies come before the answer, since nobody else may write
//! there until then; so they are never sent twice over one connection, where the second copy could
//! come long after.

use super::event::Action;
use super::task::{Ended, TaskId, Waiting};
use super::{Core, World, frames};
use sealfs_protocol::codec;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::limits::CALL_DEADLINE_MS;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{SessionId, ShardId, TxnId, VolumeId};

/// Spans that a shard has asked others for at once: with `IO_MAX_BYTES`, what copies hold in memory
/// and what they put before other messages on the way.
const SPANS_MAX: usize = 16;
/// After this long without an answer a request is sent again, in ns.
const REPEAT_NS: u64 = 3_000_000_000;

/// On whose account a request went out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// A question of an operation.
    Ask(TaskId),
    /// Keys to lock and read for an operation.
    Read(TaskId),
    /// A vote on a transaction.
    Vote(TaskId),
    /// A step before the decision that cannot fail it.
    Before(TaskId),
    Decide(TxnId),
    Outcome(TxnId),
    End(Ended),
    /// More of a volume's quota, for a task.
    Allow(TaskId),
    /// Unused parts of a volume's quota.
    Recall(VolumeId),
    /// Whether a session lives, asked of its home.
    Attend(SessionId),
    /// Waits for record locks, for the search that is under way.
    LockWaits,
    /// Whose leases run, after a restart.
    Sessions,
    /// The end of a wait that closes a circle.
    BreakLockWait,
    Push,
}

pub(crate) struct Outstanding {
    pub shard: ShardId,
    pub request: PeerRequest,
    pub payload: Vec<u8>,
    pub purpose: Purpose,
    pub sent_ns: u64,
    pub first_ns: u64,
}

impl<W: World> Core<W> {
    pub(crate) fn send_peer(
        &mut self,
        shard: ShardId,
        request: PeerRequest,
        payload: &[u8],
        purpose: Purpose,
    ) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let outstanding = Outstanding {
            shard,
            request,
            payload: payload.to_vec(),
            purpose,
            sent_ns: self.now.mono_ns,
            first_ns: self.now.mono_ns,
        };
        let action = self.peer_action(tag, &outstanding);
        self.send_now(action);
        self.outstanding.insert(tag, outstanding);
    }

    fn peer_action(&self, tag: u64, what: &Outstanding) -> Action<W> {
        let body = frames::encoded(&what.request);
        let header = Header {
            tag,
            ring_version: self.cluster.ring_version(),
            deadline_ms: CALL_DEADLINE_MS,
            body_bytes: body.len() as u32,
            payload_bytes: what.payload.len() as u32,
            ..Header::new(Kind::PeerRequest)
        };
        Action::Peer {
            shard: what.shard,
            header,
            body,
            payload: what.payload.clone(),
        }
    }

    /// Sends again what a shard has not answered, all of it or what has waited for long.
    fn repeat(&mut self, due: impl Fn(&Outstanding) -> bool) {
        let mut actions = Vec::new();
        for (tag, what) in &self.outstanding {
            if due(what) {
                actions.push((*tag, self.peer_action(*tag, what)));
            }
        }
        for (tag, action) in actions {
            if let Some(what) = self.outstanding.get_mut(&tag) {
                what.sent_ns = self.now.mono_ns;
            }
            self.send_now(action);
        }
    }

    pub(super) fn on_peer_up(&mut self, shard: ShardId) {
        self.repeat(|what| what.shard == shard);
        self.doubt_coordinator(shard);
    }

    pub(super) fn repeat_overdue(&mut self) {
        let now = self.now.mono_ns;
        let overdue = |what: &Outstanding| now.saturating_sub(what.sent_ns) >= REPEAT_NS;
        self.repeat(|what| overdue(what) && what.request.writes_to().is_none());
    }

    /// Whether more bytes may be asked for.
    pub(crate) fn may_ask_span(&self) -> bool {
        let spans = self.outstanding.values();
        let spans = spans.filter(|o| matches!(o.request, PeerRequest::ReadSpan { .. }));
        spans.count() < SPANS_MAX
    }

    pub(super) fn on_peer_reply(&mut self, from: ShardId, tag: u64, body: &[u8], payload: &[u8]) {
        let Ok(reply) = codec::decode::<PeerReply>(body) else {
            self.counters.malformed += 1;
            return log::warn!("shard {from} sent a reply that does not parse");
        };
        let Some(what) = self.outstanding.get(&tag).filter(|o| o.shard == from) else {
            return;
        };
        let must_succeed = matches!(what.purpose, Purpose::Decide(_) | Purpose::End(_));
        if must_succeed && reply != PeerReply::Acknowledged {
            return;
        }
        if let Some(what) = self.outstanding.remove(&tag) {
            self.answered(what, reply, payload);
        }
    }

    /// An answer, real or (for pushes whose lease ran out) inferred.
    pub(super) fn answered(&mut self, what: Outstanding, reply: PeerReply, payload: &[u8]) {
        if let PeerReply::WrongEpoch { ring_version } = &reply
            && *ring_version > self.cluster.ring_version()
        {
            self.send_now(Action::FetchState);
        }
        match what.purpose {
            Purpose::Ask(id) => {
                self.span_came(&what.request);
                if let Some(task) = self.tasks.get_mut(&id) {
                    let bytes = payload.to_vec();
                    task.memo
                        .add_answer(what.shard, what.request, (reply, bytes));
                    self.one_answer_less(id);
                }
            }
            Purpose::Read(id) => self.on_read(id, what.request, reply),
            Purpose::Vote(id) => self.on_vote(id, &reply),
            Purpose::Before(id) => self.on_before(id, &reply),
            Purpose::Decide(txn) => self.on_decided(txn, what.shard),
            Purpose::Outcome(txn) => self.on_outcome(txn, &reply),
            Purpose::End(who) => self.end_acknowledged(who, what.shard),
            Purpose::Allow(id) => self.on_allowed(id, &what, &reply),
            Purpose::Recall(volume) => self.on_recalled(volume, what.shard, &reply),
            Purpose::Attend(session) => self.on_attended(session, &reply),
            Purpose::Sessions => self.on_sessions(what.shard, reply),
            Purpose::LockWaits => self.on_lock_waits(reply),
            Purpose::BreakLockWait => self.search_again(),
            Purpose::Push => {}
        }
    }

    /// Bytes that were asked for are here, or not wanted any more: others may ask.
    fn span_came(&mut self, request: &PeerRequest) {
        if let PeerRequest::ReadSpan { .. } = request {
            let waiting = std::mem::take(&mut self.span_waits);
            self.ready.extend(waiting);
        }
    }

    /// One of the answers that a task waits for has come; with the last one it runs again.
    pub(crate) fn one_answer_less(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.pending = task.pending.saturating_sub(1);
        if task.pending == 0 && task.waiting == Waiting::Peers {
            self.ready.push_back(id);
        }
    }

    /// Nobody waits for these answers any more.
    pub(crate) fn forget_questions(&mut self, id: TaskId) {
        let waiting = std::mem::take(&mut self.span_waits);
        self.ready.extend(waiting);
        self.outstanding.retain(|_, what| {
            !matches!(what.purpose,
                Purpose::Ask(t)
                    | Purpose::Read(t)
                    | Purpose::Vote(t)
                    | Purpose::Before(t)
                    | Purpose::Allow(t) if t == id)
        });
    }
}
