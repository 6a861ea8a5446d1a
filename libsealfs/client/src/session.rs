//! Ends and renewals: of this client when its process ends, of others by the keeper.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::config::{Config, ConnectError, Identity};
use crate::connect::Role;
use crate::walk::done;
use core::sync::atomic::Ordering;
use sealfs_protocol::hash::{client_home, session_home};
use sealfs_protocol::message::{Credentials, Op};
use sealfs_protocol::{ClientId, Errno, PartitionId, SessionId};

/// Longest time that the end of a process waits for servers, in ms.
const END_MS: u32 = 1_000;

impl Client {
    /// A keeper's way to the cluster: it speaks for a node session and has no files of its own.
    pub fn keeper(config: Config, session: SessionId, uid: u32) -> Result<Client, ConnectError> {
        let (cluster, volume) = Cluster::find(&config)?;
        let identity = Identity {
            client: ClientId(config.world.random()),
            session,
            pid: 0,
            credentials: Credentials {
                uid,
                gid: uid,
                groups: Vec::new(),
            },
        };
        let role = Role::Keeper { session, uid };
        Ok(Client::make(config, identity, cluster, volume, role))
    }

    /// The process ends: closes what waits to be closed, and gives locks and slots back. Best
    /// effort within a second; the keeper does what is left.
    pub fn end(&self) {
        if self.shared.connections.are_none() {
            return;
        }
        let brief = self.with_deadline(END_MS);
        brief.flush_deferred();
        let _ = brief.end_client(self.shared.identity.client);
    }

    /// A process has ended: its request slots and record locks go.
    pub fn end_client(&self, client: ClientId) -> Result<(), Errno> {
        let home = client_home(client, self.partitions());
        self.tell_home(home, Op::EndClient { client })
    }

    /// How often a server has greeted this client as unknown: after its restart, what only the keeper
    /// knows to be open has to be reasserted.
    pub fn times_forgotten(&self) -> u64 {
        self.shared.connections.forgotten.load(Ordering::Relaxed)
    }

    /// The node session lives.
    pub fn renew_session(&self, session: SessionId) -> Result<(), Errno> {
        let home = session_home(session, self.partitions());
        self.tell_home(home, Op::Renew { session })
    }

    /// The node session has ended, and with it all that it holds.
    pub fn end_session(&self, session: SessionId) -> Result<(), Errno> {
        let home = session_home(session, self.partitions());
        self.tell_home(home, Op::EndSession { session })
    }

    fn partitions(&self) -> u16 {
        self.shared.cluster.state().ring.partitions()
    }

    fn tell_home(&self, home: PartitionId, op: Op) -> Result<(), Errno> {
        done(&self.call(home, op)?)
    }
}
