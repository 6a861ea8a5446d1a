//! Shards in one process under a simulated clock and network.
//!
//! Every message, flush and commit is an entry of one queue, due at a random moment after it was
//! sent, so messages overtake each other. A kill drops the shard's memory and all messages to and
//! from it; its device and index stay, as after `kill -9`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::random::Random;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::{ClusterState, Durability, Volume};
use sealfs_protocol::message::{Hello, Who};
use sealfs_protocol::ring::{Ring, ShardInfo};
use sealfs_protocol::{ClusterId, Incarnation, RingVersion, ShardId, VolumeId, codec};
use sealfs_server::core::{Action, ConnId, Core, Event, Now, World};
use sealfs_server::meta::{CommitDone, FlushDone, Limits, MemoryKv, Meta, Options};
use sealfs_server::store::MemoryDevice;

pub const CLUSTER: ClusterId = ClusterId(0x5ea1);
pub const VOLUME: VolumeId = VolumeId(7);

/// The simulated world.
pub struct SimWorld;

impl World for SimWorld {
    type Kv = MemoryKv;
    type Device = MemoryDevice;
}

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct Settings {
    pub shards: u32,
    pub partitions: u16,
    pub seed: u64,
    pub durability: Durability,
    pub device_bytes: usize,
    /// Longest time that a message takes, in ns.
    pub delay_max_ns: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            shards: 1,
            partitions: 64,
            seed: 1,
            durability: Durability::Fsync,
            device_bytes: 64 << 20,
            delay_max_ns: 200_000,
        }
    }
}

struct Node {
    id: ShardId,
    core: Option<Core<SimWorld>>,
    device: Arc<MemoryDevice>,
    kv: MemoryKv,
    boot: u128,
    /// Counts lives; messages of an earlier one are dropped.
    life: u64,
}

/// A frame on its way.
struct Frame {
    header: Header,
    body: Vec<u8>,
    payload: Vec<u8>,
}

enum What {
    /// To a shard, over a connection there.
    Request {
        conn: ConnId,
        frame: Frame,
    },
    /// From a shard to another that had asked.
    PeerReply {
        from: ShardId,
        frame: Frame,
    },
    PeerUp(ShardId),
    Flush(FlushDone),
    Commit(CommitDone),
}

struct Message {
    to: usize,
    life: u64,
    what: What,
}

/// A reply that has reached a client.
#[derive(Debug)]
pub struct Delivered {
    pub header: Header,
    pub body: Vec<u8>,
    pub payload: Vec<u8>,
}

/// Whose connection it is.
#[derive(Clone, Copy)]
enum End {
    Client(usize),
    Shard(usize),
}

pub struct Cluster {
    settings: Settings,
    nodes: Vec<Node>,
    state: ClusterState,
    pub random: Random,
    now: Now,
    /// By due time, then by the order of sending.
    queue: BTreeMap<(u64, u64), Message>,
    sent: u64,
    ends: BTreeMap<ConnId, End>,
    next_conn: u64,
    next_end: usize,
    inboxes: BTreeMap<usize, Vec<Delivered>>,
}

/// Interval of ticks while nothing else happens, in ns.
const TICK_NS: u64 = 20_000_000;

impl Cluster {
    pub fn new(settings: Settings) -> Cluster {
        let members: Vec<ShardInfo> = (1..=settings.shards)
            .map(|id| ShardInfo {
                id: ShardId(id),
                server: format!("server-{id}"),
                addresses: Vec::new(),
                weight: 1,
            })
            .collect();
        let ring = Ring::empty(CLUSTER, settings.partitions).with_members(members);
        let state = ClusterState {
            version: 1,
            ring,
            volumes: vec![volume(settings.durability)],
            deleted: Vec::new(),
        };
        let nodes = (1..=settings.shards)
            .map(|id| Node {
                id: ShardId(id),
                core: None,
                device: Arc::new(MemoryDevice::new("sim", settings.device_bytes)),
                kv: MemoryKv::new(),
                boot: 1,
                life: 0,
            })
            .collect();
        let mut cluster = Cluster {
            random: Random::new(settings.seed),
            settings,
            nodes,
            state,
            now: Now {
                mono_ns: 1_000_000_000,
                wall_ns: 1_700_000_000_000_000_000,
            },
            queue: BTreeMap::new(),
            sent: 0,
            ends: BTreeMap::new(),
            next_conn: 1,
            next_end: 0,
            inboxes: BTreeMap::new(),
        };
        for index in 0..cluster.nodes.len() {
            cluster.start(index);
        }
        cluster
    }

    pub fn ring(&self) -> &Ring {
        &self.state.ring
    }

