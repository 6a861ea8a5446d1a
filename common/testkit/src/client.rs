//! A client as the servers see it: registration, request slots, sequences, walks that lead from one
//! shard to the next, and the same request again when a shard has restarted.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, VOLUME};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::message::{
    At, Credentials, Entry, Op, OpReply, Refusal, Reply, Request, Stop, Walked, Who,
};
use sealfs_protocol::{
    ClientId, Errno, InodeId, OpenId, PartitionId, RenameVersion, Sequence, SessionId, codec,
    dirent, hash,
};
use sealfs_server::core::ConnId;

/// Time after which an unanswered request is sent again, in ns.
const RETRY_NS: u64 = 50_000_000;

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
    sent_ns: u64,
    flags: u32,
}

pub struct Client {
    end: usize,
    pub id: ClientId,
    pub session: SessionId,
    credentials: Credentials,
    /// By position of the shard.
    conns: BTreeMap<usize, ConnId>,
    slot: u16,
    next_sequence: u64,
    next_tag: u64,
    next_open: u64,
    /// Under which version of the directory structure it claims to have cached.
    claimed: RenameVersion,
    seen: RenameVersion,
    /// Claims the version of the last reply, as a client with a cache does.
    caches: bool,
    pending: Option<Pending>,
}

impl Client {
    pub fn new(cluster: &mut Cluster, id: u128, uid: u32) -> Client {
        Client {
            end: cluster.fresh_end(),
            id: ClientId(id),
            session: SessionId(id),
            credentials: Credentials {
                uid,
                gid: uid,
                groups: Vec::new(),
            },
            conns: BTreeMap::new(),
            slot: 0,
            next_sequence: 1,
            next_tag: 1,
            next_open: 1,
            claimed: RenameVersion(0),
            seen: RenameVersion(0),
            caches: false,
            pending: None,
        }
    }

    pub fn root(&self, cluster: &Cluster) -> InodeId {
        InodeId::root(VOLUME, cluster.ring().partitions())
    }

