//! Replies to the operations of clients: how far a walk came, what was found or done, and refusals,
//! which mean that nothing changed.

use crate::attr::Attr;
use crate::errno::Errno;
use crate::ids::*;
use crate::message::LockRange;
use crate::usage::Totals;
use rkyv::{Archive, Deserialize, Serialize};

/// Why a walk stopped before its end.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Stop {
    /// Resolution reached `base`, whose partition is another shard's; send the rest there.
    Elsewhere,
    /// The last component consumed is a symbolic link with this target; `base` is its directory.
    Symlink { target: Vec<u8> },
    /// The next component is `..` of the volume's root.
    AboveRoot,
    /// `base` is split: the next component is asked of the partition that hosts its part
    /// ([`crate::hash::directory_part`]), the first part's partition coming first.
    Split { parts: Vec<PartitionId> },
    /// To who asked a part: the next component is one of the names that `base` had when it was
    /// split, which stay with its inode. To be asked of `base`'s own partition.
    Original,
}

/// A directory passed on the way: the path is consumed up to `consumed_bytes` (without its `/`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Passed {
    pub consumed_bytes: u32,
    pub ino: InodeId,
}

/// How far a walk came: go on with `At { base, path: the rest after consumed_bytes and its `/`s }`.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Walked {
    pub consumed_bytes: u32,
    pub base: InodeId,
    pub stop: Stop,
}

/// This shard's share of its store and of a volume in it; a client adds the shares up. The quota
/// (0: none) is the whole volume's.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Statfs {
    pub block_bytes: u64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    /// What the volume takes here.
    pub used: Totals,
    pub quota_bytes: u64,
    pub quota_inodes: u64,
    pub read_only: bool,
}

/// The request was not executed; nothing changed.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Refusal {
    /// The partition is not served here in that epoch; fetch the ring at least this new.
    WrongEpoch { ring_version: RingVersion },
    /// The truncate generation is another: fetch fresh attributes.
    StaleGeneration { attr: Option<Attr> },
    /// Cached directories are out of date: drop these (`None`: all) and walk again.
    StaleVersion {
        version: RenameVersion,
        directories: Option<Vec<InodeId>>,
    },
    /// The client is not registered here, or has ended.
    UnknownClient,
    /// The slot's sequence is lower than the last one executed.
    OldSequence,
    /// The shard is starting, full of work, or waits for a transaction: try again after this long.
    Busy { retry_ms: u32 },
}

/// What follows a directory's first records.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PageEnd {
    /// The directory that names this one.
    pub parent: InodeId,
    /// The position behind the last record; [`crate::dirent::END`] if nothing follows.
    pub next: u64,
    /// Reading them moves the access time: the client says so with [`crate::message::Op::Accessed`].
    pub moves_atime: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum OpReply {
    Errno(Errno),
    Refused(Refusal),
    Walked(Walked),
    Done,
    Attr(Attr),
    Opened {
        attr: Attr,
        created: bool,
        /// What came along of the file's bytes, or of the directory's records.
        read_bytes: u32,
        /// Of a directory whose records came along.
        page: Option<PageEnd>,
    },
    Bytes(Vec<u8>),
    Entries {
        /// Records in the payload.
        len_bytes: u32,
        /// The directory that names this one.
        parent: InodeId,
        /// The position behind the last record; [`crate::dirent::END`] if nothing follows.
        next: u64,
        /// If asked for: of each record, where this shard has them.
        attributes: Vec<Option<Attr>>,
        /// Partitions of a split directory's parts, where its inode is: positions of part p
        /// ([`crate::dirent::part_of`]) are asked of the p-th.
        parts: Vec<PartitionId>,
    },
    /// Names from `dir` upwards, and the directory reached; its own parents lie elsewhere, or it is
    /// the root. `unlinked`: the directory was removed.
    Ancestors {
        names: Vec<Vec<u8>>,
        top: InodeId,
        unlinked: bool,
    },
    Statfs(Statfs),
    Read {
        len_bytes: u32,
    },
    /// `offset` is where the data went (append); `size_bytes` of the file as known here.
    Written {
        offset: u64,
        size_bytes: u64,
        incarnation: Incarnation,
    },
    /// Where data or a hole begins; not `found`: nothing of the kind lies before `position`, which
    /// is the end of the range or, after much work, where to go on.
    Sought {
        position: u64,
        found: bool,
    },
    LockHeld(Option<LockRange>),
}

/// The reply of one shard to one request.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Reply {
    pub replies: Vec<OpReply>,
    /// Directories passed while walking the first operation's path, for the client's cache.
    pub passed: Vec<Passed>,
    /// Version of the volume's directory structure under which `passed` holds.
    pub rename_version: RenameVersion,
    /// The last entry of the shard's log when this left.
    pub written: u64,
}
