//! A simulated world for the client: a clock that only waits move, and servers that are closures.
//!
//! A frame that a client sends is answered at once by the script, on the sender's own thread, so a
//! test is one sequence of events that is the same each time.

#![allow(dead_code, reason = "each test file uses its part of this module")]

use sealfs_client::{Client, Config, Identity};
use sealfs_protocol::attr::Layout;
use sealfs_protocol::header::{FLAG_ONE_WAY, HEADER_BYTES, Header, Kind};
use sealfs_protocol::manager::{ClusterState, Durability, Volume};
use sealfs_protocol::message::{Credentials, Hello, HelloReply, OpReply, Reply, Request};
use sealfs_protocol::ring::{Ring, ShardInfo};
use sealfs_protocol::{ClientId, ClusterId, Incarnation, RenameVersion, SessionId, ShardId};
use sealfs_protocol::{VolumeId, codec};
use sealfs_transport::TransportError;
use sealfs_transport::Url;
use sealfs_transport::memory::{IoVec, IoVecMut};
use sealfs_transport::tcp::client::{Ready, Until};
use sealfs_transport::time::Instant;
use sealfs_transport::world::World;
use sealfs_transport::world::sim::{SimStream, SimWorld, gather, scatter};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const VOLUME: VolumeId = VolumeId(1);

/// What a server does with a frame.
pub enum Act {
    Reply(Vec<OpReply>, Vec<u8>),
    /// With another rename version and directories passed.
    Full(Reply, Vec<u8>),
    Silence,
    Hang,
}

/// A frame as a server sees it.
pub struct Seen {
    /// Index of the server.
    pub server: usize,
    pub header: Header,
    pub request: Request,
    pub payload: Vec<u8>,
}

type Script = Box<dyn FnMut(&Seen) -> Act + Send>;

pub struct Sim {
    now: AtomicU64,
    randoms: AtomicU64,
    script: Mutex<Script>,
    /// Whether servers know the client when it says hello, and how often it did.
    pub known: Mutex<bool>,
    known_from: AtomicUsize,
    pub hellos: Mutex<Vec<Hello>>,
    /// So many connections break before their greeting is answered.
    pub lost_greetings: AtomicUsize,
    /// Servers that refuse connections.
    pub down: Mutex<Vec<usize>>,
    pub ring: Mutex<Ring>,
    pub incarnation: AtomicU64,
}

pub struct SimHandle(pub Arc<Sim>);

struct Stream {
    sim: Arc<Sim>,
    server: usize,
    io: Mutex<Io>,
}

#[derive(Default)]
struct Io {
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    closed: bool,
}

/// A ring of `servers` shards at sim addresses.
pub fn ring(servers: u32) -> Ring {
    let members = (0..servers).map(|i| ShardInfo {
        id: ShardId(i + 1),
        server: format!("server-{i}"),
        addresses: vec![format!("tcp://127.0.0.1:{}", 1000 + i)],
        weight: 1,
    });
    Ring::empty(ClusterId(7), 64).with_members(members.collect())
}

pub fn state(ring: Ring) -> ClusterState {
    ClusterState {
        version: 1,
        ring,
        volumes: vec![Volume {
            id: VOLUME,
            name: "v".into(),
            durability: Durability::Fsync,
            layout: Layout::DEFAULT,
            root_uid: 0,
            root_gid: 0,
            root_mode: 0o755,
            quota_bytes: 0,
            quota_inodes: 0,
            read_only: false,
        }],
        deleted: vec![],
    }
}

/// A client of simulated servers that do what `script` says.
pub fn client(
    servers: u32,
    script: impl FnMut(&Seen) -> Act + Send + 'static,
) -> (Client, Arc<Sim>) {
    let sim = Arc::new(Sim {
        now: AtomicU64::new(1_000_000_000),
        randoms: AtomicU64::new(1),
        script: Mutex::new(Box::new(script)),
        known: Mutex::new(true),
        known_from: AtomicUsize::new(usize::MAX),
        hellos: Mutex::default(),
        lost_greetings: AtomicUsize::new(0),
        down: Mutex::default(),
        ring: Mutex::new(ring(servers)),
        incarnation: AtomicU64::new(1),
    });
    let mut config = Config::new("v", b"/sealfs");
    config.cluster_state = Some(state(ring(servers)));
    config.world = World::Sim(Arc::new(SimHandle(Arc::clone(&sim))));
    let identity = Identity {
        client: ClientId(42),
        session: SessionId(43),
        pid: 1,
        credentials: Credentials::default(),
    };
    (Client::connect(config, identity).unwrap(), sim)
}

impl Sim {
    /// The greetings after so many say that the client is known.
    pub fn knows_after(&self, greetings: usize) {
        self.known_from.store(greetings, SeqCst);
    }

    pub fn now_ms(&self) -> u64 {
        self.now.load(SeqCst) / 1_000_000
    }
}

impl SimWorld for SimHandle {
    fn now(&self) -> Instant {
        Instant(self.0.now.load(SeqCst))
    }

