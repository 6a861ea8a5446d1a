//! File locks: fcntl record locks, open file description locks, flock(2).
//!
//! What must stay true: a wait has no deadline and ends with EINTR when a signal is handled, unless
//! its handler asked for SA_RESTART; closing any descriptor of a file drops this process's record
//! locks on it, as POSIX wants.

use super::Ctx;
use super::rw::ours;
use super::user;
use crate::fds::{self, Fd, Open};
use crate::pending;
use crate::process;
use crate::route::{Answer, Bypass, done, theirs};
use crate::sync::{Mutex, RawMutex};
use crate::vfork;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType};
use sealfs_protocol::{Errno, InodeId};

const F_OFD_GETLK: i32 = 36;
const F_OFD_SETLK: i32 = 37;
const F_OFD_SETLKW: i32 = 38;

/// Files on which this process may hold record locks, and in which process that was noted.
static LOCKED: Mutex<(u32, Vec<InodeId>)> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, (0, Vec::new()));
/// How many they are: closing a file looks no further while it is 0.
static LOCKED_COUNT: AtomicU32 = AtomicU32::new(0);

/// The lock commands of fcntl(fd, command, argument).
pub fn fcntl(open: &Open, command: i32, argument: usize) -> Answer {
    open.usable()?;
    let asked: libc::flock = user::read(argument)?;
    let client = process::client()?;
    let by_description = matches!(command, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
    if by_description && asked.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if by_description {
        client.description_owner(open.slot.open_id())
    } else {
        client.process_owner()
    };
    let range = range_of(open, &asked, owner)?;
    match command {
        libc::F_GETLK | F_OFD_GETLK => {
            let mut answer = asked;
            match client.test_lock(open.file(), range)? {
                None => answer.l_type = libc::F_UNLCK as i16,
                Some(held) => describe(&held, &mut answer),
            }
            user::write(argument, &answer)?;
        }
        _ => {
            match range.kind {
                LockType::Read if !open.can_read() => return Err(Errno::EBADF),
                LockType::Write if !open.can_write() => return Err(Errno::EBADF),
                _ => {}
            }
            if !by_description && range.kind != LockType::Unlock {
                note_locked(open.ino());
            }
            let waits = matches!(command, libc::F_SETLKW | F_OFD_SETLKW);
            take(open, range, waits)?;
        }
    }
    done()
}

/// Takes or drops a lock, waiting if the program wants to.
fn take(open: &Open, range: LockRange, waits: bool) -> Result<(), Errno> {
    let client = process::client()?;
    let mut told = None;
    let taken = if !waits || range.kind == LockType::Unlock {
        client.lock(open.file(), range, None, &mut told)
    } else {
        client.flush_deferred();
        let mut interrupted = pending::interrupted;
        loop {
            match client.lock(open.file(), range, Some(&mut interrupted), &mut told) {
                Err(Errno::EINTR) if pending::restart_after_handlers() => {}
                other => break other,
            }
        }
    };
    if let Some(mark) = told {
        open.slot.note_locked(mark);
    }
    taken
}

fn range_of(open: &Open, asked: &libc::flock, owner: LockOwner) -> Result<LockRange, Errno> {
    let base = match i32::from(asked.l_whence) {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => open.slot.peek_offset() as i64,
        libc::SEEK_END => open.attributes()?.size_bytes as i64,
        _ => return Err(Errno::EINVAL),
    };
    let kind = match i32::from(asked.l_type) {
        libc::F_RDLCK => LockType::Read,
        libc::F_WRLCK => LockType::Write,
        libc::F_UNLCK => LockType::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(asked.l_start).ok_or(Errno::EOVERFLOW)?;
    let (start, last) = match asked.l_len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start - 1),
    };
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let last = if last == i64::MAX {
        u64::MAX
    } else {
        last as u64
    };
    let space = LockSpace::Record;
    Ok(LockRange {
        space,
        owner,
        kind,
        start: start as u64,
        last,
        pid: process::real_pid(),
    })
}

/// The lock in the way, as F_GETLK tells it.
fn describe(held: &LockRange, answer: &mut libc::flock) {
    answer.l_type = if held.kind == LockType::Read {
        libc::F_RDLCK
    } else {
        libc::F_WRLCK
    } as i16;
    answer.l_whence = libc::SEEK_SET as i16;
    answer.l_start = held.start as i64;
    answer.l_len = if held.last >= i64::MAX as u64 {
        0
    } else {
        (held.last - held.start + 1) as i64
    };
    answer.l_pid = match held.owner {
        LockOwner::Process { .. } => held.pid as i32,
        LockOwner::Description { .. } => -1,
    };
}

/// flock(fd, operation)
pub fn flock(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    let operation = ctx.int(1);
    let kind = match operation & !libc::LOCK_NB {
        libc::LOCK_SH => LockType::Read,
        libc::LOCK_EX => LockType::Write,
        libc::LOCK_UN => LockType::Unlock,
        _ => return Err(Errno::EINVAL),
    };
    let owner = process::client()?.description_owner(open.slot.open_id());
    let range = LockRange {
        space: LockSpace::Flock,
        owner,
        kind,
        start: 0,
        last: u64::MAX,
        pid: process::real_pid(),
    };
    take(&open, range, operation & libc::LOCK_NB == 0)?;
    done()
}

fn note_locked(ino: InodeId) {
    let me = process::pid();
    let mut locked = LOCKED.lock();
    if locked.0 != me {
        // Noted by our parent: record locks are not inherited.
        *locked = (me, Vec::new());
    }
    if !locked.1.contains(&ino) {
        locked.1.push(ino);
    }
    LOCKED_COUNT.store(locked.1.len() as u32, Relaxed);
}

/// The image before may have left this process record locks; on which files it did not say.
fn inherits() -> bool {
    process::known_state().is_some_and(|state| state.registration.inherits_locks)
}

fn noted(is_it: impl Fn(InodeId) -> bool) -> bool {
    if LOCKED_COUNT.load(Relaxed) == 0 {
        return false;
    }
    let locked = LOCKED.lock();
    locked.0 == process::pid() && locked.1.iter().any(|ino| is_it(*ino))
}

/// Whether this process may hold record locks.
pub fn may_hold_any() -> bool {
    inherits() || noted(|_| true)
}

/// Whether it may hold some that go when this descriptor is closed.
pub fn may_hold(open: &Open) -> bool {
    !open.is_path_only() && (inherits() || noted(|ino| ino == open.ino()))
}

/// Whether it may hold some on other files than these.
pub fn may_hold_besides(is_one: impl Fn(InodeId) -> bool) -> bool {
    inherits() || noted(|ino| !is_one(ino))
}

/// A descriptor of the file was closed: the record locks of this process on it are gone.
pub fn dropped_by_close(open: &Open) {
    if !may_hold(open) || vfork::is_child() {
        return;
    }
    if LOCKED_COUNT.load(Relaxed) > 0 {
        let mut locked = LOCKED.lock();
        if locked.0 == process::pid() {
            locked.1.retain(|other| *other != open.ino());
            LOCKED_COUNT.store(locked.1.len() as u32, Relaxed);
        }
    }
    if let Ok(client) = process::client() {
        let range = LockRange {
            space: LockSpace::Record,
            owner: client.process_owner(),
            kind: LockType::Unlock,
            start: 0,
            last: u64::MAX,
            pid: process::pid(),
        };
        // close(2) has nothing to say about it; the server drops them with the client at the latest.
        let _ = client.lock(open.file(), range, None, &mut None);
    }
}
