//! open(2): looking up or creating, permission, O_TRUNC, O_TMPFILE, and the first bytes.

use super::create::{self, check_create, new_inode};
use super::lookup::{self, Found, Last, Parent};
use super::permission::{self, R, W, X};
use super::{data, dir, lock, truncate};
use crate::core::{Halt, MemoryChange, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{Body, InodeRecord, OrphanRecord};
use sealfs_protocol::attr::{S_IFDIR, S_IFLNK, S_IFREG};
use sealfs_protocol::message::{At, O_EXEC, OpReply, PageEnd};
use sealfs_protocol::{Errno, InodeId, OpenId};

pub const O_ACCMODE: u32 = 3;
const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
pub const O_CREAT: u32 = 0o100;
pub const O_EXCL: u32 = 0o200;
pub const O_TRUNC: u32 = 0o1000;
pub const O_DIRECTORY: u32 = 0o200_000;
pub const O_NOFOLLOW: u32 = 0o400_000;
pub const O_NOATIME: u32 = 0o1_000_000;
pub const O_PATH: u32 = 0o10_000_000;
pub const O_TMPFILE: u32 = 0o20_000_000;

/// An open(2) call.
pub struct Request {
    pub flags: u32,
    pub mode: u32,
    pub open: OpenId,
    pub read_bytes: u32,
}

impl Request {
    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// What the caller must be allowed to do with the file.
    fn mask(&self) -> u32 {
        if self.has(O_EXEC) {
            return X;
        }
        let access = match self.flags & O_ACCMODE {
            O_WRONLY => W,
            O_RDWR | O_ACCMODE => R | W,
            _ => R,
        };
        if self.has(O_TRUNC) {
            access | W
        } else {
            access
        }
    }
}

pub fn open<V: World>(v: &mut View<V>, at: &At, call: &Request) -> OpResult<OpReply> {
    if call.has(O_PATH) {
        let found = walk_existing(v, at, call)?;
        return Ok(finish(v, found, call, false));
    }
    if call.has(O_TMPFILE) {
        return temporary(v, at, call);
    }
    if call.has(O_CREAT) {
        return open_or_create(v, at, call);
    }
    let found = walk_existing(v, at, call)?;
    open_existing(v, found, call)
}

/// The inode that an open without O_CREAT leads to.
fn walk_existing<V: World>(v: &mut View<V>, at: &At, call: &Request) -> OpResult<Found> {
    let found = lookup::walk(v, at, !call.has(O_NOFOLLOW))?;
    if call.has(O_DIRECTORY) && !found.record.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    if found.record.is_symlink() && !call.has(O_PATH) {
        return Err(Errno::ELOOP.into());
    }
    Ok(found)
}

fn open_or_create<V: World>(v: &mut View<V>, at: &At, call: &Request) -> OpResult<OpReply> {
    if call.has(O_DIRECTORY) {
        return Err(Errno::EINVAL.into());
    }
    let parent = lookup::walk_parent(v, at)?;
    let name = match parent.last {
        Last::Name(name) => name,
        Last::Base => return open_base(v, parent, call),
        Last::Dot | Last::DotDot => return Err(Errno::EISDIR.into()),
    };
    if parent.slash {
        return Err(Errno::EISDIR.into());
    }
    let Some(found) = parent.dir.dentry(v, name)? else {
        return create_file(v, parent, name, call);
    };
    if call.has(O_EXCL) {
        return Err(Errno::EEXIST.into());
    }
    match found.kind {
        S_IFLNK if call.has(O_NOFOLLOW) => Err(Errno::ELOOP.into()),
        S_IFLNK => Err(parent.follow(v, &found)?),
        S_IFDIR => Err(Errno::EISDIR.into()),
        _ => {
            let found = parent.reach(v, &found)?;
            open_existing(v, found, call)
        }
    }
}

/// The way led to another shard, which found the name and sent the caller here.
fn open_base<V: World>(v: &mut View<V>, parent: Parent<'_>, call: &Request) -> OpResult<OpReply> {
    if parent.dir.record.is_dir() {
        return Err(Errno::EISDIR.into());
    }
    if call.has(O_EXCL) {
        return Err(Errno::EEXIST.into());
    }
    let found = Found {
        ino: parent.dir.ino,
        record: parent.dir.record,
    };
    open_existing(v, found, call)
}

fn create_file<V: World>(
    v: &mut View<V>,
    parent: Parent<'_>,
    name: &[u8],
    call: &Request,
) -> OpResult<OpReply> {
    v.check_writable(parent.dir.record.volume)?;
    check_create(v, &parent.dir.record)?;
    let mode = S_IFREG | call.mode & 0o7777;
    let record = new_inode(v, &parent.dir.record, mode, 0, Body::Inline(Vec::new()));
    let ino = create::create(v, parent, name, &record)?;
    let found = Found { ino, record };
    Ok(finish(v, found, call, true))
}

/// may_open() of the kernel, then O_TRUNC.
fn open_existing<V: World>(v: &mut View<V>, found: Found, call: &Request) -> OpResult<OpReply> {
    let who = &v.caller.credentials;
    let mask = call.mask();
    if found.record.is_symlink() {
        return Err(Errno::ELOOP.into());
    }
    if found.record.is_dir() && mask & W != 0 {
        return Err(Errno::EISDIR.into());
    }
    permission::check_volume(v, &found.record, mask)?;
    permission::check(&found.record, who, mask)?;
    if call.has(O_NOATIME) && !permission::owns(who, &found.record) {
        return Err(Errno::EPERM.into());
    }
    if call.has(O_EXEC) && !found.record.is_regular() {
        return Err(Errno::EACCES.into());
    }
    check_text_busy(v, found.ino, mask)?;
    let mut found = found;
    if call.has(O_TRUNC) && found.record.is_regular() {
        truncate::resize(v, found.ino, &mut found.record, 0, true)?;
    }
    Ok(finish(v, found, call, false))
}

/// A file that is executed is not opened for writing.
pub fn check_text_busy<V: World>(v: &View<V>, ino: InodeId, mask: u32) -> OpResult<()> {
    if mask & W == 0 {
        return Ok(());
    }
    if v.file_locks.is_executed(ino) {
        return Err(Errno::ETXTBSY.into());
    }
    if v.locks_rest {
        return Err(Halt::Grace);
    }
    Ok(())
}

fn finish<V: World>(v: &mut View<V>, found: Found, call: &Request, created: bool) -> OpReply {
    v.remember(MemoryChange::Open(found.ino, v.caller.session, call.open));
    if call.has(O_EXEC) {
        lock::executes(v, found.ino, call.open);
    }
    let (read_bytes, page) = if call.read_bytes > 0 && !call.has(O_PATH) {
        first_bytes(v, &found, call.read_bytes)
    } else {
        (0, None)
    };
    OpReply::Opened {
        attr: found.record.attr(found.ino, 0),
        created,
        read_bytes,
        page,
    }
}

/// What goes along with the reply. It is a courtesy: whoever wants it and finds none asks again, and
/// gets the error if there is one.
fn first_bytes<V: World>(v: &mut View<V>, found: &Found, limit: u32) -> (u32, Option<PageEnd>) {
    let start = v.out.len();
    let (ino, record) = (found.ino, &found.record);
    let page = if record.is_dir() {
        dir::first_page(v, ino, record, limit as usize)
    } else if record.is_regular() {
        data::read_first(v, ino, record, 0, limit).map(|_| None)
    } else {
        Ok(None)
    };
    if page.is_err() {
        v.out.truncate(start);
    }
    ((v.out.len() - start) as u32, page.unwrap_or(None))
}

/// O_TMPFILE: a file without a name, gone with its last description unless link(2) names it.
fn temporary<V: World>(v: &mut View<V>, at: &At, call: &Request) -> OpResult<OpReply> {
    if call.mask() & W == 0 {
        return Err(Errno::EINVAL.into());
    }
    let dir = lookup::walk(v, at, !call.has(O_NOFOLLOW))?;
    if !dir.record.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    v.check_writable(dir.record.volume)?;
    permission::check(&dir.record, &v.caller.credentials, W | X)?;
    if dir.record.nlink == 0 {
        return Err(Errno::ENOENT.into());
    }
    let mode = S_IFREG | call.mode & 0o7777;
    let mut record: InodeRecord = new_inode(v, &dir.record, mode, 0, Body::Inline(Vec::new()));
    record.nlink = 0;
    record.linkable = !call.has(O_EXCL);
    let partition = dir.ino.partition();
    let ino = v.allocate(partition)?;
    v.put_inode(ino, &record);
    let orphan = key::orphan(partition, ino);
    v.put(partition, Db::Orphan, orphan, &OrphanRecord::Nameless);
    Ok(finish(v, Found { ino, record }, call, true))
}
