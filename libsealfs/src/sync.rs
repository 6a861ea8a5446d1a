//! Locks and per-process words that survive fork.
//!
//! A word on the *process page* (`MADV_WIPEONFORK`) reads zero in a forked child: that is how a
//! child knows that it is a new process without asking the kernel at every call. [`RawMutex`]
//! stamps its word with the process's generation, so a lock that another thread held at the moment
//! of fork is simply free in the child (whatever it protected must then be started anew, which is
//! what hanging process state off [`word`] does).
//!
//! What must stay true: nothing here calls libc; a lock's holder is never interrupted by a handler
//! that wants the same lock (`patch::signals` blocks them).
//!
//! # Safety
//! The process page is mapped once and never unmapped; its words are atomics.

use crate::sys;
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// Words that read zero after fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Which process this is since the library was loaded; counts forks.
    Generation = 0,
    /// The process number, once asked for.
    Pid = 1,
    /// The dispatcher's process state.
    State = 2,
    /// The dispatcher's second word.
    Extra = 3,
}

const WORDS: usize = 4;
const PAGE_BYTES: usize = 4096;

static FALLBACK: [AtomicUsize; WORDS] = [const { AtomicUsize::new(0) }; WORDS];
static PAGE: AtomicPtr<AtomicUsize> = AtomicPtr::new(core::ptr::null_mut());
static GENERATIONS: AtomicUsize = AtomicUsize::new(0);

/// Maps the process page. Called once, by the constructor. Without it (no memory) the words lie in
/// ordinary memory and fork is only noticed by the process number.
pub fn start() {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: a fresh anonymous page.
    let page = unsafe {
        sys::syscall6(
            libc::SYS_mmap as usize,
            0,
            PAGE_BYTES,
            protection,
            flags,
            usize::MAX,
            0,
        )
    };
    let Ok(page) = sys::check(page) else { return };
    let advice = libc::MADV_WIPEONFORK as usize;
    // SAFETY: the page is ours.
    let advised = unsafe { sys::syscall3(libc::SYS_madvise as usize, page, PAGE_BYTES, advice) };
    if advised == 0 {
        PAGE.store(page as *mut AtomicUsize, Release);
    }
}

/// One of the words that a forked child finds zero.
pub fn word(which: Word) -> &'static AtomicUsize {
    let page = PAGE.load(Acquire);
    if page.is_null() {
        return &FALLBACK[which as usize];
    }
    // SAFETY: the page holds at least WORDS atomics, zeroed, and is never unmapped.
    unsafe { &*page.add(which as usize) }
}

/// The generation of this process: never zero, different in every forked child.
pub fn generation() -> u32 {
    let word = word(Word::Generation);
    let known = word.load(Relaxed);
    if known != 0 {
        return known as u32;
    }
    let fresh = (GENERATIONS.fetch_add(1, AcqRel) + 1) & GENERATION_MASK as usize;
    match word.compare_exchange(0, fresh, AcqRel, Acquire) {
        Ok(_) => fresh as u32,
        Err(other) => other as u32,
    }
}

/// The process number, asked once per process. In a vfork child it is the parent's.
pub fn pid() -> i32 {
    let word = word(Word::Pid);
    let known = word.load(Relaxed);
    if known != 0 {
        return known as i32;
    }
    let pid = sys::getpid();
    word.store(pid as usize, Relaxed);
    pid
}

const GENERATION_MASK: u32 = 0x3fff_ffff;
const FREE: u32 = 0;
const HELD: u32 = 1;
const CONTENDED: u32 = 2;
const STATE_MASK: u32 = 3;
/// How often a waiter looks before it sleeps.
const SPINS: u32 = 100;

/// A futex lock for `lock_api`, free in a forked child whoever held it.
pub struct RawMutex(AtomicU32);

/// A mutex that may live in a static of the library.
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

fn stamped(state: u32) -> u32 {
    generation() << 2 | state
}

impl RawMutex {
    fn seize(&self, state: u32) -> bool {
        let now = self.0.load(Relaxed);
        let ours = now >> 2 == generation();
        if ours && now & STATE_MASK != FREE {
            return false;
        }
        self.0
            .compare_exchange(now, stamped(state), Acquire, Relaxed)
            .is_ok()
    }

    fn wait(&self) {
        let contended = stamped(CONTENDED);
        let now = self.0.load(Relaxed);
        if now & STATE_MASK == FREE || now >> 2 != generation() {
            return;
        }
        if now != contended
            && self
                .0
                .compare_exchange(now, contended, Relaxed, Relaxed)
                .is_err()
        {
            return;
        }
        let operation = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG) as usize;
        let address = self.0.as_ptr() as usize;
        // SAFETY: a futex word of ours, no timeout.
        let _ = unsafe {
            sys::syscall4(
                libc::SYS_futex as usize,
                address,
                operation,
                contended as usize,
                0,
            )
        };
    }
}

// SAFETY: the word goes from free to held by one compare-and-swap, and only the holder frees it.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "lock_api asks for this constant"
    )]
    const INIT: Self = Self(AtomicU32::new(FREE));
    type GuardMarker = lock_api::GuardNoSend;

    fn lock(&self) {
        if self.seize(HELD) {
            return;
        }
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if self.seize(HELD) {
                return;
            }
        }
        // Whoever slept must leave the word contended, or later sleepers would not be woken.
        while !self.seize(CONTENDED) {
            self.wait();
        }
    }

    fn try_lock(&self) -> bool {
        self.seize(HELD)
    }

    unsafe fn unlock(&self) {
        let before = self.0.swap(stamped(FREE), Release);
        if before & STATE_MASK == CONTENDED {
            let operation = (libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG) as usize;
            let address = self.0.as_ptr() as usize;
            // SAFETY: a futex word of ours.
            let _ = unsafe { sys::syscall3(libc::SYS_futex as usize, address, operation, 1) };
        }
    }
}
