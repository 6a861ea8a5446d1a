//! Where things live: XXH3-64, seed 0, over little-endian fields, modulo the number of partitions.
//!
//! These functions are a part of the on-disk format: a change moves every file.

use crate::ids::{ClientId, InodeId, PartitionId, SessionId, VolumeId};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

fn place(hash: u64, partitions: u16) -> PartitionId {
    PartitionId((hash % u64::from(partitions.max(1))) as u16)
}

/// The partition of a volume's root directory.
pub fn root_partition(volume: VolumeId, partitions: u16) -> PartitionId {
    place(xxh3_64(&volume.0.to_le_bytes()), partitions)
}

/// The partition of a new directory, chosen at mkdir and kept for life.
pub fn directory_partition(parent: InodeId, name: &[u8], partitions: u16) -> PartitionId {
    let mut h = Xxh3::new();
    h.update(&parent.0.to_le_bytes());
    h.update(name);
    place(h.digest(), partitions)
}

/// By which a split directory tells its names apart.
pub fn name(name: &[u8]) -> u64 {
    xxh3_64(name)
}

/// The part, from 1 on, of a directory split into `parts` that hosts a name; `None` for no parts.
pub fn directory_part(of: &[u8], parts: u16) -> Option<u16> {
    part_of_hash(name(of), parts)
}

/// The part of a name whose hash is known.
pub fn part_of_hash(hash: u64, parts: u16) -> Option<u16> {
    (parts > 0).then(|| (hash % u64::from(parts)) as u16 + 1)
}

/// Where the search for the partition of part `part` of a split directory begins: the next one of
/// the shard whose turn it is, and that hosts no other part, is taken and remembered.
pub fn directory_part_partition(directory: InodeId, part: u16, partitions: u16) -> PartitionId {
    let mut h = Xxh3::new();
    h.update(&directory.0.to_le_bytes());
    h.update(&part.to_le_bytes());
    place(h.digest(), partitions)
}

/// The partition of layout slot `slot` of a file. Chunk 0 lives with the inode, and is no layout
/// slot of its own: chunk i > 0 lives at layout slot i mod width.
pub fn layout_slot_partition(ino: InodeId, slot: u8, partitions: u16) -> PartitionId {
    let mut h = Xxh3::new();
    h.update(&ino.0.to_le_bytes());
    h.update(&u64::from(slot).to_le_bytes());
    place(h.digest(), partitions)
}

/// The home of a client: the partition whose owner keeps its lease.
pub fn client_home(client: ClientId, partitions: u16) -> PartitionId {
    place(xxh3_64(&client.0.to_le_bytes()), partitions)
}

/// The home of a node session.
pub fn session_home(session: SessionId, partitions: u16) -> PartitionId {
    place(xxh3_64(&session.0.to_le_bytes()), partitions)
}
