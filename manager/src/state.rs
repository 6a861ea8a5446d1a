//! What the manager knows and decides: members, the ring, volumes. A pure state machine.
//!
//! [`Registry::apply`] answers one request at one point of time. It reads no clock, does no I/O and
//! changes nothing durable by itself: where a request changes the cluster it returns the next
//! [`Durable`] state, which the caller makes durable, then installs, then replies. What must stay
//! true: a reply never tells of a state that a crash could take back; ids of volumes and shards are
//! never reused; a partition never moves once a volume has been created, because nothing can move
//! its contents yet.

use join::Live;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::manager::{
    ClusterState, ManagerReply, ManagerRequest, SERVER_SILENT_MS, ServerStatus, Volume,
};
use sealfs_protocol::ring::{Ring, ShardInfo};
use sealfs_protocol::{ClusterId, ShardId, VolumeId};
use std::collections::BTreeMap;

mod join;
mod volumes;

/// Most servers of a cluster.
pub const MEMBERS_MAX: usize = 1024;
/// Most volumes of a cluster.
pub const VOLUMES_MAX: usize = 2048;
/// Most deleted volumes that are remembered for servers that have not given their space back.
pub const DELETED_MAX: usize = 32_768;
/// Most addresses of one server, and their longest, in bytes.
pub const ADDRESSES_MAX: usize = 8;
pub const ADDRESS_MAX_BYTES: usize = 256;
/// Largest relative share of a server.
pub const WEIGHT_MAX: u32 = 1024;

/// A server as the cluster remembers it.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    /// Identity of its store; a fresh store is another member.
    pub store: u128,
    pub shard: ShardId,
    pub addresses: Vec<String>,
    pub weight: u32,
}

/// Everything that survives a restart.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Durable {
    /// Raised by every change.
    pub version: u64,
    pub ring: Ring,
    pub members: Vec<Member>,
    pub volumes: Vec<Volume>,
    pub deleted: Vec<VolumeId>,
    pub next_volume: VolumeId,
    pub next_shard: ShardId,
}

impl Durable {
    /// The state of a cluster that was just founded.
    pub fn founded(cluster: ClusterId, partitions: u16) -> Durable {
        Durable {
            version: 1,
            ring: Ring::empty(cluster, partitions),
            members: Vec::new(),
            volumes: Vec::new(),
            deleted: Vec::new(),
            next_volume: VolumeId(1),
            next_shard: ShardId(1),
        }
    }

    pub fn cluster(&self) -> ClusterId {
        self.ring.cluster
    }

    /// Servers may still join: no volume was ever created, so no partition has contents.
    fn is_forming(&self) -> bool {
        self.next_volume == VolumeId(1)
    }

    fn published(&self) -> ClusterState {
        ClusterState {
            version: self.version,
            ring: self.ring.clone(),
            volumes: self.volumes.clone(),
            deleted: self.deleted.clone(),
        }
    }

    /// The ring that follows from the members; a new ring version even if nothing moves.
    fn reshape_ring(&mut self) {
        let shards = self.members.iter().map(|m| ShardInfo {
            id: m.shard,
            server: m.name.clone(),
            addresses: m.addresses.clone(),
            weight: m.weight,
        });
        self.ring = self.ring.with_members(shards.collect());
        self.version += 1;
    }
}

/// The connection that a request came over, unique for the life of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PeerId(pub u64);

/// An answer, and the state to make durable before it is given.
#[derive(Debug)]
pub struct Applied {
    pub reply: ManagerReply,
    pub next: Option<Durable>,
}

impl Applied {
    fn reply(reply: ManagerReply) -> Applied {
        Applied { reply, next: None }
    }
}

/// The manager's memory.
pub struct Registry {
    durable: Durable,
    live: BTreeMap<ShardId, Live>,
}

impl Registry {
    pub fn new(durable: Durable) -> Registry {
        Registry {
            durable,
            live: BTreeMap::new(),
        }
    }

    pub fn durable(&self) -> &Durable {
        &self.durable
    }

    /// Takes over a state returned by [`Registry::apply`] once it is durable.
    pub fn install(&mut self, next: Durable) {
        assert!(next.version > self.durable.version, "versions only rise");
        self.durable = next;
    }

    /// A connection has ended; a server that used it is no longer proven alive.
    pub fn disconnected(&mut self, peer: PeerId) {
        for live in self.live.values_mut().filter(|l| l.peer == peer) {
            live.connected = false;
        }
    }

    /// Answers `request`, received over `peer` at `now_ms` of a monotonic clock.
    pub fn apply(&mut self, request: ManagerRequest, peer: PeerId, now_ms: u64) -> Applied {
        let answer = match request {
            ManagerRequest::Heartbeat {
                cluster,
                name,
                store,
                shard,
                addresses,
                weight,
                incarnation: _,
                usage,
                volumes,
                known,
            } => self.heartbeat(
                join::Beat {
                    cluster,
                    name,
                    store,
                    shard,
                    addresses,
                    weight: weight.clamp(1, WEIGHT_MAX),
                    usage,
                    volumes,
                    known,
                },
                peer,
                now_ms,
            ),
            ManagerRequest::State { known } => Ok(Applied::reply(ManagerReply::State(
                (known != self.durable.version).then(|| self.durable.published()),
            ))),
            ManagerRequest::CreateVolume { volume } => self.create_volume(volume),
            ManagerRequest::DeleteVolume { name, force } => {
                self.delete_volume(&name, force, now_ms)
            }
            ManagerRequest::ChangeVolume { name, change } => self.change_volume(&name, change),
            ManagerRequest::Volumes => Ok(Applied::reply(self.volumes(now_ms))),
            ManagerRequest::Servers => Ok(Applied::reply(ManagerReply::Servers(
                self.servers(now_ms),
                self.durable.ring.version,
            ))),
        };
        answer.unwrap_or_else(|why| Applied::reply(ManagerReply::Refused(why)))
    }

    fn servers(&self, now_ms: u64) -> Vec<ServerStatus> {
        let show = |m: &Member| {
            let live = self.live.get(&m.shard);
            let silent_ms = live.map(|l| now_ms.saturating_sub(l.heard_ms));
            ServerStatus {
                name: m.name.clone(),
                shard: m.shard,
                addresses: m.addresses.clone(),
                silent_ms,
                healthy: silent_ms.is_some_and(|ms| ms < SERVER_SILENT_MS),
                usage: live.map(|l| l.usage).unwrap_or_default(),
            }
        };
        self.durable.members.iter().map(show).collect()
    }
}