    fn sleep(&self, d: Duration) {
        self.0.now.fetch_add(d.as_nanos() as u64, SeqCst);
    }

    fn random(&self) -> u128 {
        u128::from(self.0.randoms.fetch_add(1, SeqCst))
    }

    fn connect(&self, url: &Url) -> Result<Box<dyn SimStream>, TransportError> {
        let server = usize::from(url.address.port()) - 1000;
        if self.0.down.lock().unwrap().contains(&server) {
            return Err(TransportError::Refused);
        }
        Ok(Box::new(Stream {
            sim: Arc::clone(&self.0),
            server,
            io: Mutex::default(),
        }))
    }
}

impl SimStream for Stream {
    fn send(&self, from: &[IoVec<'_>]) -> Result<Option<usize>, TransportError> {
        let bytes = gather(from);
        let mut io = self.io.lock().unwrap();
        if io.closed {
            return Err(TransportError::Closed);
        }
        io.inbox.extend(&bytes);
        while let Some((header, body, payload)) = take_frame(&mut io.inbox) {
            self.answer(&mut io, header, &body, payload);
        }
        Ok(Some(bytes.len()))
    }

    fn receive(&self, into: &mut [IoVecMut<'_>]) -> Result<Option<usize>, TransportError> {
        let mut io = self.io.lock().unwrap();
        if io.outbox.is_empty() {
            return if io.closed {
                Err(TransportError::Closed)
            } else {
                Ok(None)
            };
        }
        let n = scatter(&io.outbox, into);
        io.outbox.drain(..n);
        Ok(Some(n))
    }

    fn wait(&self, _: Until, timeout: Duration) -> Result<Ready, TransportError> {
        let io = self.io.lock().unwrap();
        let readable = !io.outbox.is_empty() || io.closed;
        if !readable {
            self.sim.now.fetch_add(timeout.as_nanos() as u64, SeqCst);
        }
        Ok(Ready {
            readable,
            writable: true,
            interrupted: false,
        })
    }

    fn shutdown(&self) {
        let mut io = self.io.lock().unwrap();
        io.closed = true;
        io.outbox.clear();
    }
}

impl Stream {
    fn answer(&self, io: &mut Io, header: Header, body: &[u8], payload: Vec<u8>) {
        if header.kind == Kind::Hello {
            let hello: Hello = codec::decode(body).unwrap();
            let ring = self.sim.ring.lock().unwrap().clone();
            let reply = HelloReply {
                shard: ShardId(self.server as u32 + 1),
                incarnation: Incarnation(self.sim.incarnation.load(SeqCst)),
                ring: (ring.version > hello.ring_version).then_some(ring),
                known: *self.sim.known.lock().unwrap()
                    || self.sim.hellos.lock().unwrap().len() >= self.sim.known_from.load(SeqCst),
            };
            self.sim.hellos.lock().unwrap().push(hello);
            if self.sim.lost_greetings.load(SeqCst) > 0 {
                self.sim.lost_greetings.fetch_sub(1, SeqCst);
                io.closed = true;
                return;
            }
            let body = codec::encode(&reply).unwrap();
            return self.put(io, Kind::HelloReply, header, &body, &[]);
        }
        let seen = Seen {
            server: self.server,
            header,
            request: codec::decode(body).unwrap(),
            payload,
        };
        let act = (self.sim.script.lock().unwrap())(&seen);
        let (reply, out) = match act {
            Act::Silence => return,
            Act::Hang => {
                io.closed = true;
                return;
            }
            Act::Reply(replies, out) => {
                let reply = Reply {
                    replies,
                    passed: vec![],
                    rename_version: RenameVersion(1),
                    written: 0,
                };
                (reply, out)
            }
            Act::Full(reply, out) => (reply, out),
        };
        if header.flags & FLAG_ONE_WAY == 0 {
            let body = codec::encode(&reply).unwrap();
            self.put(io, Kind::Reply, header, &body, &out);
        }
    }

    fn put(&self, io: &mut Io, kind: Kind, to: Header, body: &[u8], payload: &[u8]) {
        let header = Header {
            tag: to.tag,
            incarnation: Incarnation(self.sim.incarnation.load(SeqCst)),
            body_bytes: body.len() as u32,
            payload_bytes: payload.len() as u32,
            ..Header::new(kind)
        };
        io.outbox.extend(header.encode());
        io.outbox.extend(body);
        io.outbox.extend(payload);
    }
}

fn take_frame(inbox: &mut Vec<u8>) -> Option<(Header, Vec<u8>, Vec<u8>)> {
    let header = Header::decode(inbox.first_chunk()?).unwrap();
    let body_end = HEADER_BYTES + header.body_bytes as usize;
    let end = body_end + header.payload_bytes as usize;
    if inbox.len() < end {
        return None;
    }
    let payload = inbox[body_end..end].to_vec();
    let body = inbox[HEADER_BYTES..body_end].to_vec();
    inbox.drain(..end);
    Some((header, body, payload))
}
