//! fcntl(2) record locks, open file description locks, flock(2), and files that are executed.

use crate::core::{Halt, MemoryChange, OpResult, View, World, lock_ranges};
use crate::meta::db::{Db, key};
use crate::records::{LockRecord, Record};
use sealfs_protocol::message::{LockMark, LockOwner, LockRange, LockSpace, LockType, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId};

/// Stores what is held on an inode, in the log and in memory.
pub fn store<V: World>(v: &mut View<V>, ino: InodeId, held: lock_ranges::Held) {
    let partition = ino.partition();
    let key = key::lock(partition, ino);
    if held.is_empty() {
        v.delete(partition, Db::Lock, key);
    } else {
        let record = LockRecord { held: held.clone() };
        v.put_bytes(partition, Db::Lock, key, record.encode());
    }
    v.remember(MemoryChange::FileLocks(ino, held));
}

fn check<V: World>(v: &View<V>, range: &LockRange) -> OpResult<()> {
    if range.start > range.last || range.space == LockSpace::Execute {
        return Err(Errno::EINVAL.into());
    }
    let own = match range.owner {
        LockOwner::Process { client, session } => {
            client == v.caller.client && session == v.caller.session
        }
        LockOwner::Description { session, .. } => session == v.caller.session,
    };
    if own {
        Ok(())
    } else {
        Err(Errno::EPERM.into())
    }
}

pub fn lock<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    range: &LockRange,
    wait: Option<u32>,
) -> OpResult<OpReply> {
    check(v, range)?;
    if v.locks_rest {
        return Err(Halt::Grace);
    }
    let held = v.file_locks.held(ino);
    if range.kind != LockType::Unlock && v.file_locks.is_sealed(ino) {
        return Err(if wait.is_some() {
            Halt::FileLock
        } else {
            Errno::EAGAIN.into()
        });
    }
    if range.kind == LockType::Unlock && held.is_empty() {
        return Ok(OpReply::Done);
    }
    if lock_ranges::conflict(held, range).is_none() || range.kind == LockType::Unlock {
        let next = lock_ranges::apply(held, range);
        if next != held {
            store(v, ino, next);
        }
        return Ok(OpReply::Done);
    }
    let converts = range.space == LockSpace::Flock && held.iter().any(|h| same_owner(h, range));
    if converts {
        // lock_ranges(2) drops the old lock before it asks for the new one, and loses it on failure.
        let dropped = lock_ranges::apply(held, &lock_ranges::everything(range.space, range.owner));
        store(v, ino, dropped);
        if wait.is_some() {
            v.again();
        }
        return Ok(OpReply::Errno(Errno::EAGAIN));
    }
    let Some(waited_ms) = wait else {
        return Err(Errno::EAGAIN.into());
    };
    // One that goes on may have been there before others of the circle: the search will tell.
    if waited_ms == 0 && v.file_locks.deadlock(ino, range) {
        return Err(Errno::EDEADLK.into());
    }
    Err(Halt::FileLock)
}

/// A description of the caller's stands to execute the file, until it is closed.
pub fn executes<V: World>(v: &mut View<V>, ino: InodeId, open: OpenId) {
    let session = v.caller.session;
    let owner = LockOwner::Description { session, open };
    let whole = lock_ranges::everything(LockSpace::Execute, owner);
    let kind = LockType::Read;
    let held = v.file_locks.held(ino);
    let next = lock_ranges::apply(held, &LockRange { kind, ..whole });
    if next != held {
        store(v, ino, next);
    }
}

fn same_owner(a: &LockRange, b: &LockRange) -> bool {
    a.space == b.space && a.owner == b.owner
}

/// F_GETLK: the first lock in the way, or none.
pub fn test<V: World>(v: &mut View<V>, ino: InodeId, range: &LockRange) -> OpResult<OpReply> {
    check(v, range)?;
    if v.locks_rest {
        return Err(Halt::Grace);
    }
    if v.file_locks.is_sealed(ino) {
        let owner = LockOwner::Description {
            session: v.caller.session,
            open: OpenId(0),
        };
        let all = lock_ranges::everything(range.space, owner);
        let kind = LockType::Write;
        return Ok(OpReply::LockHeld(Some(LockRange { kind, ..all })));
    }
    let found = lock_ranges::conflict(v.file_locks.held(ino), range);
    Ok(OpReply::LockHeld(found.copied()))
}

/// Whether a lock that was changed then may be lost, or given back in vain.
pub fn may_be_lost<V: World>(v: &View<V>, mark: LockMark) -> bool {
    let now = v.incarnation();
    let before = now.0.checked_sub(1) == Some(mark.incarnation.0);
    let kept = before && v.lost_after.is_some_and(|last| mark.written <= last.0);
    mark.incarnation < now && !kept
}

/// Takes away all locks on an inode whose owner `gone` says is no more.
pub fn release<V: World>(v: &mut View<V>, ino: InodeId, gone: impl Fn(&LockOwner) -> bool) {
    let held = v.file_locks.held(ino);
    if held.iter().any(|h| gone(&h.owner)) {
        let left = held.iter().filter(|h| !gone(&h.owner)).copied().collect();
        store(v, ino, left);
    }
}