    /// The version that the last reply carried.
    pub fn version(&self) -> RenameVersion {
        self.seen
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

    /// Sends an operation; [`Client::poll`] brings the outcome.
    pub fn begin(&mut self, cluster: &mut Cluster, op: Op, payload: &[u8]) {
        let partition = partition_of(&op);
        self.begin_at(cluster, partition, op, payload);
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
            sent_ns: 0,
            flags: 0,
        });
        self.next_sequence += 1;
        self.transmit(cluster);
    }

    fn connection(&mut self, cluster: &mut Cluster, shard: usize) -> ConnId {
        if let Some(conn) = self.conns.get(&shard).copied()
            && cluster
                .core(shard)
                .is_some_and(|c| c.knows_connection(conn))
        {
            return conn;
        }
        let who = Who::Client {
            client: self.id,
            session: self.session,
            volume: VOLUME,
            pid: 1,
            credentials: self.credentials.clone(),
        };
        let conn = cluster.connect(self.end, shard, who);
        self.conns.insert(shard, conn);
        conn
    }

    fn transmit(&mut self, cluster: &mut Cluster) {
        let Some(mut pending) = self.pending.take() else {
            return;
        };
        let shard = cluster.owner(pending.partition);
        pending.sent_ns = cluster.now().mono_ns;
        if cluster.is_up(shard) {
            let conn = self.connection(cluster, shard);
            let request = Request {
                ops: vec![Entry {
                    partition: pending.partition,
                    epoch: cluster.ring().epoch(pending.partition),
                    op: pending.op.clone(),
                }],
            };
            let body = codec::encode(&request).expect("a request encodes");
            let header = Header {
                client: self.id,
                slot: self.slot,
                sequence: pending.sequence,
                tag: pending.tag,
                flags: pending.flags,
                rename_version: self.claimed,
                ring_version: cluster.ring().version,
                deadline_ms: 600_000,
                body_bytes: body.len() as u32,
                payload_bytes: pending.payload.len() as u32,
                ..Header::new(Kind::Request)
            };
            cluster.send(shard, conn, header, &body, &pending.payload);
        }
        self.pending = Some(pending);
    }

    /// The outcome of the request under way, once it is there.
    pub fn poll(&mut self, cluster: &mut Cluster) -> Option<Outcome> {
        for delivered in cluster.take_inbox(self.end) {
            if delivered.header.kind == Kind::Error {
                self.conns.clear();
            }
            let Some(pending) = &self.pending else {
                continue;
            };
            if delivered.header.kind != Kind::Reply || delivered.header.tag != pending.tag {
                continue;
            }
            let mut reply: Reply = codec::decode(&delivered.body).expect("a reply parses");
            self.seen = reply.rename_version;
            if self.caches {
                self.claimed = self.seen;
            }
            let reply = reply.replies.pop().expect("one reply to one operation");
            if let Some(outcome) = self.take(cluster, reply, delivered.payload) {
                return Some(outcome);
            }
        }
        let overdue = |p: &Pending| cluster.now().mono_ns - p.sent_ns >= RETRY_NS;
        if self.pending.as_ref().is_some_and(overdue) {
            if let Some(pending) = &mut self.pending {
                pending.flags = sealfs_protocol::header::FLAG_RETRY;
            }
            self.transmit(cluster);
        }
        None
    }

    /// An outcome, or the next request that the reply leads to.
    fn take(&mut self, cluster: &mut Cluster, reply: OpReply, payload: Vec<u8>) -> Option<Outcome> {
        let pending = self.pending.take()?;
        match &reply {
            OpReply::Walked(Walked {
                consumed_bytes,
                base,
                stop: stop @ (Stop::Elsewhere | Stop::Split { .. }),
            }) => {
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
                self.begin_at(cluster, partition, op, &pending.payload);
                None
            }
            // Refused means not executed: asked again as a request of its own.
            OpReply::Refused(Refusal::StaleVersion { .. }) if self.caches => {
                self.begin_at(cluster, pending.partition, pending.op, &pending.payload);
                None
            }
            OpReply::Refused(Refusal::Busy { .. }) => {
                self.begin_at(cluster, pending.partition, pending.op, &pending.payload);
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

    /// Runs one operation to its end.
    pub fn call(&mut self, cluster: &mut Cluster, op: Op) -> Outcome {
        self.call_with(cluster, op, &[])
    }

    pub fn call_with(&mut self, cluster: &mut Cluster, op: Op, payload: &[u8]) -> Outcome {
        self.begin(cluster, op, payload);
        self.finish(cluster)
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

fn at_of(op: &mut Op) -> Option<&mut At> {
    match op {
        Op::GetAttr { at, .. }
        | Op::Access { at, .. }
        | Op::Open { at, .. }
        | Op::MakeDir { at, .. }
        | Op::MakeNode { at, .. }
        | Op::Symlink { at, .. }
        | Op::Unlink { at }
        | Op::RemoveDir { at }
        | Op::ReadLink { at }
        | Op::SetAttr { at, .. }
        | Op::GetXattr { at, .. }
        | Op::SetXattr { at, .. }
        | Op::ListXattr { at, .. }
        | Op::RemoveXattr { at, .. } => Some(at),
        _ => None,
    }
}

/// The partition that an operation belongs to. Data beyond chunk 0 is sent with `begin_at`.
fn partition_of(op: &Op) -> PartitionId {
    let mut op = op.clone();
    if let Some(at) = at_of(&mut op) {
        return at.base.partition();
    }
    match op {
        Op::Rename { from, .. } => from.base.partition(),
        Op::Link { to, .. } => to.base.partition(),
        Op::ReadDir { dir, .. } | Op::GetPath { dir } => dir.partition(),
        Op::Read { ino, .. }
        | Op::Write { ino, .. }
        | Op::Append { ino, .. }
        | Op::Publish { ino, .. }
        | Op::Allocate { ino, .. }
        | Op::Seek { ino, .. }
        | Op::Fsync { ino, .. }
        | Op::Close { ino, .. }
        | Op::Reassert { ino, .. }
        | Op::Lock { ino, .. }
        | Op::TestLock { ino, .. }
        | Op::CancelWait { ino, .. } => ino.partition(),
        _ => PartitionId(0),
    }
}

/// `path` below `base`.
pub fn at(base: InodeId, path: &str) -> At {
    At {
        base,
        path: path.as_bytes().to_vec(),
    }
}
