//! What the manager knows and decides: members, the ring, volumes. A pure state machine.
//!
//! [`Registry::apply`] answers one request at one point of time. It reads no clock, does no I/O and
//! changes nothing durable by itself: where a request changes the cluster it returns the next
//! [`Durable`] state, which the caller makes durable, then installs, then replies. What must stay
//! true: a reply never tells of a state that a crash could take back; ids of volumes and shards are
//! never reused; a partition never moves once a volume has been created, because nothing can move
//! its contents yet.

use crate::names::check_name;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::limits::{CHUNK_SIZE_LOG2_DEFAULT, WIDTH_DEFAULT, WIDTH_MAX};
use sealfs_protocol::manager::{
    ClusterState, ManagerReply, ManagerRequest, SERVER_SILENT_MS, ServerStatus, Usage, Volume,
};
use sealfs_protocol::ring::{Ring, ShardInfo};
use sealfs_protocol::{ClusterId, ShardId, VolumeId};
use std::collections::BTreeMap;

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
/// Chunk sizes of a volume: 64 KiB to 64 MiB, as powers of two.
pub const CHUNK_SIZE_LOG2: std::ops::RangeInclusive<u8> = 16..=26;

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

/// What is known of a member's process since this manager started.
#[derive(Clone, Copy, Debug)]
struct Live {
    heard_ms: u64,
    peer: PeerId,
    connected: bool,
    usage: Usage,
}

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