    pub fn shards(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_up(&self, index: usize) -> bool {
        self.nodes[index].core.is_some()
    }

    pub fn core(&self, index: usize) -> Option<&Core<SimWorld>> {
        self.nodes[index].core.as_ref()
    }

    /// Publishes a changed state to every shard.
    pub fn publish(&mut self, change: impl FnOnce(&mut ClusterState)) {
        change(&mut self.state);
        self.state.version += 1;
        for index in 0..self.nodes.len() {
            let state = self.state.clone();
            self.step(index, Event::State(state));
        }
    }

    pub fn now(&self) -> Now {
        self.now
    }

    /// The position of the shard that owns a partition.
    pub fn owner(&self, partition: sealfs_protocol::PartitionId) -> usize {
        let owner = self.state.ring.owner(partition).map(|s| s.id);
        let found = self.nodes.iter().position(|n| Some(n.id) == owner);
        found.expect("every partition has an owner")
    }

    /// Starts a shard that is down, on what its device and index hold.
    pub fn start(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let options = Options {
            cluster: CLUSTER,
            shard: node.id,
            boot_id: node.boot,
            uuid: u128::from(node.id.0),
            log_bytes: None,
            limits: Limits::default(),
        };
        let meta = Meta::open(options, node.kv.clone(), Arc::clone(&node.device), None)
            .expect("the store opens");
        node.core = Some(Core::new(meta, CLUSTER, node.id));
        node.life += 1;
        let state = self.state.clone();
        self.step(index, Event::State(state));
        for other in 0..self.nodes.len() {
            if other != index && self.is_up(other) {
                self.connect_shards(index, other);
                self.connect_shards(other, index);
            }
        }
    }

    /// As a power cut right after everything on its way to the devices has arrived: the next start
    /// is a new boot.
    pub fn power_cut(&mut self, index: usize) {
        self.kill(index);
        self.nodes[index].boot += 1;
    }

    /// As `kill -9`.
    pub fn kill(&mut self, index: usize) {
        let id = self.nodes[index].id;
        self.nodes[index].core = None;
        self.queue.retain(|_, m| {
            m.to != index && !matches!(&m.what, What::PeerReply { from, .. } if *from == id)
        });
        let gone: Vec<ConnId> = self
            .ends
            .iter()
            .filter(|(_, end)| matches!(end, End::Shard(s) if *s == index))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in gone {
            self.ends.remove(&conn);
            self.queue
                .retain(|_, m| !matches!(&m.what, What::Request { conn: c, .. } if *c == conn));
        }
    }

    fn connect_shards(&mut self, from: usize, to: usize) {
        let conn = self.fresh_conn(End::Shard(from));
        let who = Who::Shard {
            shard: self.nodes[from].id,
            incarnation: Incarnation(1),
        };
        let header = Header::new(Kind::Hello);
        self.send(to, conn, header, &hello(who), &[]);
        let peer = self.nodes[to].id;
        self.push(from, What::PeerUp(peer));
    }

    fn fresh_conn(&mut self, end: End) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.ends.insert(conn, end);
        conn
    }

    /// Somebody who can receive replies.
    pub fn fresh_end(&mut self) -> usize {
        self.next_end += 1;
        self.next_end
    }

    /// A connection of a client to a shard, with its Hello sent.
    pub fn connect(&mut self, end: usize, to: usize, who: Who) -> ConnId {
        let conn = self.fresh_conn(End::Client(end));
        let header = Header::new(Kind::Hello);
        // A connection keeps the order of its frames: Hello is delivered at once.
        self.deliver_now(to, conn, header, &hello(who));
        conn
    }

    fn deliver_now(&mut self, to: usize, conn: ConnId, header: Header, body: &[u8]) {
        if self.is_up(to) {
            let event = Event::Frame {
                conn,
                header: &header,
                body,
                payload: &[],
            };
            self.step(to, event);
        }
    }

    /// Sends a frame; lost if the shard is down when it arrives.
    pub fn send(&mut self, to: usize, conn: ConnId, header: Header, body: &[u8], payload: &[u8]) {
        if header.kind == Kind::Hello {
            return self.deliver_now(to, conn, header, body);
        }
        let frame = Frame {
            header,
            body: body.to_vec(),
            payload: payload.to_vec(),
        };
        self.push(to, What::Request { conn, frame });
    }

    pub fn take_inbox(&mut self, end: usize) -> Vec<Delivered> {
        self.inboxes.remove(&end).unwrap_or_default()
    }

    fn push(&mut self, to: usize, what: What) {
        let delay = 1_000 + self.random.below(self.settings.delay_max_ns);
        self.sent += 1;
        let life = self.nodes[to].life;
        let due = (self.now.mono_ns + delay, self.sent);
        self.queue.insert(due, Message { to, life, what });
    }

