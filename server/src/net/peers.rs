//! Connections to the other shards of the ring: made when a ring names them, made again when they
//! break, at a bounded rate.
//!
//! What must stay true: a request is sent only over a connection whose Hello was answered; what is
//! lost with a connection is sent again by the core when it hears `PeerUp`.

use std::collections::BTreeMap;

use mio::{Registry, Token};
use sealfs_protocol::codec;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::message::{Hello, Who};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{ClusterId, Incarnation, RingVersion, ShardId};
use sealfs_transport::tcp::pool::Pool;
use sealfs_transport::tcp::server::{Outgoing, ServerConnection};
use sealfs_transport::{TransportError, Url};

/// Pause between two attempts to reach a shard, in ns.
const RETRY_NS: u64 = 50_000_000;

/// Who we are, for Hello.
#[derive(Clone, Copy)]
pub struct Me {
    pub cluster: ClusterId,
    pub shard: ShardId,
    pub incarnation: Incarnation,
}

struct Peer {
    addresses: Vec<Url>,
    token: Option<Token>,
    /// Hello was answered.
    up: bool,
    attempts: usize,
    retry_at_ns: u64,
}

pub struct Peers {
    me: Me,
    ring_version: RingVersion,
    peers: BTreeMap<ShardId, Peer>,
}

impl Peers {
    pub fn new(me: Me) -> Peers {
        Peers {
            me,
            ring_version: RingVersion(0),
            peers: BTreeMap::new(),
        }
    }

    /// Takes the members of a newer ring; returns connections that lead nowhere any more.
    pub fn adopt(&mut self, ring: &Ring) -> Vec<Token> {
        self.ring_version = ring.version;
        let mut gone = Vec::new();
        let mut next = BTreeMap::new();
        for shard in ring.shards.iter().filter(|s| s.id != self.me.shard) {
            let addresses: Vec<Url> = shard
                .addresses
                .iter()
                .filter_map(|a| a.parse().ok())
                .collect();
            let before = self.peers.remove(&shard.id);
            let peer = match before {
                Some(peer) if peer.addresses == addresses => peer,
                before => {
                    gone.extend(before.and_then(|p| p.token));
                    Peer {
                        addresses,
                        token: None,
                        up: false,
                        attempts: 0,
                        retry_at_ns: 0,
                    }
                }
            };
            next.insert(shard.id, peer);
        }
        gone.extend(self.peers.values().filter_map(|p| p.token));
        self.peers = next;
        gone
    }

    /// The connection to a shard, once its Hello was answered.
    pub fn token(&self, shard: ShardId) -> Option<Token> {
        self.peers
            .get(&shard)
            .filter(|p| p.up)
            .and_then(|p| p.token)
    }

    pub fn set_up(&mut self, shard: ShardId) {
        if let Some(peer) = self.peers.get_mut(&shard) {
            peer.up = true;
            peer.attempts = 0;
        }
    }

    /// A connection has ended.
    pub fn lost(&mut self, shard: ShardId, token: Token, now_ns: u64) {
        if let Some(peer) = self.peers.get_mut(&shard)
            && peer.token == Some(token)
        {
            peer.token = None;
            peer.up = false;
            peer.retry_at_ns = now_ns + RETRY_NS;
        }
    }

    /// Begins connections to those that have none; `keep` stores each under a fresh token.
    pub fn connect_missing(
        &mut self,
        now_ns: u64,
        pool: &Pool,
        registry: &Registry,
        mut keep: impl FnMut(ShardId) -> Token,
        mut kept: impl FnMut(Token, ServerConnection),
    ) {
        let hello = hello(self.me, self.ring_version);
        for (shard, peer) in &mut self.peers {
            if peer.token.is_some() || now_ns < peer.retry_at_ns || peer.addresses.is_empty() {
                continue;
            }
            let url = peer.addresses[peer.attempts % peer.addresses.len()];
            peer.attempts += 1;
            peer.retry_at_ns = now_ns + RETRY_NS;
            let token = keep(*shard);
            match connect(&url, pool, registry, token, &hello) {
                Ok(connection) => {
                    peer.token = Some(token);
                    kept(token, connection);
                }
                Err(e) => log::debug!("shard {shard} at {url}: {e}"),
            }
        }
    }
}

fn hello(me: Me, ring_version: RingVersion) -> Vec<u8> {
    let hello = Hello {
        cluster: me.cluster,
        who: Who::Shard {
            shard: me.shard,
            incarnation: me.incarnation,
        },
        ring_version,
    };
    codec::encode(&hello).map_or_else(|_| Vec::new(), |bytes| bytes.to_vec())
}

fn connect(
    url: &Url,
    pool: &Pool,
    registry: &Registry,
    token: Token,
    hello: &[u8],
) -> Result<ServerConnection, TransportError> {
    let mut connection = ServerConnection::connect(url, pool.clone())?;
    connection.register(registry, token)?;
    connection.queue(Header::new(Kind::Hello), hello, Outgoing::None);
    connection.flush()?;
    Ok(connection)
}
