//! Connections, clients and node sessions, and the ends of them.
//!
//! A client or session that has ended is refused from then on. Its home (the owner of its hashed
//! partition) logs the end and repeats it to every shard until all have acknowledged; a session
//! ends by itself when its keeper does not renew it. What must stay true: nothing is kept for a
//! session before its home has said that it lives, so that none comes back after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::event::ConnId;
use super::remembered::Remembered;
use super::task::Ended;
use sealfs_protocol::limits::SESSION_LEASE_MS;
use sealfs_protocol::message::{Credentials, Who};
use sealfs_protocol::{ClientId, SessionId, ShardId, VolumeId};

/// Credential sets of one connection.
pub const CREDENTIALS_MAX: usize = 1024;

/// The peer of a connection that has said hello.
pub struct Connection {
    pub who: Who,
    pub client: ClientId,
    pub session: SessionId,
    pub volume: VolumeId,
    credentials: Vec<Arc<Credentials>>,
}

impl Connection {
    pub fn new(who: Who) -> Connection {
        let (client, session, volume, own) = match &who {
            Who::Client {
                client,
                session,
                volume,
                credentials,
                ..
            } => (*client, *session, *volume, credentials.clone()),
            Who::Keeper { session, uid } => {
                let own = Credentials {
                    uid: *uid,
                    gid: *uid,
                    groups: Vec::new(),
                };
                (ClientId(0), *session, VolumeId(0), own)
            }
            Who::Shard { .. } => Default::default(),
        };
        Connection {
            who,
            client,
            session,
            volume,
            credentials: vec![Arc::new(own)],
        }
    }

    pub fn credential(&self, index: u16) -> Option<&Arc<Credentials>> {
        self.credentials.get(usize::from(index))
    }

    /// Registers a set; indexes are dense or nearly so. False if there are too many.
    pub fn set_credential(&mut self, index: u16, set: Credentials) -> bool {
        let index = usize::from(index);
        if index >= CREDENTIALS_MAX {
            return false;
        }
        let nobody = Arc::clone(&self.credentials[0]);
        if index >= self.credentials.len() {
            self.credentials.resize(index + 1, nobody);
        }
        self.credentials[index] = Arc::new(set);
        true
    }
}

#[derive(Default)]
pub struct Sessions {
    connections: HashMap<ConnId, Connection>,
    /// Registered clients and the session of each.
    clients: HashMap<ClientId, SessionId>,
    ended_clients: Remembered<ClientId>,
    ended_sessions: Remembered<SessionId>,
    /// Sessions whose end is not remembered any more, for their home to forget as well.
    forgotten: Vec<SessionId>,
    /// Sessions that their home knows to be here.
    attended: BTreeSet<SessionId>,
    /// At the home: when the lease of a renewed session runs out, in ns.
    leases: BTreeMap<SessionId, u64>,
    /// At the home: ends that these shards have not acknowledged.
    ending: BTreeMap<Ended, Vec<ShardId>>,
}

impl Sessions {
    pub fn connection(&self, conn: ConnId) -> Option<&Connection> {
        self.connections.get(&conn)
    }

