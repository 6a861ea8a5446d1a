//! Shards in one process under a simulated clock and network.
//!
//! Everything that takes time is an entry of one queue: frames, flushes, commits, ends of batches,
//! attempts to connect. A kill drops the shard's memory, a power cut also what its device had not
//! flushed. The same seed gives the same run.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::SimClock;
use crate::crash::CrashDevice;
use crate::events::RECONNECT_NS;
use crate::net::{Frame, Place, SimNet, Way};
use crate::random::Random;
use crate::settings::{CLUSTER, SimWorld, volume};
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::ClusterState;
use sealfs_protocol::message::{Hello, Who};
use sealfs_protocol::ring::{Ring, ShardInfo};
use sealfs_protocol::{Incarnation, PartitionId, RingVersion, ShardId, codec};
use sealfs_server::core::{Action, ConnId, Core, Event, Now};
use sealfs_server::meta::{CommitJob, FlushJob, MemoryKv, Meta, Options};

pub use crate::settings::{Settings, VOLUME};

pub(crate) struct Node {
    pub id: ShardId,
    pub core: Option<Core<SimWorld>>,
    pub device: Arc<CrashDevice>,
    pub kv: MemoryKv,
    boot: u128,
    /// Counts lives; what belongs to an earlier one is dropped.
    pub life: u64,
    pub skew_ns: i64,
    /// Stopped, as by SIGSTOP, until then.
    pub stopped_until_ns: u64,
    /// Connections to the other shards, by position, and whether Hello was answered.
    pub peers: BTreeMap<usize, (ConnId, bool)>,
    /// Actions of a batch that is not over.
    pub batch: Vec<Action<SimWorld>>,
    pub batch_is_open: bool,
}

pub(crate) enum What {
    Arrival(ConnId, Way),
    Flush(FlushJob<CrashDevice>),
    Commit(CommitJob<MemoryKv>),
    EndBatch,
    /// To another shard, by position.
    Connect(usize),
}

/// `index` and `life` say for whose sake; arrivals are checked by their connection.
pub(crate) struct Due {
    pub index: usize,
    pub life: u64,
    pub what: What,
}

/// What has reached a client.
#[derive(Debug)]
pub enum Arrival {
    Frame(ConnId, Frame),
    /// The connection is no more.
    Lost(ConnId),
}

pub struct Cluster {
    pub(crate) settings: Settings,
    pub(crate) nodes: Vec<Node>,
    pub(crate) state: ClusterState,
    pub random: Random,
    pub(crate) clock: SimClock,
    pub(crate) net: SimNet,
    /// By due time, then by the order of entering.
    pub(crate) queue: BTreeMap<(u64, u64), Due>,
    pub(crate) entered: u64,
    pub(crate) next_tick_ns: u64,
    next_end: usize,
    pub(crate) inboxes: BTreeMap<usize, Vec<Arrival>>,
}

