//! What an operation wants to change: collected by a view, put into one log entry by `commit`.

use super::lock_ranges::Held;
use super::task::Job;
use crate::meta::db::{Db, Key};
use crate::store::{ChunkChange, ChunkRecord};
use sealfs_protocol::attr::Time;
use sealfs_protocol::usage::Charge;
use sealfs_protocol::{InodeId, OpenId, PartitionId, RenameVersion, SessionId, VolumeId};

/// A change of one key.
pub struct Write {
    pub partition: PartitionId,
    pub db: Db,
    pub key: Key,
    pub value: Value,
    /// What it adds to the usage of a volume; chunks charge their own space besides.
    pub charge: Charge,
}

impl Write {
    /// A write that changes no usage.
    pub fn free(partition: PartitionId, db: Db, key: Key, value: Value) -> Write {
        Write {
            partition,
            db,
            key,
            value,
            charge: Charge::default(),
        }
    }

    /// All that it adds to the usage of a volume.
    pub fn whole_charge(&self) -> Charge {
        match &self.value {
            Value::Chunk(change) => change.charge(),
            Value::DropChunk(record) => record.dropped(),
            _ => self.charge,
        }
    }
}

pub enum Value {
    Put(Vec<u8>),
    Delete,
    Chunk(Box<ChunkChange>),
    DropChunk(Box<ChunkRecord>),
}

/// A change of what this shard keeps in memory, made together with the writes.
pub enum MemoryChange {
    Open(InodeId, SessionId, OpenId),
    Close(InodeId, SessionId, OpenId),
    FileLocks(InodeId, Held),
    /// This description may have had locks that are lost.
    Sealed(InodeId, SessionId, OpenId),
    Version(VolumeId, RenameVersion, Vec<InodeId>),
    /// The access time has moved, or (`None`) was set by hand.
    Accessed(InodeId, Option<Time>),
    /// Bytes that nobody publishes may lie behind the end of a file, or are cut.
    Doubted(InodeId),
    Settled(InodeId),
    /// A directory is large and not split.
    Grown(InodeId),
}

/// A change of the directory structure that voids what clients have cached below these.
pub struct Bump {
    pub volume: VolumeId,
    pub directories: Vec<InodeId>,
}

/// All that an operation wants to change.
#[derive(Default)]
pub struct Changes {
    pub writes: Vec<Write>,
    pub memory: Vec<MemoryChange>,
    /// Keys of this shard that were read; kept for changes over several shards alone.
    pub reads: Vec<(Db, Key)>,
    /// Work that must be done before the reply goes out.
    pub then: Option<Job>,
    /// To be told to everybody before this takes place.
    pub bump: Option<Bump>,
    /// What [`View::stage`] says when it runs again.
    pub stage: Option<u64>,
    /// Only a bounded step was made: run again after this has taken place,
    pub again: bool,
    /// but let others go first.
    pub rest: bool,
    /// To be done before the answer if the operation fails from now on.
    pub undo: Option<Job>,
    /// Space that is promised and not taken.
    pub expected: Option<Charge>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.memory.is_empty()
    }
}