/// A server's report of itself.
pub(crate) struct Beat {
    pub cluster: Option<ClusterId>,
    pub name: String,
    pub store: u128,
    pub shard: Option<ShardId>,
    pub addresses: Vec<String>,
    pub weight: u32,
    pub usage: Usage,
    pub known: u64,
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
                known,
            } => self.heartbeat(
                Beat {
                    cluster,
                    name,
                    store,
                    shard,
                    addresses,
                    weight: weight.clamp(1, WEIGHT_MAX),
                    usage,
                    known,
                },
                peer,
                now_ms,
            ),
            ManagerRequest::State { known } => Ok(Applied::reply(ManagerReply::State(
                (known != self.durable.version).then(|| self.durable.published()),
            ))),
            ManagerRequest::CreateVolume { volume } => self.create_volume(volume),
            ManagerRequest::DeleteVolume { name, force } => self.delete_volume(&name, force),
            ManagerRequest::Servers => Ok(Applied::reply(ManagerReply::Servers(
                self.servers(now_ms),
                self.durable.ring.version,
            ))),
        };
        answer.unwrap_or_else(|why| Applied::reply(ManagerReply::Refused(why)))
    }

    fn heartbeat(&mut self, beat: Beat, peer: PeerId, now_ms: u64) -> Result<Applied, String> {
        self.check_beat(&beat)?;
        let found = self
            .durable
            .members
            .iter()
            .position(|m| m.store == beat.store);
        let next = match found {
            Some(at) => self.known_member(at, &beat, peer, now_ms)?,
            None => Some(self.new_member(&beat, now_ms)?),
        };
        let state = next.as_ref().unwrap_or(&self.durable);
        let member = state.members.iter().find(|m| m.store == beat.store);
        let shard = member.map_or(ShardId(0), |m| m.shard);
        let reply = ManagerReply::Welcome {
            cluster: state.cluster(),
            shard,
            state: (beat.known != state.version).then(|| state.published()),
        };
        self.live.insert(
            shard,
            Live {
                heard_ms: now_ms,
                peer,
                connected: true,
                usage: beat.usage,
            },
        );
        Ok(Applied { reply, next })
    }

    fn check_beat(&self, beat: &Beat) -> Result<(), String> {
        check_name("server", &beat.name)?;
        let own = self.durable.cluster();
        if let Some(other) = beat.cluster.filter(|c| *c != own) {
            return Err(format!(
                "{}: its store belongs to cluster {other}, this manager serves cluster {own}: point \
                 the server at its own manager, or give it an empty meta_dir and data store",
                beat.name
            ));
        }
        let fits = |a: &String| {
            a.len() <= ADDRESS_MAX_BYTES && a.contains("://") && !a.contains(char::is_whitespace)
        };
        if beat.addresses.is_empty()
            || beat.addresses.len() > ADDRESSES_MAX
            || !beat.addresses.iter().all(fits)
        {
            return Err(format!(
                "{}: a server reports 1 to {ADDRESSES_MAX} addresses such as tcp://127.0.0.1:4711",
                beat.name
            ));
        }
        Ok(())
    }

    /// A store that is a member already: nothing changes unless its name, address or weight did.
    fn known_member(
        &self,
        at: usize,
        beat: &Beat,
        peer: PeerId,
        now_ms: u64,
    ) -> Result<Option<Durable>, String> {
        let member = &self.durable.members[at];
        if let Some(shard) = beat.shard.filter(|s| *s != member.shard) {
            return Err(format!(
                "{}: its store says shard {shard}, the cluster knows it as shard {}: its meta_dir \
                 and data store are of different servers, put the right ones together",
                beat.name, member.shard
            ));
        }
        let live = self.live.get(&member.shard);
        if let Some(live) = live.filter(|l| l.peer != peer && is_alive(l, now_ms))
            && member.addresses != beat.addresses
        {
            return Err(format!(
                "{}: its store is served by {} at {}, heard of {} ms ago: stop that server first",
                beat.name,
                member.name,
                member.addresses.join(" "),
                now_ms - live.heard_ms
            ));
        }
        if member.name != beat.name
            && let Some(other) = self.durable.members.iter().find(|m| m.name == beat.name)
        {
            return Err(format!(
                "{}: shard {} already has this name: give one of them another name",
                beat.name, other.shard
            ));
        }
        let same = (&member.name, &member.addresses, member.weight)
            == (&beat.name, &beat.addresses, beat.weight);
        if same {
            return Ok(None);
        }
        let mut next = self.durable.clone();
        let member = &mut next.members[at];
        member.name.clone_from(&beat.name);
        member.addresses.clone_from(&beat.addresses);
        // Another weight would move partitions; it counts while the cluster forms.
        if self.durable.is_forming() {
            member.weight = beat.weight;
        } else if (&member.name, &member.addresses)
            == (
                &self.durable.members[at].name,
                &self.durable.members[at].addresses,
            )
        {
            return Ok(None);
        }
        next.reshape_ring();
        Ok(Some(next))
    }

    /// A store that the cluster has not seen: a new member while the cluster forms.
    fn new_member(&self, beat: &Beat, now_ms: u64) -> Result<Durable, String> {
        let own = self.durable.cluster();
        if beat.cluster.is_some() || beat.shard.is_some() {
            return Err(format!(
                "{}: its store says it is of cluster {own}, which does not know it: start the \
                 manager on the state it had, or give the server an empty meta_dir and data store",
                beat.name
            ));
        }
        let namesake = self.durable.members.iter().find(|m| m.name == beat.name);
        if let Some(member) = namesake {
            let live = self.live.get(&member.shard);
            if live.is_some_and(|l| is_alive(l, now_ms)) {
                return Err(format!(
                    "{}: a server of this name is alive at {}: give the new one another name",
                    beat.name,
                    member.addresses.join(" ")
                ));
            }
            if !self.durable.is_forming() {
                return Err(format!(
                    "{}: its store is empty, but the files of the server of this name are in \
                     another one: start it on the meta_dir and data store it had",
                    beat.name
                ));
            }
        }
        if !self.durable.is_forming() {
            return Err(format!(
                "{}: cluster {own} has volumes and cannot spread them over a new server: start \
                 all servers before the first volume is created",
                beat.name
            ));
        }
        if namesake.is_none() && self.durable.members.len() >= MEMBERS_MAX {
            return Err(format!(
                "{}: the cluster has {MEMBERS_MAX} servers, the most",
                beat.name
            ));
        }
        let mut next = self.durable.clone();
        next.members.retain(|m| m.name != beat.name);
        next.members.push(Member {
            name: beat.name.clone(),
            store: beat.store,
            shard: next.next_shard,
            addresses: beat.addresses.clone(),
            weight: beat.weight,
        });
        next.next_shard = ShardId(next.next_shard.0 + 1);
        next.reshape_ring();
        Ok(next)
    }

    fn create_volume(&self, mut volume: Volume) -> Result<Applied, String> {
        check_name("volume", &volume.name)?;
        let state = &self.durable;
        if state.volumes.iter().any(|v| v.name == volume.name) {
            return Err(format!(
                "volume {} exists already: choose another name",
                volume.name
            ));
        }
        if state.members.is_empty() {
            return Err(format!(
                "volume {}: the cluster has no server yet: start a sealfs-server first",
                volume.name
            ));
        }
        if state.volumes.len() >= VOLUMES_MAX {
            return Err(format!(
                "the cluster has {VOLUMES_MAX} volumes, the most: delete one first"
            ));
        }
        let layout = &mut volume.layout;
        if layout.chunk_size_log2 == 0 {
            layout.chunk_size_log2 = CHUNK_SIZE_LOG2_DEFAULT;
        }
        if layout.width == 0 {
            layout.width = WIDTH_DEFAULT;
        }
        if !CHUNK_SIZE_LOG2.contains(&layout.chunk_size_log2) || layout.width > WIDTH_MAX {
            return Err(format!(
                "volume {}: chunks are a power of two from 64 KiB to 64 MiB, in 1 to {WIDTH_MAX} \
                 places",
                volume.name
            ));
        }
        let mut next = state.clone();
        volume.id = next.next_volume;
        volume.root_mode &= 0o7777;
        next.next_volume = VolumeId(next.next_volume.0 + 1);
        next.volumes.push(volume.clone());
        next.version += 1;
        Ok(Applied {
            reply: ManagerReply::Volume(volume),
            next: Some(next),
        })
    }

    fn delete_volume(&self, name: &str, force: bool) -> Result<Applied, String> {
        let Some(at) = self.durable.volumes.iter().position(|v| v.name == name) else {
            return Err(format!(
                "volume {name} does not exist: `sealfs volume list` shows those that do"
            ));
        };
        if !force {
            return Err(format!(
                "volume {name} may hold files, which cannot be brought back: say --force to delete it"
            ));
        }
        let mut next = self.durable.clone();
        let gone = next.volumes.remove(at);
        next.deleted.push(gone.id);
        if next.deleted.len() > DELETED_MAX {
            next.deleted.remove(0);
        }
        next.version += 1;
        Ok(Applied {
            reply: ManagerReply::Done,
            next: Some(next),
        })
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

/// Whether the process last heard of is certainly still there: its connection stands and it spoke
/// lately. (The kernel closes the connection of a killed process at once.)
fn is_alive(live: &Live, now_ms: u64) -> bool {
    live.connected && now_ms.saturating_sub(live.heard_ms) < SERVER_SILENT_MS
}
