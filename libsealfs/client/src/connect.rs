//! Connections to shards: one each, opened at first use, made anew when broken.
//!
//! The first frame is Hello, which registers the client. A server that does not know us any more (it
//! was restarted) is told which descriptions are open before anything else is asked of it. What must
//! stay true: no request goes out on a connection that has not been greeted, nor under a credential
//! set that it was not told.

use crate::config::{FileRef, Identity};
use crate::credentials::CredentialSets;
use crate::descriptors::Descriptors;
use crate::hash::FixedState;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::message::{
    Entry, FrameError, Hello, HelloReply, LockMark, Op, OpReply, Reply, Request, Who,
};
use sealfs_protocol::ring::{Ring, ShardInfo};
use sealfs_protocol::{ClientId, Errno, SessionId, ShardId, VolumeId, codec};
use sealfs_transport::error::TransportError;
use sealfs_transport::link::{Exchange, Link, Tick, exchange_all};
use sealfs_transport::memory::Hooks;
use sealfs_transport::sync::Mutex;
use sealfs_transport::time::Instant;
use sealfs_transport::url::Url;
use sealfs_transport::world::World;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Longest wait for a connection and its greeting, in ms; the caller tries again until its own
/// deadline.
const CONNECT_MS: u32 = 5_000;
/// Descriptions told to a restarted server in one request.
const REASSERT_MAX: usize = 1_000;

/// A greeted connection.
pub(crate) struct Connection {
    pub link: Link,
    pub shard: ShardId,
    /// For each credential set the version that the server was told.
    told: Mutex<Vec<u32>>,
    descriptors: Arc<Descriptors>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(fd) = self.link.raw_fd() {
            self.descriptors.remove(fd);
        }
    }
}

#[derive(Default)]
pub(crate) struct Connections {
    list: Mutex<HashMap<ShardId, Arc<Connection>, FixedState>>,
    pub descriptors: Arc<Descriptors>,
    /// Servers that knew nothing of us, new to us or restarted, and were not told yet what is open. A second greeting says that they know us,
    /// although the first connection may have broken before they were told.
    untold: Mutex<HashSet<ShardId, FixedState>>,
}

/// On whose behalf connections are made.
#[derive(Clone)]
pub(crate) enum Role {
    Process {
        identity: Identity,
        volume: VolumeId,
    },
    Keeper {
        session: SessionId,
        uid: u32,
    },
}

/// What a new connection needs to know.
pub(crate) struct Greeting<'a> {
    pub world: &'a World,
    pub hooks: &'a Hooks,
    pub role: &'a Role,
    pub ring: &'a Ring,
    pub credentials: &'a CredentialSets,
}

/// A connection that was just made.
pub(crate) struct Greeted {
    pub connection: Arc<Connection>,
    /// The server's ring, if it is newer.
    pub ring: Option<Ring>,
    /// The server holds nothing of this client: open descriptions must be told.
    pub forgotten: bool,
}

/// Why a shard could not be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unreachable {
    /// It may come back: try again.
    Away(TransportError),
    /// It answers and will not have us.
    Refused,
    /// It says that this client or session has ended.
    Ended,
    /// Another shard answers at that address: the ring is out of date.
    Moved,
    /// The volume was deleted.
    NoVolume,
}

impl Connections {
    /// The connection in use, if there is a good one.
    pub fn get(&self, shard: ShardId) -> Option<Arc<Connection>> {
        let list = self.list.lock();
        list.get(&shard).filter(|c| !c.link.is_broken()).cloned()
    }

    /// Whether no server knows of this client.
    pub fn are_none(&self) -> bool {
        self.list.lock().is_empty()
    }

    /// Connects and says hello; the caller tells what else must be said and then calls `put`.
    pub fn open(
        &self,
        shard: &ShardInfo,
        greeting: &Greeting<'_>,
        deadline: Instant,
    ) -> Result<Greeted, Unreachable> {
        let deadline = deadline.min(greeting.world.now().after_ms(CONNECT_MS));
        let mut problem = TransportError::Refused;
        for text in &shard.addresses {
            let Ok(url) = text.parse::<Url>() else {
                continue;
            };
            match Link::connect(greeting.world, greeting.hooks, &url, deadline) {
                Ok(link) => return self.greet(link, shard, greeting, deadline),
                Err(e) => problem = e,
            }
        }
        Err(Unreachable::Away(problem))
    }

    fn greet(
        &self,
        link: Link,
        shard: &ShardInfo,
        greeting: &Greeting<'_>,
        deadline: Instant,
    ) -> Result<Greeted, Unreachable> {
        if let Some(fd) = link.raw_fd() {
            self.descriptors.add(fd);
        }
        let connection = Arc::new(Connection {
            link,
            shard: shard.id,
            told: Mutex::new(Vec::new()),
            descriptors: Arc::clone(&self.descriptors),
        });
        let (first, first_version) = greeting.credentials.get(0);
        let (who, client) = match greeting.role {
            Role::Process { identity, volume } => (
                Who::Client {
                    client: identity.client,
                    session: identity.session,
                    volume: *volume,
                    pid: identity.pid,
                    credentials: first,
                },
                identity.client,
            ),
            Role::Keeper { session, uid } => {
                let who = Who::Keeper {
                    session: *session,
                    uid: *uid,
                };
                (who, ClientId(0))
            }
        };
        let hello = Hello {
            cluster: greeting.ring.cluster,
            who,
            ring_version: greeting.ring.version,
        };
        let header = Header {
            client,
            ring_version: greeting.ring.version,
            ..Header::new(Kind::Hello)
        };
        let body = codec::encode(&hello).map_err(|_| Unreachable::Refused)?;
        // A server that has heard this knows us the next time, also if its answer is lost.
        let answered = ask(&connection.link, header, &body, deadline);
        if answered.is_err() {
            self.untold.lock().insert(shard.id);
        }
        let (kind, answer) = answered?;
        if kind == Kind::Error {
            return Err(refusal(&answer));
        }
        let reply: HelloReply = codec::decode(&answer).map_err(|_| Unreachable::Refused)?;
        if reply.shard != shard.id {
            return Err(Unreachable::Moved);
        }
        connection.told.lock().push(first_version);
        Ok(Greeted {
            connection,
            ring: reply.ring,
            forgotten: !reply.known,
        })
    }

