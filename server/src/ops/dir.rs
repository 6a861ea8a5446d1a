//! Listing a directory, and the way from a directory up to the root.
//!
//! Entries are listed in the order of their numbers, which never change while an entry stays and
//! are never used again: an entry that stays is seen exactly once, whatever is created or removed
//! meanwhile. Cookie 1 and 2 stand for `.` and `..`, which the library emits; the cookie after
//! entry number n is n + 2.

use std::ops::ControlFlow;

use super::data::is_atime_due;
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{PositionRecord, Record, entry_of_position, position_name};
use sealfs_protocol::message::{DirEntry, OpReply};
use sealfs_protocol::{Errno, InodeId};

/// Most bytes of entries in one reply.
const LIMIT_MAX_BYTES: usize = 512 << 10;
/// What an entry takes in a reply besides its name, attributes included, in bytes.
const ENTRY_BYTES: usize = 192;
const DOT_COOKIES: u64 = 2;
/// Directories between one of this shard and its root, at most.
const DEPTH_MAX: usize = 1 << 16;

pub fn read_dir<V: World>(
    v: &mut View<V>,
    dir: InodeId,
    cookie: u64,
    limit_bytes: u32,
    with_attributes: bool,
) -> OpResult<OpReply> {
    let mut record = v.inode(dir)?.ok_or(Errno::ESTALE)?;
    if !record.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    if record.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    let limit = (limit_bytes as usize).clamp(ENTRY_BYTES * 2, LIMIT_MAX_BYTES);
    let (mut entries, end) = page(v, dir, cookie.saturating_sub(DOT_COOKIES), limit)?;
    if with_attributes {
        for entry in &mut entries {
            if v.is_mine(entry.ino.partition())
                && let Some(inode) = v.inode(entry.ino)?
            {
                entry.attr = Some(inode.attr(entry.ino, 0));
            }
        }
    }
    if cookie <= DOT_COOKIES && is_atime_due(&record, v) {
        record.atime = v.time();
        v.put_inode(dir, &record);
    }
    Ok(OpReply::Entries { entries, end })
}

/// Entries with numbers above `after`, and whether they are the last.
fn page<V: World>(
    v: &mut View<V>,
    dir: InodeId,
    after: u64,
    limit: usize,
) -> OpResult<(Vec<DirEntry>, bool)> {
    let partition = dir.partition();
    let from = key::dent(partition, dir, &position_name(after.saturating_add(1)));
    let until = key::dent(partition, dir, &[1]);
    let mut entries = Vec::new();
    let (mut bytes, mut end, mut damaged) = (0, true, false);
    v.scan(Db::Dent, &from, &until, |key, value| {
        let number = entry_of_position(key);
        let (Some(number), Ok(position)) = (number, PositionRecord::decode(value)) else {
            damaged = true;
            return ControlFlow::Break(());
        };
        let size = ENTRY_BYTES + position.name.len();
        if bytes + size > limit {
            end = false;
            return ControlFlow::Break(());
        }
        bytes += size;
        entries.push(DirEntry {
            name: position.name,
            ino: position.ino,
            kind: position.kind,
            cookie: number + DOT_COOKIES,
            attr: None,
        });
        ControlFlow::Continue(())
    })?;
    if damaged {
        log::error!("directory {dir} holds a damaged entry");
        return Err(Errno::EIO.into());
    }
    Ok((entries, end))
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
