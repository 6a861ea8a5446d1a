//! rename(2) and renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE, in the order of checks of
//! the kernel's do_renameat2() and vfs_rename().
//!
//! Both parents are resolved already. The operation belongs to the owner of the old parent;
//! everything else may live anywhere.

use super::create::check_create;
use super::directory::{self, Dir};
use super::lookup::{self, Last, Parent};
use super::permission::{self, W};
use super::unlink::{check_delete, check_empty, drop_directory, drop_link};
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, Key, key};
use crate::records::{DentryRecord, InodeRecord, RENAME_LOCK_PART};
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::message::{At, OpReply};
use sealfs_protocol::{Errno, InodeId};

const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

/// Deepest chain of parents that is believed; deeper ones are damage.
const DEPTH_MAX: u32 = 1 << 20;

struct Call<'p> {
    from: Parent<'p>,
    to: Parent<'p>,
    old_name: &'p [u8],
    new_name: &'p [u8],
    exchange: bool,
}

/// What a name leads to.
struct Entry {
    dentry: DentryRecord,
    record: InodeRecord,
}

impl Entry {
    fn is_dir(&self) -> bool {
        self.dentry.kind == S_IFDIR
    }
}

pub fn rename<V: World>(v: &mut View<V>, from: &At, to: &At, flags: u32) -> OpResult<OpReply> {
    let exchange = flags & EXCHANGE != 0;
    let noreplace = flags & NOREPLACE != 0;
    if flags & !(NOREPLACE | EXCHANGE) != 0 || exchange && noreplace {
        return Err(Errno::EINVAL.into());
    }
    prefetch(v, from, to)?;
    let call = parse(v, from, to, exchange, noreplace)?;
    if call.from.dir.record.nlink == 0 || call.to.dir.record.nlink == 0 {
        // One that was removed is still known while somebody has it open, the ones above it are not.
        return Err(Errno::ENOENT.into());
    }
    let Some(old) = entry(v, &call.from.dir, call.old_name)? else {
        return Err(Errno::ENOENT.into());
    };
    let new = entry(v, &call.to.dir, call.new_name)?;
    check_names(&call, &old, new.as_ref(), noreplace)?;
    check_circles(v, &call, &old, new.as_ref())?;
    if new.as_ref().is_some_and(|n| n.dentry.ino == old.dentry.ino) {
        return Ok(OpReply::Done);
    }
    check_permissions(v, &call, &old, new.as_ref())?;
    let moved: Vec<InodeId> = moved_directories(&call, &old, new.as_ref());
    if !moved.is_empty() {
        v.bump_version(call.from.dir.record.volume, moved);
    }
    match new {
        Some(new) if exchange => swap(v, call, old, new),
        new => replace(v, call, old, new),
    }
    Ok(OpReply::Done)
}

/// Asks for all that is needed of other shards at once, as far as what is here tells; the inode that
/// a name leads to comes along with the name.
fn prefetch<V: World>(v: &mut View<V>, from: &At, to: &At) -> OpResult<()> {
    let mut keys = Vec::with_capacity(6);
    for at in [from, to] {
        let partition = at.base.partition();
        keys.push((Db::Ino, key::ino(partition, at.base)));
        let (Last::Name(name), _) = lookup::single(at)? else {
            continue;
        };
        keys.push((Db::Dent, key::dent(partition, at.base, name)));
        if !v.is_mine(partition) {
            continue;
        }
        let Some(found) = directory::dentry(v, partition, at.base, name)? else {
            continue;
        };
        keys.push((Db::Ino, key::ino(found.ino.partition(), found.ino)));
        if found.kind == S_IFDIR && from.base != to.base {
            let root = v.cluster.root(v.caller.volume);
            keys.push(rename_lock(root));
            keys.push((Db::Ino, key::ino(root.partition(), root)));
        }
    }
    v.prefetch(&keys)
}

/// What moves of directories of a volume exclude each other by.
fn rename_lock(root: InodeId) -> (Db, Key) {
    let lock = key::part(root.partition(), root, RENAME_LOCK_PART);
    (Db::Part, lock)
}

