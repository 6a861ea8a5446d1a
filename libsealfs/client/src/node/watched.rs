//! Which inodes of volumes programs of this node watch with inotify(7), and what is repeated on their
//! shadows ([`super::shadow`]).
//!
//! Whether anybody watches anything is one word of the arena; whether an inode may be concerned is
//! one more, of the place that its number falls on. Both only ever say too much: they are raised
//! before a shadow is there and lowered after it went, and whoever is killed in between leaves them
//! raised.
//!
//! What changes the names of a watched directory is done and repeated under a lock, so that events
//! come in the order of the changes; a new shadow of a directory gets its entries under the same
//! lock. What must stay true: whoever found a directory unwatched before a change looks again after it.

use super::arena::Arena;
use super::mapped::FileKey;
use super::memory::{PLACE_DETACHED, PLACE_HELD, Table, WATCH_PLACES};
use super::runtime::Runtime;
use super::shadow::{Entry, Touch, Tree};
use super::shadow_files::open_silently;
use super::slot::{Slot, SlotId, State, Word};
use super::sys::{self, Fd, Result};
use crate::hash::FixedState;
use core::sync::atomic::Ordering;
use rustix::fs::{FlockOperation, OFlags};
use sealfs_protocol::{Errno, InodeId};
use std::collections::HashMap;

/// How long a change waits for another one of the same directory, in ms; then it goes on.
const LOCK_MAX_MS: u64 = 1_000;
const LOCKS: u32 = 64;
/// Entries that a directory may have when the first watch is put on it: each takes about 2 KiB of the
/// tmpfs's memory.
pub const ENTRIES_MAX: usize = 1 << 17;

/// The shadows of a node.
#[derive(Clone, Debug)]
pub struct Watched<'a> {
    arena: &'a Arena,
    tree: Tree,
}

/// A lock of directories whose names are about to change; let go when dropped.
#[derive(Debug, Default)]
pub struct NamesLock {
    files: Vec<Fd>,
}

impl NamesLock {
    /// Puts its descriptors where the program does not meet them. They are the caller's from then on.
    pub fn into_descriptors(mut self) -> Vec<i32> {
        core::mem::take(&mut self.files)
            .into_iter()
            .map(Fd::into_raw)
            .collect()
    }
}

/// Lets go of what [`NamesLock::into_descriptors`] gave; the caller closes it. A forked child may
/// have it, too.
pub fn unlock_names(fd: i32) {
    let _ = sys::flock(fd, FlockOperation::Unlock);
}

/// Open descriptions by inode: number and flags.
type Open = HashMap<InodeId, Vec<(SlotId, u32)>, FixedState>;

fn place(key: FileKey) -> usize {
    let hash = key.ino.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    hash as usize % WATCH_PLACES
}

/// How a description reaches the bytes, as flags of open(2).
pub fn access_of(flags: u32) -> OFlags {
    match OFlags::from_bits_retain(flags) & OFlags::RWMODE {
        mode @ (OFlags::WRONLY | OFlags::RDWR) => mode,
        _ => OFlags::RDONLY,
    }
}

impl Arena {
    /// Whether anything of any volume is watched: one load.
    #[inline]
    pub fn is_watching(&self) -> bool {
        self.map.header().watched.load(Ordering::SeqCst) != 0
    }

    /// The shadows, if the inode may have one or an entry in one.
    pub fn watched<'a>(&'a self, runtime: &Runtime, key: FileKey) -> Option<Watched<'a>> {
        (self.is_watching() && self.may_be_watched(key)).then(|| self.shadows(runtime))
    }

    pub fn may_be_watched(&self, key: FileKey) -> bool {
        self.map.header().watch_places[place(key)].load(Ordering::SeqCst) != 0
    }

    pub fn shadows<'a>(&'a self, runtime: &Runtime) -> Watched<'a> {
        Watched {
            arena: self,
            tree: Tree::new(runtime, self.map.inode()),
        }
    }
}

