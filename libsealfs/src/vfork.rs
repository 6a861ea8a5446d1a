//! Children that share our memory but not our descriptors: vfork(2), and posix_spawn(3), which
//! makes its child with `CLONE_VM | CLONE_VFORK`.
//!
//! While one lives, nothing is remembered of descriptors or the working directory (`fdtable` is
//! frozen): what it does to its own must not be believed of ours, nor the other way round. The
//! thread that made it sleeps until it is gone, so that thread's next call is the end of it.
//!
//! # Safety
//! What is parked stays at its address until nobody can use it any more.

use crate::sync::{self, Mutex};
use crate::{cwd, fdtable, sys};
use core::ops::Deref;
use core::sync::atomic::{
    AtomicBool, AtomicI32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Threads that wait for such a child.
const WAITING_MAX: usize = 64;
static WAITING: [AtomicI32; WAITING_MAX] = [const { AtomicI32::new(0) }; WAITING_MAX];
/// A child that nobody waits for, or one more than there are places: the state stays.
static FOR_GOOD: AtomicBool = AtomicBool::new(false);

/// The calling thread is about to make such a child; `waits`: it sleeps until the child is gone.
pub fn begin(waits: bool) {
    fdtable::freeze(true);
    let me = sys::gettid();
    let kept = waits
        && WAITING
            .iter()
            .any(|place| place.compare_exchange(0, me, AcqRel, Relaxed).is_ok());
    if !kept {
        FOR_GOOD.store(true, Release);
    }
}

/// A call arrives while children may live: if it comes from a thread that waited for one, that one
/// is gone.
pub fn look() {
    if sys::getpid() != sync::pid() {
        return;
    }
    let me = sys::gettid();
    let mut waited = false;
    for place in &WAITING {
        waited |= place.compare_exchange(me, 0, AcqRel, Relaxed).is_ok();
    }
    if waited && !FOR_GOOD.load(Acquire) && WAITING.iter().all(|p| p.load(Acquire) == 0) {
        // The child may have shared our file system context.
        cwd::forget();
        fdtable::freeze(false);
        LEFT.lock().clear();
    }
}

/// A new process: no such child of its own lives.
pub fn forget_all() {
    for place in &WAITING {
        place.store(0, Relaxed);
    }
    FOR_GOOD.store(false, Relaxed);
    fdtable::freeze(false);
}

/// The caller is such a child.
pub fn is_child() -> bool {
    fdtable::is_frozen() && sys::getpid() != sync::pid()
}

/// Memory that a call of such a child hands to the kernel: an exec that succeeds never comes back
/// to free it, so the parent does when the child is gone.
pub struct Parked<T: Send + 'static> {
    kept: *mut T,
    by_child: bool,
}

/// What children left behind.
static LEFT: Mutex<Vec<Box<dyn Send>>> =
    Mutex::const_new(<sync::RawMutex as lock_api::RawMutex>::INIT, Vec::new());

impl<T: Send + 'static> Parked<T> {
    pub fn new(value: T) -> Parked<T> {
        let mut kept = Box::new(value);
        let at: *mut T = &raw mut *kept;
        let by_child = is_child();
        if by_child {
            LEFT.lock().push(kept);
        } else {
            core::mem::forget(kept);
        }
        Parked { kept: at, by_child }
    }
}

impl<T: Send + 'static> Deref for Parked<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the box is leaked or in the list, which is emptied only after the child is gone.
        unsafe { &*self.kept }
    }
}

impl<T: Send + 'static> Drop for Parked<T> {
    fn drop(&mut self) {
        if !self.by_child {
            // SAFETY: leaked in `new`, by us alone.
            drop(unsafe { Box::from_raw(self.kept) });
        }
    }
}