fn parse<'p, V: World>(
    v: &mut View<V>,
    from: &'p At,
    to: &'p At,
    exchange: bool,
    noreplace: bool,
) -> OpResult<Call<'p>> {
    let from = lookup::parent_anywhere(v, from)?;
    let to = lookup::parent_anywhere(v, to)?;
    if from.dir.record.volume != to.dir.record.volume {
        return Err(Errno::EXDEV.into());
    }
    let Last::Name(old_name) = from.last else {
        return Err(Errno::EBUSY.into());
    };
    let Last::Name(new_name) = to.last else {
        return Err(if noreplace {
            Errno::EEXIST
        } else {
            Errno::EBUSY
        }
        .into());
    };
    v.check_writable(from.dir.record.volume)?;
    Ok(Call {
        from,
        to,
        old_name,
        new_name,
        exchange,
    })
}

fn entry<V: World>(v: &mut View<V>, dir: &Dir, name: &[u8]) -> OpResult<Option<Entry>> {
    let Some(dentry) = dir.dentry(v, name)? else {
        return Ok(None);
    };
    let record = v.inode_named(dentry.ino)?;
    Ok(Some(Entry { dentry, record }))
}

fn check_names(
    call: &Call<'_>,
    old: &Entry,
    new: Option<&Entry>,
    noreplace: bool,
) -> Result<(), Errno> {
    if noreplace && new.is_some() {
        return Err(Errno::EEXIST);
    }
    if call.exchange {
        let new = new.ok_or(Errno::ENOENT)?;
        if !new.is_dir() && call.to.slash {
            return Err(Errno::ENOTDIR);
        }
    }
    if !old.is_dir() && (call.from.slash || !call.exchange && call.to.slash) {
        return Err(Errno::ENOTDIR);
    }
    Ok(())
}

/// No directory may come to lie below itself. Moves of directories between parents exclude each
/// other by a lock at the root, since two of them could close a circle together.
fn check_circles<V: World>(
    v: &mut View<V>,
    call: &Call<'_>,
    old: &Entry,
    new: Option<&Entry>,
) -> OpResult<()> {
    if call.from.dir.ino == call.to.dir.ino {
        return Ok(());
    }
    let new_dir = new.filter(|n| n.is_dir());
    let moves_new = call.exchange && new_dir.is_some();
    if old.is_dir() || moves_new {
        let root = v.cluster.root(call.from.dir.record.volume);
        let (db, lock) = rename_lock(root);
        v.lock(db, lock)?;
    }
    if old.is_dir() && is_above(v, old.dentry.ino, call.to.dir.ino)? {
        return Err(Errno::EINVAL.into());
    }
    if let Some(new) = new_dir
        && (moves_new || old.is_dir())
        && is_above(v, new.dentry.ino, call.from.dir.ino)?
    {
        let errno = if call.exchange {
            Errno::EINVAL
        } else {
            Errno::ENOTEMPTY
        };
        return Err(errno.into());
    }
    Ok(())
}

/// Whether `upper` is `dir` or one of the directories above it.
fn is_above<V: World>(v: &mut View<V>, upper: InodeId, dir: InodeId) -> OpResult<bool> {
    let mut at = dir;
    for _ in 0..DEPTH_MAX {
        if at == upper {
            return Ok(true);
        }
        let record = v.inode_named(at)?;
        let parent = record.directory().map_or(at, |d| d.parent);
        if parent == at {
            return Ok(false);
        }
        at = parent;
    }
    Err(Errno::EIO.into())
}

fn check_permissions<V: World>(
    v: &mut View<V>,
    call: &Call<'_>,
    old: &Entry,
    new: Option<&Entry>,
) -> OpResult<()> {
    check_delete(v, &call.from.dir.record, &old.record, old.is_dir())?;
    match new {
        None => check_create(v, &call.to.dir.record)?,
        Some(new) => {
            let as_directory = if call.exchange {
                new.is_dir()
            } else {
                old.is_dir()
            };
            check_delete(v, &call.to.dir.record, &new.record, as_directory)?;
        }
    }
    let who = &v.caller.credentials;
    if call.from.dir.ino != call.to.dir.ino {
        if old.is_dir() {
            permission::check(&old.record, who, W)?;
        }
        if let Some(new) = new.filter(|n| call.exchange && n.is_dir()) {
            permission::check(&new.record, who, W)?;
        }
    }
    match new.filter(|n| !call.exchange && n.is_dir()) {
        Some(new) => check_empty(v, new.dentry.ino, &new.record),
        None => Ok(()),
    }
}

