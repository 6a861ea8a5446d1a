//! statfs(2): this shard's share of a volume's space.

use crate::core::{View, World};
use crate::store::BLOCK_BYTES;
use sealfs_protocol::message::{OpReply, Statfs};

pub fn statfs<V: World>(v: &View<V>) -> OpReply {
    let space = v.space();
    let block_bytes = u64::from(BLOCK_BYTES);
    let volume = v.cluster.volume(v.caller.volume);
    let free = space.free_bytes + space.pending_bytes;
    // Inodes take space of the index, not of the store; a block each is what they could cost.
    OpReply::Statfs(Statfs {
        block_bytes,
        blocks: space.total_bytes / block_bytes,
        blocks_free: free / block_bytes,
        inodes: space.total_bytes / block_bytes,
        inodes_free: free / block_bytes,
        used: v.used(),
        quota_bytes: volume.map_or(0, |v| v.quota_bytes),
        quota_inodes: volume.map_or(0, |v| v.quota_inodes),
        read_only: volume.is_some_and(|v| v.read_only),
    })
}
