//! Placeholders: the real kernel descriptors that stand for open files of a volume.
//!
//! Each arena slot has one empty directory `slots/INDEX` on the runtime directory's tmpfs, made once.
//! Its modification time carries its number and which arena it belongs to; a descriptor of it,
//! however it came into a process, is recognised by one fstat. A call that we miss meets an empty
//! directory and fails loudly.
//!
//! # Who closes last
//! The kernel does not tell when the last descriptor of a description goes. As long as a slot is
//! not *shared*, one descriptor in its owner process is all there is. Before a second one comes
//! into being (dup, fork, exec with close-on-exec ones among them, SCM_RIGHTS), [`mark_shared`] puts
//! a shared flock(2) on the description and then sets the bit. The kernel drops that lock with the
//! last descriptor, in whatever process; so whoever has closed one opens the directory afresh and
//! tries an exclusive lock ([`last_closer`]). What can meet:
//!
//! - *Two closers at once.* Both have closed before they test. A test fails only because a
//!   descriptor still exists (its closer tests later) or because another test holds the exclusive
//!   lock (that one succeeds). So at least one test succeeds; if two do, one after the other, the
//!   compare-and-swap live → closing lets one win.
//! - *A late test of a slot that was reused.* It may get the lock, but its generation is old: the
//!   swap fails. While it holds the lock, `mark_shared` of the new description waits for it.
//! - *close against fork in another thread.* `mark_shared` locks through a duplicate, which pins the
//!   description, so that it can never lock another file that got the number; after dropping the
//!   duplicate it looks whether the descriptor is still there and says so.
//! - *The bit is read after the close*, by the closer: a fork before the close has set it before.
//! - *Another thread looks at the descriptor* (fstat) while it is closed: the kernel holds the
//!   description for that moment, and the test may fail though nobody is left. It is tried a few
//!   times; what slips through is found by the keeper.
//! - *exec and kill* close descriptors without a word: the keeper tests those that an exec was said to
//!   close, all shared slots when a process registered again or ended, and takes unshared ones of an
//!   ended process at once.

use super::arena::Arena;
use super::processes::ProcessIndex;
use super::runtime::{NodePath, Runtime};
use super::slot::SlotId;
use super::sys::{self, CWD, Fd, Result};
use core::sync::atomic::Ordering;
use rustix::fs::{AtFlags, FlockOperation, OFlags, Stat};
use sealfs_protocol::{Errno, InodeId};

pub const SLOTS_DIR: &[u8] = b"slots";
/// Nanoseconds of the times that placeholders carry; seconds hold arena tag and slot index.
const SLOT_NANOSECONDS: i64 = 731_000_001;
/// Nanoseconds of shadow working directories, plus the mount index; seconds hold the inode number.
const CWD_NANOSECONDS: i64 = 732_000_000;
const INDEX_BITS: u32 = 24;
const TAG_MASK: u64 = (1 << 38) - 1;
/// Mode of placeholders and shadow directories: nobody may write there, and a program that has
/// given its user up can still open them below a descriptor of `slots/` that it kept. The sticky
/// bit makes the mode an unusual one, so that few other directories need a second look.
pub const DIRECTORY_MODE: u32 = 0o1555;
/// Mode of `slots/`, whose parent nobody else may enter: for the same programs.
const SLOTS_MODE: u32 = 0o733;
/// How long `mark_shared` waits for a test that holds the lock, in ms.
const SHARE_MAX_MS: u64 = 5_000;

/// Tries of the lock in a test for the last closer.
const PROBES: u32 = 2;

/// What a kernel descriptor is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Not ours.
    Native,
    /// The placeholder of this arena slot; [`Arena::live`] tells which description it means.
    Slot(u32),
    /// A shadow working directory: stands for a directory of a volume.
    Cwd { ino: InodeId, mount: u8 },
    /// Ours, but of an arena that has ended or of another runtime directory: EBADF.
    Stale,
    /// A placeholder of another user: EACCES.
    Foreign,
}