/// Directories whose place in the tree changes: clients' cached walks through them are void.
fn moved_directories(call: &Call<'_>, old: &Entry, new: Option<&Entry>) -> Vec<InodeId> {
    let mut moved = Vec::new();
    if old.is_dir() {
        moved.push(call.from.dir.ino);
        moved.push(old.dentry.ino);
    }
    if let Some(new) = new.filter(|n| n.is_dir()) {
        moved.push(call.to.dir.ino);
        moved.push(new.dentry.ino);
    }
    moved.sort_unstable();
    moved.dedup();
    moved
}

/// A directory gets another parent or name; plain files keep nothing of the kind.
fn relocate(record: &mut InodeRecord, parent: InodeId, name: &[u8]) {
    if let Some(d) = record.directory_mut() {
        d.parent = parent;
        d.name = name.to_vec();
    }
}

fn replace<V: World>(v: &mut View<V>, mut call: Call<'_>, mut old: Entry, new: Option<Entry>) {
    let same = call.from.dir.is(&call.to.dir);
    let moves_dir = old.is_dir();
    let from = &mut call.from.dir;
    from.remove(v, call.old_name, &old.dentry);
    if moves_dir {
        from.record.nlink = from.record.nlink.saturating_sub(1);
    }
    let to = if same {
        &mut call.from.dir
    } else {
        &mut call.to.dir
    };
    if let Some(new) = new {
        to.remove(v, call.new_name, &new.dentry);
        if new.is_dir() {
            to.record.nlink = to.record.nlink.saturating_sub(1);
            drop_directory(v, new.dentry.ino, new.record);
        } else {
            drop_link(v, new.dentry.ino, new.record);
        }
    }
    let (ino, kind) = (old.dentry.ino, old.dentry.kind);
    to.add(v, call.new_name, ino, kind);
    if moves_dir {
        to.record.nlink += 1;
    }
    relocate(&mut old.record, to.ino, call.new_name);
    old.record.ctime = v.time();
    v.put_inode(ino, &old.record);
    call.from.dir.store(v);
    if !same {
        call.to.dir.store(v);
    }
}

/// RENAME_EXCHANGE: the names keep their places in the listings and swap their inodes.
fn swap<V: World>(v: &mut View<V>, call: Call<'_>, mut old: Entry, mut new: Entry) {
    let (mut from, mut to) = (call.from.dir, call.to.dir);
    let put = |v: &mut View<V>, dir: &Dir, name, place: &DentryRecord, what: &DentryRecord| {
        let dentry = DentryRecord {
            ino: what.ino,
            kind: what.kind,
            entry: place.entry,
        };
        dir.put(v, name, dentry);
    };
    put(v, &from, call.old_name, &old.dentry, &new.dentry);
    put(v, &to, call.new_name, &new.dentry, &old.dentry);
    relocate(&mut old.record, to.ino, call.new_name);
    relocate(&mut new.record, from.ino, call.old_name);
    for record in [&mut old.record, &mut new.record] {
        record.ctime = v.time();
    }
    let same = from.is(&to);
    if !same && old.is_dir() != new.is_dir() {
        let (loses, gains) = if old.is_dir() {
            (&mut from.record, &mut to.record)
        } else {
            (&mut to.record, &mut from.record)
        };
        loses.nlink = loses.nlink.saturating_sub(1);
        gains.nlink += 1;
    }
    v.put_inode(old.dentry.ino, &old.record);
    v.put_inode(new.dentry.ino, &new.record);
    for dir in [&mut from, &mut to] {
        dir.touch(v);
    }
    from.store(v);
    if !same {
        to.store(v);
    }
}
