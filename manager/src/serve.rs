//! The daemon's loop: one thread, mio, frames in, [`Registry::apply`], store, replies out.
//!
//! What must stay true: a change is durable before its reply leaves; a malformed frame costs its
//! sender the connection and nobody else anything; connections are bounded; what bad peers do is
//! counted and logged at a bounded rate.

use crate::state::{PeerId, Registry};
use crate::store::Store;
use mio::{Events, Poll, Token};
use sealfs_protocol::codec;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::{ManagerReply, ManagerRequest};
use sealfs_transport::TransportError;
use sealfs_transport::tcp::server::{Listener, Outgoing, Received, ServerConnection};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most connections at once; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 4096;
/// Shortest time between two log lines about bad peers.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);
/// How often the loop wakes without an event, to log what was held back.
const TICK: Duration = Duration::from_secs(1);
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;

const LISTENER: Token = Token(0);

/// The running daemon.
pub struct Server {
    listener: Listener,
    poll: Poll,
    registry: Registry,
    store: Store,
    connections: BTreeMap<usize, ServerConnection>,
    next_token: usize,
    started: Instant,
    complaints: Complaints,
}

impl Server {
    pub fn new(
        mut listener: Listener,
        registry: Registry,
        store: Store,
    ) -> Result<Server, TransportError> {
        let poll = Poll::new().map_err(|e| os("epoll_create", &e))?;
        listener.register(poll.registry(), LISTENER)?;
        Ok(Server {
            listener,
            poll,
            registry,
            store,
            connections: BTreeMap::new(),
            next_token: LISTENER.0 + 1,
            started: Instant::now(),
            complaints: Complaints::default(),
        })
    }

    /// Serves until the process ends; returns only when the kernel refuses to wait.
    pub fn run(mut self) -> Result<(), TransportError> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                outcome => outcome.map_err(|e| os("epoll_wait", &e))?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => {}
                    token => self.drive(token, Some(event)),
                }
            }
            self.accept();
            self.complaints.log();
        }
    }

    fn accept(&mut self) {
        loop {
            let mut connection = match self.listener.accept() {
                Ok(Some(connection)) => connection,
                Ok(None) => return,
                Err(error) => return self.complaints.add(&format!("accept: {error}")),
            };
            if self.connections.len() >= CONNECTIONS_MAX {
                self.complaints.add("too many connections");
                continue;
            }
            let token = Token(self.next_token);
            self.next_token += 1;
            if let Err(error) = connection.register(self.poll.registry(), token) {
                self.complaints.add(&format!("epoll_ctl: {error}"));
                continue;
            }
            self.connections.insert(token.0, connection);
            self.drive(token, None);
        }
    }

    /// Answers all that has arrived over one connection; drops it when it has ended.
    fn drive(&mut self, token: Token, event: Option<&mio::event::Event>) {
        let Some(mut connection) = self.connections.remove(&token.0) else {
            return;
        };
        let peer = PeerId(token.0 as u64);
        let outcome = event
            .map_or(Ok(()), |e| connection.on_event(e))
            .and_then(|()| self.answer_all(&mut connection, peer));
        match outcome {
            Ok(true) => {
                self.connections.insert(token.0, connection);
            }
            Ok(false) => self.registry.disconnected(peer),
            Err(error) => {
                self.registry.disconnected(peer);
                if !matches!(error, TransportError::Closed) {
                    self.complaints.add(&error.to_string());
                }
            }
        }
    }

    /// Whether the connection stays.
    fn answer_all(
        &mut self,
        connection: &mut ServerConnection,
        peer: PeerId,
    ) -> Result<bool, TransportError> {
        loop {
            loop {
                let (tag, request) = match connection.receive()? {
                    Received::Blocked => break,
                    Received::Closed => return Ok(false),
                    Received::Frame(frame) => {
                        if frame.header.kind != Kind::ManagerRequest {
                            return Err(TransportError::Unexpected("not a request to a manager"));
                        }
                        let request: ManagerRequest = codec::decode(frame.body)
                            .map_err(|_| TransportError::Unexpected("malformed request"))?;
                        (frame.header.tag, request)
                    }
                };
                let reply = self.answer(request, peer);
                let body = codec::encode(&reply)
                    .map_err(|_| TransportError::Unexpected("reply cannot be encoded"))?;
                let mut header = Header::new(Kind::ManagerReply);
                header.tag = tag;
                header.ring_version = self.registry.durable().ring.version;
                connection.queue(header, &body, Outgoing::None);
            }
            connection.flush()?;
            if !connection.has_work() {
                return Ok(true);
            }
        }
    }

    fn answer(&mut self, request: ManagerRequest, peer: PeerId) -> ManagerReply {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let applied = self.registry.apply(request, peer, now_ms);
        if let Some(next) = applied.next {
            if let Err(error) = self.store.save(&next) {
                log::error!("{error}");
                return ManagerReply::Refused(format!("nothing was changed: {error}"));
            }
            log::info!(
                "state {}: ring {}, {} servers, {} volumes",
                next.version,
                next.ring.version.0,
                next.members.len(),
                next.volumes.len()
            );
            self.registry.install(next);
        }
        if let ManagerReply::Refused(why) = &applied.reply {
            log::warn!("refused: {why}");
        }
        applied.reply
    }
}

/// Counts what bad peers do, and says so now and then.
#[derive(Default)]
struct Complaints {
    total: u64,
    unsaid: u64,
    last: String,
    said_at: Option<Instant>,
}

impl Complaints {
    fn add(&mut self, what: &str) {
        self.total += 1;
        self.unsaid += 1;
        what.clone_into(&mut self.last);
        self.log();
    }

    fn log(&mut self) {
        let rested = self
            .said_at
            .is_none_or(|at| at.elapsed() >= COMPLAINT_INTERVAL);
        if self.unsaid > 0 && rested {
            log::warn!(
                "{} connections closed ({} since start), the last: {}",
                self.unsaid,
                self.total,
                self.last
            );
            self.unsaid = 0;
            self.said_at = Some(Instant::now());
        }
    }
}

fn os(what: &'static str, error: &std::io::Error) -> TransportError {
    TransportError::Os {
        what,
        errno: sealfs_protocol::Errno(
            error
                .raw_os_error()
                .unwrap_or(sealfs_protocol::Errno::EIO.0),
        ),
    }
}