/// Makes the parent of the placeholder directories.
pub(super) fn make_slots_dir(runtime: &Runtime) -> Result<()> {
    let path = runtime.join(SLOTS_DIR);
    match sys::mkdir(path.as_c_str(), SLOTS_MODE) {
        Ok(()) => sys::chmod_at(CWD, path.as_c_str(), SLOTS_MODE),
        Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// A directory in `slots/`: by its name below the descriptor that was lent, or by its path.
struct InSlots {
    dir: i32,
    path: NodePath,
    cut: usize,
}

impl InSlots {
    fn new(runtime: &Runtime, prefix: &[u8], number: u64) -> InSlots {
        let mut path = runtime.join(SLOTS_DIR);
        path.push(b"/").push(prefix).push_number(number);
        let slots = runtime.slots_fd();
        let (dir, cut) = if slots >= 0 {
            (slots, runtime.path().len() + SLOTS_DIR.len() + 2)
        } else {
            (CWD, 0)
        };
        InSlots { dir, path, cut }
    }

    fn name(&self) -> &core::ffi::CStr {
        let bytes = self.path.as_c_str().to_bytes_with_nul();
        core::ffi::CStr::from_bytes_with_nul(&bytes[self.cut..]).unwrap_or(c"")
    }

    /// Makes the directory and writes into its times what it stands for.
    fn make(&self, seconds: i64, nanoseconds: i64) -> Result<()> {
        match sys::mkdir_at(self.dir, self.name(), DIRECTORY_MODE) {
            Ok(()) => sys::chmod_at(self.dir, self.name(), DIRECTORY_MODE)?,
            Err(Errno::EEXIST) => {}
            Err(e) => return Err(e),
        }
        sys::set_times_at(self.dir, self.name(), seconds, nanoseconds)
    }

    fn open(&self, how: OFlags) -> Result<Fd> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | how;
        sys::openat(self.dir, self.name(), flags, 0)
    }
}

/// Opens a descriptor that stands for the description: the lowest free number.
pub fn open(runtime: &Runtime, arena: &Arena, id: SlotId, cloexec: bool) -> Result<i32> {
    let close = if cloexec {
        OFlags::CLOEXEC
    } else {
        OFlags::empty()
    };
    let how = HOLDER | close;
    let prepared = &arena.map.slot(id.index).ok_or(Errno::EBADF)?.prepared;
    if prepared.load(Ordering::Acquire) == 0 {
        prepare(runtime, arena, id.index)?;
        prepared.store(1, Ordering::Release);
    }
    match open_directory(runtime, id.index, how) {
        // Somebody cleaned up below us.
        Err(Errno::ENOENT) => {
            make_slots_dir(runtime)?;
            prepare(runtime, arena, id.index)?;
            open_directory(runtime, id.index, how)
        }
        other => other,
    }
    .map(Fd::into_raw)
}

/// How a program's descriptor is opened; a test of [`last_closer`] comes without it.
const HOLDER: OFlags = OFlags::DIRECTORY;

fn open_directory(runtime: &Runtime, index: u32, how: OFlags) -> Result<Fd> {
    InSlots::new(runtime, b"", u64::from(index)).open(how)
}

fn prepare(runtime: &Runtime, arena: &Arena, index: u32) -> Result<()> {
    let seconds = tag(arena) << INDEX_BITS | u64::from(index);
    match InSlots::new(runtime, b"", u64::from(index)).make(seconds as i64, SLOT_NANOSECONDS) {
        Err(Errno::ENOSPC) => Err(Errno::ENFILE),
        other => other,
    }
}

/// Tells arenas apart: each is a file of its own on the tmpfs that the placeholders lie on too.
fn tag(arena: &Arena) -> u64 {
    arena.map.inode() & TAG_MASK
}

/// What a descriptor is, by one fstat. EBADF for none.
pub fn classify(runtime: &Runtime, arena: Option<&Arena>, fd: i32) -> Result<Kind> {
    Ok(classify_stat(runtime, arena, &sys::fstat(fd)?))
}

/// What the working directory is.
pub fn classify_cwd(runtime: &Runtime, arena: Option<&Arena>) -> Result<Kind> {
    Ok(classify_stat(
        runtime,
        arena,
        &sys::stat_at(CWD, c"", AtFlags::EMPTY_PATH)?,
    ))
}

/// What attributes that the kernel gave say about their file.
pub fn classify_stat(runtime: &Runtime, arena: Option<&Arena>, st: &Stat) -> Kind {
    const DIRECTORY: u32 = sealfs_protocol::attr::S_IFDIR;
    if st.st_mode != DIRECTORY | DIRECTORY_MODE || st.st_dev != runtime.dev() {
        return Kind::Native;
    }
    kind_of_times(
        runtime,
        arena,
        st.st_mtime,
        i64::from(st.st_mtime_nsec as u32),
        st.st_uid,
    )
}

fn kind_of_times(
    runtime: &Runtime,
    arena: Option<&Arena>,
    seconds: i64,
    nanoseconds: i64,
    uid: u32,
) -> Kind {
    let mount = nanoseconds - CWD_NANOSECONDS;
    let is_slot = nanoseconds == SLOT_NANOSECONDS;
    if !is_slot && !(0..=255).contains(&mount) {
        return Kind::Native;
    }
    if !is_slot {
        // Of whichever user: a program that changed its identity stays where it is, and the number
        // gives no rights.
        return Kind::Cwd {
            ino: InodeId(seconds as u64),
            mount: mount as u8,
        };
    }
    let index = (seconds as u64 & ((1 << INDEX_BITS) - 1)) as u32;
    match arena {
        // Made by whichever user: programs of this session may have given theirs up.
        Some(a) if tag(a) == seconds as u64 >> INDEX_BITS => Kind::Slot(index),
        _ if uid != runtime.uid() => Kind::Foreign,
        _ => Kind::Stale,
    }
}

/// Before a second descriptor of the description `id`, which `fd` is one of, comes into being.
/// `Ok(false)`: another thread closed `fd` meanwhile; then the caller has to go on as after a close
/// of its own ([`last_closer`]).
pub fn mark_shared(runtime: &Runtime, arena: &Arena, fd: i32, id: SlotId) -> Result<bool> {
    let Some(slot) = arena.slot(id) else {
        return Ok(false);
    };
    if slot.is_shared() {
        return Ok(true);
    }
    let is_ours = |fd| is_holder(runtime, arena, fd, id.index);
    let pinned = sys::duplicate(fd, 0)?;
    if !is_ours(pinned.raw()) {
        return Ok(false);
    }
    let until = sys::boot_ms() + SHARE_MAX_MS;
    loop {
        match sys::flock(pinned.raw(), FlockOperation::NonBlockingLockShared) {
            Ok(()) => break,
            Err(Errno::EAGAIN | Errno::EINTR) if sys::boot_ms() < until => {
                rustix::thread::sched_yield();
            }
            Err(Errno::EAGAIN) => return Err(Errno::EIO),
            Err(e) => return Err(e),
        }
    }
    let marked = slot.set_shared();
    drop(pinned);
    Ok(marked && is_ours(fd))
}

/// Whether `fd` is a program's descriptor of this placeholder; another thread's test may have got the
/// number of one that was closed.
fn is_holder(runtime: &Runtime, arena: &Arena, fd: i32, index: u32) -> bool {
    classify(runtime, Some(arena), fd) == Ok(Kind::Slot(index))
        && rustix::fs::fcntl_getfl(sys::borrow(fd)).is_ok_and(|flags| flags.contains(HOLDER))
}

/// After the caller closed one descriptor of the description: `true` for exactly one closer, when
/// no descriptor is left in any process. It has to tell the server and then [`Arena::release`].
pub fn last_closer(runtime: &Runtime, arena: &Arena, id: SlotId, me: ProcessIndex) -> bool {
    let Some(slot) = arena.slot(id) else {
        return false;
    };
    if !slot.is_shared() {
        return arena.begin_close(id, me);
    }
    let Ok(probe) = open_directory(runtime, id.index, OFlags::CLOEXEC) else {
        return false;
    };
    let is_unheld = (0..PROBES).any(|n| {
        if n > 0 {
            rustix::thread::sched_yield();
        }
        sys::flock(probe.raw(), FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    is_unheld && arena.begin_close(id, me)
}

/// A descriptor to make the working directory of: a directory that exists no more, so that nothing
/// can be made in it, and that carries which directory of which mount it stands for.
pub fn make_cwd(
    runtime: &Runtime,
    arena: &Arena,
    ino: InodeId,
    mount: u8,
    cloexec: bool,
) -> Result<i32> {
    let number = arena.map.header().next_cwd.fetch_add(1, Ordering::Relaxed);
    let shadow = InSlots::new(runtime, b"cwd-", number);
    let close = if cloexec {
        OFlags::CLOEXEC
    } else {
        OFlags::empty()
    };
    let made = shadow
        .make(ino.0 as i64, CWD_NANOSECONDS + i64::from(mount))
        .and_then(|()| shadow.open(OFlags::DIRECTORY | close));
    sys::rmdir_at(shadow.dir, shadow.name())?;
    made.map(Fd::into_raw)
}
