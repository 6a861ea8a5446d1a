//! Frames from outside: decoding, who may send what, and the replies' way back.
//!
//! What must stay true: bytes from outside cost their sender at most its connection; a request is
//! executed only for a client that has registered on that connection.

use std::sync::Arc;

use super::hello::HELLO_PATIENCE_NS;
use super::task::{Answer, Caller, Task, Work};
use super::{Action, ConnId, Core, Ended, World};
use crate::ops;
use sealfs_protocol::codec;
use sealfs_protocol::header::{FLAG_ONE_WAY, Header, Kind};
use sealfs_protocol::limits::{CALL_DEADLINE_MS, CREDITS, REQUEST_SLOTS};
use sealfs_protocol::message::{FrameError, Hello, OpReply, Refusal, Reply, Request, Who};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{ClientId, Errno, InodeId, RenameVersion, ShardId, VolumeId};

/// Most operations in one request.
const OPERATIONS_MAX: usize = 4096;
impl<W: World> Core<W> {
    pub(super) fn on_frame(&mut self, conn: ConnId, header: &Header, body: &[u8], payload: &[u8]) {
        self.counters.requests += 1;
        match header.kind {
            Kind::Hello => match codec::decode::<Hello>(body) {
                Ok(hello) => {
                    let until = self.now.mono_ns + HELLO_PATIENCE_NS;
                    self.on_hello(conn, header.tag, hello, until);
                }
                Err(_) => self.refuse_frame(conn, header.tag, Errno::EPROTO, "malformed Hello"),
            },
            Kind::Request => match codec::decode::<Request>(body) {
                Ok(request) => self.on_request(conn, header, request, payload),
                Err(_) => self.refuse_frame(conn, header.tag, Errno::EPROTO, "malformed request"),
            },
            Kind::PeerRequest => match codec::decode::<PeerRequest>(body) {
                Ok(request) => self.on_peer_frame(conn, header, request, payload),
                Err(_) => self.refuse_frame(conn, header.tag, Errno::EPROTO, "malformed request"),
            },
            _ => {
                let text = "this is a server: it takes requests only";
                self.refuse_frame(conn, header.tag, Errno::EPROTO, text);
            }
        }
    }

    /// Says why and closes the connection.
    pub(super) fn refuse_frame(&mut self, conn: ConnId, tag: u64, errno: Errno, text: &str) {
        self.counters.malformed += 1;
        self.close_with(conn, tag, errno, text, false);
    }

    pub(super) fn disconnected(&mut self, conn: ConnId) {
        self.sessions.disconnected(conn);
        self.hellos.retain(|hello| hello.conn != conn);
    }

    pub(super) fn close_with(
        &mut self,
        conn: ConnId,
        tag: u64,
        errno: Errno,
        text: &str,
        again: bool,
    ) {
        let text = text.to_owned();
        let error = FrameError { errno, text, again };
        let body = encoded(&error);
        self.reply(
            conn,
            tag,
            Kind::Error,
            Header::new(Kind::Error),
            body,
            Vec::new(),
        );
        self.disconnected(conn);
        self.actions.push(Action::Close(conn));
    }

    pub(super) fn reply(
        &mut self,
        conn: ConnId,
        tag: u64,
        kind: Kind,
        like: Header,
        body: Vec<u8>,
        payload: Vec<u8>,
    ) {
        let header = Header {
            kind,
            tag,
            credits: CREDITS,
            incarnation: self.meta.incarnation(),
            ring_version: self.cluster.ring_version(),
            body_bytes: body.len() as u32,
            payload_bytes: payload.len() as u32,
            ..like
        };
        self.actions.push(Action::Reply {
            conn,
            header,
            body,
            payload,
        });
    }

