//! Attributes: stat(2), access(2), chmod(2) and their like, extended attributes, statfs(2).

use crate::client::Client;
use crate::config::{At, FileRef, Outcome};
use crate::connect::partition_of_shard;
use crate::part::Part;
use crate::walk::{done, unexpected};
use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::message::{At as WireAt, Op, OpReply, Statfs};
use sealfs_protocol::{Errno, InodeId, PartitionId};

/// An inode itself, not a path below it.
pub(crate) fn itself(ino: InodeId) -> WireAt {
    WireAt {
        base: ino,
        path: Vec::new(),
    }
}

impl Client {
    pub fn stat(&self, at: At<'_>, follow: bool) -> Outcome<Attr> {
        let reply = self.on_path(at, &|at| Op::GetAttr { at, follow })?;
        Ok(self.attr_of(reply)?)
    }

    /// fstat(2): works for files without a name, too.
    pub fn stat_open(&self, file: FileRef) -> Result<Attr, Errno> {
        let op = Op::GetAttr {
            at: itself(file.ino),
            follow: false,
        };
        let reply = self.call(file.ino.partition(), op)?;
        self.attr_of(reply)
    }

    /// access(2); `mode` of R_OK, W_OK, X_OK.
    pub fn access(&self, at: At<'_>, follow: bool, mode: u32) -> Outcome<Attr> {
        let reply = self.on_path(at, &|at| Op::Access { at, follow, mode })?;
        Ok(self.attr_of(reply)?)
    }

    pub fn setattr(&self, at: At<'_>, follow: bool, set: &SetAttr) -> Outcome<Attr> {
        let reply = self.on_path(at, &|at| Op::SetAttr {
            at,
            follow,
            set: set.clone(),
        })?;
        Ok(self.attr_of(reply)?)
    }

    pub fn get_xattr(&self, at: At<'_>, follow: bool, name: &[u8]) -> Outcome<Vec<u8>> {
        let reply = self.on_path(at, &|at| Op::GetXattr {
            at,
            follow,
            name: name.to_vec(),
        })?;
        bytes_of(reply)
    }

    /// `flags` of XATTR_CREATE and XATTR_REPLACE.
    pub fn set_xattr(
        &self,
        at: At<'_>,
        follow: bool,
        name: &[u8],
        value: &[u8],
        flags: u32,
    ) -> Outcome<()> {
        let reply = self.on_path(at, &|at| Op::SetXattr {
            at,
            follow,
            name: name.to_vec(),
            value: value.to_vec(),
            flags,
        })?;
        Ok(done(&reply)?)
    }

    /// Names, each ended by NUL.
    pub fn list_xattr(&self, at: At<'_>, follow: bool) -> Outcome<Vec<u8>> {
        bytes_of(self.on_path(at, &|at| Op::ListXattr { at, follow })?)
    }

    pub fn remove_xattr(&self, at: At<'_>, follow: bool, name: &[u8]) -> Outcome<()> {
        let reply = self.on_path(at, &|at| Op::RemoveXattr {
            at,
            follow,
            name: name.to_vec(),
        })?;
        Ok(done(&reply)?)
    }

    /// The volume as a whole: the shares of all shards added up, within the quota if there is one.
    pub fn statfs(&self) -> Result<Statfs, Errno> {
        let mut sum = Statfs::default();
        for reply in self.ask_all_shards(|_| Op::Statfs)? {
            let OpReply::Statfs(share) = reply else {
                return Err(unexpected(&reply));
            };
            // Shares in units of the largest block: all shards use the same one today.
            sum.block_bytes = sum.block_bytes.max(share.block_bytes);
            sum.blocks = sum.blocks.saturating_add(share.blocks);
            sum.blocks_free = sum.blocks_free.saturating_add(share.blocks_free);
            sum.inodes = sum.inodes.saturating_add(share.inodes);
            sum.inodes_free = sum.inodes_free.saturating_add(share.inodes_free);
            sum.used = sum.used.plus(share.used);
            sum.quota_bytes = share.quota_bytes;
            sum.quota_inodes = share.quota_inodes;
            sum.read_only = share.read_only;
        }
        Ok(within_quota(sum))
    }

    /// One operation on every shard that owns anything, all at once; the replies in any order.
    pub(crate) fn ask_all_shards(
        &self,
        make: impl Fn(PartitionId) -> Op,
    ) -> Result<Vec<OpReply>, Errno> {
        let state = self.shared.cluster.state();
        let ring = &state.ring;
        let slot = self.shared.slots.take();
        let mut parts: Vec<Part<'_, '_>> = ring
            .shards
            .iter()
            .map(|shard| partition_of_shard(ring, shard.id))
            .filter(|p| ring.owner(*p).is_some())
            .map(|p| Part::new(&slot, vec![(p, make(p))], &[], &mut []))
            .collect();
        self.run(&mut parts, &mut self.mode(&slot));
        parts.into_iter().map(Part::single).collect()
    }
}

/// A quota is the volume's size, and what is free is what is left of it, as far as the store has it.
fn within_quota(mut space: Statfs) -> Statfs {
    let block = space.block_bytes.max(1);
    if space.quota_bytes > 0 {
        let left = space.quota_bytes.saturating_sub(space.used.bytes);
        space.blocks = space.quota_bytes / block;
        space.blocks_free = space.blocks_free.min(left / block);
    }
    if space.quota_inodes > 0 {
        let left = space.quota_inodes.saturating_sub(space.used.inodes);
        space.inodes = space.quota_inodes;
        space.inodes_free = space.inodes_free.min(left);
    }
    space
}

fn bytes_of(reply: OpReply) -> Outcome<Vec<u8>> {
    match reply {
        OpReply::Bytes(bytes) => Ok(bytes),
        reply => Err(unexpected(&reply).into()),
    }
}
