//! What shards say to each other: transactions, chunks of files they own together, pushes.
//!
//! Transactions follow strict two-phase locking: a coordinator reads keys of other shards under
//! exclusive locks ([`PeerRequest::Read`]), computes all effects itself, has them prepared durably,
//! decides, and remembers its decision until every participant has reported it durable. Conflicts
//! are settled by age (wait-die): an older transaction waits, a younger one is told to die.

use crate::attr::{Layout, Time};
use crate::ids::*;
use crate::message::Source;
use crate::usage::{Charge, Totals};
use rkyv::{Archive, Deserialize, Serialize};

/// A key of a shard's store, as docs/on-disk-format.md names the databases.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Archive, Serialize, Deserialize)]
pub struct Key {
    pub db: u8,
    pub key: Vec<u8>,
}

/// A change of one key: a value, or `None` to delete it.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Effect {
    pub partition: PartitionId,
    pub db: u8,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    /// What it adds to the usage of a volume there.
    pub charge: Charge,
}

/// Where the bytes of a volume's files are meant, `state` is the version of the published state that
/// the sender works by: the volume may be new, and the receiver not know it yet.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Lock `keys` exclusively and read them; mint an inode in each partition of `allocate`. Unless
    /// it is the `first` for its transaction here, a shard that knows nothing of the transaction
    /// refuses: it has restarted, and what was read before is locked no more.
    Read {
        txn: TxnId,
        age: u64,
        first: bool,
        keys: Vec<Key>,
        allocate: Vec<PartitionId>,
    },
    /// Make `effects` durable so that they can be committed or undone later; the locks stay.
    /// Without `flush` (scratch volumes) durable means written to the log.
    Prepare {
        txn: TxnId,
        effects: Vec<Effect>,
        flush: bool,
    },
    /// Apply or forget; releases the locks. Repeated until acknowledged.
    Decide { txn: TxnId, commit: bool },
    /// A participant that restarted asks what became of a transaction.
    Outcome { txn: TxnId },
    /// Install a truncate generation in the partition of one layout slot and cut the chunks there
    /// to `size_bytes`.
    Truncate {
        ino: InodeId,
        slot: u8,
        volume: VolumeId,
        state: u64,
        layout: Layout,
        generation: TruncateGeneration,
        size_bytes: u64,
        /// Blocks that were never written stay.
        spare: bool,
    },
    /// Deallocate a byte range of the file in the partition of one layout slot, for fallocate.
    Punch {
        ino: InodeId,
        slot: u8,
        volume: VolumeId,
        state: u64,
        layout: Layout,
        generation: TruncateGeneration,
        offset: u64,
        len: u64,
    },
    /// Give a byte range of the file space in the partition of one layout slot, for the call of
    /// fallocate(2) with this number: all of it, or `Failed`, and then `GiveBack` follows.
    Reserve {
        ino: InodeId,
        slot: u8,
        volume: VolumeId,
        state: u64,
        layout: Layout,
        generation: TruncateGeneration,
        offset: u64,
        len: u64,
        call: u64,
    },
    /// Take out of a byte range what the call has added and nobody has written to.
    GiveBack {
        ino: InodeId,
        slot: u8,
        volume: VolumeId,
        state: u64,
        layout: Layout,
        generation: TruncateGeneration,
        offset: u64,
        len: u64,
        call: u64,
    },
    /// Zero a byte range of the file in the partition of one layout slot; what has space keeps it.
    Clear {
        ino: InodeId,
        slot: u8,
        volume: VolumeId,
        state: u64,
        layout: Layout,
        generation: TruncateGeneration,
        offset: u64,
        len: u64,
    },
    /// The inode is dead: remove all its chunks in the partition of one layout slot.
    RemoveChunks { ino: InodeId, slot: u8 },
    /// A span of an append, ordered by the inode's owner; the bytes are the frame's payload.
    WriteSpan {
        ino: InodeId,
        volume: VolumeId,
        state: u64,
        partition: PartitionId,
        chunk: u64,
        offset_bytes: u32,
        generation: TruncateGeneration,
    },
    /// Bytes of a chunk, for a copy into one of the sender's. → `Span`
    ReadSpan {
        volume: VolumeId,
        state: u64,
        source: Source,
        len_bytes: u32,
    },
    /// Space used by the chunks in the partition of one layout slot.
    UsedBlocks { ino: InodeId, slot: u8 },
    /// What parts of a split directory in these partitions have to add to it.
    Parts {
        directory: InodeId,
        hosts: Vec<PartitionId>,
    },
    /// To the owner of the volume's root: raise the rename version and push it to everybody.
    BumpRenameVersion {
        volume: VolumeId,
        directories: Vec<InodeId>,
    },
    /// The volume's directory structure is about to change: drop these from what clients may use.
    /// Repeated without directories to renew the lease on the version.
    PushRenameVersion {
        volume: VolumeId,
        version: RenameVersion,
        directories: Vec<InodeId>,
    },
    /// To the owner of the volume's root: the sender may use `held` of the volume and wants to use
    /// that much more. `turn` is that of the last allowance or recall it knows, `state` the version
    /// of the published state it works by.
    Allow {
        volume: VolumeId,
        held: Totals,
        turn: u64,
        want: Totals,
        state: u64,
    },
    /// From the owner of the volume's root: give back what you may use and do not. → `Allowed`
    Recall {
        volume: VolumeId,
        turn: u64,
        state: u64,
    },
    /// The home has logged the end of a client or session: release all it holds here.
    Ended {
        client: Option<ClientId>,
        session: Option<SessionId>,
    },
    /// To a session's home: somebody of this session has come, and state may be kept for it. Answered
    /// with `Failed(ESTALE)` if the session has ended.
    Attend { session: SessionId },
    /// To a home, from a shard that has restarted: whose leases run? → `Sessions`
    Sessions,
    /// Which record locks do these processes wait for, and whom do those wait for that are in their
    /// way? A shard follows the waits as far as it knows them. → `LockWaits`
    LockWaits { clients: Vec<ClientId> },
    /// This wait closes a circle: end it with EDEADLK, unless it is over, or has been found to close
    /// none and is not meant `though_settled`. Then `Failed(ESRCH)`.
    BreakLockWait {
        wait: LockWaitId,
        though_settled: bool,
    },
}

