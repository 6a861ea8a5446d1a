//! The shard's thread: sockets in, the core, replies out.
//!
//! One loop over mio. All frames that have arrived are stepped through the core, which then writes
//! its log once for all of them; only after that do replies leave, gathered per connection. No lock
//! and no other thread stands between a request and its reply. What must stay true: a peer's bytes
//! cost it at most its own connection; connections are bounded.

pub mod jobs;
mod outbound;
mod peers;
mod waiting;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mio::{Events, Poll, Token};
use sealfs_protocol::ShardId;
use sealfs_protocol::header::Kind;
use sealfs_protocol::manager::ClusterState;
use sealfs_transport::TransportError;
use sealfs_transport::tcp::pool::Pool;
use sealfs_transport::tcp::server::{Listener, Received, ServerConnection};

use crate::core::Core;
use crate::core::event::{Action, ConnId, Event, Now, World};
use crate::env::{Clock, SystemClock};
use crate::membership::Note;
use jobs::{Done, Jobs};
pub use peers::Me;
use peers::Peers;
use waiting::Waiting;

/// Most connections at once; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 16 << 10;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// Longest sleep without an event.
const TICK: Duration = Duration::from_millis(50);
/// How often the store's fill is reported, in ns.
const USAGE_EVERY_NS: u64 = 1_000_000_000;
/// Shortest time between two log lines about bad peers, in ns.
const COMPLAINT_NS: u64 = 5_000_000_000;

pub const LISTENER: Token = Token(0);
pub const WAKER: Token = Token(1);
const FIRST: usize = 2;

struct Connection {
    link: ServerConnection,
    /// The shard at its other end, if we made it.
    peer: Option<ShardId>,
    /// Frames were queued since the last flush.
    queued: bool,
}

pub struct Shard<W: World> {
    core: Core<W>,
    poll: Poll,
    listener: Listener,
    pool: Pool,
    connections: HashMap<Token, Connection>,
    next_token: usize,
    /// Where the last event came from.
    last: Token,
    peers: Peers,
    jobs: Jobs<W>,
    inbox: Receiver<Done>,
    notes: crossbeam::channel::Sender<Note>,
    clock: SystemClock,
    actions: Vec<Action<W>>,
    /// Connections to be flushed at the end of the batch.
    touched: Vec<Token>,
    /// Connections that may have frames left in their buffer.
    held: Vec<Token>,
    reported_ns: u64,
    malformed: u64,
    complained_ns: u64,
    stopping: bool,
}

/// What the loop is made of.
pub struct Parts<W: World> {
    pub core: Core<W>,
    pub me: Me,
    pub poll: Poll,
    pub listener: Listener,
    pub pool: Pool,
    pub jobs: Jobs<W>,
    pub inbox: Receiver<Done>,
    pub notes: crossbeam::channel::Sender<Note>,
}

impl<W: World> Shard<W> {
    pub fn new(parts: Parts<W>) -> Shard<W> {
        Shard {
            core: parts.core,
            poll: parts.poll,
            listener: parts.listener,
            pool: parts.pool,
            connections: HashMap::new(),
            next_token: FIRST,
            last: LISTENER,
            peers: Peers::new(parts.me),
            jobs: parts.jobs,
            inbox: parts.inbox,
            notes: parts.notes,
            clock: SystemClock::new(),
            actions: Vec::new(),
            touched: Vec::new(),
            held: Vec::new(),
            reported_ns: 0,
            malformed: 0,
            complained_ns: 0,
            stopping: false,
        }
    }

    fn now(&self) -> Now {
        Now {
            mono_ns: self.clock.now_ns(),
            wall_ns: self.clock.wall_ns(),
        }
    }

    /// Takes a published state before serving begins.
    pub fn adopt(&mut self, state: ClusterState) {
        let now = self.now();
        self.take_state(state, now);
    }