    /// Delivers the next message, or lets time pass if there is none.
    pub fn advance(&mut self) {
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        let tick = self.now.mono_ns + TICK_NS;
        let wake = self.nodes.iter().filter_map(|n| n.core.as_ref());
        let wake = wake.filter_map(Core::next_wake_ns).min().unwrap_or(tick);
        let until = next
            .unwrap_or(tick)
            .min(tick)
            .min(wake.max(self.now.mono_ns + 1));
        self.pass_until(until);
        if next == Some(until) || next.is_some_and(|at| at <= until) {
            if let Some((_, message)) = self.queue.pop_first() {
                self.deliver(message);
            }
        } else {
            for index in 0..self.nodes.len() {
                if self.is_up(index) {
                    self.step(index, Event::Tick);
                }
            }
        }
    }

    fn pass_until(&mut self, mono_ns: u64) {
        let passed = mono_ns.saturating_sub(self.now.mono_ns);
        self.now.mono_ns += passed;
        self.now.wall_ns += passed as i64;
    }

    /// Lets time pass, with all that it brings.
    pub fn pass(&mut self, ns: u64) {
        let until = self.now.mono_ns + ns;
        while self.now.mono_ns < until {
            self.advance();
        }
    }

    fn deliver(&mut self, message: Message) {
        let Message { to, life, what } = message;
        if self.nodes[to].life != life || !self.is_up(to) {
            return;
        }
        match what {
            What::Request { conn, frame } => self.step(
                to,
                Event::Frame {
                    conn,
                    header: &frame.header,
                    body: &frame.body,
                    payload: &frame.payload,
                },
            ),
            What::PeerReply { from, frame } => self.step(
                to,
                Event::PeerReply {
                    from,
                    header: &frame.header,
                    body: &frame.body,
                    payload: &frame.payload,
                },
            ),
            What::PeerUp(shard) => self.step(to, Event::PeerUp(shard)),
            What::Flush(done) => self.step(to, Event::FlushDone(done)),
            What::Commit(done) => self.step(to, Event::CommitDone(done)),
        }
    }

    /// One event is a batch of its own here.
    fn step(&mut self, index: usize, event: Event<'_>) {
        let mut actions = Vec::new();
        let now = self.now;
        if let Some(core) = &mut self.nodes[index].core {
            core.step(event, now, &mut actions);
            core.step(Event::Tick, now, &mut actions);
            core.finish_batch(now, &mut actions);
        }
        for action in actions {
            self.carry_out(index, action);
        }
    }

    fn carry_out(&mut self, index: usize, action: Action<SimWorld>) {
        match action {
            Action::Reply {
                conn,
                header,
                body,
                payload,
            } => match self.ends.get(&conn).copied() {
                Some(End::Client(end)) => {
                    let reply = Delivered {
                        header,
                        body,
                        payload,
                    };
                    self.inboxes.entry(end).or_default().push(reply);
                }
                Some(End::Shard(asker)) => {
                    let from = self.nodes[index].id;
                    let frame = Frame {
                        header,
                        body,
                        payload,
                    };
                    self.push(asker, What::PeerReply { from, frame });
                }
                None => {}
            },
            Action::Peer {
                shard,
                header,
                body,
                payload,
            } => self.send_peer(index, shard, header, &body, &payload),
            Action::Flush(job) => self.push(index, What::Flush(job.run())),
            Action::Commit(job) => self.push(index, What::Commit(job.run())),
            Action::Retire(retired) => drop(retired),
            Action::Park(_) | Action::Unpark(_) => {}
            Action::FetchState => {
                let state = self.state.clone();
                self.step(index, Event::State(state));
            }
            Action::Close(conn) => {
                self.ends.remove(&conn);
            }
        }
    }

    /// Sends over the newest connection of one shard to another; lost if there is none.
    fn send_peer(&mut self, from: usize, to: ShardId, header: Header, body: &[u8], payload: &[u8]) {
        let Some(target) = self.nodes.iter().position(|n| n.id == to) else {
            return;
        };
        if !self.is_up(target) {
            return;
        }
        let mine = self.ends.iter().rev();
        let conns = mine.filter(|(_, end)| matches!(end, End::Shard(s) if *s == from));
        let conn = conns
            .map(|(conn, _)| *conn)
            .find(|conn| self.accepts(target, *conn));
        if let Some(conn) = conn {
            self.send(target, conn, header, body, payload);
        }
    }

    fn accepts(&self, target: usize, conn: ConnId) -> bool {
        let core = self.nodes[target].core.as_ref();
        core.is_some_and(|c| c.knows_connection(conn))
    }
}

fn hello(who: Who) -> Vec<u8> {
    let hello = Hello {
        cluster: CLUSTER,
        who,
        ring_version: RingVersion(0),
    };
    codec::encode(&hello).expect("a Hello encodes").to_vec()
}

fn volume(durability: Durability) -> Volume {
    Volume {
        id: VOLUME,
        name: "sim".into(),
        durability,
        layout: sealfs_protocol::attr::Layout {
            chunk_size_log2: 16,
            width: 4,
        },
        root_uid: 0,
        root_gid: 0,
        root_mode: 0o755,
        quota_bytes: 0,
        quota_inodes: 0,
        read_only: false,
    }
}