    pub fn connection_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(&conn)
    }

    /// Registers the peer of a connection; whether its client was known before. `None`: it ended.
    pub fn hello(&mut self, conn: ConnId, who: Who) -> Option<bool> {
        let connection = Connection::new(who);
        let (client, session) = (connection.client, connection.session);
        let gone = self.has_ended(Ended::Client(client)) || self.has_ended(Ended::Session(session));
        if gone {
            return None;
        }
        if let Who::Shard { shard, .. } = &connection.who {
            // What an earlier connection of it still delivers is late: it was sent again, or given
            // up, and may undo what others have done since.
            let earlier = |who: &Who| matches!(who, Who::Shard { shard: s, .. } if s == shard);
            self.connections.retain(|_, other| !earlier(&other.who));
        }
        let known = match &connection.who {
            Who::Client { .. } => self.clients.insert(client, session).is_some(),
            _ => false,
        };
        self.connections.insert(conn, connection);
        Some(known)
    }

    pub fn disconnected(&mut self, conn: ConnId) {
        self.connections.remove(&conn);
    }

    /// How many clients of each volume are connected.
    pub fn clients_by_volume(&self) -> BTreeMap<VolumeId, u32> {
        let connections = self.connections.values();
        let clients = connections.filter(|c| matches!(c.who, Who::Client { .. }));
        let clients: HashSet<(VolumeId, ClientId)> =
            clients.map(|c| (c.volume, c.client)).collect();
        let mut count = BTreeMap::new();
        for (volume, _) in clients {
            *count.entry(volume).or_default() += 1;
        }
        count
    }

    pub fn is_registered(&self, client: ClientId) -> bool {
        self.clients.contains_key(&client)
    }

    pub fn has_ended(&self, who: Ended) -> bool {
        match who {
            Ended::Client(client) => self.ended_clients.contains(client),
            Ended::Session(session) => self.ended_sessions.contains(session),
        }
    }

    pub fn take_forgotten(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.forgotten)
    }

    /// Marks an end; the clients that end by it, in a fixed order.
    pub fn end(&mut self, who: Ended) -> Vec<ClientId> {
        match who {
            Ended::Client(client) => drop(self.ended_clients.insert(client)),
            Ended::Session(session) => self.forgotten.extend(self.ended_sessions.insert(session)),
        }
        let mut clients: Vec<ClientId> = match who {
            Ended::Client(client) => vec![client],
            Ended::Session(session) => {
                self.leases.remove(&session);
                self.attended.remove(&session);
                let of_it = self.clients.iter().filter(|(_, s)| **s == session);
                of_it.map(|(c, _)| *c).collect()
            }
        };
        clients.sort_unstable();
        for client in &clients {
            self.clients.remove(client);
        }
        clients
    }

    pub fn is_attended(&self, session: SessionId) -> bool {
        self.attended.contains(&session)
    }

    /// The home says that a session lives; an end that was heard of meanwhile stands.
    pub fn attended(&mut self, session: SessionId) {
        if !self.has_ended(Ended::Session(session)) {
            self.attended.insert(session);
        }
    }

    /// A keeper lives; whether its session is new here.
    pub fn renew(&mut self, session: SessionId, now_ns: u64) -> bool {
        let until = now_ns + u64::from(SESSION_LEASE_MS) * 1_000_000;
        self.leases.insert(session, until).is_none()
    }

    /// Sessions that live, as far as this is their home.
    pub fn leased(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.leases.keys().copied()
    }

    /// Sessions whose lease has run out.
    pub fn expired(&self, now_ns: u64) -> Vec<SessionId> {
        let over = self.leases.iter().filter(|(_, until)| **until <= now_ns);
        over.map(|(s, _)| *s).collect()
    }

    pub fn begin_end(&mut self, who: Ended, shards: Vec<ShardId>) {
        self.ending.insert(who, shards);
    }

    /// A shard has acknowledged an end; whether it was the last one.
    pub fn acknowledged(&mut self, who: Ended, shard: ShardId) -> bool {
        let Some(open) = self.ending.get_mut(&who) else {
            return false;
        };
        open.retain(|s| *s != shard);
        if !open.is_empty() {
            return false;
        }
        self.ending.remove(&who);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u128) -> Who {
        Who::Client {
            client: ClientId(id),
            session: SessionId(9),
            volume: VolumeId(1),
            pid: 1,
            credentials: Credentials::default(),
        }
    }

    #[test]
    fn an_ended_client_cannot_come_back() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.hello(ConnId(1), client(1)), Some(false));
        assert_eq!(sessions.hello(ConnId(2), client(1)), Some(true));
        assert_eq!(sessions.end(Ended::Client(ClientId(1))), [ClientId(1)]);
        assert_eq!(sessions.hello(ConnId(3), client(1)), None);
    }

    #[test]
    fn the_end_of_a_session_ends_its_clients() {
        let mut sessions = Sessions::default();
        sessions.hello(ConnId(1), client(2));
        sessions.hello(ConnId(2), client(1));
        let ended = sessions.end(Ended::Session(SessionId(9)));
        assert_eq!(ended, [ClientId(1), ClientId(2)]);
        assert_eq!(sessions.hello(ConnId(3), client(4)), None);
    }
}
