//! The databases of a shard's index, and the keys in them.
//!
//! Every key but those of `Alloc` and `Meta` begins with the hosting partition in big-endian, so
//! that a partition is one key range per database and can move. Numbers in keys are big-endian:
//! their byte order is their order. The byte tables stand in docs/on-disk-format.md.

use smallvec::SmallVec;

/// A database of the index. The numbers are part of the log's and the wire's format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Db {
    Dent = 0,
    Ino = 1,
    Part = 2,
    Chunk = 3,
    Xattr = 4,
    Txn = 5,
    Slot = 6,
    Session = 7,
    Lock = 8,
    Orphan = 9,
    Usage = 10,
    Alloc = 11,
    Meta = 12,
}

impl Db {
    pub const ALL: [Db; 13] = [
        Db::Dent,
        Db::Ino,
        Db::Part,
        Db::Chunk,
        Db::Xattr,
        Db::Txn,
        Db::Slot,
        Db::Session,
        Db::Lock,
        Db::Orphan,
        Db::Usage,
        Db::Alloc,
        Db::Meta,
    ];

    /// The name under which the index knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Db::Dent => "dent",
            Db::Ino => "ino",
            Db::Part => "part",
            Db::Chunk => "chunk",
            Db::Xattr => "xattr",
            Db::Txn => "txn",
            Db::Slot => "slot",
            Db::Session => "session",
            Db::Lock => "lock",
            Db::Orphan => "orphan",
            Db::Usage => "usage",
            Db::Alloc => "alloc",
            Db::Meta => "meta",
        }
    }
}

impl TryFrom<u8> for Db {
    type Error = u8;

    fn try_from(number: u8) -> Result<Db, u8> {
        Db::ALL.get(usize::from(number)).copied().ok_or(number)
    }
}

/// A key; those of fixed length live without an allocation of their own.
pub type Key = SmallVec<[u8; 32]>;

/// Longest key the index takes, in bytes (LMDB's compiled-in limit).
pub const KEY_MAX_BYTES: usize = 511;

/// The smallest key above all keys that begin with `prefix`: the end of a prefix scan.
/// Empty if there is none, which no key of ours needs (partitions are below 2^15).
pub fn until(prefix: &[u8]) -> Key {
    let mut end = Key::from_slice(prefix);
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// Builders of keys: the hosting partition first, then what the database is keyed by.
pub mod key {
    use super::Key;
    use sealfs_protocol::ids::{ClientId, InodeId, PartitionId, TxnId, VolumeId};

    fn join(partition: PartitionId, fields: &[&[u8]]) -> Key {
        let mut key = Key::from_slice(&partition.0.to_be_bytes());
        for field in fields {
            key.extend_from_slice(field);
        }
        key
    }

    pub fn partition_prefix(partition: PartitionId) -> Key {
        join(partition, &[])
    }

    pub fn dent(partition: PartitionId, directory: InodeId, name: &[u8]) -> Key {
        join(partition, &[&directory.0.to_be_bytes(), name])
    }

    pub fn dent_prefix(partition: PartitionId, directory: InodeId) -> Key {
        dent(partition, directory, &[])
    }

    pub fn ino(partition: PartitionId, ino: InodeId) -> Key {
        join(partition, &[&ino.0.to_be_bytes()])
    }

    pub fn part(partition: PartitionId, directory: InodeId, part: u16) -> Key {
        join(
            partition,
            &[&directory.0.to_be_bytes(), &part.to_be_bytes()],
        )
    }

    pub fn chunk(partition: PartitionId, ino: InodeId, index: u64) -> Key {
        join(partition, &[&ino.0.to_be_bytes(), &index.to_be_bytes()])
    }

    pub fn chunk_prefix(partition: PartitionId, ino: InodeId) -> Key {
        join(partition, &[&ino.0.to_be_bytes()])
    }

    pub fn xattr(partition: PartitionId, ino: InodeId, name: &[u8]) -> Key {
        join(partition, &[&ino.0.to_be_bytes(), name])
    }

    pub fn xattr_prefix(partition: PartitionId, ino: InodeId) -> Key {
        xattr(partition, ino, &[])
    }

    pub fn txn(partition: PartitionId, txn: TxnId) -> Key {
        join(partition, &[&txn.0.to_be_bytes()])
    }

    pub fn slot(partition: PartitionId, client: ClientId, slot: u16) -> Key {
        join(partition, &[&client.0.to_be_bytes(), &slot.to_be_bytes()])
    }

    pub fn slot_prefix(partition: PartitionId, client: ClientId) -> Key {
        join(partition, &[&client.0.to_be_bytes()])
    }

    /// `id` is that of a client or of a node session.
    pub fn session(partition: PartitionId, id: u128) -> Key {
        join(partition, &[&id.to_be_bytes()])
    }

    pub fn lock(partition: PartitionId, ino: InodeId) -> Key {
        join(partition, &[&ino.0.to_be_bytes()])
    }

    pub fn orphan(partition: PartitionId, ino: InodeId) -> Key {
        join(partition, &[&ino.0.to_be_bytes()])
    }

    pub fn usage(partition: PartitionId, volume: VolumeId) -> Key {
        join(partition, &[&volume.0.to_be_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::ids::{InodeId, PartitionId};

    #[test]
    fn database_numbers_are_their_positions() {
        for (i, db) in Db::ALL.into_iter().enumerate() {
            assert_eq!((db as usize, Db::try_from(i as u8)), (i, Ok(db)));
        }
        assert_eq!(Db::try_from(13), Err(13));
    }

    #[test]
    fn a_prefix_scan_ends_right_above_the_prefix() {
        let prefix = key::dent_prefix(PartitionId(7), InodeId(0x00ff_ffff_ffff_ffff));
        let end = until(&prefix);
        assert!(key::dent(PartitionId(7), InodeId(0x00ff_ffff_ffff_ffff), &[0xff; 255]) < end);
        assert_eq!(end.as_slice(), [0, 7, 1]);
    }
}
