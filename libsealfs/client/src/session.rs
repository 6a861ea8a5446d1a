//! Ends and renewals: of this client when its process ends, of others by the keeper.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::config::{Config, ConnectError, FileRef, Identity};
use crate::connect::{Role, partition_of_shard};
use crate::part::{Answer, Part};
use crate::walk::done;
use sealfs_protocol::hash::{client_home, session_home};
use sealfs_protocol::message::{
    Credentials, LockMark, LockRange, LockSpace, LockType, Op, OpReply,
};
use sealfs_protocol::{ClientId, Errno, InodeId, PartitionId, Sequence, SessionId, ShardId};

/// Longest time that the end of a process waits for servers, in ms.
const END_MS: u32 = 1_000;
/// Longest wait for the answers of all servers to a question of the keeper, in ms.
const ASK_MS: u32 = 1_000;
/// Longest time to drop record locks on one file, in ms.
const DROP_MS: u32 = 2_000;
/// Descriptions told in one request.
const TELL_MAX: usize = 1_000;

/// A description that a node session has open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    pub file: FileRef,
    /// It stands to execute the file.
    pub executes: bool,
    /// When a lock was last changed through it.
    pub locked: Option<LockMark>,
}

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

    /// For the keeper: the record locks on a file go that a program image of `client` has left behind.
    /// The image is gone, and the next one uses sequences above `first` only when this is over.
    pub fn drop_record_locks(
        &self,
        client: ClientId,
        pid: u32,
        first: Sequence,
        ino: InodeId,
    ) -> Result<(), Errno> {
        let identity = Identity {
            client,
            pid,
            ..self.shared.identity.clone()
        };
        let of = self.named(identity, first.0).with_deadline(DROP_MS);
        let range = LockRange {
            space: LockSpace::Record,
            owner: of.process_owner(),
            kind: LockType::Unlock,
            start: 0,
            last: u64::MAX,
            pid,
        };
        let op = Op::Lock {
            ino,
            range,
            wait: None,
        };
        done(&of.call(ino.partition(), op)?)
    }

    /// The servers that have restarted and wait for what is open in a session; whether all answered.
    pub fn awaited_by(&self, session: SessionId) -> (Vec<ShardId>, bool) {
        let state = self.shared.cluster.state();
        let ring = &state.ring;
        let slot = self.shared.slots.take();
        let shards: Vec<(ShardId, PartitionId)> = ring
            .shards
            .iter()
            .map(|shard| (shard.id, partition_of_shard(ring, shard.id)))
            .filter(|(id, p)| ring.owner(*p).is_some_and(|owner| owner.id == *id))
            .collect();
        let ask = |p: PartitionId| vec![(p, Op::IsAwaited { session })];
        let parts = shards.iter();
        let mut parts: Vec<Part<'_, '_>> = parts
            .map(|(_, p)| Part::new(&slot, ask(*p), &[], &mut []))
            .collect();
        let brief = self.with_deadline(ASK_MS);
        self.run(&mut parts, &mut brief.mode(&slot));
        let (mut awaited, mut all) = (Vec::new(), true);
        for ((shard, _), part) in shards.into_iter().zip(parts) {
            match part.single() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => awaited.push(shard),
                Err(_) => all = false,
            }
        }
        (awaited, all)
    }

    /// Tells a server that has restarted all that is open there in a session. For each description
    /// whose locks are known when they were changed: that nothing older is lost from now on, or
    /// `None`, that they may be lost.
    pub fn tell_open(
        &self,
        shard: ShardId,
        session: SessionId,
        open: &[Standing],
    ) -> Result<Vec<(FileRef, Option<LockMark>)>, Errno> {
        let state = self.shared.cluster.state();
        let there = |s: &&Standing| {
            let owner = state.ring.owner(s.file.ino.partition());
            owner.is_some_and(|owner| owner.id == shard)
        };
        let all: Vec<&Standing> = open.iter().filter(there).collect();
        let mut judged = Vec::new();
        for some in all.chunks(TELL_MAX) {
            let ops = some.iter().map(|s| {
                let op = Op::Reassert {
                    ino: s.file.ino,
                    open: s.file.open,
                    executes: s.executes,
                    locked: s.locked,
                };
                (s.file.ino.partition(), op)
            });
            let answer = self.tell(ops.collect())?;
            let intact = LockMark {
                incarnation: answer.incarnation,
                written: 0,
            };
            for (standing, reply) in some.iter().zip(&answer.replies) {
                match reply {
                    _ if standing.locked.is_none() => {}
                    OpReply::Errno(Errno::EIO) => judged.push((standing.file, None)),
                    OpReply::Done => judged.push((standing.file, Some(intact))),
                    _ => {}
                }
            }
        }
        let partition = partition_of_shard(&state.ring, shard);
        self.tell(vec![(partition, Op::Reasserted { session })])?;
        Ok(judged)
    }

    fn tell(&self, ops: Vec<(PartitionId, Op)>) -> Result<Answer, Errno> {
        let slot = self.shared.slots.take();
        let mut parts = [Part::new(&slot, ops, &[], &mut [])];
        self.run(&mut parts, &mut self.mode(&slot));
        let [mut part] = parts;
        part.take_answer()
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
