//! File locks on the wire: whose they are, of which kind, and on which bytes.
//!
//! What must stay true: record and OFD locks are one space, flock(2) another; an owner says all that
//! tells one holder from the next, so that a lock goes with its holder and with nobody else.

use crate::ids::*;
use rkyv::{Archive, Deserialize, Serialize};

/// Who owns a file lock.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Archive, Serialize, Deserialize,
)]
pub enum LockOwner {
    /// fcntl(2) record locks: a process.
    Process {
        client: ClientId,
        session: SessionId,
    },
    /// Open file description locks and flock(2).
    Description { session: SessionId, open: OpenId },
}

#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Archive, Serialize, Deserialize,
)]
pub enum LockSpace {
    /// fcntl record locks and OFD locks conflict with each other.
    Record,
    /// flock(2) locks live apart.
    Flock,
    /// Kept by servers alone: a description stands to execute the file, as by
    /// [`crate::message::O_EXEC`].
    Execute,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum LockType {
    Read,
    Write,
    Unlock,
}

/// When a lock was changed: no later than by this entry of its shard's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Archive, Serialize, Deserialize)]
pub struct LockMark {
    pub incarnation: Incarnation,
    pub written: u64,
}

/// A lock or a range to unlock: bytes `start..=last` (`last` = u64::MAX: to the end).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct LockRange {
    pub space: LockSpace,
    pub owner: LockOwner,
    pub kind: LockType,
    pub start: u64,
    pub last: u64,
    /// Process id for F_GETLK; meaningful on its own node only.
    pub pid: u32,
}
