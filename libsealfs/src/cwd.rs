//! The working directory: the kernel's own, standing on an unlinked shadow directory whose times
//! name the inode when it is ours, so that it survives fork and exec without our help.
//!
//! What must stay true: what is remembered is dropped whenever the directory may have changed, and
//! nothing is remembered while a child shares this memory but not this working directory.

use crate::kernel::{self, AT_FDCWD, CPath};
use crate::patch::class::{CWD_SPECIAL, TOUCHED};
use crate::{credentials, fds, fdtable, path, process, subject};
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use sealfs_client::At;
use sealfs_client::node::placeholder::{self, Kind};
use sealfs_protocol::{Errno, InodeId};

/// Where relative paths start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cwd {
    Ours(InodeId),
    /// A directory above the mount point, by its path.
    Above(Vec<u8>),
    Theirs,
}

/// What is remembered: 0 unknown, 1 theirs, 2 above, else the inode number (they are larger).
static KNOWN: AtomicU64 = AtomicU64::new(UNKNOWN);
/// The directory last entered, and its parent then; 0 is none.
static PARENT_OF: AtomicU64 = AtomicU64::new(0);
static PARENT: AtomicU64 = AtomicU64::new(0);
const UNKNOWN: u64 = 0;
const THEIRS: u64 = 1;
const ABOVE: u64 = 2;
/// There is one mount a process.
const MOUNT_INDEX: u8 = 0;

/// The working directory, from memory or from the kernel.
pub fn get() -> Cwd {
    let frozen = fdtable::is_frozen();
    if !frozen {
        match KNOWN.load(Acquire) {
            UNKNOWN | ABOVE => {}
            THEIRS => return Cwd::Theirs,
            ino => return Cwd::Ours(InodeId(ino)),
        }
    }
    let cwd = ask();
    if !frozen {
        remember(&cwd);
    }
    cwd
}

/// Asks the kernel where we are.
fn ask() -> Cwd {
    let Ok(stat) = kernel::stat_at(AT_FDCWD, &CPath::new(b""), libc::AT_EMPTY_PATH) else {
        return Cwd::Theirs;
    };
    if stat.st_mode == fds::PLACEHOLDER_MODE
        && let Ok(runtime) = process::runtime()
        && let Ok(Kind::Cwd { ino, .. }) = placeholder::classify_cwd(runtime, None)
    {
        return Cwd::Ours(ino);
    }
    if process::is_ancestor(&stat)
        && let Ok(directory) = kernel::getcwd()
        && path::is_above(process::mount(), &directory)
    {
        return Cwd::Above(directory);
    }
    Cwd::Theirs
}

fn remember(cwd: &Cwd) {
    let word = match cwd {
        Cwd::Ours(ino) => ino.0,
        Cwd::Above(_) => ABOVE,
        Cwd::Theirs => THEIRS,
    };
    if matches!(cwd, Cwd::Ours(_)) {
        TOUCHED.store(true, Relaxed);
    }
    KNOWN.store(word, Release);
    CWD_SPECIAL.store(word != THEIRS, Release);
}

/// The directory may have changed: the next call that needs it asks the kernel.
pub fn forget() {
    CWD_SPECIAL.store(true, Release);
    KNOWN.store(UNKNOWN, Release);
}

/// Makes the directory `ino` of the volume the working directory.
///
/// `parent` is its parent if the caller knows: a removed directory's `..` still leads there.
pub fn enter(ino: InodeId, parent: Option<InodeId>) -> Result<(), Errno> {
    let up = At {
        base: ino,
        path: b"..",
    };
    let parent = match parent {
        Some(parent) => Some(parent),
        None if ino == process::root()? => None,
        None => process::client()?.stat(up, false).ok().map(|attr| attr.ino),
    };
    let node = process::node()?;
    let owner = credentials::as_owner(node.runtime);
    let shadow = placeholder::make_cwd(node.runtime, &node.arena, ino, MOUNT_INDEX, true)? as u32;
    forget();
    let moved = subject::enter(shadow);
    drop(owner);
    kernel::close(shadow);
    moved?;
    if subject::FOREIGN || !fdtable::is_frozen() {
        PARENT.store(parent.map_or(0, |parent| parent.0), Relaxed);
        PARENT_OF.store(ino.0, Release);
        if !subject::FOREIGN {
            let _ = KNOWN.compare_exchange(UNKNOWN, ino.0, AcqRel, Relaxed);
        }
        TOUCHED.store(true, Relaxed);
    }
    Ok(())
}

/// The absolute path of a directory of the volume.
pub fn path_of(ino: InodeId) -> Result<Vec<u8>, Errno> {
    process::client()?.directory_path(ino)
}

/// The parent that directory `ino` had when it became the working directory, if it is the one.
pub fn parent_of(ino: InodeId) -> Option<InodeId> {
    if PARENT_OF.load(Acquire) != ino.0 {
        return None;
    }
    Some(InodeId(PARENT.load(Relaxed))).filter(|parent| parent.0 != 0)
}
