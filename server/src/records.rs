//! The values of the index: one type for each kind of record, a version tag before each value.
//!
//! What must stay true: a stored value is parsed here and nowhere else, parsing is total (any bytes
//! give a record or [`Malformed`]), and a record of another version is refused rather than guessed.
//! The byte tables stand in docs/on-disk-format.md; chunk values are the block store's own.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::attr::{Attr, Layout, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Time};
use sealfs_protocol::codec::Malformed;
use sealfs_protocol::message::{LockRange, OpReply};
use sealfs_protocol::peer::Effect;
use sealfs_protocol::usage::Charge;
use sealfs_protocol::{
    InodeId, PartitionId, RenameVersion, Sequence, SessionId, ShardId, TruncateGeneration, VolumeId,
};

mod directory;

pub use directory::*;

/// Most bytes of a file or symbolic link that live inside the inode record: with the rest of the
/// record they stay below LMDB's node limit of about 2 KiB (longer link targets do not, and may).
pub const INLINE_MAX_BYTES: usize = 1800;

/// What every directory reports as its size and space, as ext4 does for a small one.
const DIRECTORY_SIZE_BYTES: u64 = 4096;
const BLOCKS_PER_4K: u64 = 8;

/// A value with a version tag of its own.
pub trait Record: Sized {
    fn encode(&self) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Result<Self, Malformed>;
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
    InodeRecord = 1;
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

/// `ino`: a file of any type.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct InodeRecord {
    pub volume: VolumeId,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size_bytes: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub layout: Layout,
    pub generation: TruncateGeneration,
    /// Bytes beyond chunk 0 may exist on the layout slots.
    pub wide: bool,
    /// The size of a truncation that is not yet installed on every layout slot.
    pub pending: Option<u64>,
    /// Extended attributes exist.
    pub has_xattrs: bool,
    /// Made by O_TMPFILE without O_EXCL and never named: link(2) may give it a first name.
    pub linkable: bool,
    pub body: Body,
}

/// What an inode holds besides its attributes.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Body {
    /// The bytes of chunk 0, as far as they were written; the rest of the chunk is zeros.
    Inline(Vec<u8>),
    /// Chunk 0 is a chunk record and takes this space.
    Chunks {
        first_blocks_512: u32,
    },
    Symlink(Vec<u8>),
    Directory(Directory),
    /// FIFOs, sockets, devices.
    Node,
}

impl InodeRecord {
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }
    pub fn is_dir(&self) -> bool {
        self.kind() == S_IFDIR
    }
    pub fn is_regular(&self) -> bool {
        self.kind() == S_IFREG
    }
    pub fn is_symlink(&self) -> bool {
        self.kind() == S_IFLNK
    }

    pub fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(d) => Some(d),
            _ => None,
        }
    }

    pub fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.body {
            Body::Directory(d) => Some(d),
            _ => None,
        }
    }

    /// Space that the record itself accounts for: all of a file's but its layout slots'.
    pub fn own_blocks_512(&self) -> u64 {
        match &self.body {
            Body::Inline(bytes) if bytes.is_empty() => 0,
            Body::Inline(_) | Body::Directory(_) => BLOCKS_PER_4K,
            Body::Chunks { first_blocks_512 } => u64::from(*first_blocks_512),
            Body::Symlink(_) | Body::Node => 0,
        }
    }

    /// What the record itself takes of its volume: chunks charge their own space.
    pub fn charge(&self) -> Charge {
        let bytes = match &self.body {
            Body::Chunks { .. } => 0,
            _ => self.own_blocks_512() as i64 * 512,
        };
        Charge {
            volume: self.volume,
            bytes,
            inodes: 1,
        }
    }

    /// What stat(2) tells; `slot_blocks_512` is the space of the layout slots.
    pub fn attr(&self, ino: InodeId, slot_blocks_512: u64) -> Attr {
        Attr {
            ino,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size_bytes: if self.is_dir() {
                DIRECTORY_SIZE_BYTES
            } else {
                self.size_bytes
            },
            blocks_512: self.own_blocks_512() + slot_blocks_512,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            layout: self.layout,
            generation: self.generation,
            wide: self.wide,
        }
    }
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
/// every shard has acknowledged; a session that is over everywhere and must not come back.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum SessionRecord {
    Live { session: SessionId },
    ClientEnded { client: sealfs_protocol::ClientId },
    SessionEnded { session: SessionId },
    SessionOver { session: SessionId },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn inode() -> InodeRecord {
        InodeRecord {
            volume: VolumeId(1),
            mode: S_IFREG | 0o644,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size_bytes: 0,
            atime: Time::default(),
            mtime: Time::default(),
            ctime: Time::default(),
            btime: Time::default(),
            layout: Layout::DEFAULT,
            generation: TruncateGeneration(0),
            wide: false,
            pending: None,
            has_xattrs: false,
            linkable: false,
            body: Body::Inline(vec![7; INLINE_MAX_BYTES]),
        }
    }

    #[test]
    fn a_full_inline_inode_reads_back_and_stays_below_the_node_limit() {
        let bytes = inode().encode();
        assert_eq!(InodeRecord::decode(&bytes), Ok(inode()));
        assert!(bytes.len() < 2000, "{}", bytes.len());
    }

    #[test]
    fn cut_bytes_are_malformed_and_never_panic() {
        let bytes = inode().encode();
        for len in 0..bytes.len() {
            assert_eq!(InodeRecord::decode(&bytes[..len]), Err(Malformed));
        }
    }
}
