//! What servers, keepers and tools say to the manager, and what it publishes.

use crate::attr::Layout;
use crate::ids::{ClusterId, Incarnation, RingVersion, ShardId, VolumeId};
use crate::ring::Ring;
use crate::usage::Totals;
use rkyv::{Archive, Deserialize, Serialize};

/// When an acknowledged change survives what (page "consistency" of the docs).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Archive, Serialize, Deserialize)]
pub enum Durability {
    /// Scratch: survives the death of a server process, fsync is a no-op.
    Memory,
    /// Acknowledged survives kill -9; fsynced survives a power cut.
    #[default]
    Fsync,
    /// Every reply waits for a group-committed flush.
    Always,
}

/// A volume as published to everybody.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Volume {
    pub id: VolumeId,
    pub name: String,
    pub durability: Durability,
    pub layout: Layout,
    /// Owner and mode of the root directory when it is first touched.
    pub root_uid: u32,
    pub root_gid: u32,
    pub root_mode: u32,
    /// Quota in bytes and inodes; 0 means none.
    pub quota_bytes: u64,
    pub quota_inodes: u64,
    /// Every change is refused with EROFS.
    pub read_only: bool,
}

impl Volume {
    /// What programs are told to use: it means this volume also after a rename.
    pub fn lasting_name(&self) -> String {
        format!("{}#{}", self.name, self.id.0)
    }
}

/// Changes of a volume, made in one step; `None` leaves a property as it is.
#[derive(Clone, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct VolumeChange {
    pub name: Option<String>,
    pub quota_bytes: Option<u64>,
    pub quota_inodes: Option<u64>,
    pub read_only: Option<bool>,
}

/// What one server has of a volume.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct VolumeUse {
    pub volume: VolumeId,
    pub used: Totals,
    /// Clients connected to this server.
    pub clients: u32,
}

/// A volume as `sealfs volume list` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct VolumeStatus {
    pub volume: Volume,
    /// Sum over the servers as they last reported it.
    pub used: Totals,
    /// The most clients that one server has.
    pub clients: u32,
}

/// All that the manager publishes, as of `version` (raised by any change).
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct ClusterState {
    pub version: u64,
    pub ring: Ring,
    pub volumes: Vec<Volume>,
    /// Deleted volumes whose space may still have to be given back.
    pub deleted: Vec<VolumeId>,
}

impl ClusterState {
    /// The volume that `text` means: a name, or `name#id`, which means the same volume whatever it
    /// is called today.
    pub fn volume_called(&self, text: &str) -> Option<&Volume> {
        let mut volumes = self.volumes.iter();
        match text.rsplit_once('#') {
            Some((_, id)) => volumes.find(|v| id.parse() == Ok(v.id.0)),
            None => volumes.find(|v| v.name == text),
        }
    }
}

/// A server as `sealfs server list` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct ServerStatus {
    pub name: String,
    pub shard: ShardId,
    pub addresses: Vec<String>,
    /// Time since its last heartbeat, in ms; `None` if it never came.
    pub silent_ms: Option<u64>,
    pub healthy: bool,
    pub usage: Usage,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Usage {
    pub size_bytes: u64,
    pub used_bytes: u64,
    pub inodes: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum ManagerRequest {
    /// A server reports itself, at start and then every [`HEARTBEAT_MS`]. `cluster` is the one its
    /// store was made for; `None` for a fresh store. `shard` likewise.
    Heartbeat {
        cluster: Option<ClusterId>,
        name: String,
        store: u128,
        shard: Option<ShardId>,
        addresses: Vec<String>,
        weight: u32,
        incarnation: Incarnation,
        usage: Usage,
        volumes: Vec<VolumeUse>,
        /// Version of the state that the sender has; 0 for none.
        known: u64,
    },
    /// Anybody asks for the published state if it is newer than `known`.
    State {
        known: u64,
    },
    CreateVolume {
        volume: Volume,
    },
    DeleteVolume {
        name: String,
        force: bool,
    },
    ChangeVolume {
        name: String,
        change: VolumeChange,
    },
    Volumes,
    Servers,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum ManagerReply {
    /// To a heartbeat: who the server is; the state if the sender's is older.
    Welcome {
        cluster: ClusterId,
        shard: ShardId,
        state: Option<ClusterState>,
    },
    State(Option<ClusterState>),
    Volume(Volume),
    Done,
    Servers(Vec<ServerStatus>, RingVersion),
    /// `silent`: servers that have not been heard of lately, whose share is old or missing.
    /// `behind`: others that have not reported to work by the state as it is.
    Volumes {
        volumes: Vec<VolumeStatus>,
        silent: Vec<String>,
        behind: Vec<String>,
    },
    /// One line that names the thing and the remedy.
    Refused(String),
}

/// Interval of heartbeats, in ms.
pub const HEARTBEAT_MS: u64 = 500;
/// A server silent for longer than this counts as unhealthy, in ms.
pub const SERVER_SILENT_MS: u64 = 3_000;
