//! A client as the servers see it: registration, request slots, sequences, walks that lead from one
//! shard to the next, and the same request again over a new connection when one was lost (`wire`).
//!
//! Tests and the simulator speak through it with the shards of a [`Cluster`]. What must stay true: it
//! has one request under way at a time, each with a sequence of its own.

mod target;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Cluster, VOLUME};
use crate::net::{Frame, Place};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::message::{
    At, Credentials, LockMark, Op, OpReply, Refusal, Reply, Stop, Walked,
};
use sealfs_protocol::{
    ClientId, Errno, Incarnation, InodeId, OpenId, PartitionId, RenameVersion, Sequence, SessionId,
    codec, dirent, hash,
};
use sealfs_server::core::ConnId;
use target::{at_of, partition_of};
use wire::Link;
/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    pub reply: OpReply,
    pub payload: Vec<u8>,
}

impl Outcome {
    pub fn attr(self) -> Attr {
        match self.reply {
            OpReply::Attr(attr) | OpReply::Opened { attr, .. } => attr,
            other => panic!("no attributes: {other:?}"),
        }
    }

    pub fn errno(&self) -> Option<Errno> {
        match &self.reply {
            OpReply::Errno(errno) => Some(*errno),
            _ => None,
        }
    }
}

struct Pending {
    partition: PartitionId,
    op: Op,
    payload: Vec<u8>,
    sequence: Sequence,
    tag: u64,
    flags: u32,
    /// Over which connection it is under way.
    sent_over: Option<ConnId>,
    /// That what a name leads to lives elsewhere is wanted as the outcome.
    stays: bool,
}

pub struct Client {
    end: usize,
    pub id: ClientId,
    pub session: SessionId,
    credentials: Credentials,
    /// By position of the shard.
    links: BTreeMap<usize, Link>,
    slot: u16,
    next_sequence: u64,
    next_tag: u64,
    next_open: u64,
    /// Under which version of the directory structure it claims to have cached.
    claimed: RenameVersion,
    seen: RenameVersion,
    /// Claims the version of the last reply, as a client with a cache does.
    caches: bool,
    /// Told to a server that has restarted.
    opens: BTreeSet<(InodeId, OpenId)>,
    /// Shards that knew nothing of us and were not told yet, by position.
    untold: BTreeSet<usize>,
    /// Of the shard that sent the last reply.
    incarnation: Incarnation,
    /// And its last log entry then.
    written: u64,
    pending: Option<Pending>,
}

impl Client {
    pub fn new(cluster: &mut Cluster, id: u128, uid: u32) -> Client {
        Client {
            end: cluster.fresh_end(),
            id: ClientId(id),
            // Never the same number: both kinds of identity are random in the world.
            session: SessionId(id | 1 << 64),
            credentials: Credentials {
                uid,
                gid: uid,
                groups: Vec::new(),
            },
            links: BTreeMap::new(),
            slot: 0,
            next_sequence: 1,
            next_tag: 1,
            next_open: 1,
            claimed: RenameVersion(0),
            seen: RenameVersion(0),
            caches: false,
            opens: BTreeSet::new(),
            untold: BTreeSet::new(),
            incarnation: Incarnation(0),
            written: 0,
            pending: None,
        }
    }

    pub fn root(&self, cluster: &Cluster) -> InodeId {
        InodeId::root(VOLUME, cluster.ring().partitions())
    }

    /// Where the network knows it.
    pub fn place(&self) -> Place {
        Place::Client(self.end)
    }

    /// The version that the last reply carried.
    pub fn version(&self) -> RenameVersion {
        self.seen
    }

    /// The incarnation of the shard that sent the last reply.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// When the last call has changed a lock, if it was that.
    pub fn mark(&self) -> LockMark {
        LockMark {
            incarnation: self.incarnation,
            written: self.written,
        }
    }