    fn on_request(&mut self, conn: ConnId, header: &Header, request: Request, payload: &[u8]) {
        let Some(caller) = self.caller(conn, header) else {
            let text = "a request before Hello, or with a client or credential never registered";
            return self.refuse_frame(conn, header.tag, Errno::EPROTO, text);
        };
        let wanted: usize = request
            .ops
            .iter()
            .map(|e| ops::payload_bytes(&e.op))
            .fold(0, usize::saturating_add);
        if request.ops.len() > OPERATIONS_MAX
            || wanted > payload.len()
            || header.slot >= REQUEST_SLOTS
        {
            let text = "a request whose operations do not fit its frame";
            return self.refuse_frame(conn, header.tag, Errno::EPROTO, text);
        }
        let place = (caller.client, caller.slot, caller.sequence);
        let waiting = self.in_flight.get(&place).copied();
        if let Some(task) = waiting.and_then(|id| self.tasks.get_mut(&id)) {
            // The same request over another connection: its reply goes there, unless this is a late
            // copy from a connection that the client has given up since.
            if conn < task.caller.conn {
                return;
            }
            task.caller.conn = caller.conn;
            task.caller.tag = caller.tag;
            task.caller.deadline_ns = caller.deadline_ns;
            if task.parked {
                self.actions.push(Action::Park(conn));
            }
            return;
        }
        let id = self.fresh_task();
        let task = Task::new(id, caller, Work::Request(request));
        self.drive(task, Some(payload));
    }

    /// Who sends a request, as far as the connection proves it.
    fn caller(&self, conn: ConnId, header: &Header) -> Option<Caller> {
        let connection = self.sessions.connection(conn)?;
        let peer = matches!(connection.who, Who::Shard { .. });
        let foreign =
            matches!(connection.who, Who::Client { .. }) && header.client != connection.client;
        if peer || foreign {
            return None;
        }
        let credentials = Arc::clone(connection.credential(header.credential)?);
        Some(Caller {
            conn,
            tag: header.tag,
            flags: header.flags,
            client: connection.client,
            session: connection.session,
            volume: connection.volume,
            slot: header.slot,
            sequence: header.sequence,
            credentials,
            peer: ShardId::default(),
            rename_version: header.rename_version,
            ring_version: header.ring_version,
            deadline_ns: self.deadline(header.deadline_ms),
        })
    }

    fn deadline(&self, deadline_ms: u32) -> u64 {
        let ms = match deadline_ms {
            0 => CALL_DEADLINE_MS,
            ms => ms,
        };
        self.now.mono_ns + u64::from(ms) * 1_000_000
    }

    fn on_peer_frame(
        &mut self,
        conn: ConnId,
        header: &Header,
        request: PeerRequest,
        payload: &[u8],
    ) {
        let who = self.sessions.connection(conn).map(|c| &c.who);
        let Some(Who::Shard { shard, .. }) = who else {
            let text = "only a shard may ask this";
            return self.refuse_frame(conn, header.tag, Errno::EPROTO, text);
        };
        let caller = Caller {
            conn,
            tag: header.tag,
            peer: *shard,
            ring_version: header.ring_version,
            deadline_ns: self.deadline(header.deadline_ms),
            ..Caller::default()
        };
        if let PeerRequest::GiveBack { ino, .. } | PeerRequest::RemoveChunks { ino, .. } = &request
        {
            self.end_reserves(*ino);
        }
        let id = self.fresh_task();
        self.drive(Task::new(id, caller, Work::Peer(request)), Some(payload));
    }

    /// Whoever reserves space for a file here is asked no more: its owner has given the call up.
    fn end_reserves(&mut self, ino: InodeId) {
        let reserves = |t: &Task| matches!(&t.work, Work::Peer(PeerRequest::Reserve { ino: i, .. }) if *i == ino);
        let over = self.tasks.values().filter(|t| reserves(t));
        let over: Vec<_> = over.map(|t| t.id).collect();
        for id in over {
            if let Some(mut task) = self.tasks.remove(&id) {
                self.forget_questions(id);
                self.release_shared(&mut task);
            }
        }
    }

