//! The first frame of a connection: who is there, and whether it may be served.
//!
//! `frames` brings it, and `homes`, `tick` and new states of the cluster bring again what had to wait.
//! What must stay true: nobody is registered who belongs to another cluster, names a volume that is
//! not there, or has ended; and a Hello waits for what is not known yet no longer than its patience.

use super::frames::encoded;
use super::{Action, ConnId, Core, World};
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::message::{Hello, HelloReply, Who};
use sealfs_protocol::{Errno, VolumeId};

const GONE: &str = "this client has ended";
/// How long a Hello waits for the home of its session, or for the state that knows its volume, in ns.
pub(super) const HELLO_PATIENCE_NS: u64 = 2_000_000_000;

/// A Hello that waits for the state that knows its volume.
pub(crate) struct WaitingHello {
    pub conn: ConnId,
    pub tag: u64,
    pub hello: Hello,
    pub until_ns: u64,
}

impl<W: World> Core<W> {
    /// Closes the connection of a peer that may come again.
    fn turn_away(&mut self, conn: ConnId, tag: u64, text: &str) {
        self.close_with(conn, tag, Errno::EAGAIN, text, true);
    }

    pub(super) fn on_hello(&mut self, conn: ConnId, tag: u64, hello: Hello, until_ns: u64) {
        if hello.cluster != self.cluster.id {
            let text = format!(
                "this server belongs to cluster {}, not to {}",
                self.cluster.id, hello.cluster
            );
            return self.refuse_frame(conn, tag, Errno::ENXIO, &text);
        }
        let unknown = match &hello.who {
            Who::Client { volume, .. } if volume.0 != 0 => self.cluster.volume(*volume).is_none(),
            _ => self.cluster.version == 0,
        };
        if unknown {
            let volume = match &hello.who {
                Who::Client { volume, .. } => *volume,
                _ => VolumeId(0),
            };
            let deleted = self.cluster.deleted.contains(&volume);
            if deleted || self.now.mono_ns >= until_ns {
                let text = "this volume does not exist (or not any more)";
                return self.refuse_frame(conn, tag, Errno::ENODEV, text);
            }
            self.actions.push(Action::FetchState);
            return self.hellos.push(WaitingHello {
                conn,
                tag,
                hello,
                until_ns,
            });
        }
        match self.is_alive(&hello.who) {
            Some(true) => {}
            Some(false) => return self.refuse_frame(conn, tag, Errno::ESTALE, GONE),
            None if self.now.mono_ns >= until_ns => {
                return self.turn_away(conn, tag, "the home of this session cannot be reached");
            }
            None => {
                return self.hellos.push(WaitingHello {
                    conn,
                    tag,
                    hello,
                    until_ns,
                });
            }
        }
        let peer = match &hello.who {
            Who::Shard { shard, .. } => Some(*shard),
            _ => None,
        };
        let Some(known) = self.sessions.hello(conn, hello.who) else {
            return self.refuse_frame(conn, tag, Errno::ESTALE, GONE);
        };
        if let Some(shard) = peer {
            self.versions_to_push(shard);
        }
        let newer = self.cluster.ring_version() > hello.ring_version;
        let reply = HelloReply {
            shard: self.cluster.shard,
            incarnation: self.meta.incarnation(),
            ring: newer.then(|| self.cluster.ring.clone()),
            known,
        };
        let body = encoded(&reply);
        let like = Header::new(Kind::HelloReply);
        self.reply(conn, tag, Kind::HelloReply, like, body, Vec::new());
    }
}
