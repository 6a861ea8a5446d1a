//! Identities and versions, each a type of its own so that none can stand for another.
//!
//! The words are those of the glossary in `ARCHITECTURE.md`; one word, one meaning.

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! newtype {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[derive(Archive, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
    )*};
}

newtype! {
    /// A cluster, minted when its manager first starts.
    ClusterId(u128);
    /// A named tree with its own root, quota and policy; never 0, never reused.
    VolumeId(u32);
    /// One of the fixed divisions of namespace and data (0..partitions).
    PartitionId(u16);
    /// One metadata thread of a server, with its own log, LMDB and share of the devices.
    ShardId(u32);
    /// A process known to the cluster; random, minted by itself.
    ClientId(u128);
    /// One user on one node, kept by the keeper.
    SessionId(u128);
    /// One open file description, unique within its node session.
    OpenId(u64);
    /// A change over more than one shard: coordinator shard (32 bits) | incarnation (32) | counter (64).
    TxnId(u128);
    /// Version of one partition's ownership.
    Epoch(u32);
    /// Version of the published table.
    RingVersion(u64);
    /// A shard's life between losses of its unflushed tail.
    Incarnation(u64);
    /// Counts the truncations of one inode; chunk requests with another are refused.
    TruncateGeneration(u32);
    /// Version of a volume's directory structure, as clients may cache it.
    RenameVersion(u64);
    /// Position of a request in its request slot; the first is 1.
    Sequence(u64);
}

/// Identity of a file: the partition that holds it for life (15 bits), then a sequence (48 bits).
/// As a number it is the file's `st_ino`; always positive as an `i64`, never reused, never 0.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize,
)]
pub struct InodeId(pub u64);

const SEQUENCE_BITS: u32 = 48;

impl InodeId {
    /// `partition` below 2^15, `sequence` below 2^48; higher bits are cut.
    pub const fn new(partition: PartitionId, sequence: u64) -> InodeId {
        InodeId(
            ((partition.0 as u64) & 0x7fff) << SEQUENCE_BITS
                | (sequence & ((1 << SEQUENCE_BITS) - 1)),
        )
    }

    pub const fn partition(self) -> PartitionId {
        PartitionId((self.0 >> SEQUENCE_BITS) as u16 & 0x7fff)
    }

    pub const fn sequence(self) -> u64 {
        self.0 & ((1 << SEQUENCE_BITS) - 1)
    }

    /// The root directory of a volume: in partition hash(volume), its sequence the volume's number.
    pub fn root(volume: VolumeId, partitions: u16) -> InodeId {
        InodeId::new(
            crate::hash::root_partition(volume, partitions),
            u64::from(volume.0),
        )
    }
}

impl std::fmt::Display for InodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:x}", self.partition().0, self.sequence())
    }
}

impl std::fmt::Debug for InodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inode_ids_are_positive_and_split_back() {
        let id = InodeId::new(PartitionId(32766), (1 << 48) - 1);
        assert!(i64::try_from(id.0).is_ok());
        assert_eq!(
            (id.partition(), id.sequence()),
            (PartitionId(32766), (1 << 48) - 1)
        );
    }
}