    /// Whether a shard that was greeted must be told what is open.
    pub fn must_tell(&self, greeted: &Greeted) -> bool {
        let shard = greeted.connection.shard;
        let mut untold = self.untold.lock();
        if greeted.forgotten {
            untold.insert(shard);
        }
        untold.contains(&shard)
    }

    /// It has been told.
    pub fn told(&self, shard: ShardId) {
        self.untold.lock().remove(&shard);
    }

    /// Makes a connection the one in use, unless another thread was faster.
    pub fn put(&self, new: Arc<Connection>) -> Arc<Connection> {
        let mut list = self.list.lock();
        match list.get(&new.shard) {
            Some(other) if !other.link.is_broken() => Arc::clone(other),
            _ => {
                list.insert(new.shard, Arc::clone(&new));
                new
            }
        }
    }
}

impl Connection {
    /// Tells the server of credential set `index`, unless it knows its present version.
    pub fn tell_credentials(
        &self,
        index: u16,
        header: Header,
        ring: &Ring,
        sets: &CredentialSets,
        deadline: Instant,
    ) -> Result<(), Unreachable> {
        let at = usize::from(index);
        let mut told = self.told.lock();
        if told.get(at) == Some(&sets.version(index)) {
            return Ok(());
        }
        let (credentials, version) = sets.get(index);
        let op = Op::Credential { index, credentials };
        self.say(&[op], header, ring, deadline)?;
        if told.len() <= at {
            told.resize(at + 1, 0);
        }
        told[at] = version;
        Ok(())
    }

    /// Tells a server that forgot us what is open here; the files whose locks it may have lost.
    pub fn reassert(
        &self,
        files: &[(FileRef, Option<LockMark>)],
        header: Header,
        ring: &Ring,
        deadline: Instant,
    ) -> Result<Vec<FileRef>, Unreachable> {
        let mut lost = Vec::new();
        for some in files.chunks(REASSERT_MAX) {
            let ops: Vec<Op> = some
                .iter()
                .map(|(f, locked)| Op::Reassert {
                    ino: f.ino,
                    open: f.open,
                    executes: false,
                    locked: *locked,
                })
                .collect();
            let replies = self.say(&ops, header, ring, deadline)?;
            let answers = some.iter().zip(&replies);
            let of_lost = answers.filter(|(_, r)| matches!(r, OpReply::Errno(Errno::EIO)));
            lost.extend(of_lost.map(|((file, _), _)| *file));
        }
        Ok(lost)
    }

    /// A request that needs no slot.
    fn say(
        &self,
        ops: &[Op],
        header: Header,
        ring: &Ring,
        deadline: Instant,
    ) -> Result<Vec<OpReply>, Unreachable> {
        let entries = ops.iter().map(|op| {
            let partition = match op {
                Op::Reassert { ino, .. } => ino.partition(),
                _ => partition_of_shard(ring, self.shard),
            };
            Entry {
                partition,
                epoch: ring.epoch(partition),
                op: op.clone(),
            }
        });
        let request = Request {
            ops: entries.collect(),
        };
        let body = codec::encode(&request).map_err(|_| Unreachable::Refused)?;
        let (kind, answer) = ask(&self.link, header, &body, deadline)?;
        match kind {
            Kind::Reply => codec::decode::<Reply>(&answer)
                .map(|reply| reply.replies)
                .map_err(|_| Unreachable::Refused),
            _ => Err(refusal(&answer)),
        }
    }
}

/// Any partition that `shard` owns.
pub(crate) fn partition_of_shard(ring: &Ring, shard: ShardId) -> sealfs_protocol::PartitionId {
    let index = ring.shards.iter().position(|s| s.id == shard);
    let mut owners = ring.owners.iter();
    let at = index.and_then(|i| owners.position(|o| usize::from(*o) == i));
    sealfs_protocol::PartitionId(at.unwrap_or(0) as u16)
}

fn refusal(body: &[u8]) -> Unreachable {
    match codec::decode::<FrameError>(body) {
        Ok(e) if e.again => Unreachable::Away(TransportError::Refusal {
            errno: e.errno,
            text: e.text,
        }),
        Ok(e) if e.errno == Errno::ENODEV => Unreachable::NoVolume,
        Ok(e) if e.errno == Errno::ESTALE => Unreachable::Ended,
        _ => Unreachable::Refused,
    }
}

fn ask(
    link: &Link,
    header: Header,
    body: &[u8],
    deadline: Instant,
) -> Result<(Kind, Vec<u8>), Unreachable> {
    let mut exchange = [Exchange {
        link,
        header,
        body,
        outgoing: &[],
        incoming: &mut [],
        reply: Vec::new(),
        outcome: None,
    }];
    exchange_all(&mut exchange, deadline, &mut || Tick::Wait);
    let [exchange] = exchange;
    match exchange.outcome {
        Some(Ok(response)) => Ok((response.header.kind, exchange.reply)),
        Some(Err(e)) => Err(Unreachable::Away(e)),
        None => Err(Unreachable::Away(TransportError::Closed)),
    }
}
