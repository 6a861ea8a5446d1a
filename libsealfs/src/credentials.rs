//! Who the calling thread is. In the kernel each thread has ids of its own; libc keeps them equal.
//!
//! What must stay true: after the first change of identity seen in this process, every call asks
//! the kernel who its thread is; before it, nobody pays for that.

use crate::{kernel, subject};
use core::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use sealfs_client::node::Runtime;
use sealfs_protocol::message::Credentials;

/// A set*id call was seen.
static CHANGED: AtomicBool = AtomicBool::new(false);
/// The identity before the first change, once somebody needed it.
static FIRST: AtomicPtr<Credentials> = AtomicPtr::new(core::ptr::null_mut());

/// The identity that a client is made with: the one that this process, or the one it was forked
/// from, had before it first changed. Threads with another act under theirs.
pub fn first() -> Credentials {
    // SAFETY: null or a leaked box.
    if let Some(first) = unsafe { FIRST.load(Acquire).as_ref() } {
        return first.clone();
    }
    let now = read();
    let kept = Box::into_raw(Box::new(now.clone()));
    if FIRST
        .compare_exchange(core::ptr::null_mut(), kept, AcqRel, Acquire)
        .is_err()
    {
        // SAFETY: nobody else saw it.
        drop(unsafe { Box::from_raw(kept) });
    }
    now
}

fn read() -> Credentials {
    let (uid, gid) = subject::file_ids();
    Credentials {
        uid,
        gid,
        groups: subject::groups(),
    }
}

/// Puts the thread's own identity for files back when it goes.
pub struct AsOwner(Option<u32>);

/// The thread acts as the owner of the runtime directory for as long as this lives, where the
/// program has changed its identity since and the kernel allows to change it back.
pub fn as_owner(runtime: &Runtime) -> AsOwner {
    if subject::FOREIGN || !CHANGED.load(Relaxed) {
        return AsOwner(None);
    }
    let now = kernel::file_ids().0;
    if now == runtime.uid() {
        return AsOwner(None);
    }
    kernel::set_file_user(runtime.uid());
    AsOwner(Some(now))
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if let Some(own) = self.0 {
            kernel::set_file_user(own);
        }
    }
}

/// The program changes who it is.
pub fn note_change() {
    first();
    CHANGED.store(true, Release);
}

/// The identity of the calling thread if it is not the client's own.
pub fn of_this_thread() -> Option<Credentials> {
    if !CHANGED.load(Relaxed) {
        return None;
    }
    let now = read();
    // SAFETY: null or a leaked box.
    let first = unsafe { FIRST.load(Acquire).as_ref() };
    (first != Some(&now)).then_some(now)
}

/// The real ids as an identity, for access(2), if they differ from the effective ones.
pub fn real_if_different() -> Option<Credentials> {
    let (users, groups) = subject::ids();
    if users[0] == users[1] && groups[0] == groups[1] {
        return None;
    }
    Some(Credentials {
        uid: users[0],
        gid: groups[0],
        groups: subject::groups(),
    })
}
