//! The server's side of TCP: sockets under mio, bounded buffers, replies gathered per batch.
//!
//! One thread owns a connection and drives it so:
//! register once (the interest never changes: mio is edge-triggered); on an event call
//! [`ServerConnection::on_event`], or [`ServerConnection::probe`] when polling without one; then
//! [`ServerConnection::receive`] until it says `Blocked`; [`ServerConnection::queue`] replies; after
//! the batch [`ServerConnection::flush`]. While [`ServerConnection::has_work`] is true there is more
//! to receive without a further event.
//!
//! What must stay true: a peer that has not said hello makes us hold no more than
//! [`UNGREETED_MAX_BYTES`]; one that does not read its replies is not read from; one with more
//! requests under way than its credits waits.

use super::inbound::{Inbound, ParsedPayload, ReadEnd};
use super::loopback;
use super::outbound::Outbound;
use super::pool::{Buffer, Pool};
use crate::error::TransportError;
use crate::url::Url;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use sealfs_protocol::Errno;
use sealfs_protocol::header::{FLAG_ONE_WAY, Header};
use sealfs_protocol::limits::{BODY_MAX_BYTES, CREDITS, PAYLOAD_MAX_BYTES};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// Longest body and payload of a peer that has not been greeted, in bytes.
pub const UNGREETED_MAX_BYTES: usize = 64 << 10;
/// With more than this waiting to be sent, no further request is received, in bytes.
pub const OUTBOUND_MAX_BYTES: usize = 16 << 20;

/// A listening socket.
pub struct Listener {
    socket: TcpListener,
    pool: Pool,
}

/// A connection to a client or, between servers, to another shard.
pub struct ServerConnection {
    stream: TcpStream,
    inbound: Inbound,
    outbound: Outbound,
    greeted: bool,
    connecting: bool,
    /// The socket had nothing more when last read, and no event came since.
    drained: bool,
    /// The peer shut its side down: a short read proves nothing any more.
    closing: bool,
    /// Requests received and not yet answered.
    under_way: u32,
    /// Frames may wait in the receive buffer, since the peer was held back.
    held: bool,
}

/// What `receive` found.
pub enum Received<'a> {
    Frame(Frame<'a>),
    /// Nothing for now: wait for an event, or answer and flush first.
    Blocked,
    Closed,
}

/// One whole frame.
pub struct Frame<'a> {
    pub header: Header,
    pub body: &'a [u8],
    pub payload: Payload<'a>,
}

/// The bytes behind a body: in the receive buffer, or in a pooled buffer of their own.
#[derive(Debug)]
pub enum Payload<'a> {
    Small(&'a [u8]),
    Large(Buffer),
}

impl Payload<'_> {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Payload::Small(bytes) => bytes,
            Payload::Large(buffer) => buffer,
        }
    }

    /// An owned buffer with the payload; copies small ones only.
    pub fn into_buffer(self, pool: &Pool) -> Buffer {
        match self {
            Payload::Large(buffer) => buffer,
            Payload::Small(bytes) => {
                let mut buffer = pool.get(bytes.len());
                buffer.copy_from_slice(bytes);
                buffer
            }
        }
    }
}

/// The payload of a frame to send: small ones are copied, buffers are sent from where they are.
#[derive(Debug)]
pub enum Outgoing<'a> {
    None,
    Slice(&'a [u8]),
    /// Bytes made for this frame alone.
    Owned(Vec<u8>),
    Buffers(Vec<Buffer>),
}

impl Outgoing<'_> {
    fn len(&self) -> usize {
        match self {
            Outgoing::None => 0,
            Outgoing::Slice(bytes) => bytes.len(),
            Outgoing::Owned(bytes) => bytes.len(),
            Outgoing::Buffers(buffers) => buffers.iter().map(|b| b.len()).sum(),
        }
    }
}

impl Listener {
    /// Listens at `url`; port 0 takes any free one. `pool` serves all its connections.
    pub fn bind(url: &Url, pool: Pool) -> Result<Listener, TransportError> {
        let socket = TcpListener::bind(url.address).map_err(|e| os("listen", &e))?;
        Ok(Listener { socket, pool })
    }

