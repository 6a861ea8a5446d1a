//! The network between shards and clients: connections as TCP gives them.
//!
//! On one connection frames arrive in order, once, or not at all with everything behind them. What
//! goes wrong is that a connection breaks: of what was under way each direction delivers some first
//! part, perhaps much later than the asker has connected again and repeated its request, which is
//! where duplicates and reordering come from. A partition holds frames back until it heals.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::random::Random;
use sealfs_protocol::header::Header;
use sealfs_server::core::ConnId;

/// Somebody with an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// A shard, by position.
    Shard(usize),
    /// A client, by its end.
    Client(usize),
}

/// A frame under way.
#[derive(Debug)]
pub struct Frame {
    pub header: Header,
    pub body: Vec<u8>,
    pub payload: Vec<u8>,
}

/// What comes out of a connection.
#[derive(Debug)]
pub enum Item {
    Frame(Frame),
    /// The end: closed by the other side, or broken.
    Closed,
}

/// The two directions of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    ToServer,
    ToAsker,
}

#[derive(Default)]
struct Stream {
    items: VecDeque<Item>,
    /// Nothing comes out before, in ns.
    not_before_ns: u64,
}

impl Stream {
    /// Keeps some first part of what is under way, and ends after it.
    fn cut(&mut self, keep: usize) {
        self.items.truncate(keep);
        self.items.push_back(Item::Closed);
    }
}

/// A connection from who asks to the shard that serves.
struct Connection {
    asker: Place,
    /// Lives of the two, as the cluster counts them: a later life has nothing to do with it.
    lives: (u64, u64),
    server: usize,
    to_server: Stream,
    to_asker: Stream,
    /// What is sent from now on goes nowhere.
    broken: bool,
}

impl Connection {
    fn stream(&mut self, way: Way) -> &mut Stream {
        match way {
            Way::ToServer => &mut self.to_server,
            Way::ToAsker => &mut self.to_asker,
        }
    }
}

/// What there is to be had from a stream.
pub enum Taken {
    Item(Item),
    /// Not before this time, in ns.
    Later(u64),
    Nothing,
}

#[derive(Default)]
pub struct SimNet {
    connections: BTreeMap<ConnId, Connection>,
    last_conn: u64,
    parted: BTreeSet<(Place, Place)>,
}

/// How long the frames of a broken connection may still take, in ns.
const LATE_MAX_NS: u64 = 800_000_000;
/// Longest pause between two attempts to get frames through a partition, in ns.
const RESEND_MAX_NS: u64 = 40_000_000;

impl SimNet {
    /// A connection between two lives; their frames are to be scheduled by who sends them.
    pub fn connect(&mut self, asker: Place, server: usize, lives: (u64, u64)) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        let connection = Connection {
            asker,
            lives,
            server,
            to_server: Stream::default(),
            to_asker: Stream::default(),
            broken: false,
        };
        self.connections.insert(conn, connection);
        conn
    }

    pub fn asker(&self, conn: ConnId) -> Option<Place> {
        self.connections.get(&conn).map(|c| c.asker)
    }

    pub fn server(&self, conn: ConnId) -> Option<usize> {
        self.connections.get(&conn).map(|c| c.server)
    }

    /// The lives of asker and server that the connection belongs to.
    pub fn lives(&self, conn: ConnId) -> Option<(u64, u64)> {
        self.connections.get(&conn).map(|c| c.lives)
    }

    /// Puts a frame on its way; false if it is lost because the connection is.
    pub fn send(&mut self, conn: ConnId, way: Way, frame: Frame) -> bool {
        let Some(connection) = self.connections.get_mut(&conn).filter(|c| !c.broken) else {
            return false;
        };
        let stream = connection.stream(way);
        stream.items.push_back(Item::Frame(frame));
        true
    }

    /// The next of what has arrived on a stream.
    pub fn take(&mut self, conn: ConnId, way: Way, now_ns: u64, random: &mut Random) -> Taken {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return Taken::Nothing;
        };
        let ends = (connection.asker, Place::Shard(connection.server));
        if self.parted.contains(&ends) {
            return Taken::Later(now_ns + 1 + random.below(RESEND_MAX_NS));
        }
        let stream = connection.stream(way);
        if now_ns < stream.not_before_ns {
            return Taken::Later(stream.not_before_ns);
        }
        stream.items.pop_front().map_or(Taken::Nothing, Taken::Item)
    }

    /// The server closes a connection after what it has sent.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(&conn).filter(|c| !c.broken) {
            connection.broken = true;
            connection.to_server.items.clear();
            connection.to_asker.items.push_back(Item::Closed);
        }
    }

    /// A connection breaks. Of what is under way, each side still sees some first part; the server
    /// may see it late.
    pub fn cut(&mut self, conn: ConnId, now_ns: u64, random: &mut Random) {
        let Some(connection) = self.connections.get_mut(&conn).filter(|c| !c.broken) else {
            return;
        };
        connection.broken = true;
        for way in [Way::ToServer, Way::ToAsker] {
            let stream = connection.stream(way);
            let keep = random.below(stream.items.len() as u64 + 1) as usize;
            stream.cut(keep);
        }
        if random.one_in(2) {
            connection.to_server.not_before_ns = now_ns + random.below(LATE_MAX_NS);
        }
    }

    /// A shard has died: what it had sent may arrive, what was on its way to it is gone.
    pub fn died(&mut self, shard: usize, now_ns: u64, random: &mut Random) -> Vec<ConnId> {
        let mut touched = Vec::new();
        for (conn, connection) in &mut self.connections {
            let (serves, asks) = (
                connection.server == shard,
                connection.asker == Place::Shard(shard),
            );
            if connection.broken || !(serves || asks) {
                continue;
            }
            connection.broken = true;
            touched.push(*conn);
            let (gone, left) = if serves {
                (&mut connection.to_server, &mut connection.to_asker)
            } else {
                (&mut connection.to_asker, &mut connection.to_server)
            };
            gone.items.clear();
            let keep = random.below(left.items.len() as u64 + 1) as usize;
            left.cut(keep);
            if asks && random.one_in(2) {
                left.not_before_ns = now_ns + random.below(LATE_MAX_NS);
            }
        }
        touched
    }

    /// Nobody will ask for anything on this connection again.
    pub fn forget(&mut self, conn: ConnId, way: Way) {
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.stream(way).items.clear();
            let over =
                connection.to_server.items.is_empty() && connection.to_asker.items.is_empty();
            if connection.broken && over {
                self.connections.remove(&conn);
            }
        }
    }

    /// All connections that stand, in order.
    pub fn standing(&self) -> Vec<ConnId> {
        let standing = self.connections.iter().filter(|(_, c)| !c.broken);
        standing.map(|(conn, _)| *conn).collect()
    }

    /// From now on nothing passes between two places.
    pub fn part(&mut self, a: Place, b: Place) {
        self.parted.insert((a, b));
        self.parted.insert((b, a));
    }

    pub fn heal(&mut self) {
        self.parted.clear();
    }

    pub fn are_parted(&self, a: Place, b: Place) -> bool {
        self.parted.contains(&(a, b))
    }
}