    /// Behaves like a client that caches directories: claims the version it knows, and asks anew
    /// when that is refused.
    pub fn with_cache(mut self) -> Client {
        self.caches = true;
        self
    }

    /// Requests from now on say that they used a cache of this version.
    pub fn use_version(&mut self, version: RenameVersion) {
        self.claimed = version;
    }

    pub fn fresh_open(&mut self) -> OpenId {
        self.next_open += 1;
        OpenId(self.next_open)
    }

    /// What [`Client::fresh_open`] gave last.
    pub fn last_open(&self) -> OpenId {
        OpenId(self.next_open)
    }

    /// From now on a server that has restarted is told that this is open.
    pub fn keep_open(&mut self, ino: InodeId, open: OpenId) {
        self.opens.insert((ino, open));
    }

    pub fn keep_open_no_more(&mut self, ino: InodeId, open: OpenId) {
        self.opens.remove(&(ino, open));
    }

    /// Sends an operation; [`Client::poll`] brings the outcome.
    pub fn begin(&mut self, cluster: &mut Cluster, op: Op, payload: &[u8]) {
        let partition = partition_of(&op);
        self.begin_at(cluster, partition, op, payload);
    }

    /// The same, but that what a name leads to lives on another shard is an outcome.
    pub fn begin_here(&mut self, cluster: &mut Cluster, op: Op) {
        self.begin(cluster, op, &[]);
        if let Some(pending) = &mut self.pending {
            pending.stays = true;
        }
    }

    pub fn begin_at(
        &mut self,
        cluster: &mut Cluster,
        partition: PartitionId,
        op: Op,
        payload: &[u8],
    ) {
        assert!(self.pending.is_none(), "one request at a time");
        self.next_tag += 1;
        self.pending = Some(Pending {
            partition,
            op,
            payload: payload.to_vec(),
            sequence: Sequence(self.next_sequence),
            tag: self.next_tag,
            flags: 0,
            sent_over: None,
            stays: false,
        });
        self.next_sequence += 1;
        self.transmit(cluster);
    }

    /// The process is killed: its connections close, and it never hears what became of its request.
    pub fn die(&mut self, cluster: &mut Cluster) {
        for link in std::mem::take(&mut self.links).into_values() {
            if let Some(conn) = link.conn() {
                cluster.cut(conn);
            }
        }
        self.pending = None;
    }

    fn replied(&mut self, cluster: &mut Cluster, frame: Frame) -> Option<Outcome> {
        if self.pending.as_ref()?.tag != frame.header.tag {
            return None;
        }
        let mut reply: Reply = codec::decode(&frame.body).expect("a reply parses");
        self.seen = reply.rename_version;
        self.incarnation = frame.header.incarnation;
        self.written = reply.written;
        if self.caches {
            self.claimed = self.seen;
        }
        let reply = reply.replies.pop().expect("one reply to one operation");
        self.take(cluster, reply, frame.payload)
    }

    /// An outcome, or the next request that the reply leads to.
    fn take(&mut self, cluster: &mut Cluster, reply: OpReply, payload: Vec<u8>) -> Option<Outcome> {
        let pending = self.pending.take()?;
        match &reply {
            OpReply::Walked(Walked {
                consumed_bytes,
                base,
                stop: stop @ (Stop::Elsewhere | Stop::Split { .. } | Stop::Original),
            }) if !(pending.stays && *stop == Stop::Elsewhere && *consumed_bytes > 0) => {
                let mut op = pending.op;
                let mut partition = base.partition();
                if let Some(at) = at_of(&mut op) {
                    let rest = &at.path[*consumed_bytes as usize..];
                    let skip = rest.iter().take_while(|b| **b == b'/').count();
                    at.path = rest[skip..].to_vec();
                    at.base = *base;
                    if let Stop::Split { parts } = stop {
                        let name = at.path.split(|b| *b == b'/').next().unwrap_or_default();
                        let part = hash::directory_part(name, parts.len() as u16);
                        partition = parts[usize::from(part.expect("a part hosts it")) - 1];
                    }
                }
                let asked = Pending {
                    partition,
                    op,
                    ..pending
                };
                self.again(cluster, asked);
                None
            }
            // Refused means not executed: asked again as a request of its own.
            OpReply::Refused(Refusal::StaleVersion { .. }) if self.caches => {
                self.again(cluster, pending);
                None
            }
            OpReply::Refused(Refusal::Busy { .. }) => {
                self.again(cluster, pending);
                None
            }
            _ => Some(Outcome { reply, payload }),
        }
    }

