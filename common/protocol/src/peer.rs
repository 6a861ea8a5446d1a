//! What shards say to each other: transactions, chunks of files they own together, pushes.
//!
//! Transactions follow strict two-phase locking: a coordinator reads keys of other shards under
//! exclusive locks ([`PeerRequest::Read`]), computes all effects itself, has them prepared durably,
//! decides, and remembers its decision until every participant has reported it durable. Conflicts
//! are settled by age (wait-die): an older transaction waits, a younger one is told to die.

use crate::ids::*;
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
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum PeerRequest {
    /// Lock `keys` exclusively and read them; mint an inode in each partition of `allocate`.
    Read {
        txn: TxnId,
        age: u64,
        keys: Vec<Key>,
        allocate: Vec<PartitionId>,
    },
    /// Make `effects` durable so that they can be committed or undone later; the locks stay.
    Prepare { txn: TxnId, effects: Vec<Effect> },
    /// Apply or forget; releases the locks. Repeated until acknowledged.
    Decide { txn: TxnId, commit: bool },
    /// A participant that restarted asks what became of a transaction.
    Outcome { txn: TxnId },
    /// Install a truncate generation on one layout slot and cut its chunks to `size_bytes`.
    Truncate {
        ino: InodeId,
        slot: u8,
        generation: TruncateGeneration,
        size_bytes: u64,
    },
    /// Deallocate a byte range (already cut to this layout slot's chunks), for fallocate.
    Punch {
        ino: InodeId,
        slot: u8,
        generation: TruncateGeneration,
        offset: u64,
        len: u64,
    },
    /// The inode is dead: remove all chunks of one layout slot.
    RemoveChunks { ino: InodeId, slot: u8 },
    /// A span of an append, ordered by the inode's owner; the bytes are the frame's payload.
    WriteSpan {
        ino: InodeId,
        volume: VolumeId,
        chunk: u64,
        offset_bytes: u32,
        generation: TruncateGeneration,
    },
    /// Space used by the chunks of one layout slot.
    UsedBlocks { ino: InodeId, slot: u8 },
    /// The volume's directory structure is about to change: drop these from what clients may use.
    PushRenameVersion {
        volume: VolumeId,
        version: RenameVersion,
        directories: Vec<InodeId>,
    },
    /// The home has logged the end of a client or session: release all it holds here.
    Ended {
        client: Option<ClientId>,
        session: Option<SessionId>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum PeerReply {
    Values {
        values: Vec<Option<Vec<u8>>>,
        allocated: Vec<InodeId>,
    },
    /// The transaction is younger than one in its way: undo and try again with the same age.
    Die,
    Prepared,
    Acknowledged,
    Outcome {
        commit: bool,
    },
    /// The coordinator has not decided yet: ask again.
    Undecided,
    Written {
        incarnation: Incarnation,
    },
    Used {
        blocks_512: u64,
    },
    WrongEpoch {
        ring_version: RingVersion,
    },
    Failed(crate::errno::Errno),
}
