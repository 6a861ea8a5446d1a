//! The client: one process's way to one volume.
//!
//! All methods take `&self` and may be called by many threads at once. What a call needs of the
//! cluster it asks the owners of the partitions involved; see [`crate::call`] for how.

use crate::cache::DirectoryCache;
use crate::cluster::Cluster;
use crate::config::{Config, ConnectError, CredentialIndex, FileRef, Identity};
use crate::connect::{Connections, Role};
use crate::credentials::CredentialSets;
use crate::deferred::Deferred;
use crate::files::Files;
use crate::slots::Slots;
use sealfs_protocol::manager::{ClusterState, Volume};
use sealfs_protocol::message::{Credentials, LockOwner};
use sealfs_protocol::{ClientId, Incarnation, InodeId, OpenId, SessionId, ShardId};
use sealfs_transport::sync::Mutex;
use sealfs_transport::time::Instant;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A process known to the cluster. Clones share everything.
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    /// The credential set of these calls; `None`: the process's.
    acting_as: Option<u16>,
    /// Longest time of one call, in ms.
    deadline_ms: u32,
}

pub(crate) struct Shared {
    pub config: Config,
    pub identity: Identity,
    pub volume: Volume,
    pub root: InodeId,
    pub role: Role,
    pub cluster: Cluster,
    pub connections: Connections,
    pub slots: Slots,
    pub credentials: CredentialSets,
    pub directories: Mutex<DirectoryCache>,
    pub files: Mutex<Files>,
    pub deferred: Mutex<Deferred>,
    /// Calls to servers so far.
    pub requests: AtomicU64,
}

impl Client {
    /// A client of a volume. With a cluster state in `config` that names it, nobody is asked: each
    /// server learns of the client when it is first needed.
    pub fn connect(config: Config, identity: Identity) -> Result<Client, ConnectError> {
        let (cluster, volume) = Cluster::find(&config)?;
        let role = Role::Process {
            identity: identity.clone(),
            volume: volume.id,
        };
        Ok(Client::make(config, identity, cluster, volume, role))
    }

    pub(crate) fn make(
        config: Config,
        identity: Identity,
        cluster: Cluster,
        volume: Volume,
        role: Role,
    ) -> Client {
        let partitions = cluster.state().ring.partitions();
        Client {
            deadline_ms: config.deadline_ms,
            shared: Arc::new(Shared {
                root: InodeId::root(volume.id, partitions),
                slots: Slots::new(config.first_sequence),
                credentials: CredentialSets::new(identity.credentials.clone()),
                config,
                identity,
                volume,
                role,
                cluster,
                connections: Connections::default(),
                directories: Mutex::default(),
                files: Mutex::default(),
                deferred: Mutex::default(),
                requests: AtomicU64::new(0),
            }),
            acting_as: None,
        }
    }

    /// A client of its own for a child that shares this process's memory: other id, other
    /// connections, nothing remembered. End it with [`Client::end`].
    pub fn private(&self) -> Client {
        let old = &self.shared;
        let identity = Identity {
            client: ClientId(old.config.world.random()),
            credentials: old.credentials.get(self.credential()).0,
            ..old.identity.clone()
        };
        self.named(identity, old.config.first_sequence)
    }

    /// Another client of the same volume.
    pub(crate) fn named(&self, identity: Identity, first_sequence: u64) -> Client {
        let old = &self.shared;
        let role = Role::Process {
            identity: identity.clone(),
            volume: old.volume.id,
        };
        let config = Config {
            first_sequence,
            ..old.config.clone()
        };
        let (cluster, volume) = (old.cluster.share(), old.volume.clone());
        Client::make(config, identity, cluster, volume, role)
    }

    /// The same client, its calls made under another credential set.
    pub fn acting_as(&self, credential: CredentialIndex) -> Client {
        Client {
            shared: Arc::clone(&self.shared),
            acting_as: Some(credential.0),
            deadline_ms: self.deadline_ms,
        }
    }

    /// The same client, its calls at most this long.
    pub(crate) fn with_deadline(&self, deadline_ms: u32) -> Client {
        Client {
            deadline_ms: deadline_ms.min(self.deadline_ms),
            ..self.clone()
        }
    }

    /// The index of a credential set, for [`Client::acting_as`].
    pub fn register_credentials(&self, credentials: &Credentials) -> CredentialIndex {
        CredentialIndex(self.shared.credentials.register(credentials))
    }

    /// The whole process acts under these from now on.
    pub fn set_credentials(&self, credentials: &Credentials) {
        self.shared.credentials.set_default(credentials);
    }

    pub(crate) fn credential(&self) -> u16 {
        self.acting_as
            .unwrap_or_else(|| self.shared.credentials.default_index())
    }

    /// In a forked child, of the parent's client, before it is leaked: closes the child's copies of
    /// its sockets. Takes no lock and tells nobody.
    pub fn close_inherited(&self) {
        for fd in self.sockets() {
            sealfs_transport::tcp::client::close_raw(fd);
        }
    }

    /// Descriptors in use.
    pub fn sockets(&self) -> impl Iterator<Item = i32> + '_ {
        self.shared.connections.descriptors.all()
    }

    pub fn root(&self) -> InodeId {
        self.shared.root
    }

    pub fn volume(&self) -> &Volume {
        &self.shared.volume
    }

    pub fn mount(&self) -> &[u8] {
        &self.shared.config.mount
    }

    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The cluster as known now.
    pub fn cluster_state(&self) -> ClusterState {
        ClusterState::clone(&self.shared.cluster.state())
    }

    /// The owner of this process's fcntl(2) record locks.
    pub fn process_owner(&self) -> LockOwner {
        LockOwner::Process {
            client: self.shared.identity.client,
            session: self.session(),
        }
    }

    /// The owner of a description's OFD and flock(2) locks.
    pub fn description_owner(&self, open: OpenId) -> LockOwner {
        LockOwner::Description {
            session: self.session(),
            open,
        }
    }

    fn session(&self) -> SessionId {
        self.shared.identity.session
    }

    /// Shards that a description has written to, and their incarnations at its first write there:
    /// what fsync needs to notice a loss. For other processes that share the description.
    pub fn written(&self, file: FileRef) -> Vec<(ShardId, Incarnation)> {
        self.shared.files.lock().written(file)
    }

    /// What another process that shares the description has written.
    pub fn note_written(&self, file: FileRef, written: &[(ShardId, Incarnation)]) {
        let mut files = self.shared.files.lock();
        for (shard, incarnation) in written {
            files.note_written(file, *shard, *incarnation);
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        let now = self.shared.config.world.now();
        now.after_ms(self.deadline_ms)
    }

    pub(crate) fn deadline_ms(&self) -> u32 {
        self.deadline_ms
    }
}
