//! The real clusters: `sealfs-client` behind the keeper's own small interface.
//!
//! Per cluster one link speaks for the session (its lease, ends of clients, closes), and one per
//! volume carries the bytes of mapped files and executables as an ordinary client of this session.
//! Each is made when it is first needed, from the state file if there is one, so that the keeper of
//! a cluster whose manager is away works too.

use crate::cluster::{Cluster, Clusters, File, Image, Retold};
use crate::run::Node;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::leaving::sequence_after;
use sealfs_client::node::state_file;
use sealfs_client::{Client, Config, FileRef, Identity, Standing};
use sealfs_protocol::message::Credentials;
use sealfs_protocol::{ClientId, Errno, InodeId, SessionId, VolumeId};
use sealfs_transport::memory::{IoVec, IoVecMut};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Longest time of one call for the session: it must not hold up a renewal for long, in ms.
const SESSION_CALL_MS: u32 = 2_000;
/// Longest time of one call for a file's bytes, in ms.
const DATA_CALL_MS: u32 = 20_000;

type Key = (ManagerIndex, Option<VolumeId>);

pub struct Links {
    node: Arc<Node>,
    made: Mutex<HashMap<Key, Arc<Link>>>,
}

struct Link {
    client: Client,
}

impl Links {
    pub fn new(node: Arc<Node>) -> Links {
        Links {
            node,
            made: Mutex::default(),
        }
    }

    fn make(&self, (manager, volume): Key) -> Result<Link, Errno> {
        let url = self.node.arena.manager_url(manager).ok_or(Errno::EINVAL)?;
        let state = state_file::read(&self.node.runtime, &url);
        let state = match state {
            Some(state) => state,
            None => fetch(&url)?,
        };
        // For the session any volume will do.
        let named = state
            .volumes
            .iter()
            .find(|v| volume.is_none_or(|id| v.id == id));
        let name = named.ok_or(Errno::ENODEV)?.name.clone();
        let mut config = Config::new(&name, b"/");
        config.manager = Some(url);
        config.cluster_state = Some(state);
        let session = self.node.arena.session();
        let client = if volume.is_some() {
            config.deadline_ms = DATA_CALL_MS;
            Client::connect(config, identity(session)?)
        } else {
            config.deadline_ms = SESSION_CALL_MS;
            Client::keeper(config, session, self.node.runtime.uid())
        };
        client.map(|client| Link { client }).map_err(|e| {
            log::warn!("{e}");
            e.errno()
        })
    }
}

impl Clusters for Links {
    fn get(
        &self,
        manager: ManagerIndex,
        volume: Option<VolumeId>,
    ) -> Result<Arc<dyn Cluster>, Errno> {
        let key = (manager, volume);
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = made().get(&key) {
            return Ok(Arc::clone(link) as Arc<dyn Cluster>);
        }
        // Nobody waits for a cluster that is away but those who want it.
        let new = Arc::new(self.make(key)?);
        let link = Arc::clone(made().entry(key).or_insert(new));
        Ok(link)
    }

    fn get_made(&self, manager: ManagerIndex) -> Option<Arc<dyn Cluster>> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let link = made.get(&(manager, None))?;
        Some(Arc::clone(link) as Arc<dyn Cluster>)
    }

    fn begin_again(&self) {
        self.made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn end(&self) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for ((_, volume), link) in &*made {
            if volume.is_some() {
                link.client.end();
            }
        }
    }
}

/// The published state from the manager itself.
fn fetch(url: &str) -> Result<sealfs_protocol::manager::ClusterState, Errno> {
    use sealfs_protocol::manager::{ManagerReply, ManagerRequest};
    let address = url.parse().map_err(|_| Errno::EINVAL)?;
    let request = ManagerRequest::State { known: 0 };
    match sealfs_transport::rpc::manager(&address, &request, SESSION_CALL_MS) {
        Ok(ManagerReply::State(Some(state))) => Ok(state),
        _ => Err(Errno::EIO),
    }
}

/// The keeper as a client: this user.
fn identity(session: SessionId) -> Result<Identity, Errno> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    Ok(Identity {
        client: ClientId(sealfs_client::node::sys::random_u128()?),
        session,
        pid: std::process::id(),
        credentials: Credentials {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: groups
                .into_iter()
                .map(rustix::process::Gid::as_raw)
                .collect(),
        },
    })
}

fn wire(file: File) -> FileRef {
    FileRef {
        ino: file.ino,
        open: file.open,
    }
}

fn known(file: FileRef) -> File {
    File {
        ino: file.ino,
        open: file.open,
    }
}

impl Cluster for Link {
    fn renew(&self, session: SessionId) -> Result<(), Errno> {
        self.client.renew_session(session)
    }

    fn sockets(&self) -> Vec<i32> {
        self.client.sockets().collect()
    }

    fn end_session(&self, session: SessionId) -> Result<(), Errno> {
        self.client.end_session(session)
    }

    fn end_client(&self, client: ClientId) -> Result<(), Errno> {
        self.client.end_client(client)
    }

    fn drop_record_locks(&self, of: Image, ino: InodeId) -> Result<(), Errno> {
        /// Each try is a request of its own: a lower number than the one before would be refused.
        static TRIES: AtomicU32 = AtomicU32::new(0);
        let first = sequence_after(of.image, TRIES.fetch_add(1, Ordering::Relaxed));
        self.client.drop_record_locks(of.client, of.pid, first, ino)
    }

    fn close(&self, file: File) -> Result<(), Errno> {
        self.client.close_now(wire(file))
    }

    fn doubt(&self, ino: InodeId) -> Result<(), Errno> {
        self.client.doubt_end(ino)
    }

    fn give_back(&self, file: File) {
        self.client.give_back(wire(file));
    }

    fn reassert(&self, file: File, executes: bool) -> Result<(), Errno> {
        self.client.reassert(wire(file), executes)
    }

    /// Every server is asked whether it waits, also those where nothing is open: they cannot know.
    fn keep_known(
        &self,
        session: SessionId,
        open: &dyn Fn() -> Vec<Standing>,
        told: &mut Retold,
    ) -> Result<(), Errno> {
        let (awaited, mut all) = self.client.awaited_by(session);
        for shard in awaited {
            let open = open();
            told.open.extend(open.iter().map(|s| known(s.file)));
            match self.client.tell_open(shard, session, &open) {
                Ok(answers) => {
                    let answers = answers.into_iter();
                    told.judged
                        .extend(answers.map(|(file, intact)| (known(file), intact)));
                }
                Err(_) => all = false,
            }
        }
        if all { Ok(()) } else { Err(Errno::EIO) }
    }

    fn size(&self, file: File) -> Result<u64, Errno> {
        self.client.stat_open(wire(file)).map(|a| a.size_bytes)
    }

    fn seek(&self, file: File, offset: u64, data: bool) -> Result<u64, Errno> {
        if data {
            self.client.seek_data(wire(file), offset)
        } else {
            self.client.seek_hole(wire(file), offset)
        }
    }

    fn read(&self, file: File, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        self.client
            .read(wire(file), offset, &mut [IoVecMut::new(into)])
    }

    fn write(&self, file: File, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        self.client.write(wire(file), offset, &[IoVec::new(bytes)])
    }
}
