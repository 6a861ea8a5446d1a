//! The library's own descriptors: where they sit, and what the client does through us.
//!
//! They sit high in the descriptor table, so that the program's lowest free number is what it would
//! be without us; not at the very end of it, because the kernel copies the table up to the highest
//! number at every fork.
//!
//! # Safety
//! The hooks take addresses in the program's memory and go through `guard`.

use crate::guard;
use crate::process;
use crate::{fdtable, kernel, pending, subject, vfork};
use core::sync::atomic::{
    AtomicI32,
    Ordering::{AcqRel, Acquire},
};
use sealfs_client::Hooks;
use sealfs_client::node::Runtime;

/// Sockets go here, if the limit allows; a supervisor's where it borrows no numbers.
const HIGH: u64 = if subject::FOREIGN {
    subject::OWN_FROM as u64
} else {
    4000
};
/// Room that is left above the first one when the limit is lower.
const ROOM: u64 = 64;
const RLIMIT_NOFILE: u32 = libc::RLIMIT_NOFILE;

pub fn hooks() -> Hooks {
    Hooks {
        place_fd,
        copy_to_user,
        zero_user,
        long_wait: pending::look,
    }
}

/// The descriptor of the placeholders' directory that the node is lent; -1 is none.
static LENT: AtomicI32 = AtomicI32::new(-1);

/// Opens the placeholders' directory once: opens need not walk to it, and a program that gives its
/// user up still reaches it.
pub fn lend_slots(runtime: &Runtime) {
    if vfork::is_child() {
        // The number would be in its table, and in nobody's afterwards.
        return;
    }
    let Ok(fd) = runtime.open_slots() else { return };
    let fd = place_fd(fd);
    runtime.lend_slots_fd(fd);
    let before = LENT.swap(fd, AcqRel);
    if before >= 0 {
        fdtable::remove_internal(before as u32);
        kernel::close(before as u32);
    }
}

/// A forked child has its own copy of what was lent.
pub fn keep_lent() {
    let lent = LENT.load(Acquire);
    if lent >= 0 {
        fdtable::add_internal(lent as u32);
    }
}

/// The library's descriptors that are open now.
pub fn in_use() -> impl Iterator<Item = u32> {
    let sockets = process::known_client()
        .into_iter()
        .flat_map(sealfs_client::Client::sockets);
    let lent = Some(LENT.load(Acquire)).filter(|fd| *fd >= 0);
    sockets.chain(lent).map(|fd| fd as u32)
}

/// Moves a new socket out of the program's sight and notes it.
pub fn place_fd(fd: i32) -> i32 {
    let soft = kernel::limit(RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let from = HIGH.min(soft.saturating_sub(ROOM));
    let placed = kernel::duplicate_above(fd as u32, from as u32);
    let fd = match placed {
        Ok(high) => {
            kernel::close(fd as u32);
            high
        }
        Err(_) => fd as u32,
    };
    fdtable::add_internal(fd);
    fd as i32
}

unsafe fn copy_to_user(address: *mut u8, from: *const u8, len: usize) -> bool {
    // SAFETY: the caller vouches for `from`.
    unsafe { guard::fill(address, from, len) }.is_ok()
}

unsafe fn zero_user(address: *mut u8, len: usize) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut done = 0;
    while done < len {
        let step = (len - done).min(ZEROS.len());
        // SAFETY: the source is a constant of at least that length.
        let copied = unsafe { guard::fill(address.wrapping_add(done), ZEROS.as_ptr(), step) };
        if copied.is_err() {
            return false;
        }
        done += step;
    }
    true
}
