//! What a directory stores: its inode's body, its names, and, once it is large, its parts.
//!
//! A directory with few names keeps them all in its own partition. A large one is split by the hash
//! of the names over partitions of all shards (ops/split.rs): each part has a copy of the
//! directory's inode with counts and times of its own. The names that were there at the split are
//! the *originals*: they stay with the directory's inode, also if they are removed and made again.
//! What must stay true: which names are originals never changes; an entry keeps its number as long
//! as it stays, and no number is used twice in one directory, so that a listing in the order of the
//! numbers sees each entry once whatever is created or removed meanwhile.

use super::{InodeRecord, ORIGINALS_TAG, POSITION_TAG, body};
use rkyv::rancor::Error;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::codec::Malformed;
use sealfs_protocol::dirent::PART_SHIFT;
use sealfs_protocol::{InodeId, PartitionId};

/// The body of a directory's inode, or of the copy that a part of it has.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Directory {
    /// The directory that names this one, and under which name; the root names itself.
    pub parent: InodeId,
    pub name: Vec<u8>,
    /// Names here.
    pub entries: u64,
    /// Number of the next entry here.
    pub next_entry: u64,
    /// Partitions that host the parts of a split directory, the first part's first; empty before.
    pub split: Vec<PartitionId>,
}

impl Directory {
    pub fn new(parent: InodeId, name: &[u8]) -> Directory {
        Directory {
            parent,
            name: name.to_vec(),
            entries: 0,
            next_entry: 1,
            split: Vec::new(),
        }
    }
}

/// `dent` under (directory, name).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct DentryRecord {
    pub ino: InodeId,
    /// File type bits (S_IFMT).
    pub kind: u32,
    /// Number of the entry in its directory; see [`PositionRecord`].
    pub entry: u64,
}

/// `dent` under (directory, NUL, be64 entry number): the directory in the order of its entry
/// numbers, which readdir follows. No name contains a NUL, so the two kinds of keys never meet.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PositionRecord {
    pub ino: InodeId,
    pub kind: u32,
    pub name: Vec<u8>,
}

impl PositionRecord {
    /// The stored record where it lies: a listing reads thousands.
    pub fn access(bytes: &[u8]) -> Result<&ArchivedPositionRecord, Malformed> {
        rkyv::access::<_, Error>(body(POSITION_TAG, bytes)?).map_err(|_| Malformed)
    }
}

/// `part` under (directory, [`SPLIT_PART`]) in the partition that hosts a part of a split
/// directory.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct PartRecord {
    /// Which part this is, from 1 on, and of how many.
    pub part: u16,
    pub parts: u16,
    /// The directory's inode with the counts and times of this part. `nlink` is 2 and the
    /// subdirectories here.
    pub record: InodeRecord,
}

/// `part` under (directory, [`ORIGINALS_PART`]): with the directory's inode all its originals, with
/// a part those that would otherwise belong to it.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct OriginalsRecord {
    /// Hashes of the names ([`sealfs_protocol::hash::name`]), ascending.
    pub hashes: Vec<u64>,
}

impl OriginalsRecord {
    /// Whether a stored record has a name's hash.
    pub fn has(bytes: &[u8], hash: u64) -> Result<bool, Malformed> {
        let stored = rkyv::access::<ArchivedOriginalsRecord, Error>(body(ORIGINALS_TAG, bytes)?);
        let hashes = &stored.map_err(|_| Malformed)?.hashes;
        Ok(hashes
            .binary_search_by_key(&hash, |h| h.to_native())
            .is_ok())
    }
}

/// The number under which a part stands in `part`: a partition hosts one of a directory at most.
pub const SPLIT_PART: u16 = u16::MAX - 2;
pub const ORIGINALS_PART: u16 = u16::MAX - 3;

/// The smallest number of a part's entries.
pub const fn first_entry(part: u16) -> u64 {
    (part as u64) << PART_SHIFT | 1
}

/// The part that an entry is in; 0: the directory itself.
pub const fn part_of_entry(entry: u64) -> u64 {
    entry >> PART_SHIFT
}

/// The part of a `dent` key after (partition, directory) that holds an entry's position.
pub fn position_name(entry: u64) -> [u8; 9] {
    let mut name = [0u8; 9];
    name[1..].copy_from_slice(&entry.to_be_bytes());
    name
}

/// The entry number in a position key, or `None` for the key of a name.
pub fn entry_of_position(key: &[u8]) -> Option<u64> {
    let name = key.get(PREFIX_BYTES..)?;
    match name {
        [0, number @ ..] => Some(u64::from_be_bytes(number.try_into().ok()?)),
        _ => None,
    }
}

/// What a key of `part` says behind (partition, inode).
pub fn number_of_part(key: &[u8]) -> Option<u16> {
    let number = key.get(PREFIX_BYTES..)?;
    Some(u16::from_be_bytes(number.try_into().ok()?))
}

/// Length of (partition, be64) at the head of a key.
const PREFIX_BYTES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::db::key;
    use crate::records::Record;

    #[test]
    fn positions_sort_by_number_and_read_back() {
        let key = |n| key::dent(PartitionId(3), InodeId(9), &position_name(n));
        assert!(key(255) < key(256));
        assert_eq!(entry_of_position(&key(256)), Some(256));
        let named = key::dent(PartitionId(3), InodeId(9), b"a");
        assert!(key(u64::MAX) < named);
        assert_eq!(entry_of_position(&named), None);
    }

    #[test]
    fn entries_tell_their_part() {
        assert_eq!(part_of_entry(1), 0);
        assert_eq!(part_of_entry(first_entry(256) + 7), 256);
    }

    #[test]
    fn originals_are_found_by_their_hashes_where_they_are_stored() {
        let hashes = (0..4096u64).map(|i| i * 3).collect();
        let bytes = OriginalsRecord { hashes }.encode();
        assert_eq!(OriginalsRecord::has(&bytes, 4095 * 3), Ok(true));
        assert_eq!(OriginalsRecord::has(&bytes, 7), Ok(false));
        assert_eq!(OriginalsRecord::has(&bytes[..3], 7), Err(Malformed));
    }
}
