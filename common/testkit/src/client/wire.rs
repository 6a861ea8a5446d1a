//! The client's connections: made when something is to be sent, made anew when they are lost.
//!
//! Requests come from `client`, and the replies go back there. What must stay true: a request is under
//! way over one connection at a time; and a server that knew nothing of the client is told what it has
//! open before anything else is asked there.

use super::{Client, Outcome};
use crate::cluster::{Arrival, Cluster, VOLUME};
use crate::net::Frame;
use sealfs_protocol::header::{FLAG_RETRY, Header, Kind};
use sealfs_protocol::message::{Entry, HelloReply, Op, Request, Who};
use sealfs_protocol::{InodeId, codec};
use sealfs_server::core::ConnId;

/// Pause before a broken connection is made anew, in ns.
const PAUSE_NS: u64 = 5_000_000;
/// Longer than any run.
const DEADLINE_MS: u32 = 600_000;

/// How far a connection to a shard has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// Hello is not answered.
    Greeting(ConnId),
    /// A server that knew nothing of us is told what is open.
    Reasserting(ConnId, u64),
    Ready(ConnId),
    /// Nothing is tried before, in ns.
    Pause(u64),
}

impl Link {
    pub(super) fn conn(self) -> Option<ConnId> {
        match self {
            Link::Greeting(conn) | Link::Reasserting(conn, _) | Link::Ready(conn) => Some(conn),
            Link::Pause(_) => None,
        }
    }
}

impl Client {
    fn connect(&mut self, cluster: &mut Cluster, shard: usize) {
        let who = Who::Client {
            client: self.id,
            session: self.session,
            volume: VOLUME,
            pid: 1,
            credentials: self.credentials.clone(),
        };
        let conn = cluster.connect(self.end, shard, who);
        self.links.insert(shard, Link::Greeting(conn));
    }

    /// Sends the request under way if it is not, as soon as there is a connection.
    pub(super) fn transmit(&mut self, cluster: &mut Cluster) {
        let Some(pending) = &self.pending else {
            return;
        };
        if pending.sent_over.is_some() {
            return;
        }
        let shard = cluster.owner(pending.partition);
        match self.links.get(&shard).copied() {
            Some(Link::Ready(conn)) => self.send(cluster, conn),
            Some(Link::Greeting(_) | Link::Reasserting(..)) => {}
            Some(Link::Pause(until)) if cluster.now().mono_ns < until => {}
            _ => self.connect(cluster, shard),
        }
    }

    fn send(&mut self, cluster: &mut Cluster, conn: ConnId) {
        let Some(pending) = &mut self.pending else {
            return;
        };
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
            deadline_ms: DEADLINE_MS,
            body_bytes: body.len() as u32,
            payload_bytes: pending.payload.len() as u32,
            ..Header::new(Kind::Request)
        };
        pending.sent_over = Some(conn);
        pending.flags = FLAG_RETRY;
        cluster.send(conn, header, &body, &pending.payload);
    }

    /// The outcome of the request under way, once it is there.
    pub fn poll(&mut self, cluster: &mut Cluster) -> Option<Outcome> {
        let mut outcome = None;
        for arrival in cluster.take_inbox(self.end) {
            match arrival {
                Arrival::Lost(conn) => self.lost(cluster, conn),
                Arrival::Frame(conn, frame) => {
                    if let Some(found) = self.arrived(cluster, conn, frame) {
                        outcome = Some(found);
                    }
                }
            }
        }
        self.transmit(cluster);
        self.keep_known(cluster);
        outcome
    }

    /// As a keeper does: a server where something is open is not left alone for long, since it
    /// waits only so long for what is open to be told after a restart.
    fn keep_known(&mut self, cluster: &mut Cluster) {
        let now = cluster.now().mono_ns;
        let over = |link: &Link| matches!(link, Link::Pause(until) if *until <= now);
        let lost = self.links.iter().filter(|(_, link)| over(link));
        let lost: Vec<usize> = lost.map(|(shard, _)| *shard).collect();
        for shard in lost {
            let mut opens = self.opens.iter();
            if opens.any(|(ino, _)| cluster.owner(ino.partition()) == shard) {
                self.connect(cluster, shard);
            }
        }
    }

    fn lost(&mut self, cluster: &Cluster, conn: ConnId) {
        let until = cluster.now().mono_ns + PAUSE_NS;
        for (shard, link) in &mut self.links {
            if link.conn() != Some(conn) {
                continue;
            }
            if let Link::Greeting(_) = link {
                // It may have heard us, and then knows us the next time.
                self.untold.insert(*shard);
            }
            *link = Link::Pause(until);
        }
        if let Some(pending) = &mut self.pending
            && pending.sent_over == Some(conn)
        {
            pending.sent_over = None;
        }
    }

    fn arrived(&mut self, cluster: &mut Cluster, conn: ConnId, frame: Frame) -> Option<Outcome> {
        let found = self.links.iter().find(|(_, l)| l.conn() == Some(conn));
        let (shard, link) = found.map(|(shard, link)| (*shard, *link))?;
        match (frame.header.kind, link) {
            (Kind::HelloReply, Link::Greeting(_)) => {
                let reply: HelloReply = codec::decode(&frame.body).expect("a HelloReply parses");
                self.greeted(cluster, shard, conn, reply.known);
                None
            }
            (Kind::Reply, Link::Reasserting(_, tag)) if frame.header.tag == tag => {
                self.untold.remove(&shard);
                self.links.insert(shard, Link::Ready(conn));
                None
            }
            (Kind::Reply, _) => self.replied(cluster, frame),
            _ => None,
        }
    }

    fn greeted(&mut self, cluster: &mut Cluster, shard: usize, conn: ConnId, known: bool) {
        let there = |ino: &InodeId| cluster.owner(ino.partition()) == shard;
        let opens = self.opens.iter().filter(|(ino, _)| there(ino));
        let ops: Vec<Entry> = opens
            .map(|(ino, open)| Entry {
                partition: ino.partition(),
                epoch: cluster.ring().epoch(ino.partition()),
                op: Op::Reassert {
                    ino: *ino,
                    open: *open,
                    executes: false,
                    locked: None,
                },
            })
            .collect();
        if !known {
            self.untold.insert(shard);
        }
        if !self.untold.contains(&shard) || ops.is_empty() {
            self.untold.remove(&shard);
            self.links.insert(shard, Link::Ready(conn));
            return;
        }
        self.next_tag += 1;
        self.links
            .insert(shard, Link::Reasserting(conn, self.next_tag));
        let body = codec::encode(&Request { ops }).expect("a request encodes");
        let header = Header {
            client: self.id,
            tag: self.next_tag,
            ring_version: cluster.ring().version,
            body_bytes: body.len() as u32,
            ..Header::new(Kind::Request)
        };
        cluster.send(conn, header, &body, &[]);
    }
}
