//! Listing a directory, and the way from a directory up to the root.
//!
//! Entries are listed in the order of their numbers, which never change while an entry stays and
//! are never used again: an entry that stays is seen exactly once, whatever is created or removed
//! meanwhile. Positions 1 and 2 lie behind `.` and `..`, which the library emits; the position
//! behind entry number n is n + 2.

use std::ops::ControlFlow;

use super::data::is_atime_due;
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{InodeRecord, PositionRecord, entry_of_position, position_name};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::message::OpReply;
use sealfs_protocol::{Errno, InodeId, dirent};

/// Most bytes of records in one reply.
const LIMIT_MAX_BYTES: usize = 512 << 10;
/// Most bytes of records in one reply with attributes, which take more of its body.
const LIMIT_WITH_ATTRIBUTES_BYTES: usize = 64 << 10;
const DOT_POSITIONS: u64 = 2;
/// Directories between one of this shard and its root, at most.
const DEPTH_MAX: usize = 1 << 16;

pub fn read_dir<V: World>(
    v: &mut View<V>,
    dir: InodeId,
    position: u64,
    limit_bytes: u32,
    with_attributes: bool,
) -> OpResult<OpReply> {
    let mut record = v.inode(dir)?.ok_or(Errno::ESTALE)?;
    let directory = record.directory().ok_or(Errno::ENOTDIR)?;
    let parent = directory.parent;
    if record.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    let limit = if with_attributes {
        LIMIT_WITH_ATTRIBUTES_BYTES
    } else {
        LIMIT_MAX_BYTES
    };
    let start = v.out.len();
    let limit = limit.min(limit_bytes as usize);
    let next = page(v, dir, position.max(DOT_POSITIONS), limit)?;
    let attributes = if with_attributes {
        attributes(v, start)?
    } else {
        Vec::new()
    };
    if position <= DOT_POSITIONS && is_atime_due(&record, v) {
        record.atime = v.time();
        v.put_inode(dir, &record);
    }
    Ok(OpReply::Entries {
        len_bytes: (v.out.len() - start) as u32,
        parent,
        next,
        attributes,
    })
}

/// Appends records from `position` on to the payload, `limit` bytes at most; the position behind
/// them, [`dirent::END`] behind the last of all.
fn page<V: World>(v: &mut View<V>, dir: InodeId, position: u64, limit: usize) -> OpResult<u64> {
    let partition = dir.partition();
    let after = position - DOT_POSITIONS;
    let from = key::dent(partition, dir, &position_name(after.saturating_add(1)));
    let until = key::dent(partition, dir, &[1]);
    let mut records = std::mem::take(v.out);
    let room = records.len() + limit;
    let (mut next, mut last) = (position, records.len());
    let (mut end, mut damaged) = (true, false);
    let scanned = v.scan(Db::Dent, &from, &until, |key, value| {
        let number = entry_of_position(key);
        let (Some(number), Ok(entry)) = (number, PositionRecord::access(value)) else {
            damaged = true;
            return ControlFlow::Break(());
        };
        if records.len() + dirent::record_bytes(entry.name.len()) > room {
            end = false;
            return ControlFlow::Break(());
        }
        (next, last) = (number + DOT_POSITIONS, records.len());
        let (ino, kind) = (entry.ino.0.to_native(), entry.kind.to_native());
        dirent::push(&mut records, ino, next, kind, &entry.name);
        ControlFlow::Continue(())
    });
    if end {
        next = dirent::END;
        dirent::set_position(&mut records[last..], next);
    }
    *v.out = records;
    scanned?;
    if damaged {
        log::error!("directory {dir} holds a damaged entry");
        return Err(Errno::EIO.into());
    }
    Ok(next)
}

/// Attributes of the inodes that the records from `start` on in the payload name.
fn attributes<V: World>(v: &mut View<V>, start: usize) -> OpResult<Vec<Option<Attr>>> {
    let named = dirent::records(&v.out[start..]).map(|r| InodeId(r.ino));
    let named: Vec<InodeId> = named.collect();
    let mut all = Vec::with_capacity(named.len());
    for ino in named {
        let record: Option<InodeRecord> = if v.is_mine(ino.partition()) {
            v.inode(ino)?
        } else {
            None
        };
        all.push(record.map(|r| r.attr(ino, 0)));
    }
    Ok(all)
}

pub fn path<V: World>(v: &mut View<V>, dir: InodeId) -> OpResult<OpReply> {
    let mut names = Vec::new();
    let mut at = dir;
    let mut unlinked = false;
    while v.is_mine(at.partition()) && names.len() < DEPTH_MAX {
        let record = v.inode(at)?.ok_or(Errno::ESTALE)?;
        let directory = record.directory().ok_or(Errno::ENOTDIR)?;
        unlinked |= record.nlink == 0;
        if directory.parent == at {
            break;
        }
        names.push(directory.name.clone());
        at = directory.parent;
    }
    Ok(OpReply::Ancestors {
        names,
        top: at,
        unlinked,
    })
}