impl Cluster {
    pub fn new(settings: Settings) -> Cluster {
        let members = (1..=settings.shards).map(|id| ShardInfo {
            id: ShardId(id),
            server: format!("server-{id}"),
            addresses: Vec::new(),
            weight: 1,
        });
        let ring = Ring::empty(CLUSTER, settings.partitions).with_members(members.collect());
        let state = ClusterState {
            version: 1,
            ring,
            volumes: vec![volume(&settings)],
            deleted: Vec::new(),
        };
        let mut random = Random::new(settings.seed);
        let nodes = (1..=settings.shards).map(|id| Node {
            id: ShardId(id),
            core: None,
            device: CrashDevice::new("sim", settings.device_bytes),
            kv: MemoryKv::new(),
            boot: 1,
            life: 0,
            skew_ns: random.below(2 * settings.skew_max_ns + 1) as i64
                - settings.skew_max_ns as i64,
            stopped_until_ns: 0,
            peers: BTreeMap::new(),
            batch: Vec::new(),
            batch_is_open: false,
        });
        let mut cluster = Cluster {
            nodes: nodes.collect(),
            settings,
            state,
            random,
            clock: SimClock::default(),
            net: SimNet::default(),
            queue: BTreeMap::new(),
            entered: 0,
            next_tick_ns: 0,
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
        self.clock.now()
    }

    /// The position of the shard that owns a partition.
    pub fn owner(&self, partition: PartitionId) -> usize {
        let owner = self.state.ring.owner(partition).map(|s| s.id);
        let found = self.nodes.iter().position(|n| Some(n.id) == owner);
        found.expect("every partition has an owner")
    }

    // ---- lives ---------------------------------------------------------------------------------

    /// Starts a shard that is down, on what its device and index hold.
    pub fn start(&mut self, index: usize) {
        self.trace(|| format!("shard {index} starts"));
        let node = &mut self.nodes[index];
        let options = Options {
            cluster: CLUSTER,
            shard: node.id,
            boot_id: node.boot,
            uuid: u128::from(node.id.0),
            log_bytes: None,
            limits: self.settings.limits,
        };
        let device = Arc::clone(&node.device);
        let meta = Meta::open(options, node.kv.clone(), device, None).expect("the store opens");
        let core = Core::new(meta, CLUSTER, node.id);
        node.core = Some(match self.settings.split_entries {
            Some(entries) => core.splitting_at(entries),
            None => core,
        });
        node.life += 1;
        node.stopped_until_ns = 0;
        let state = self.state.clone();
        self.step(index, Event::State(state));
        for other in 0..self.nodes.len() {
            if other != index {
                self.enter(index, 0, What::Connect(other));
            }
        }
    }

    /// As when the machine loses power: what was not flushed is lost, or some of it is.
    pub fn power_cut(&mut self, index: usize) {
        self.trace(|| format!("power cut of shard {index}"));
        self.kill(index);
        let node = &mut self.nodes[index];
        node.boot += 1;
        node.device.power_cut(&mut self.random);
    }

    /// As `kill -9`: everything written stays.
    pub fn kill(&mut self, index: usize) {
        self.trace(|| format!("shard {index} is killed"));
        let node = &mut self.nodes[index];
        node.core = None;
        node.peers.clear();
        node.batch.clear();
        node.batch_is_open = false;
        node.life += 1;
        let now = self.clock.now().mono_ns;
        for conn in self.net.died(index, now, &mut self.random) {
            self.arrives(conn, Way::ToServer);
            self.arrives(conn, Way::ToAsker);
        }
    }

    /// As SIGSTOP and, after `ns`, SIGCONT.
    pub fn stop_for(&mut self, index: usize, ns: u64) {
        self.trace(|| format!("shard {index} is stopped for {} us", ns / 1_000));
        self.nodes[index].stopped_until_ns = self.clock.now().mono_ns + ns;
    }

    // ---- connections ---------------------------------------------------------------------------

    /// Somebody who can connect.
    pub fn fresh_end(&mut self) -> usize {
        self.next_end += 1;
        self.next_end
    }

    /// A connection of a client to a shard, with its Hello sent.
    pub fn connect(&mut self, end: usize, to: usize, who: Who) -> ConnId {
        let life = self.nodes[to].life;
        let conn = self.net.connect(Place::Client(end), to, (0, life));
        if self.is_up(to) {
            self.send(conn, Header::new(Kind::Hello), &hello(who), &[]);
        } else {
            self.net.close(conn);
            self.arrives(conn, Way::ToAsker);
        }
        conn
    }

    /// Sends a frame from whoever made a connection.
    pub fn send(&mut self, conn: ConnId, header: Header, body: &[u8], payload: &[u8]) {
        let frame = Frame {
            header,
            body: body.to_vec(),
            payload: payload.to_vec(),
        };
        if self.net.send(conn, Way::ToServer, frame) {
            self.arrives(conn, Way::ToServer);
        }
    }

    pub fn take_inbox(&mut self, end: usize) -> Vec<Arrival> {
        self.inboxes.remove(&end).unwrap_or_default()
    }

    /// The network itself, for whoever wants it to fail.
    pub fn net(&mut self) -> &mut SimNet {
        &mut self.net
    }

    /// Breaks a connection.
    pub fn cut(&mut self, conn: ConnId) {
        self.trace(|| format!("{conn:?} breaks"));
        let now = self.clock.now().mono_ns;
        self.net.cut(conn, now, &mut self.random);
        self.arrives(conn, Way::ToServer);
        self.arrives(conn, Way::ToAsker);
    }

    pub(crate) fn connect_shards(&mut self, from: usize, to: usize) {
        if self.nodes[from].peers.contains_key(&to) {
            return;
        }
        let parted = self.net.are_parted(Place::Shard(from), Place::Shard(to));
        if parted || !self.is_up(to) {
            return self.enter(from, RECONNECT_NS, What::Connect(to));
        }
        let lives = (self.nodes[from].life, self.nodes[to].life);
        let conn = self.net.connect(Place::Shard(from), to, lives);
        self.nodes[from].peers.insert(to, (conn, false));
        let who = Who::Shard {
            shard: self.nodes[from].id,
            incarnation: Incarnation(1),
        };
        self.send(conn, Header::new(Kind::Hello), &hello(who), &[]);
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
