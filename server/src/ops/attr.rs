//! stat(2), access(2), chmod(2), chown(2), utimensat(2) and truncate(2).

use super::permission::{self, R, S_ISGID, W, X};
use super::{chunks, lookup, open, split, truncate};
use crate::core::{MemoryChange, OpResult, View, World};
use crate::records::InodeRecord;
use sealfs_protocol::attr::{S_IFMT, SetAttr, SetTime, Time};
use sealfs_protocol::limits::{CHUNK_SIZE_LOG2, FILE_SIZE_MAX_BYTES};
use sealfs_protocol::message::{At, OpReply};
use sealfs_protocol::{Errno, InodeId};

/// The reply with all attributes, space on the layout slots of other shards included.
pub fn reply<V: World>(v: &mut View<V>, ino: InodeId, record: &InodeRecord) -> OpResult<OpReply> {
    if split::is_split(record) {
        let merged = split::merged(v, ino, record)?;
        return Ok(OpReply::Attr(merged.attr(ino, 0)));
    }
    let elsewhere = chunks::slot_blocks(v, ino, record)?;
    Ok(OpReply::Attr(record.attr(ino, elsewhere)))
}

pub fn get<V: World>(v: &mut View<V>, at: &At, follow: bool) -> OpResult<OpReply> {
    let found = lookup::walk(v, at, follow)?;
    reply(v, found.ino, &found.record)
}

pub fn access<V: World>(v: &mut View<V>, at: &At, follow: bool, mode: u32) -> OpResult<OpReply> {
    if mode & !(R | W | X) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let found = lookup::walk(v, at, follow)?;
    permission::check_volume(v, &found.record, mode)?;
    permission::check(&found.record, &v.caller.credentials, mode)?;
    Ok(OpReply::Attr(found.record.attr(found.ino, 0)))
}

pub fn set<V: World>(v: &mut View<V>, at: &At, follow: bool, set: &SetAttr) -> OpResult<OpReply> {
    let mut found = lookup::walk(v, at, follow)?;
    let record = &mut found.record;
    let before = (record.mode, record.uid, record.gid);
    if set.size_bytes.is_none() {
        v.check_writable(record.volume)?;
    }
    if let Some(size) = set.size_bytes {
        check_truncate(v, found.ino, record, size, set.by_handle)?;
        let touched = set.by_handle || record.size_bytes != size;
        truncate::resize(v, found.ino, record, size, touched)?;
    }
    if set.is_chown || set.uid.is_some() || set.gid.is_some() {
        change_owner(v, record, set)?;
    }
    if let Some(mode) = set.mode {
        change_mode(v, record, mode)?;
    }
    if let Some(log2) = set.chunk_size_log2 {
        change_chunk_size(v, record, log2)?;
    }
    if set.atime.is_some() || set.mtime.is_some() {
        change_times(v, record, set)?;
    }
    if set.atime.is_some() {
        v.remember(MemoryChange::Accessed(found.ino, None));
    }
    if set.size_bytes.is_none() {
        record.ctime = v.time();
    }
    v.put_inode(found.ino, record);
    if record.is_dir() && before != (record.mode, record.uid, record.gid) {
        v.bump_version(record.volume, vec![found.ino]);
    }
    if split::is_split(&found.record) {
        let times = set.mtime.is_some();
        let whole = split::tell_parts(v, found.ino, &found.record, times)?;
        return Ok(OpReply::Attr(whole.attr(found.ino, 0)));
    }
    let space = chunks::local_slot_blocks(v, found.ino, &found.record)?;
    Ok(OpReply::Attr(found.record.attr(found.ino, space)))
}

fn check_truncate<V: World>(
    v: &View<V>,
    ino: InodeId,
    record: &InodeRecord,
    size: u64,
    by_handle: bool,
) -> OpResult<()> {
    if record.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    if !record.is_regular() {
        return Err(Errno::EINVAL.into());
    }
    v.check_writable(record.volume)?;
    if !by_handle {
        permission::check(record, &v.caller.credentials, W)?;
        open::check_text_busy(v, ino, W)?;
    }
    if size > FILE_SIZE_MAX_BYTES {
        return Err(Errno::EFBIG.into());
    }
    Ok(())
}

fn change_mode<V: World>(v: &View<V>, record: &mut InodeRecord, mode: u32) -> OpResult<()> {
    let who = &v.caller.credentials;
    if record.is_symlink() {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if !permission::owns(who, record) {
        return Err(Errno::EPERM.into());
    }
    let mut mode = mode & 0o7777;
    if !permission::is_root(who) && !permission::in_group(who, record.gid) {
        mode &= !S_ISGID;
    }
    record.mode = record.mode & S_IFMT | mode;
    Ok(())
}

/// What new files of a directory get; a file keeps what it was made with.
fn change_chunk_size<V: World>(v: &View<V>, record: &mut InodeRecord, log2: u8) -> OpResult<()> {
    if !record.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    if !permission::owns(&v.caller.credentials, record) {
        return Err(Errno::EPERM.into());
    }
    if !CHUNK_SIZE_LOG2.contains(&log2) {
        return Err(Errno::EINVAL.into());
    }
    record.layout.chunk_size_log2 = log2;
    Ok(())
}

fn change_owner<V: World>(v: &View<V>, record: &mut InodeRecord, set: &SetAttr) -> OpResult<()> {
    let who = &v.caller.credentials;
    let uid = set.uid.unwrap_or(record.uid);
    let gid = set.gid.unwrap_or(record.gid);
    if !permission::is_root(who) {
        let owner = who.uid == record.uid;
        let uid_stays = set.uid.is_none() || owner && uid == record.uid;
        let may_group = owner && (permission::in_group(who, gid) || gid == record.gid);
        let gid_allowed = set.gid.is_none() || may_group;
        if !uid_stays || !gid_allowed {
            return Err(Errno::EPERM.into());
        }
    }
    if !record.is_dir() {
        // chown(2) takes set-id bits away whoever calls it (Linux since 2.2.13). That is a change of
        // the mode, and the owner's to make.
        let mode = permission::mode_after_chown(record, who);
        if mode != record.mode && !permission::owns(who, record) {
            return Err(Errno::EPERM.into());
        }
        record.mode = mode;
    }
    record.uid = uid;
    record.gid = gid;
    Ok(())
}

fn change_times<V: World>(v: &View<V>, record: &mut InodeRecord, set: &SetAttr) -> OpResult<()> {
    let who = &v.caller.credentials;
    let touch = set.atime == Some(SetTime::Now) && set.mtime == Some(SetTime::Now);
    if !permission::owns(who, record) {
        if !touch {
            return Err(Errno::EPERM.into());
        }
        permission::check(record, who, W)?;
    }
    let now = v.time();
    let value = |t: SetTime| -> Time {
        match t {
            SetTime::Now => now,
            SetTime::At(time) => time,
        }
    };
    if let Some(atime) = set.atime {
        record.atime = value(atime);
    }
    if let Some(mtime) = set.mtime {
        record.mtime = value(mtime);
    }
    record.ctime = now;
    Ok(())
}
