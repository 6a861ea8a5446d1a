//! What a client is told when it is made, and why making one may fail.

use sealfs_protocol::manager::ClusterState;
use sealfs_protocol::message::Credentials;
use sealfs_protocol::{ClientId, Errno, InodeId, OpenId, SessionId};
use sealfs_transport::TransportError;
use sealfs_transport::memory::Hooks;
use sealfs_transport::url::UrlError;
use sealfs_transport::world::World;

/// Where the cluster is and what of it is wanted.
#[derive(Clone)]
pub struct Config {
    /// URL of the manager; without it the published state must do.
    pub manager: Option<String>,
    /// The cluster as last known on this node.
    pub cluster_state: Option<ClusterState>,
    /// A newer state that somebody on this node may have published, asked when ours is too old
    /// and the manager is away.
    pub published_state: Option<fn() -> Option<ClusterState>>,
    /// Every description that is open in a process of this session, if there may be others.
    pub live_opens: Option<fn() -> Option<Vec<OpenId>>>,
    /// Told when a write begins (`true`) that sends bytes behind the end of a file before it says so to
    /// the file's owner, and when none of it is left that nobody will publish. Who ends in between
    /// leaves that to those who see it end.
    pub extending: Option<fn(bool)>,
    pub volume: String,
    /// The mount prefix, absolute, without a final slash.
    pub mount: Vec<u8>,
    /// Longest time of one call, in ms.
    pub deadline_ms: u32,
    /// Sequences of every request slot start above this: what an earlier image of this process
    /// may have used.
    pub first_sequence: u64,
    pub hooks: Hooks,
    pub world: World,
}

impl Config {
    pub fn new(volume: &str, mount: &[u8]) -> Config {
        Config {
            manager: None,
            cluster_state: None,
            published_state: None,
            live_opens: None,
            extending: None,
            volume: volume.to_owned(),
            mount: mount.to_vec(),
            deadline_ms: sealfs_protocol::limits::CALL_DEADLINE_MS,
            first_sequence: 0,
            hooks: Hooks::default(),
            world: World::default(),
        }
    }
}

/// Who the client is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub client: ClientId,
    pub session: SessionId,
    pub pid: u32,
    pub credentials: Credentials,
}

impl Identity {
    /// A fresh client of a session of its own, for programs that no keeper watches.
    pub fn random(pid: u32, credentials: Credentials) -> Identity {
        Identity {
            client: ClientId(World::Real.random()),
            session: SessionId(World::Real.random()),
            pid,
            credentials,
        }
    }
}

/// Why there is no client: one line that names the thing and the remedy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no manager is named and no cluster state is known (set SEALFS_MANAGER)")]
    NoManager,
    #[error("manager address {text}: {error}")]
    ManagerUrl { text: String, error: UrlError },
    #[error("manager {url}: {error} (is sealfs-manager running?)")]
    Manager { url: String, error: TransportError },
    #[error("manager {url}: {text}")]
    ManagerRefused { url: String, text: String },
    #[error("volume {0} does not exist (sealfs volume list shows those that do)")]
    UnknownVolume(String),
    #[error("the cluster has no servers yet")]
    NoServers,
}

impl ConnectError {
    /// What a program gets.
    pub fn errno(&self) -> Errno {
        match self {
            ConnectError::UnknownVolume(_) => Errno::ENODEV,
            _ => Errno::EIO,
        }
    }
}

/// An open file description as the servers know it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FileRef {
    pub ino: InodeId,
    pub open: OpenId,
}

/// A credential set registered with [`crate::Client::register_credentials`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CredentialIndex(pub u16);

/// A starting inode and a path below it. The path is relative to `base` whatever it starts with;
/// empty it means `base` itself; a final slash asks for a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At<'a> {
    pub base: InodeId,
    pub path: &'a [u8],
}

/// Why a call on a path did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    Errno(Errno),
    /// The way led out of the mount: the absolute path to go on with in the kernel.
    Outside(Vec<u8>),
}

pub type Outcome<T> = Result<T, Failure>;

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Errno(errno)
    }
}