/// Names a process' wait for a record lock. Of two waits the greater is taken for the later one.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize,
)]
pub struct LockWaitId {
    /// By the clock of its shard, since 1970, in ns; of one that was asked for again, when it was
    /// asked for first.
    pub begun_ns: i64,
    pub shard: ShardId,
    /// Never used twice in one life of the shard.
    pub number: u64,
}

/// A process' wait for a record lock.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct LockWait {
    pub id: LockWaitId,
    pub client: ClientId,
    /// The processes whose locks are in the way.
    pub blockers: Vec<ClientId>,
    /// A search that began after this wait has found that it closes no circle.
    pub settled: bool,
    /// It began before its shard was started, and was asked for again.
    pub resumed: bool,
}

/// Counts and times of parts of a split directory, for stat(2) of the whole.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PartCounts {
    pub subdirectories: u32,
    /// The latest.
    pub mtime: Time,
    pub ctime: Time,
}

impl PeerRequest {
    /// The volume of the file whose bytes this changes.
    pub fn writes_to(&self) -> Option<VolumeId> {
        match self {
            PeerRequest::Truncate { volume, .. }
            | PeerRequest::Punch { volume, .. }
            | PeerRequest::Reserve { volume, .. }
            | PeerRequest::GiveBack { volume, .. }
            | PeerRequest::Clear { volume, .. }
            | PeerRequest::WriteSpan { volume, .. } => Some(*volume),
            _ => None,
        }
    }

    /// The version of the published state without which a volume may seem not to be there.
    pub fn state(&self) -> Option<u64> {
        match self {
            PeerRequest::Truncate { state, .. }
            | PeerRequest::Punch { state, .. }
            | PeerRequest::Reserve { state, .. }
            | PeerRequest::GiveBack { state, .. }
            | PeerRequest::Clear { state, .. }
            | PeerRequest::WriteSpan { state, .. }
            | PeerRequest::ReadSpan { state, .. } => Some(*state),
            _ => None,
        }
    }

    /// The volume whose durability the answer has to keep to: that of what is changed or told.
    pub fn volume(&self) -> Option<VolumeId> {
        match self {
            PeerRequest::ReadSpan { volume, .. } => Some(*volume),
            other => other.writes_to(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum PeerReply {
    Values {
        values: Vec<Option<Vec<u8>>>,
        allocated: Vec<InodeId>,
        /// Inodes here that the dentries among the values name, locked and read as well where nobody
        /// was in the way: with a dentry its inode is what is asked for next.
        named: Vec<(Key, Vec<u8>)>,
    },
    /// The transaction is younger than one in its way: undo and try again with the same age.
    Die,
    Prepared,
    Acknowledged,
    Outcome {
        commit: bool,
    },
    /// Not decided yet, or not known yet: ask again.
    Undecided,
    /// Use up to `cap` of the volume, unless a later turn said otherwise.
    Allowed {
        cap: Totals,
        turn: u64,
        /// Files are being removed here, so that some of it will soon be free.
        removing: bool,
    },
    Written {
        incarnation: Incarnation,
    },
    /// What the chunk has of the span is the frame's payload: nothing if that is a hole, and less
    /// than asked if the chunk ends in it.
    Span,
    Used {
        blocks_512: u64,
    },
    Parts(PartCounts),
    LockWaits(Vec<LockWait>),
    Sessions(Vec<SessionId>),
    WrongEpoch {
        ring_version: RingVersion,
    },
    Failed(crate::errno::Errno),
}
