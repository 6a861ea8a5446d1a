//! Where an operation goes: to the partition of what it names.

use sealfs_protocol::PartitionId;
use sealfs_protocol::message::{At, Op};

pub(super) fn at_of(op: &mut Op) -> Option<&mut At> {
    match op {
        Op::GetAttr { at, .. }
        | Op::Access { at, .. }
        | Op::Open { at, .. }
        | Op::MakeDir { at, .. }
        | Op::MakeNode { at, .. }
        | Op::Symlink { at, .. }
        | Op::Unlink { at }
        | Op::RemoveDir { at }
        | Op::ReadLink { at }
        | Op::SetAttr { at, .. }
        | Op::GetXattr { at, .. }
        | Op::SetXattr { at, .. }
        | Op::ListXattr { at, .. }
        | Op::RemoveXattr { at, .. } => Some(at),
        _ => None,
    }
}

/// The partition that an operation belongs to. Data beyond chunk 0 is sent with `begin_at`.
pub(super) fn partition_of(op: &Op) -> PartitionId {
    let mut op = op.clone();
    if let Some(at) = at_of(&mut op) {
        return at.base.partition();
    }
    match op {
        Op::Rename { from, .. } => from.base.partition(),
        Op::Link { to, .. } => to.base.partition(),
        Op::ReadDir { dir, .. } | Op::GetPath { dir } => dir.partition(),
        Op::Accessed { ino } => ino.partition(),
        Op::Read { ino, .. }
        | Op::Write { ino, .. }
        | Op::Copy { ino, .. }
        | Op::Append { ino, .. }
        | Op::Publish { ino, .. }
        | Op::Doubt { ino }
        | Op::Allocate { ino, .. }
        | Op::Seek { ino, .. }
        | Op::Fsync { ino, .. }
        | Op::Close { ino, .. }
        | Op::Reassert { ino, .. }
        | Op::Lock { ino, .. }
        | Op::TestLock { ino, .. }
        | Op::CancelWait { ino, .. } => ino.partition(),
        _ => PartitionId(0),
    }
}
