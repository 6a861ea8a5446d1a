//! unlink(2) and rmdir(2), and what becomes of an inode whose last name is gone.

use super::lookup::{self, Last};
use super::permission::{self, W, X};
use super::split;
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{Body, InodeRecord, OrphanRecord};
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::message::{At, OpReply};
use sealfs_protocol::{Errno, InodeId};

/// may_delete() of the kernel: whether the caller may take `victim`'s name out of `dir`.
pub fn check_delete<W: World>(
    v: &View<W>,
    dir: &InodeRecord,
    victim: &InodeRecord,
    as_directory: bool,
) -> OpResult<()> {
    let who = &v.caller.credentials;
    permission::check(dir, who, W | X)?;
    permission::check_sticky(dir, victim, who)?;
    match (as_directory, victim.is_dir()) {
        (true, false) => return Err(Errno::ENOTDIR.into()),
        (false, true) => return Err(Errno::EISDIR.into()),
        _ => {}
    }
    if dir.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    Ok(())
}

pub fn unlink<W: World>(v: &mut View<W>, at: &At) -> OpResult<OpReply> {
    let mut parent = lookup::walk_parent(v, at)?;
    let Last::Name(name) = parent.last else {
        return Err(Errno::EISDIR.into());
    };
    v.check_writable(parent.dir.record.volume)?;
    let found = parent.dir.dentry(v, name)?.ok_or(Errno::ENOENT)?;
    if parent.slash {
        let directory = found.kind == S_IFDIR;
        return Err(if directory {
            Errno::EISDIR
        } else {
            Errno::ENOTDIR
        }
        .into());
    }
    let victim = v.inode_named(found.ino)?;
    check_delete(v, &parent.dir.record, &victim, false)?;
    parent.dir.remove(v, name, &found);
    parent.dir.store(v);
    drop_link(v, found.ino, victim);
    Ok(OpReply::Done)
}

pub fn remove_dir<W: World>(v: &mut View<W>, at: &At) -> OpResult<OpReply> {
    let mut parent = lookup::walk_parent(v, at)?;
    let name = match parent.last {
        Last::Name(name) => name,
        Last::Dot => return Err(Errno::EINVAL.into()),
        Last::DotDot => return Err(Errno::ENOTEMPTY.into()),
        Last::Base => return Err(Errno::EBUSY.into()),
    };
    v.check_writable(parent.dir.record.volume)?;
    let found = parent.dir.dentry(v, name)?.ok_or(Errno::ENOENT)?;
    let victim = v.inode_named(found.ino)?;
    check_delete(v, &parent.dir.record, &victim, true)?;
    check_empty(v, found.ino, &victim)?;
    parent.dir.remove(v, name, &found);
    parent.dir.record.nlink = parent.dir.record.nlink.saturating_sub(1);
    parent.dir.store(v);
    drop_directory(v, found.ino, victim);
    Ok(OpReply::Done)
}

pub fn check_empty<W: World>(v: &mut View<W>, ino: InodeId, record: &InodeRecord) -> OpResult<()> {
    let entries = record.directory().map_or(0, |d| d.entries);
    if entries + split::entries(v, ino, record)? > 0 {
        return Err(Errno::ENOTEMPTY.into());
    }
    Ok(())
}

/// A file has lost a name.
pub fn drop_link<W: World>(v: &mut View<W>, ino: InodeId, mut record: InodeRecord) {
    record.nlink = record.nlink.saturating_sub(1);
    record.ctime = v.time();
    if record.nlink == 0 {
        bury(v, ino, &record);
    } else {
        v.put_inode(ino, &record);
    }
}

/// An empty directory has lost its name: nothing can be created in it any more.
pub fn drop_directory<W: World>(v: &mut View<W>, ino: InodeId, mut record: InodeRecord) {
    split::drop_parts(v, ino, &mut record);
    record.nlink = 0;
    record.ctime = v.time();
    bury(v, ino, &record);
}

/// Removes an inode without names at once if nothing else depends on it; else it becomes an
/// orphan, which its owner collects when it is no longer open.
fn bury<W: World>(v: &mut View<W>, ino: InodeId, record: &InodeRecord) {
    let partition = ino.partition();
    let simple = v.is_mine(partition)
        && !record.wide
        && !record.has_xattrs
        && !v.is_shared()
        && !v.grace
        && !v.opens.is_open(ino)
        && v.file_locks.held(ino).is_empty();
    if simple && let Ok(()) = drop_first_chunk(v, ino, record) {
        v.delete_inode(ino);
        return;
    }
    v.put_inode(ino, record);
    let orphan = key::orphan(partition, ino);
    v.put(partition, Db::Orphan, orphan, &OrphanRecord::Nameless);
}

/// Chunk 0, which lives with the inode.
pub fn drop_first_chunk<W: World>(
    v: &mut View<W>,
    ino: InodeId,
    record: &InodeRecord,
) -> OpResult<()> {
    if !matches!(record.body, Body::Chunks { .. }) {
        return Ok(());
    }
    let partition = ino.partition();
    if let Some(chunk) = v.chunk(partition, ino, 0)? {
        v.drop_chunk((partition, ino, 0), chunk);
    }
    Ok(())
}
