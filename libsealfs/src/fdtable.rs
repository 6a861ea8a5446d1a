//! What is known about each descriptor number of this process: a cache over the kernel's truth,
//! which one `fstat` tells (the placeholder directories of `sealfs_client::node`).
//!
//! Two layers: `patch::class::FD_CLASS`, a byte that the stubs read (1: certainly native), and
//! [`ENTRIES`], one word for everything else. What must stay true:
//! - a byte becomes 1 only by compare-and-swap from a tag that was put there *before* the `fstat`,
//!   and whoever changes a number stores 0 before and after the change;
//! - an entry is populated by compare-and-swap on the word that was read before the `fstat`, whose
//!   generation every change raises;
//! - nothing is populated while a child shares this memory but not this descriptor table.

use crate::patch::class::{FD_CLASS, FD_CLASSES, FD_NATIVE, FD_UNKNOWN};
use crate::{sync, sys};
use core::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What a descriptor number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not looked at since the last change.
    Unknown,
    /// The kernel's own.
    Native,
    /// An open file description of ours, by arena slot.
    Ours(u32),
    /// One of the library's sockets: the program must not see it.
    Internal,
    /// The kernel's, but a directory above the mount point: its listing shows one entry more.
    Above,
    /// The kernel's, but the list of this process's descriptors: internal ones are left out.
    Listing,
    /// The kernel's, but the FIFO that stands for an inode of ours on this node.
    Fifo,
}

const STATE_SHIFT: u32 = 32;
const GENERATION_SHIFT: u32 = 40;

/// generation (24 bits) | state (8) | arena slot (32). All zero: unknown.
static ENTRIES: [AtomicU64; FD_CLASSES] = [const { AtomicU64::new(0) }; FD_CLASSES];

/// The highest number of which anything was ever remembered.
static HIGHEST: AtomicUsize = AtomicUsize::new(0);

/// Raised while a child with a descriptor table of its own shares our memory.
static FROZEN: AtomicBool = AtomicBool::new(false);

/// Tags of classifications under way: 2..=255, taken round robin.
static NEXT_TAG: AtomicU8 = AtomicU8::new(0);

/// The library's own descriptors; 0 is an empty place (number + 1 is stored).
const INTERNAL_MAX: usize = 256;
static INTERNAL: [AtomicU32; INTERNAL_MAX] = [const { AtomicU32::new(0) }; INTERNAL_MAX];

fn encode(state: State) -> u64 {
    let (code, slot) = match state {
        State::Unknown => (0, 0),
        State::Native => (1, 0),
        State::Ours(slot) => (2, slot),
        State::Internal => (3, 0),
        State::Above => (4, 0),
        State::Listing => (5, 0),
        State::Fifo => (6, 0),
    };
    (code << STATE_SHIFT) | u64::from(slot)
}

fn decode(word: u64) -> State {
    match word >> STATE_SHIFT & 0xff {
        1 => State::Native,
        2 => State::Ours(word as u32),
        3 => State::Internal,
        4 => State::Above,
        5 => State::Listing,
        6 => State::Fifo,
        _ => State::Unknown,
    }
}

/// While true, nothing is remembered and nothing remembered is believed.
pub fn freeze(frozen: bool) {
    FROZEN.store(frozen, Release);
}

pub fn is_frozen() -> bool {
    FROZEN.load(Acquire)
}

/// What is remembered of `fd`.
pub fn get(fd: usize) -> State {
    if is_frozen() {
        return State::Unknown;
    }
    match FD_CLASS.get(fd).map(|byte| byte.load(Acquire)) {
        None => State::Unknown,
        Some(FD_NATIVE) => State::Native,
        Some(_) => decode(ENTRIES[fd].load(Acquire)),
    }
}

/// A classification under way: made before the `fstat`, finished after it.
pub struct Ticket {
    fd: usize,
    word: u64,
    tag: u8,
}

/// Announces that `fd` is about to be looked at.
pub fn begin(fd: usize) -> Option<Ticket> {
    if is_frozen() {
        return None;
    }
    let word = ENTRIES.get(fd)?.load(Acquire);
    HIGHEST.fetch_max(fd, Relaxed);
    let tag = 2 + NEXT_TAG.fetch_add(1, Relaxed) % 254;
    let byte = &FD_CLASS[fd];
    let now = byte.load(Relaxed);
    if now == FD_NATIVE || byte.compare_exchange(now, tag, AcqRel, Relaxed).is_err() {
        return None;
    }
    Some(Ticket { fd, word, tag })
}

