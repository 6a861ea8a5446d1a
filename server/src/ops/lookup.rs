//! Walking a path as far as this shard owns the way, with search permission on each directory.
//!
//! A walk ends at an inode of this shard, with the errno that the kernel would give, or where it
//! must leave: at a partition of another shard, a part of a split directory that another shard
//! hosts, a symbolic link to follow, or above the root.

use smallvec::SmallVec;

use super::directory::{Dir, dentry, host_of, is_original};
use super::permission::{self, X};
use crate::core::{Halt, OpResult, View, World};
use crate::records::{Body, DentryRecord, InodeRecord};
use sealfs_protocol::attr::{S_IFDIR, S_IFLNK};
use sealfs_protocol::message::{At, Passed, Stop, Walked};
use sealfs_protocol::{Errno, InodeId, PartitionId};

/// An inode of this shard.
pub struct Found {
    pub ino: InodeId,
    pub record: InodeRecord,
}

/// The last component of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Last<'p> {
    Name(&'p [u8]),
    Dot,
    DotDot,
    /// The path is empty: the base itself.
    Base,
}

/// A directory and the last component to be looked up in it; of a split one the part that hosts
/// the component.
pub struct Parent<'p> {
    pub dir: Dir,
    pub last: Last<'p>,
    /// The path ended with a slash.
    pub slash: bool,
    /// The whole path's length without trailing slashes.
    end: usize,
}

type Range = std::ops::Range<usize>;

struct Path<'p> {
    bytes: &'p [u8],
    components: SmallVec<[Range; 8]>,
    slash: bool,
}

fn parse(bytes: &[u8]) -> Path<'_> {
    let mut components = SmallVec::new();
    let mut start = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if *byte == b'/' {
            if i > start {
                components.push(start..i);
            }
            start = i + 1;
        }
    }
    if bytes.len() > start {
        components.push(start..bytes.len());
    }
    Path {
        bytes,
        components,
        slash: bytes.last() == Some(&b'/'),
    }
}

/// Where a walk stands: at an inode of any type.
struct Cursor {
    at: Dir,
    /// Bytes of the path that led here.
    consumed: usize,
}

fn leave(consumed: usize, base: InodeId, stop: Stop) -> Halt {
    Halt::Walked(Walked {
        consumed_bytes: consumed as u32,
        base,
        stop,
    })
}

/// The base of a path. ESTALE if it was removed since the caller learned of it: a directory in a
/// client's cache answers for itself.
fn start<W: World>(v: &mut View<W>, base: InodeId, path: &Path<'_>) -> OpResult<Cursor> {
    let at = if v.is_mine(base.partition()) {
        Dir::whole(base, v.inode(base)?.ok_or(Errno::ESTALE)?)
    } else {
        part_asked(v, base, path)?.ok_or(leave(0, base, Stop::Elsewhere))?
    };
    if v.caller.volume.0 != 0 && at.record.volume != v.caller.volume {
        return Err(Errno::ESTALE.into());
    }
    Ok(Cursor { at, consumed: 0 })
}

/// The part that a caller means who knows how the base is split.
fn part_asked<W: World>(v: &mut View<W>, base: InodeId, path: &Path<'_>) -> OpResult<Option<Dir>> {
    let first = path.components.first().map(|c| &path.bytes[c.clone()]);
    let Some(name) = first.filter(|_| v.is_mine(v.partition)) else {
        return Ok(None);
    };
    let Last::Name(name) = classify(name) else {
        return Ok(None);
    };
    let part = Dir::part(v, base, v.partition)?;
    let Some(part) = part.filter(|part| part.covers(name)) else {
        return Ok(None);
    };
    if is_original(v, part.host(), base, name)? {
        return Err(leave(0, base, Stop::Original));
    }
    Ok(Some(part))
}

/// What hosts `name` in the directory where a walk stands, if it is here.
fn around<W: World>(v: &mut View<W>, cursor: Cursor, name: &[u8]) -> OpResult<Dir> {
    match part_host(v, &cursor, name)? {
        Some(host) => Dir::part_named(v, cursor.at.ino, host),
        None => Ok(cursor.at),
    }
}

/// The partition of the part that hosts `name`, if it is another record than where the walk stands.
fn part_host<W: World>(
    v: &mut View<W>,
    cursor: &Cursor,
    name: &[u8],
) -> OpResult<Option<PartitionId>> {
    let at = &cursor.at;
    if at.is_part() || at.record.nlink == 0 {
        return Ok(None);
    }
    let Some(host) = host_of(&at.record, name) else {
        return Ok(None);
    };
    if is_original(v, at.host(), at.ino, name)? {
        return Ok(None);
    }
    if v.is_mine(host) {
        return Ok(Some(host));
    }
    let parts = at
        .record
        .directory()
        .map_or(Vec::new(), |d| d.split.clone());
    Err(leave(cursor.consumed, at.ino, Stop::Split { parts }))
}

/// Whether names can be looked up in a directory by the caller.
fn check_search<W: World>(v: &View<W>, record: &InodeRecord) -> OpResult<()> {
    if !record.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    Ok(permission::check(record, &v.caller.credentials, X)?)
}

fn target(record: InodeRecord) -> Vec<u8> {
    match record.body {
        Body::Symlink(target) => target,
        _ => Vec::new(),
    }
}

