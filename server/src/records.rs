//! The values of the index: one type for each kind of record, a version tag before each value.
//!
//! What must stay true: a stored value is parsed here and nowhere else, parsing is total (any bytes
//! give a record or [`Malformed`]), and a record of another version is refused rather than guessed.
//! The byte tables stand in docs/on-disk-format.md; chunk values are the block store's own.

use crate::meta::db::Db;
use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::codec::Malformed;
use sealfs_protocol::message::{LockRange, OpReply};
use sealfs_protocol::peer::Effect;
use sealfs_protocol::{
    PartitionId, RenameVersion, Sequence, SessionId, ShardId, TruncateGeneration, VolumeId,
};

mod directory;
mod inode;
mod inode_bytes;

pub use directory::*;
pub use inode::*;

/// A value with a version tag of its own.
pub trait Record: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;
}

/// Whether a stored value is a directory's inode or its name.
pub fn is_of_directory(db: Db, value: &[u8]) -> bool {
    match db {
        Db::Ino => inode_bytes::is_directory(value),
        Db::Dent => DentryRecord::decode(value).is_ok_and(|d| d.kind == S_IFDIR),
        _ => false,
    }
}

fn encode<T>(tag: u8, value: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Error>>,
{
    let mut buffer = Vec::with_capacity(256);
    buffer.push(tag);
    // Serialising into memory fails for nothing that our records hold; an empty value would be
    // refused as malformed by whoever reads it.
    rkyv::api::high::to_bytes_in::<_, Error>(value, buffer).unwrap_or_default()
}

fn decode<T>(tag: u8, bytes: &[u8]) -> Result<T, Malformed>
where
    T: Archive,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
{
    rkyv::from_bytes::<T, Error>(body(tag, bytes)?).map_err(|_| Malformed)
}

/// What follows the version tag.
fn body(tag: u8, bytes: &[u8]) -> Result<&[u8], Malformed> {
    match bytes.split_first() {
        Some((found, body)) if *found == tag => Ok(body),
        _ => Err(Malformed),
    }
}

const POSITION_TAG: u8 = 1;
const ORIGINALS_TAG: u8 = 1;

macro_rules! records {
    ($($name:ident = $tag:expr;)*) => {$(
        impl Record for $name {
            fn encode(&self) -> Vec<u8> {
                encode($tag, self)
            }
            fn decode(bytes: &[u8]) -> Result<$name, Malformed> {
                decode($tag, bytes)
            }
        }
    )*};
}

records! {
    DentryRecord = 1;
    PositionRecord = POSITION_TAG;
    PartRecord = 1;
    OriginalsRecord = ORIGINALS_TAG;
    OrphanRecord = 1;
    SlotRecord = 1;
    TxnRecord = 1;
    LockRecord = 1;
    SessionRecord = 1;
    GenerationRecord = 1;
    VersionRecord = 1;
}

/// `orphan`: work to finish on an inode, begun before and resumed after a restart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum OrphanRecord {
    /// Its last name is gone: to be removed when no open description is left.
    Nameless,
    /// A truncation has to be installed on the layout slots.
    Truncating,
}

/// `slot`: the last request of a client in one request slot that had an effect in this partition,
/// with the replies to its operations there, by their index in the request.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct SlotRecord {
    pub sequence: Sequence,
    pub replies: Vec<(u16, OpReply)>,
}

/// `txn`: this shard's part in a change over several shards.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum TxnRecord {
    /// Prepared here: applied or forgotten as `coordinator` decides.
    Prepared {
        coordinator: ShardId,
        age: u64,
        effects: Vec<Effect>,
    },
    /// Decided here to commit; `participants` have not all reported it durable.
    Committed { participants: Vec<ShardId> },
}

/// `lock`: the file locks on one inode.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct LockRecord {
    pub held: Vec<LockRange>,
}

/// `session`, at the home: a node session that is renewed; the end of a client or session that not
/// every shard has acknowledged; a session that is over everywhere and must not come back. Under 0 in
/// a partition of a shard that lost the tail of its log: what was written after `written` is lost, and
/// not every session has told yet what locks it had.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum SessionRecord {
    Live { session: SessionId },
    ClientEnded { client: sealfs_protocol::ClientId },
    SessionEnded { session: SessionId },
    SessionOver { session: SessionId },
    LocksUnsettled { written: u64 },
}

/// `part` under (file, 0) in a partition that hosts layout slots of the file: the truncate
/// generation installed there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct GenerationRecord {
    pub volume: VolumeId,
    pub generation: TruncateGeneration,
}

/// `part` under (root directory, [`VERSION_PART`]): the volume's rename version.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct VersionRecord {
    pub version: RenameVersion,
}

pub const VERSION_PART: u16 = u16::MAX;
/// Never there: what a rename of a directory to another parent locks, so that two of them cannot
/// close a circle.
pub const RENAME_LOCK_PART: u16 = u16::MAX - 1;

/// The hosting partition at the head of a key.
pub fn partition_of_key(key: &[u8]) -> Option<PartitionId> {
    let head: [u8; 2] = key.get(..2)?.try_into().ok()?;
    Some(PartitionId(u16::from_be_bytes(head)))
}