impl Slot<'_> {
    /// The keeper holds descriptors of shadows for it.
    pub fn is_held(&self) -> bool {
        self.memory.place.load(Ordering::SeqCst) & PLACE_HELD != 0
    }

    pub fn set_held(&self) {
        self.memory.place.fetch_or(PLACE_HELD, Ordering::SeqCst);
    }

    /// They are all that is left of the shadows: the inode has lost its last name, and only the keeper
    /// can tell watchers what happens to it.
    #[inline]
    pub fn is_detached(&self) -> bool {
        self.memory.place.load(Ordering::Relaxed) & PLACE_DETACHED != 0
    }
}

impl Watched<'_> {
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// One shadow or link more, or less, of this inode.
    fn count(&self, key: FileKey, is_more: bool) {
        let place = &self.arena.map.header().watch_places[place(key)];
        let order = Ordering::SeqCst;
        let next = |n: u32| {
            if is_more {
                n.checked_add(1)
            } else {
                n.checked_sub(1)
            }
        };
        let _ = place.fetch_update(order, order, next);
    }

    /// The lock of the names of these directories. One that is not to be had in time is gone without.
    pub fn lock(&self, directories: &[FileKey]) -> NamesLock {
        let mut numbers: Vec<u32> = directories
            .iter()
            .map(|key| place(*key) as u32 % LOCKS)
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut lock = NamesLock::default();
        let until = sys::boot_ms() + LOCK_MAX_MS;
        for number in numbers {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
            let Ok(file) = sys::open(self.tree.lock_file(number), flags, 0o600) else {
                continue;
            };
            loop {
                match sys::flock(file.raw(), FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break,
                    Err(Errno::EAGAIN | Errno::EINTR) if sys::boot_ms() < until => sys::pause_ms(1),
                    Err(_) => break,
                }
            }
            lock.files.push(file);
        }
        lock
    }

    /// Makes the shadow of an inode unless it is there; a directory's with `entries` as they are now,
    /// read under the lock that the caller holds. `hold`: what stands for descriptions that are open
    /// already. ENOSPC where there is no room.
    pub fn begin(
        &self,
        key: FileKey,
        entries: Option<&dyn Fn() -> Result<Vec<Entry>>>,
        hold: &dyn Fn(SlotId, &[&Fd]),
    ) -> Result<()> {
        if self.tree.is_watched(key) {
            return Ok(());
        }
        let header = self.arena.map.header();
        self.count(key, true);
        header.watched.fetch_add(1, Ordering::SeqCst);
        let made = self.make(key, entries, hold);
        if made.is_err() {
            self.count(key, false);
            header.watched.fetch_sub(1, Ordering::SeqCst);
        }
        made
    }

    fn make(
        &self,
        key: FileKey,
        entries: Option<&dyn Fn() -> Result<Vec<Entry>>>,
        hold: &dyn Fn(SlotId, &[&Fd]),
    ) -> Result<()> {
        let is_full = |e| match e {
            Errno::ENOMEM | Errno::EDQUOT => Errno::ENOSPC,
            other => other,
        };
        let open = self.open_descriptions(key);
        let mut held: HashMap<SlotId, Vec<Fd>, FixedState> = HashMap::default();
        let mut note = |ino: InodeId, path: &[u8]| {
            for (id, flags) in open.get(&ino).into_iter().flatten() {
                let files = held.entry(*id).or_default();
                files.extend(open_silently(path, access_of(*flags)));
            }
        };
        let prepared = self.tree.prepare(entries.is_some()).map_err(is_full)?;
        note(key.ino, &prepared);
        for entry in entries.map_or(Ok(Vec::new()), |list| list())? {
            let filled = self.tree.fill(&prepared, &entry, &|k, m| self.count(k, m));
            let path = filled.map_err(is_full)?;
            note(entry.child.ino, &path);
        }
        self.tree.reveal(&prepared, key)?;
        for (id, files) in held {
            hold(id, &files.iter().collect::<Vec<_>>());
        }
        Ok(())
    }

    /// The descriptions that are open now.
    fn open_descriptions(&self, like: FileKey) -> Open {
        let mut open = Open::default();
        for index in 0..self.arena.map.used(Table::Slots) {
            let Some(memory) = self.arena.map.slot(index) else {
                break;
            };
            let word = Word(memory.word.load(Ordering::SeqCst));
            let id = SlotId {
                index,
                generation: word.generation(),
            };
            let slot = self.arena.slot(id).filter(|_| word.state() == State::Live);
            if let Some(slot) = slot
                && (slot.manager(), slot.volume()) == (like.manager, like.volume)
                && slot.flags() & OFlags::PATH.bits() == 0
            {
                open.entry(slot.ino()).or_default().push((id, slot.flags()));
            }
        }
        open
    }

    pub fn created(&self, entry: &Entry) {
        if self.tree.is_watched(entry.directory) {
            self.tree.created(entry, &|k, m| self.count(k, m));
        }
    }

    /// A name is gone, and with it the inode if `is_last`.
    pub fn deleted(&self, entry: &Entry, is_last: bool) {
        if is_last {
            self.inode_deleted(entry.child);
        } else {
            self.tree.links_changed(entry.child);
        }
        if self.tree.is_watched(entry.directory) {
            self.tree.deleted(entry, &|k, m| self.count(k, m));
        }
    }

    /// The inode has no name any more: descriptions that are held are told by what is held.
    fn detach(&self, key: FileKey) {
        for (id, _) in self
            .open_descriptions(key)
            .remove(&key.ino)
            .unwrap_or_default()
        {
            if let Some(slot) = self.arena.slot(id).filter(Slot::is_held) {
                slot.memory.place.fetch_or(PLACE_DETACHED, Ordering::SeqCst);
            }
        }
    }

    fn inode_deleted(&self, key: FileKey) {
        self.detach(key);
        if let Some(pinned) = self.tree.self_deleted(key) {
            drop(pinned);
            self.ended(key);
        }
    }

    fn ended(&self, key: FileKey) {
        self.count(key, false);
        let watched = &self.arena.map.header().watched;
        let _ = watched.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    }

    /// `from` was given the name of `to`, which was that of `over` (and whether its last).
    pub fn moved(&self, from: &Entry, to: &Entry, over: Option<(&Entry, bool)>) {
        let watched = [from, to].map(|entry| self.tree.is_watched(entry.directory));
        if watched.contains(&true) {
            let over = over.map(|(over, _)| over);
            let count = |k, m| self.count(k, m);
            self.tree.moved((from, to), watched, over, &count);
        }
        let pinned = over.and_then(|(over, is_last)| {
            if is_last {
                self.detach(over.child);
                self.tree.self_deleted(over.child)
            } else {
                self.tree.links_changed(over.child);
                None
            }
        });
        self.tree.self_moved(to.child);
        if let (Some(pinned), Some((over, _))) = (pinned, over) {
            drop(pinned);
            self.ended(over.child);
        }
    }

    /// Two names were exchanged: `a` and `b` as they were.
    pub fn exchanged(&self, a: &Entry, b: &Entry) {
        let watched = [a, b].map(|entry| self.tree.is_watched(entry.directory));
        if watched.contains(&true) {
            let count = |k, m| self.count(k, m);
            self.tree.exchanged((a, b), watched, &count);
        }
        self.tree.self_moved(a.child);
        self.tree.self_moved(b.child);
    }

    pub fn touched(&self, key: FileKey, touch: Touch) {
        self.tree.touched(key, touch);
    }

    pub fn links_changed(&self, key: FileKey) {
        self.tree.links_changed(key);
    }

    /// The inode was opened: what the keeper is to hold for the description.
    pub fn opened(&self, key: FileKey, flags: u32) -> Vec<Fd> {
        self.tree.opened(key, access_of(flags))
    }

    /// Keeper: every shadow, and its inode's number on the tmpfs.
    pub fn all(&self) -> Vec<(FileKey, u64)> {
        self.tree.all()
    }

    /// Keeper: nobody watches this shadow. The caller has its lock.
    pub fn forget(&self, key: FileKey, inode: u64) {
        if self.tree.inode(key) == Some(inode) && self.tree.self_deleted(key).is_some() {
            self.ended(key);
        }
    }

    /// Keeper: shadows went, and with them what links led to.
    pub fn clear_links(&self) {
        for child in self.tree.clear_links() {
            self.count(child, false);
        }
    }

    /// The file was opened by one of several names.
    pub fn lead(&self, entry: &Entry) {
        if self.tree.is_watched(entry.directory) {
            self.tree.lead(entry, &|k, m| self.count(k, m));
        }
    }
}