/// Remembers what the `fstat` after [`begin`] said, unless the number changed meanwhile.
pub fn finish(ticket: Ticket, state: State) {
    let Ticket { fd, word, tag } = ticket;
    let byte = if state == State::Native && !is_frozen() {
        FD_NATIVE
    } else {
        FD_UNKNOWN
    };
    if state != State::Native && state != State::Unknown && !is_frozen() {
        let fresh = (word >> GENERATION_SHIFT << GENERATION_SHIFT) | encode(state);
        let _ = ENTRIES[fd].compare_exchange(word, fresh, AcqRel, Relaxed);
    }
    let _ = FD_CLASS[fd].compare_exchange(tag, byte, AcqRel, Relaxed);
}

/// The caller is the child that shares this memory: the entries are not about its descriptors.
fn by_child() -> bool {
    is_frozen() && sys::getpid() != sync::pid()
}

/// Forgets `fd`. To be called before and after any change of what the number stands for.
pub fn forget(fd: usize) {
    let Some(entry) = ENTRIES.get(fd) else { return };
    if by_child() {
        // Its number may stand for something of ours now, which the stubs must not take for native.
        FD_CLASS[fd].store(FD_UNKNOWN, Release);
        return;
    }
    let _ = entry.fetch_update(AcqRel, Acquire, |word| {
        Some((word >> GENERATION_SHIFT).wrapping_add(1) << GENERATION_SHIFT)
    });
    FD_CLASS[fd].store(FD_UNKNOWN, Release);
}

/// Forgets every number in `first..=last`, but not the library's own.
pub fn forget_range(first: usize, last: usize) {
    for fd in first..=last.min(HIGHEST.load(Relaxed)) {
        let known = decode(ENTRIES[fd].load(Relaxed));
        if known == State::Internal {
            continue;
        }
        if known != State::Unknown || FD_CLASS[fd].load(Relaxed) != FD_UNKNOWN {
            forget(fd);
        }
    }
}

/// Remembers a number that this call has just made, before the program learns of it.
pub fn set(fd: usize, state: State) {
    forget(fd);
    if by_child() {
        return;
    }
    if let Some(entry) = ENTRIES.get(fd) {
        HIGHEST.fetch_max(fd, Relaxed);
        let _ = entry.fetch_update(AcqRel, Acquire, |word| {
            Some((word >> GENERATION_SHIFT << GENERATION_SHIFT) | encode(state))
        });
    }
}

/// Notes a socket of the library.
pub fn add_internal(fd: u32) {
    let free = INTERNAL
        .iter()
        .any(|place| place.compare_exchange(0, fd + 1, AcqRel, Relaxed).is_ok());
    if free {
        set(fd as usize, State::Internal);
    }
}

/// Takes a socket of the library off the list; it is about to be closed.
pub fn remove_internal(fd: u32) {
    for place in &INTERNAL {
        if place.compare_exchange(fd + 1, 0, AcqRel, Relaxed).is_ok() {
            forget(fd as usize);
        }
    }
}

/// Forgets the library's sockets; a forked child closed its copies.
pub fn clear_internals() {
    for place in &INTERNAL {
        let fd = place.swap(0, AcqRel);
        if fd != 0 {
            forget(fd as usize - 1);
        }
    }
}

/// The numbers remembered as ours.
pub fn ours() -> impl Iterator<Item = usize> {
    remembered(|state| matches!(state, State::Ours(_)))
}

/// The numbers remembered as FIFOs of ours.
pub fn fifos() -> impl Iterator<Item = usize> {
    remembered(|state| state == State::Fifo)
}

fn remembered(is_it: impl Fn(State) -> bool) -> impl Iterator<Item = usize> {
    let last = HIGHEST.load(Relaxed).min(FD_CLASSES - 1);
    (0..=last).filter(move |fd| is_it(decode(ENTRIES[*fd].load(Acquire))))
}
