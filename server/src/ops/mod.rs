//! The operations, each a function over a [`View`]: read its names here, find its file beside.
//!
//! An operation checks what the kernel would check, in the kernel's order, and says what changes.
//! It neither waits nor sends: where it lacks something it halts and is run again (`core::view`).

mod append;
mod attr;
mod chunks;
mod copy;
mod create;
mod data;
mod dir;
mod directory;
mod jobs;
mod link;
mod lock;
mod lookup;
mod open;
mod permission;
mod rename;
mod reserve;
mod seek;
mod space;
mod split;
mod statfs;
mod truncate;
mod unlink;
mod version;
mod xattr;

pub use jobs::{run as run_job, serve};

use crate::core::{MemoryChange, OpResult, View, World};
use data::Bytes;
use sealfs_protocol::message::{LockMark, LockOwner, Op, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId};

/// Runs one operation of a client, other than those of `core::control`.
pub fn run<V: World>(v: &mut View<V>, op: &Op) -> OpResult<OpReply> {
    match op {
        Op::GetAttr { at, follow } => attr::get(v, at, *follow),
        Op::Access { at, follow, mode } => attr::access(v, at, *follow, *mode),
        Op::Open {
            at,
            flags,
            mode,
            open,
            read_bytes,
        } => {
            let call = open::Request {
                flags: *flags,
                mode: *mode,
                open: *open,
                read_bytes: *read_bytes,
            };
            open::open(v, at, &call)
        }
        Op::MakeDir { at, mode } => create::make_dir(v, at, *mode),
        Op::MakeNode { at, mode, rdev } => create::make_node(v, at, *mode, *rdev),
        Op::Symlink { at, target } => create::symlink(v, at, target),
        Op::Unlink { at } => unlink::unlink(v, at),
        Op::RemoveDir { at } => unlink::remove_dir(v, at),
        Op::Rename { from, to, flags } => rename::rename(v, from, to, *flags),
        Op::Link { ino, to, from_open } => link::link(v, *ino, to, *from_open),
        Op::ReadLink { at } => create::read_link(v, at),
        Op::SetAttr { at, follow, set } => attr::set(v, at, *follow, set),
        Op::GetXattr { at, follow, name } => xattr::get(v, at, *follow, name),
        Op::SetXattr {
            at,
            follow,
            name,
            value,
            flags,
        } => xattr::set(v, at, *follow, (name, value), *flags),
        Op::ListXattr { at, follow } => xattr::list(v, at, *follow),
        Op::RemoveXattr { at, follow, name } => xattr::remove(v, at, *follow, name),
        Op::ReadDir {
            dir,
            position,
            limit_bytes,
            with_attributes,
        } => dir::read_dir(v, *dir, *position, *limit_bytes, *with_attributes),
        Op::Accessed { ino } => dir::accessed(v, *ino),
        Op::GetPath { dir } => dir::path(v, *dir),
        Op::Statfs => Ok(statfs::statfs(v)),
        other => run_data(v, other),
    }
}

/// The bytes of a file.
fn run_data<V: World>(v: &mut View<V>, op: &Op) -> OpResult<OpReply> {
    match op {
        Op::Read {
            ino,
            chunk,
            offset_bytes,
            len_bytes,
            atime,
            generation,
        } => data::read(
            v,
            bytes(*ino, *chunk, *offset_bytes, *len_bytes, *generation),
            *atime,
        ),
        Op::Write {
            ino,
            chunk,
            offset_bytes,
            len_bytes,
            generation,
            ..
        } => data::write(
            v,
            bytes(*ino, *chunk, *offset_bytes, *len_bytes, *generation),
        ),
        Op::Copy {
            ino,
            chunk,
            offset_bytes,
            len_bytes,
            generation,
            source,
            ..
        } => copy::copy(
            v,
            bytes(*ino, *chunk, *offset_bytes, *len_bytes, *generation),
            source,
        ),
        Op::Append { ino, len_bytes, .. } => append::append(v, *ino, *len_bytes),
        Op::Publish {
            ino,
            from_bytes,
            size_at_least_bytes,
            wide,
            generation,
            ..
        } => data::publish(
            v,
            *ino,
            (*from_bytes, *size_at_least_bytes),
            *wide,
            *generation,
        ),
        Op::Doubt { ino } => Ok(data::doubt(v, *ino)),
        other => run_space(v, other),
    }
}

