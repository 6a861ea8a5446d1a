//! New inodes and new names: mkdir(2), mknod(2), symlink(2), and what open(2) and rename(2) share
//! with them.

use super::data;
use super::lookup::{self, Last, Parent};
use super::permission::{self, S_ISGID, S_ISVTX, W, X};
use crate::core::{OpResult, View, World};
use crate::records::{Body, Directory, InodeRecord};
use sealfs_protocol::attr::{
    S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
};
use sealfs_protocol::limits::SYMLINK_MAX_BYTES;
use sealfs_protocol::message::{At, OpReply};
use sealfs_protocol::{Errno, InodeId, TruncateGeneration, hash};

/// Whether the caller may make names in a directory.
pub fn check_create<W: World>(v: &View<W>, dir: &InodeRecord) -> OpResult<()> {
    if dir.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    Ok(permission::check(dir, &v.caller.credentials, W | X)?)
}

/// A new inode in `dir`: owner, group and set-group-id as inode_init_owner() of the kernel.
pub fn new_inode<W: World>(
    v: &View<W>,
    dir: &InodeRecord,
    mode: u32,
    rdev: u64,
    body: Body,
) -> InodeRecord {
    let who = &v.caller.credentials;
    let now = v.time();
    let (mut mode, mut gid) = (mode, who.gid);
    if dir.mode & S_ISGID != 0 {
        gid = dir.gid;
        let executable = mode & (S_ISGID | 0o010) == (S_ISGID | 0o010);
        if mode & S_IFMT == S_IFDIR {
            mode |= S_ISGID;
        } else if executable && !permission::is_root(who) && !permission::in_group(who, gid) {
            mode &= !S_ISGID;
        }
    }
    let size_bytes = match &body {
        Body::Symlink(target) => target.len() as u64,
        _ => 0,
    };
    InodeRecord {
        volume: dir.volume,
        mode,
        nlink: if matches!(body, Body::Directory(_)) {
            2
        } else {
            1
        },
        uid: who.uid,
        gid,
        rdev,
        size_bytes,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        layout: dir.layout,
        generation: TruncateGeneration(0),
        wide: false,
        pending: None,
        pending_spares: false,
        reserves: false,
        has_xattrs: false,
        linkable: false,
        body,
    }
}

/// The free name that a call is about to create: EEXIST if it is taken, ENOENT for `name/` unless
/// a directory is to be made.
fn free_name<'p, W: World>(
    v: &mut View<W>,
    parent: &Parent<'p>,
    directory: bool,
) -> OpResult<&'p [u8]> {
    let Last::Name(name) = parent.last else {
        return Err(Errno::EEXIST.into());
    };
    if parent.dir.dentry(v, name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if parent.slash && !directory {
        return Err(Errno::ENOENT.into());
    }
    v.check_writable(parent.dir.record.volume)?;
    check_create(v, &parent.dir.record)?;
    Ok(name)
}

/// Makes an inode under a free name of `parent`.
pub fn create<W: World>(
    v: &mut View<W>,
    mut parent: Parent<'_>,
    name: &[u8],
    record: &InodeRecord,
) -> OpResult<InodeId> {
    let dir = &mut parent.dir;
    let partition = if record.is_dir() {
        hash::directory_partition(dir.ino, name, v.cluster.partitions())
    } else {
        dir.host()
    };
    let ino = v.allocate(partition)?;
    dir.add(v, name, ino, record.kind());
    if record.is_dir() {
        dir.record.nlink += 1;
    }
    v.put_inode(ino, record);
    dir.store(v);
    Ok(ino)
}

pub fn make_dir<W: World>(v: &mut View<W>, at: &At, mode: u32) -> OpResult<OpReply> {
    let parent = lookup::walk_parent(v, at)?;
    let name = free_name(v, &parent, true)?;
    let body = Body::Directory(Directory::new(parent.dir.ino, name));
    let mode = S_IFDIR | mode & (0o777 | S_ISVTX);
    let record = new_inode(v, &parent.dir.record, mode, 0, body);
    let ino = create(v, parent, name, &record)?;
    Ok(OpReply::Attr(record.attr(ino, 0)))
}

pub fn make_node<W: World>(v: &mut View<W>, at: &At, mode: u32, rdev: u64) -> OpResult<OpReply> {
    let (kind, body) = match mode & S_IFMT {
        0 | S_IFREG => (S_IFREG, Body::Inline(Vec::new())),
        S_IFDIR => return Err(Errno::EPERM.into()),
        kind @ (S_IFIFO | S_IFSOCK | S_IFCHR | S_IFBLK) => (kind, Body::Node),
        _ => return Err(Errno::EINVAL.into()),
    };
    let parent = lookup::walk_parent(v, at)?;
    let name = free_name(v, &parent, false)?;
    let device = kind == S_IFCHR || kind == S_IFBLK;
    if device && !permission::is_root(&v.caller.credentials) {
        return Err(Errno::EPERM.into());
    }
    let rdev = if device { rdev } else { 0 };
    let record = new_inode(v, &parent.dir.record, kind | mode & 0o7777, rdev, body);
    let ino = create(v, parent, name, &record)?;
    Ok(OpReply::Attr(record.attr(ino, 0)))
}

pub fn symlink<W: World>(v: &mut View<W>, at: &At, target: &[u8]) -> OpResult<OpReply> {
    if target.is_empty() {
        return Err(Errno::ENOENT.into());
    }
    if target.len() > SYMLINK_MAX_BYTES {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let parent = lookup::walk_parent(v, at)?;
    let name = free_name(v, &parent, false)?;
    let body = Body::Symlink(target.to_vec());
    let record = new_inode(v, &parent.dir.record, S_IFLNK | 0o777, 0, body);
    let ino = create(v, parent, name, &record)?;
    Ok(OpReply::Attr(record.attr(ino, 0)))
}

pub fn read_link<W: World>(v: &mut View<W>, at: &At) -> OpResult<OpReply> {
    let found = lookup::walk(v, at, false)?;
    let Body::Symlink(target) = &found.record.body else {
        return Err(Errno::EINVAL.into());
    };
    let target = target.clone();
    if data::is_atime_due(&found.record, v) {
        v.access(found.ino);
    }
    Ok(OpReply::Bytes(target))
}