/// Goes through one component. `follow`: a symbolic link is to be followed; `must_dir`: what is
/// found must be a directory.
fn step<W: World>(
    v: &mut View<W>,
    cursor: &Cursor,
    path: &Path<'_>,
    component: &Range,
    follow: bool,
    must_dir: bool,
) -> OpResult<Cursor> {
    let at = &cursor.at;
    check_search(v, &at.record)?;
    let name = &path.bytes[component.clone()];
    let (ino, kind) = match name {
        b"." => (at.ino, S_IFDIR),
        b".." => {
            let parent = at.record.directory().map_or(at.ino, |d| d.parent);
            if parent == at.ino {
                return Err(leave(cursor.consumed, at.ino, Stop::AboveRoot));
            }
            (parent, S_IFDIR)
        }
        _ => {
            let host = part_host(v, cursor, name)?.unwrap_or(at.host());
            let found = dentry(v, host, at.ino, name)?.ok_or(Errno::ENOENT)?;
            (found.ino, found.kind)
        }
    };
    if kind == S_IFLNK && follow {
        let target = target(v.inode_named(ino)?);
        return Err(leave(component.end, at.ino, Stop::Symlink { target }));
    }
    if kind != S_IFDIR && must_dir {
        return Err(Errno::ENOTDIR.into());
    }
    if kind == S_IFDIR {
        v.passed.push(Passed {
            consumed_bytes: component.end as u32,
            ino,
        });
    }
    if !v.is_mine(ino.partition()) {
        return Err(leave(component.end, ino, Stop::Elsewhere));
    }
    let record = if ino == at.ino {
        at.record.clone()
    } else {
        v.inode_named(ino)?
    };
    Ok(Cursor {
        at: Dir::whole(ino, record),
        consumed: component.end,
    })
}

/// The inode that a path names; a final symbolic link is followed if `follow` or a slash says so.
pub fn walk<W: World>(v: &mut View<W>, at: &At, follow: bool) -> OpResult<Found> {
    let path = parse(&at.path);
    let mut cursor = start(v, at.base, &path)?;
    if path.components.is_empty() {
        let record = &cursor.at.record;
        if record.is_symlink() && (follow || path.slash) {
            let target = target(cursor.at.record);
            return Err(leave(0, at.base, Stop::Symlink { target }));
        }
        if path.slash && !record.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
    }
    let count = path.components.len();
    for (i, component) in path.components.iter().enumerate() {
        let through = i + 1 < count || path.slash;
        cursor = step(v, &cursor, &path, component, through || follow, through)?;
    }
    Ok(Found {
        ino: cursor.at.ino,
        record: cursor.at.record,
    })
}

/// Walks all but the last component; the directory reached is searchable.
pub fn walk_parent<'p, W: World>(v: &mut View<W>, at: &'p At) -> OpResult<Parent<'p>> {
    let path = parse(&at.path);
    let mut cursor = start(v, at.base, &path)?;
    let Some((last, before)) = path.components.split_last() else {
        return Ok(Parent {
            dir: cursor.at,
            last: Last::Base,
            slash: path.slash,
            end: 0,
        });
    };
    for component in before {
        cursor = step(v, &cursor, &path, component, true, true)?;
    }
    check_search(v, &cursor.at.record)?;
    let end = last.end;
    let last = classify(&at.path[last.clone()]);
    Ok(Parent {
        dir: match last {
            Last::Name(name) => around(v, cursor, name)?,
            _ => cursor.at,
        },
        last,
        slash: path.slash,
        end,
    })
}

/// The parent of a path that is a single name, and that name, wherever the parent is.
pub fn parent_anywhere<'p, W: World>(v: &mut View<W>, at: &'p At) -> OpResult<Parent<'p>> {
    let (last, slash) = single(at)?;
    let name = match last {
        Last::Name(name) => name,
        _ => b"",
    };
    Ok(Parent {
        dir: Dir::around(v, at.base, name)?,
        last,
        slash,
        end: at.path.len(),
    })
}

fn classify(name: &[u8]) -> Last<'_> {
    match name {
        b"." => Last::Dot,
        b".." => Last::DotDot,
        _ => Last::Name(name),
    }
}

/// The last component of a path that is a single name, without a look at any directory.
pub fn single(at: &At) -> OpResult<(Last<'_>, bool)> {
    let path = parse(&at.path);
    match path.components.as_slice() {
        [] => Ok((Last::Base, path.slash)),
        [one] => Ok((classify(&at.path[one.clone()]), path.slash)),
        _ => Err(Errno::EINVAL.into()),
    }
}

impl Parent<'_> {
    /// The inode of the last component, whose dentry was read; leaves if it lives elsewhere.
    pub fn reach<W: World>(&self, v: &mut View<W>, found: &DentryRecord) -> OpResult<Found> {
        if !v.is_mine(found.ino.partition()) {
            return Err(leave(self.end, found.ino, Stop::Elsewhere));
        }
        Ok(Found {
            ino: found.ino,
            record: v.inode_named(found.ino)?,
        })
    }

    /// The last component is a symbolic link to be followed.
    pub fn follow<W: World>(&self, v: &mut View<W>, found: &DentryRecord) -> OpResult<Halt> {
        let target = target(v.inode_named(found.ino)?);
        Ok(leave(self.end, self.dir.ino, Stop::Symlink { target }))
    }
}