/// Where in a file there is space, and where data.
fn run_space<V: World>(v: &mut View<V>, op: &Op) -> OpResult<OpReply> {
    match op {
        Op::Allocate {
            ino,
            mode,
            offset,
            len,
            ..
        } => space::allocate(v, *ino, *mode, *offset, *len),
        Op::Seek {
            ino,
            from,
            until,
            data,
            layout,
            generation,
        } => {
            let want = seek::Request {
                ino: *ino,
                from: *from,
                until: *until,
                layout: *layout,
                generation: *generation,
            };
            seek::seek(v, &want, *data)
        }
        other => run_held(v, other),
    }
}

/// What a client holds of a file: locks and descriptions.
fn run_held<V: World>(v: &mut View<V>, op: &Op) -> OpResult<OpReply> {
    match op {
        Op::Lock { ino, range, wait } => lock::lock(v, *ino, range, *wait),
        Op::TestLock { ino, range } => lock::test(v, *ino, range),
        Op::Close { ino, open } => Ok(close(v, *ino, *open)),
        Op::Reassert {
            ino,
            open,
            executes,
            locked,
        } => reassert(v, *ino, (*open, *executes), *locked),
        _ => Err(Errno::ENOSYS.into()),
    }
}

fn bytes(
    ino: InodeId,
    chunk: u64,
    offset: u32,
    len: u32,
    generation: sealfs_protocol::TruncateGeneration,
) -> Bytes {
    Bytes {
        ino,
        chunk,
        offset,
        len,
        generation,
    }
}

fn close<V: World>(v: &mut View<V>, ino: InodeId, open: OpenId) -> OpReply {
    let session = v.caller.session;
    v.remember(MemoryChange::Close(ino, session, open));
    let gone = LockOwner::Description { session, open };
    lock::release(v, ino, |owner| *owner == gone);
    OpReply::Done
}

fn reassert<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    (open, executes): (OpenId, bool),
    locked: Option<LockMark>,
) -> OpResult<OpReply> {
    v.inode(ino)?.ok_or(Errno::ESTALE)?;
    let session = v.caller.session;
    v.remember(MemoryChange::Open(ino, session, open));
    if executes {
        lock::executes(v, ino, open);
    }
    if locked.is_some_and(|mark| lock::may_be_lost(v, mark)) {
        v.remember(MemoryChange::Sealed(ino, session, open));
        return Ok(OpReply::Errno(Errno::EIO));
    }
    Ok(OpReply::Done)
}

/// Whether an operation may change something, so that it must not be executed twice.
pub fn is_mutation(op: &Op) -> bool {
    matches!(
        op,
        Op::Open { .. }
            | Op::MakeDir { .. }
            | Op::MakeNode { .. }
            | Op::Symlink { .. }
            | Op::Unlink { .. }
            | Op::RemoveDir { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::SetAttr { .. }
            | Op::SetXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::Write { .. }
            | Op::Copy { .. }
            | Op::Append { .. }
            | Op::Publish { .. }
            | Op::Allocate { .. }
            | Op::Lock { .. }
    )
}

/// Bytes of the frame's payload that belong to an operation.
pub fn payload_bytes(op: &Op) -> usize {
    match op {
        Op::Write { len_bytes, .. } | Op::Append { len_bytes, .. } => *len_bytes as usize,
        _ => 0,
    }
}

/// Whether an operation starts with a walk, which a client may have begun in its cache.
pub fn is_walk(op: &Op) -> bool {
    matches!(
        op,
        Op::GetAttr { .. }
            | Op::Access { .. }
            | Op::Open { .. }
            | Op::MakeDir { .. }
            | Op::MakeNode { .. }
            | Op::Symlink { .. }
            | Op::Unlink { .. }
            | Op::RemoveDir { .. }
            | Op::Rename { .. }
            | Op::Link { .. }
            | Op::ReadLink { .. }
            | Op::SetAttr { .. }
            | Op::GetXattr { .. }
            | Op::SetXattr { .. }
            | Op::ListXattr { .. }
            | Op::RemoveXattr { .. }
    )
}