    /// All entries of a directory: name, inode, type. Pages of `limit_bytes`.
    pub fn list(
        &mut self,
        cluster: &mut Cluster,
        dir: InodeId,
        limit_bytes: u32,
    ) -> Vec<(Vec<u8>, InodeId, u32)> {
        let mut entries = Vec::new();
        let mut hosts = Vec::new();
        let mut position = 0;
        loop {
            let op = Op::ReadDir {
                dir,
                position,
                limit_bytes,
                with_attributes: false,
            };
            let part = dirent::part_of(position);
            let host = part.checked_sub(1).and_then(|p| hosts.get(p).copied());
            self.begin_at(cluster, host.unwrap_or(dir.partition()), op, &[]);
            let page = self.finish(cluster);
            let OpReply::Entries { next, parts, .. } = page.reply else {
                panic!("{page:?}");
            };
            for record in dirent::records(&page.payload) {
                entries.push((record.name.to_vec(), InodeId(record.ino), record.kind));
            }
            if next == dirent::END {
                return entries;
            }
            hosts.extend(parts);
            position = next;
        }
    }

    fn again(&mut self, cluster: &mut Cluster, refused: Pending) {
        let Pending {
            partition,
            op,
            payload,
            stays,
            ..
        } = refused;
        self.begin_at(cluster, partition, op, &payload);
        if let Some(pending) = &mut self.pending {
            pending.stays = stays;
        }
    }

    /// Runs one operation to its end.
    pub fn call(&mut self, cluster: &mut Cluster, op: Op) -> Outcome {
        self.call_with(cluster, op, &[])
    }

    pub fn call_with(&mut self, cluster: &mut Cluster, op: Op, payload: &[u8]) -> Outcome {
        self.begin(cluster, op, payload);
        self.finish(cluster)
    }

    /// All bytes of a file, chunk by chunk; holes are zeros.
    pub fn read_all(&mut self, cluster: &mut Cluster, attr: &Attr) -> Vec<u8> {
        let mut all = Vec::new();
        let partitions = cluster.ring().partitions();
        for span in attr.layout.split(0, attr.size_bytes) {
            let op = Op::Read {
                ino: attr.ino,
                chunk: span.chunk,
                offset_bytes: span.offset_bytes,
                len_bytes: span.len_bytes,
                atime: false,
                generation: attr.generation,
            };
            let partition = attr.layout.partition_of(attr.ino, span.chunk, partitions);
            self.begin_at(cluster, partition, op, &[]);
            let read = self.finish(cluster);
            assert!(matches!(read.reply, OpReply::Read { .. }), "{read:?}");
            let mut bytes = read.payload;
            bytes.resize(span.len_bytes as usize, 0);
            all.extend(bytes);
        }
        all
    }

    pub fn finish(&mut self, cluster: &mut Cluster) -> Outcome {
        const STEPS_MAX: u32 = 1_000_000;
        for _ in 0..STEPS_MAX {
            if let Some(outcome) = self.poll(cluster) {
                return outcome;
            }
            cluster.advance();
        }
        panic!("no reply to {:?}", self.pending.as_ref().map(|p| &p.op));
    }
}

/// `path` below `base`.
pub fn at(base: InodeId, path: &str) -> At {
    At {
        base,
        path: path.as_bytes().to_vec(),
    }
}