    pub fn url(&self) -> Result<Url, TransportError> {
        let address = self
            .socket
            .local_addr()
            .map_err(|e| os("getsockname", &e))?;
        Ok(Url::tcp(address))
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> Result<(), TransportError> {
        registry
            .register(&mut self.socket, token, Interest::READABLE)
            .map_err(|e| os("epoll_ctl", &e))
    }

    /// The next connection; `None` when there is none. Call until `None` after each event; an error
    /// (out of descriptors) leaves the queue as it is: call again later.
    pub fn accept(&self) -> Result<Option<ServerConnection>, TransportError> {
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => {
                    return ServerConnection::new(stream, peer.ip(), false, self.pool.clone())
                        .map(Some);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if is_passing(&e) => {}
                Err(e) => return Err(os("accept", &e)),
            }
        }
    }
}

/// Errors of accept(2) that concern one connection that is gone already.
fn is_passing(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

impl ServerConnection {
    fn new(
        stream: TcpStream,
        peer: IpAddr,
        connecting: bool,
        pool: Pool,
    ) -> Result<Self, TransportError> {
        stream
            .set_nodelay(true)
            .map_err(|e| os("setsockopt TCP_NODELAY", &e))?;
        loopback::tune(stream.as_raw_fd(), peer);
        Ok(ServerConnection {
            stream,
            inbound: Inbound::new(pool),
            outbound: Outbound::default(),
            greeted: connecting,
            connecting,
            drained: false,
            closing: false,
            under_way: 0,
            held: false,
        })
    }

    /// Begins to connect to another server. Frames may be queued at once; failure shows in
    /// [`Self::on_event`].
    pub fn connect(url: &Url, pool: Pool) -> Result<ServerConnection, TransportError> {
        let stream = TcpStream::connect(url.address).map_err(|e| os("connect", &e))?;
        ServerConnection::new(stream, url.address.ip(), true, pool)
    }

    /// Registers for reading and writing, once.
    pub fn register(&mut self, registry: &Registry, token: Token) -> Result<(), TransportError> {
        registry
            .register(
                &mut self.stream,
                token,
                Interest::READABLE | Interest::WRITABLE,
            )
            .map_err(|e| os("epoll_ctl", &e))
    }

    /// Takes the connection out of `registry`; dropping it closes it.
    pub fn deregister(&mut self, registry: &Registry) -> Result<(), TransportError> {
        registry
            .deregister(&mut self.stream)
            .map_err(|e| os("epoll_ctl", &e))
    }

    /// The peer has said hello and was accepted: the full limits apply from now on.
    pub fn set_greeted(&mut self) {
        self.greeted = true;
    }

    /// Whether the other end is on this node.
    pub fn peer_is_loopback(&self) -> bool {
        self.stream.peer_addr().is_ok_and(|a| a.ip().is_loopback())
    }

    /// Whether the peer was last on the core that this thread runs on.
    pub fn peer_was_on_this_core(&self) -> bool {
        loopback::peer_was_on_this_core(self.stream.as_raw_fd())
    }

    /// Notes an event, and finishes connecting. An error means that the connection is of no use.
    pub fn on_event(&mut self, event: &Event) -> Result<(), TransportError> {
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.drained = false;
        }
        self.closing |= event.is_read_closed() || event.is_error();
        if self.connecting && (event.is_writable() || event.is_error()) {
            if let Ok(Some(e)) = self.stream.take_error() {
                return Err(connect_error(&e));
            }
            self.connecting = self.stream.peer_addr().is_err();
        }
        Ok(())
    }

    /// The next `receive` asks the socket even though no event came.
    pub fn probe(&mut self) {
        self.drained = false;
    }

    /// Whether `receive` may find something without a further event. It cannot, after `Blocked`,
    /// unless replies were queued or flushed since.
    pub fn has_work(&self) -> bool {
        (!self.drained || self.held) && !self.is_held_back()
    }

    fn is_held_back(&self) -> bool {
        self.under_way >= u32::from(CREDITS) || self.outbound.bytes() > OUTBOUND_MAX_BYTES
    }

    /// The next frame. Requests with a reply to come count against the peer's credits.
    pub fn receive(&mut self) -> Result<Received<'_>, TransportError> {
        let limit = if self.greeted {
            (BODY_MAX_BYTES + PAYLOAD_MAX_BYTES) as usize
        } else {
            UNGREETED_MAX_BYTES
        };
        let parsed = loop {
            self.held = self.is_held_back();
            if self.connecting || self.held {
                return Ok(Received::Blocked);
            }
            if let Some(parsed) = self.inbound.parse(limit)? {
                break parsed;
            }
            if self.drained {
                return Ok(Received::Blocked);
            }
            match self.inbound.read(&mut self.stream) {
                Ok(ReadEnd::Closed) => return Ok(Received::Closed),
                Ok(ReadEnd::Drained) => self.drained = !self.closing,
                Ok(ReadEnd::Full) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.drained = true,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Received::Closed);
                }
                Err(e) => return Err(os("recv", &e)),
            }
        };
        if is_request(&parsed.header) {
            self.under_way += 1;
        }
        Ok(Received::Frame(Frame {
            header: parsed.header,
            body: self.inbound.bytes(parsed.body),
            payload: match parsed.payload {
                ParsedPayload::Here(range) => Payload::Small(self.inbound.bytes(range)),
                ParsedPayload::Apart(buffer) => Payload::Large(buffer),
            },
        }))
    }

    /// Queues a frame; its lengths are filled in here. A reply gives its request's credit back.
    pub fn queue(&mut self, mut header: Header, body: &[u8], payload: Outgoing<'_>) {
        header.body_bytes = body.len() as u32;
        header.payload_bytes = payload.len() as u32;
        if !is_request(&header) {
            self.under_way = self.under_way.saturating_sub(1);
        }
        self.outbound.push(&header.encode());
        self.outbound.push(body);
        match payload {
            Outgoing::None => {}
            Outgoing::Slice(bytes) => self.outbound.push(bytes),
            Outgoing::Owned(bytes) => self.outbound.push_owned(bytes),
            Outgoing::Buffers(buffers) => {
                for buffer in buffers {
                    if buffer.len() <= 4096 {
                        self.outbound.push(&buffer);
                    } else {
                        self.outbound.push_buffer(buffer);
                    }
                }
            }
        }
    }

    /// A request waits for something outside (a lock): it holds no credit until it is answered,
    /// and its answer gives none back.
    pub fn park(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// The answer to a parked request is about to be queued.
    pub fn unpark(&mut self) {
        self.under_way += 1;
    }

    /// Sends what is queued. False: the socket is full, a writable event will come.
    pub fn flush(&mut self) -> Result<bool, TransportError> {
        if self.connecting {
            return Ok(self.outbound.bytes() == 0);
        }
        self.outbound
            .flush(&mut self.stream)
            .map_err(|e| os("send", &e))
    }

    /// Bytes queued and not sent.
    pub fn unsent_bytes(&self) -> usize {
        self.outbound.bytes()
    }
}

/// Whether the frame asks for an answer.
fn is_request(header: &Header) -> bool {
    use sealfs_protocol::header::Kind;
    let asks = match header.kind {
        Kind::Hello | Kind::Request | Kind::PeerRequest | Kind::ManagerRequest => true,
        Kind::HelloReply | Kind::Reply | Kind::PeerReply | Kind::ManagerReply | Kind::Error => {
            false
        }
    };
    asks && header.flags & FLAG_ONE_WAY == 0
}

fn connect_error(e: &io::Error) -> TransportError {
    match e.kind() {
        io::ErrorKind::ConnectionRefused => TransportError::Refused,
        _ => os("connect", e),
    }
}

fn os(what: &'static str, e: &io::Error) -> TransportError {
    match e.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => TransportError::Closed,
        _ => TransportError::Os {
            what,
            errno: Errno(e.raw_os_error().unwrap_or(Errno::EIO.0)),
        },
    }
}