    /// Sends the replies of a request that has come to its end.
    pub(super) fn reply_request(&mut self, task: &mut Task) {
        let caller = &task.caller;
        if caller.flags & FLAG_ONE_WAY != 0 {
            return;
        }
        if task.parked {
            self.actions.push(Action::Unpark(caller.conn));
        }
        let reply = Reply {
            replies: std::mem::take(&mut task.replies),
            passed: std::mem::take(&mut task.passed),
            rename_version: self.current_version(caller.volume),
            written: self.last_index.0,
        };
        let body = encoded(&reply);
        let like = Header {
            client: caller.client,
            slot: caller.slot,
            sequence: caller.sequence,
            rename_version: reply.rename_version,
            ..Header::new(Kind::Reply)
        };
        let out = std::mem::take(&mut task.out);
        self.reply(caller.conn, caller.tag, Kind::Reply, like, body, out);
        self.hold_for_flush(caller.volume);
    }

    fn current_version(&self, volume: VolumeId) -> RenameVersion {
        self.versions.current(volume, self.now.mono_ns)
    }

    /// Answers another shard; `out` goes along.
    pub(super) fn reply_peer(
        &mut self,
        caller: &Caller,
        request: &PeerRequest,
        reply: &PeerReply,
        out: Vec<u8>,
    ) {
        if caller.conn == ConnId::default() {
            return;
        }
        let body = encoded(reply);
        let like = Header::new(Kind::PeerReply);
        self.reply(caller.conn, caller.tag, Kind::PeerReply, like, body, out);
        if let Some(volume) = request.volume() {
            self.hold_for_flush(volume);
        }
        if let PeerRequest::RemoveChunks { .. } = request {
            // Whoever asks forgets the file then, and nobody would look for its chunks again.
            self.hold_until_flushed();
        }
    }

    /// Why a request is refused as a whole, if it is.
    pub(super) fn refusal(&self, caller: &Caller) -> Option<Refusal> {
        if caller.client == ClientId(0) {
            return None;
        }
        let gone = !self.sessions.is_registered(caller.client)
            || self.sessions.has_ended(Ended::Client(caller.client));
        gone.then_some(Refusal::UnknownClient)
    }

    /// A request that waits is found again when it is sent a second time.
    pub(super) fn note_in_flight(&mut self, task: &Task) {
        if let Work::Request(_) = task.work
            && task.caller.client.0 != 0
        {
            let caller = &task.caller;
            let place = (caller.client, caller.slot, caller.sequence);
            self.in_flight.insert(place, task.id);
        }
    }

    pub(super) fn forget_in_flight(&mut self, task: &Task) {
        let caller = &task.caller;
        let place = (caller.client, caller.slot, caller.sequence);
        if self.in_flight.get(&place) == Some(&task.id) {
            self.in_flight.remove(&place);
        }
    }

    /// A shard's own request to itself, as a task that wakes `follower` at its end.
    pub(crate) fn start_local(&mut self, request: PeerRequest, follower: u64) {
        let id = self.fresh_task();
        let caller = Caller {
            deadline_ns: self.deadline(0),
            ..Caller::default()
        };
        let mut task = Task::new(id, caller, Work::Peer(request));
        task.followers.push(follower);
        self.drive(task, Some(&[]));
    }

    /// The reply of an operation that halted for good.
    pub(super) fn errno_answer(errno: Errno) -> Answer {
        Answer::Op(OpReply::Errno(errno))
    }
}

pub(super) fn encoded<T>(value: &T) -> Vec<u8>
where
    T: for<'a> rkyv::Serialize<
            rkyv::api::high::HighSerializer<
                Vec<u8>,
                rkyv::ser::allocator::ArenaHandle<'a>,
                rkyv::rancor::Error,
            >,
        >,
{
    let buffer = Vec::with_capacity(256);
    // Our own values always encode; an empty body would be refused as malformed by the receiver.
    rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(value, buffer).unwrap_or_default()
}
