//! Listing a directory, and the way from a directory up to the root.
//!
//! Entries are listed in the order of their numbers, which never change while an entry stays and
//! are never used again: an entry that stays is seen exactly once, whatever is created or removed
//! meanwhile. Positions 1 and 2 lie behind `.` and `..`, which the library emits; the position
//! behind entry number n is n + 2. A split directory is listed part by part, each by its host, and
//! first of all what was there before the split.

use std::ops::ControlFlow;

use super::data::is_atime_due;
use super::directory::Dir;
use crate::core::{OpResult, View, World};
use crate::meta::Span;
use crate::meta::db::{Db, key};
use crate::records::{
    InodeRecord, PositionRecord, entry_of_position, first_entry, part_of_entry, position_name,
};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::dirent::DOT_POSITIONS;
use sealfs_protocol::message::{OpReply, PageEnd};
use sealfs_protocol::{Errno, InodeId, PartitionId, dirent};

/// Most bytes of records in one reply.
const LIMIT_MAX_BYTES: usize = 512 << 10;
/// Most bytes of records in one reply with attributes, which take more of its body.
const LIMIT_WITH_ATTRIBUTES_BYTES: usize = 64 << 10;
/// Directories between one of this shard and its root, at most.
const DEPTH_MAX: usize = 1 << 16;

pub fn read_dir<V: World>(
    v: &mut View<V>,
    dir: InodeId,
    position: u64,
    limit_bytes: u32,
    with_attributes: bool,
) -> OpResult<OpReply> {
    let limit = if with_attributes {
        LIMIT_WITH_ATTRIBUTES_BYTES
    } else {
        LIMIT_MAX_BYTES
    };
    let limit = limit.min(limit_bytes as usize);
    let start = v.out.len();
    let listed = match dirent::part_of(position) {
        0 => first(v, dir, position, limit)?,
        part => later(v, dir, part, position, limit)?,
    };
    let attributes = if with_attributes {
        attributes(v, start)?
    } else {
        Vec::new()
    };
    Ok(OpReply::Entries {
        len_bytes: (v.out.len() - start) as u32,
        parent: listed.parent,
        next: listed.next,
        attributes,
        parts: listed.parts,
    })
}

/// What a page tells besides its records.
struct Listed {
    parent: InodeId,
    next: u64,
    parts: Vec<PartitionId>,
}

/// A page of what lies with the directory's inode: all, or what was there before it was split.
fn first<V: World>(v: &mut View<V>, dir: InodeId, position: u64, limit: usize) -> OpResult<Listed> {
    let record = v.inode(dir)?.ok_or(Errno::ESTALE)?;
    let directory = record.directory().ok_or(Errno::ENOTDIR)?;
    if record.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    let (parent, mut parts) = (directory.parent, directory.split.clone());
    let range = dir.partition();
    let behind = if parts.is_empty() {
        dirent::END
    } else {
        start_of(1)
    };
    let next = page(v, (range, dir), position.max(DOT_POSITIONS), behind, limit)?;
    if next != behind {
        parts.clear();
    }
    if position <= DOT_POSITIONS && is_atime_due(&record, v) {
        v.access(dir);
    }
    Ok(Listed {
        parent,
        next,
        parts,
    })
}

/// The first page of a directory that is being opened, if that is the same as asking for it later:
/// not of one that is split.
pub fn first_page<V: World>(
    v: &mut View<V>,
    dir: InodeId,
    record: &InodeRecord,
    limit: usize,
) -> OpResult<Option<PageEnd>> {
    let directory = record.directory().ok_or(Errno::ENOTDIR)?;
    if record.nlink == 0 || !directory.split.is_empty() {
        return Ok(None);
    }
    let (parent, host) = (directory.parent, (dir.partition(), dir));
    let limit = limit.min(LIMIT_MAX_BYTES);
    let next = page(v, host, DOT_POSITIONS, dirent::END, limit)?;
    Ok(Some(PageEnd {
        parent,
        next,
        moves_atime: is_atime_due(record, v),
    }))
}

/// The first page was read, some time after the open that brought it.
pub fn accessed<V: World>(v: &mut View<V>, dir: InodeId) -> OpResult<OpReply> {
    let record = v.inode(dir)?.ok_or(Errno::ESTALE)?;
    if is_atime_due(&record, v) {
        v.access(dir);
    }
    Ok(OpReply::Done)
}

/// A page of a part; where another shard hosts it, only who does.
fn later<V: World>(
    v: &mut View<V>,
    dir: InodeId,
    part: usize,
    position: u64,
    limit: usize,
) -> OpResult<Listed> {
    let mut host = v.partition;
    if v.is_mine(dir.partition()) {
        let record = v.inode(dir)?.ok_or(Errno::ESTALE)?;
        let directory = record.directory().ok_or(Errno::ENOTDIR)?;
        let parts = directory.split.clone();
        host = *parts.get(part - 1).ok_or(Errno::ENOENT)?;
        if !v.is_mine(host) {
            return Ok(Listed {
                parent: dir,
                next: position,
                parts,
            });
        }
    }
    let found = Dir::part(v, dir, host)?.and_then(|d| d.part_number());
    let Some((_, parts)) = found.filter(|(number, _)| usize::from(*number) == part) else {
        return Err(Errno::ESTALE.into());
    };
    let behind = if part < usize::from(parts) {
        start_of(part as u16 + 1)
    } else {
        dirent::END
    };
    Ok(Listed {
        parent: dir,
        next: page(v, (host, dir), position, behind, limit)?,
        parts: Vec::new(),
    })
}

/// The position before the first entry of a part.
fn start_of(part: u16) -> u64 {
    first_entry(part) - 1 + DOT_POSITIONS
}

/// Appends records from `position` on to the payload, `limit` bytes at most; the position to go on
/// from, `behind` after the last one of the same part.
fn page<V: World>(
    v: &mut View<V>,
    (host, dir): (PartitionId, InodeId),
    position: u64,
    behind: u64,
    limit: usize,
) -> OpResult<u64> {
    let after = position - DOT_POSITIONS;
    let part = part_of_entry(after);
    let from = key::dent(host, dir, &position_name(after.saturating_add(1)));
    let until = key::dent(host, dir, &position_name(first_entry(part as u16 + 1)));
    let span = Span {
        host,
        directory: dir,
        position,
        behind,
    };
    if v.append_listing((&from, &until), span, limit)? {
        return Ok(behind);
    }
    let mut records = std::mem::take(v.out);
    let start = records.len();
    let room = start + limit;
    let (mut next, mut last) = (position, start);
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
        next = behind;
        dirent::set_position(&mut records[last..], next);
    }
    *v.out = records;
    scanned?;
    if damaged {
        log::error!("directory {dir} holds a damaged entry");
        return Err(Errno::EIO.into());
    }
    if end {
        v.keep_listing(span, start);
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