    /// Serves until the process is asked to end; returns only then, or when the kernel refuses.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut now = self.now();
        let mut waiting = Waiting::new(now.mono_ns);
        while !self.stopping {
            let timeout = if waiting.looks(now.mono_ns) {
                Duration::ZERO
            } else {
                self.longest_sleep()
            };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            now = self.now();
            let mut found = false;
            for event in &events {
                found = true;
                match event.token() {
                    LISTENER => self.accept(now),
                    WAKER => {}
                    token => self.drive(token, Some(event), now),
                }
            }
            found |= self.take_done(now);
            found |= self.drive_held(now);
            let woken = self.core.next_wake_ns().is_some_and(|at| at <= now.mono_ns);
            if found || woken || !waiting.looks(now.mono_ns) {
                self.end_batch(now);
            }
            if found {
                waiting.worked(now.mono_ns, self.clock.now_ns());
            } else {
                waiting.pause(now.mono_ns, || self.last_peer_was_here());
            }
        }
        self.core.write_access_times();
        self.end_batch(now);
        self.jobs.finish();
        Ok(())
    }

    /// Whether whoever sent last ran on this core.
    fn last_peer_was_here(&self) -> bool {
        let last = self.connections.get(&self.last);
        last.is_some_and(|c| c.link.peer_was_on_this_core())
    }

    fn longest_sleep(&self) -> Duration {
        let now = self.clock.now_ns();
        let wake = self.core.next_wake_ns();
        wake.map_or(TICK, |at| {
            TICK.min(Duration::from_nanos(at.saturating_sub(now)))
        })
    }

    fn accept(&mut self, now: Now) {
        loop {
            let mut link = match self.listener.accept() {
                Ok(Some(link)) => link,
                Ok(None) => return,
                Err(e) => return log::warn!("accept: {e}"),
            };
            if self.connections.len() >= CONNECTIONS_MAX {
                self.complain(now, "too many connections");
                continue;
            }
            let token = self.fresh_token();
            if let Err(e) = link.register(self.poll.registry(), token) {
                self.complain(now, &e.to_string());
                continue;
            }
            self.connections.insert(
                token,
                Connection {
                    link,
                    peer: None,
                    queued: false,
                },
            );
            self.drive(token, None, now);
        }
    }

    fn fresh_token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token - 1)
    }

    /// Steps all that has arrived over one connection through the core.
    fn drive(&mut self, token: Token, event: Option<&mio::event::Event>, now: Now) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        self.last = token;
        let ready = event.map_or(Ok(()), |e| connection.link.on_event(e));
        let outcome = ready.and_then(|()| self.receive_all(token, now));
        match outcome {
            // A writable event may have made room for what waits.
            Ok(true) => self.touched.push(token),
            Ok(false) => self.disconnect(token, now),
            Err(e) => {
                if !matches!(e, TransportError::Closed) {
                    self.complain(now, &e.to_string());
                }
                self.disconnect(token, now);
            }
        }
    }

    /// Whether the connection stays.
    fn receive_all(&mut self, token: Token, now: Now) -> Result<bool, TransportError> {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(true);
        };
        let conn = ConnId(token.0 as u64);
        loop {
            let frame = match connection.link.receive()? {
                Received::Frame(frame) => frame,
                Received::Blocked => return Ok(true),
                Received::Closed => return Ok(false),
            };
            let header = &frame.header;
            let (body, payload) = (frame.body, frame.payload.as_slice());
            let event = match connection.peer {
                None => Event::Frame {
                    conn,
                    header,
                    body,
                    payload,
                },
                Some(shard) if header.kind == Kind::HelloReply => {
                    self.peers.set_up(shard);
                    Event::PeerUp(shard)
                }
                Some(from) if header.kind == Kind::PeerReply => Event::PeerReply {
                    from,
                    header,
                    body,
                    payload,
                },
                Some(_) => return Err(TransportError::Unexpected("a shard that asks backwards")),
            };
            self.core.step(event, now, &mut self.actions);
        }
    }

    /// What other threads have sent; whether there was something.
    fn take_done(&mut self, now: Now) -> bool {
        let mut found = false;
        while let Ok(done) = self.inbox.try_recv() {
            found = true;
            match done {
                Done::Flush(done) => self
                    .core
                    .step(Event::FlushDone(done), now, &mut self.actions),
                Done::Commit(done) => {
                    self.core
                        .step(Event::CommitDone(done), now, &mut self.actions);
                }
                Done::State(state) => self.take_state(state, now),
                Done::Stop => self.stopping = true,
            }
        }
        found
    }

    fn take_state(&mut self, state: ClusterState, now: Now) {
        for token in self.peers.adopt(&state.ring) {
            self.connections.remove(&token);
        }
        self.core.step(Event::State(state), now, &mut self.actions);
        let adopted = Note::Adopted(self.core.state_version());
        // If it is lost, the manager sends the state once more.
        let _ = self.notes.try_send(adopted);
    }

    /// Connections whose frames were held back by credits, or by replies not yet sent.
    fn drive_held(&mut self, now: Now) -> bool {
        let mut found = false;
        let touched = std::mem::take(&mut self.touched);
        for token in &touched {
            if self
                .connections
                .get(token)
                .is_some_and(|c| c.link.has_work())
            {
                found = true;
                self.drive(*token, None, now);
            }
        }
        // A socket that was full may take the rest of its replies now.
        self.touched.extend(touched);
        found
    }

    /// Lets the core write its log, carries out what it wants, sends what was queued.
    fn end_batch(&mut self, now: Now) {
        self.core.step(Event::Tick, now, &mut self.actions);
        self.core.finish_batch(now, &mut self.actions);
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.carry_out(action);
        }
        self.actions = actions;
        self.flush_queued(now);
        self.connect_peers(now);
        if now.mono_ns - self.reported_ns > USAGE_EVERY_NS {
            self.reported_ns = now.mono_ns;
            let note = Note::Usage(self.core.usage(), self.core.volume_uses());
            let _ = self.notes.try_send(note);
        }
    }

    fn connect_peers(&mut self, now: Now) {
        let (mut next, mut fresh) = (self.next_token, Vec::new());
        let mut owners = HashMap::new();
        self.peers.connect_missing(
            now.mono_ns,
            &self.pool,
            self.poll.registry(),
            |shard| {
                next += 1;
                owners.insert(Token(next - 1), shard);
                Token(next - 1)
            },
            |token, link| fresh.push((token, link)),
        );
        self.next_token = next;
        for (token, link) in fresh {
            let peer = owners.get(&token).copied();
            self.connections.insert(
                token,
                Connection {
                    link,
                    peer,
                    queued: false,
                },
            );
        }
    }

    fn disconnect(&mut self, token: Token, now: Now) {
        let Some(connection) = self.connections.remove(&token) else {
            return;
        };
        if let Some(shard) = connection.peer {
            return self.peers.lost(shard, token, now.mono_ns);
        }
        let conn = ConnId(token.0 as u64);
        let gone = Event::Disconnected(conn);
        self.core.step(gone, now, &mut self.actions);
    }

    /// Counts what bad peers do, and says so now and then.
    fn complain(&mut self, now: Now, what: &str) {
        self.malformed += 1;
        if self.malformed == 1 || now.mono_ns - self.complained_ns > COMPLAINT_NS {
            self.complained_ns = now.mono_ns;
            log::warn!(
                "{} connections closed since start, the last: {what}",
                self.malformed
            );
        }
    }
}
