//! A slot of the arena: one open file description, as the kernel's `struct file` is one.
//!
//! ```text
//! free ── claimed ── live ── closing ── draining ── free, next generation
//!           by        │ one closer wins     │ the last thread inside leaves
//!        allocate   publish             release
//! ```
//!
//! State, owner, *shared* bit and generation stand in one word, so each step is one
//! compare-and-swap that fails for everybody who means an older generation, and every state names
//! the process that has to take the next step. If that process is dead, the keeper takes it.
//!
//! The offset of a description has a lock of its own: [`super::offset`].

use super::arena::{Arena, ManagerIndex};
use super::memory::{PLACE_LOST, SlotMemory, WRITTEN_MAX, load_bytes, store_bytes};
use super::processes::ProcessIndex;
use core::sync::atomic::{AtomicU64, Ordering};
use sealfs_protocol::limits::NAME_MAX_BYTES;
use sealfs_protocol::message::LockMark;
use sealfs_protocol::{ClusterId, Incarnation, InodeId, OpenId, ShardId, VolumeId};

const WRITTEN_BITS: u32 = 44;
const WRITTEN_MASK: u64 = (1 << WRITTEN_BITS) - 1;

/// A mark in one word, so that the later one is the greater.
fn pack(mark: LockMark) -> u64 {
    mark.incarnation.0 << WRITTEN_BITS | mark.written.min(WRITTEN_MASK)
}

pub(super) fn unpack(word: u64) -> Option<LockMark> {
    (word != 0).then_some(LockMark {
        incarnation: Incarnation(word >> WRITTEN_BITS),
        written: word & WRITTEN_MASK,
    })
}

pub(super) const OWNER_BITS: u32 = 20;
const OWNER_MASK: u64 = (1 << OWNER_BITS) - 1;

/// One open file description: place in the arena, and which of those that were at this place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SlotId {
    pub index: u32,
    pub generation: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Free,
    /// Taken by its owner, not yet open.
    Claimed,
    Live,
    /// Its owner has to tell the server.
    Closing,
    /// The server knows; somebody is still inside an operation.
    Draining,
}

/// state (3 bits) | shared (1) | owner: process index (20) | - | generation (32)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word(pub u64);

impl Word {
    const SHARED: u64 = 1 << 3;

    pub fn new(state: State, owner: ProcessIndex, generation: u32) -> Word {
        let owner = u64::from(owner.0) & OWNER_MASK;
        Word(state as u64 | owner << 4 | u64::from(generation) << 32)
    }

    pub fn free(generation: u32) -> Word {
        Word::new(State::Free, ProcessIndex::NOBODY, generation)
    }

    pub fn state(self) -> State {
        match self.0 & 7 {
            1 => State::Claimed,
            2 => State::Live,
            3 => State::Closing,
            4 => State::Draining,
            _ => State::Free,
        }
    }

    pub fn is_shared(self) -> bool {
        self.0 & Word::SHARED != 0
    }

    pub fn owner(self) -> ProcessIndex {
        ProcessIndex((self.0 >> 4 & OWNER_MASK) as u32)
    }

    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub fn with_state(self, state: State) -> Word {
        Word(self.0 & !7 | state as u64)
    }

    pub fn with_owner(self, owner: ProcessIndex) -> Word {
        Word(self.0 & !(OWNER_MASK << 4) | (u64::from(owner.0) & OWNER_MASK) << 4)
    }

    pub fn shared(self) -> Word {
        Word(self.0 | Word::SHARED)
    }

    /// Changes the word of generation `id` by `step` until it took; `None` when `step` says no or
    /// the slot belongs to another generation. Returns the word before.
    pub fn change(
        word: &AtomicU64,
        id: SlotId,
        step: impl Fn(Word) -> Option<Word>,
    ) -> Option<Word> {
        let mut old = Word(word.load(Ordering::SeqCst));
        loop {
            let new = if old.generation() == id.generation {
                step(old)?
            } else {
                return None;
            };
            match word.compare_exchange_weak(old.0, new.0, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => return Some(old),
                Err(now) => old = Word(now),
            }
        }
    }
}

/// What is known of a description before it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotInit {
    pub cluster: ClusterId,
    pub manager: ManagerIndex,
    pub volume: VolumeId,
    /// Which of the process' mounts it was opened below.
    pub mount: u8,
    pub open: OpenId,
    /// O_* as F_GETFL shall answer.
    pub flags: u32,
}

impl SlotInit {
    pub(super) fn store(&self, memory: &SlotMemory) {
        memory.cluster[0].store(self.cluster.0 as u64, Ordering::Relaxed);
        memory.cluster[1].store((self.cluster.0 >> 64) as u64, Ordering::Relaxed);
        memory.volume.store(self.volume.0, Ordering::Relaxed);
        let place = u32::from(self.mount) | u32::from(self.manager.0) << 8;
        memory.place.store(place, Ordering::Relaxed);
        memory.open.store(self.open.0, Ordering::Relaxed);
        memory.flags.store(self.flags, Ordering::Relaxed);
        memory.ino.store(0, Ordering::Relaxed);
        memory.kind.store(0, Ordering::Relaxed);
        memory.offset.store(0, Ordering::Relaxed);
        memory.offset_lock.store(0, Ordering::Relaxed);
        memory.locked.store(0, Ordering::Relaxed);
        for written in &memory.written {
            written.shard.store(0, Ordering::Relaxed);
            written.incarnation.store(0, Ordering::Relaxed);
        }
    }
}

/// What is known of a description once it is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenedFile<'a> {
    pub ino: InodeId,
    /// File type, as S_IFMT bits.
    pub kind: u32,
    /// The directory and the name that it was opened by, for `/proc/self/fd`; an empty name where
    /// there is none. Longer than 255 bytes counts as none.
    pub parent: InodeId,
    pub name: &'a [u8],
}

impl OpenedFile<'_> {
    pub(super) fn store(&self, memory: &SlotMemory) {
        memory.ino.store(self.ino.0, Ordering::Relaxed);
        memory.kind.store(self.kind, Ordering::Relaxed);
        memory.parent.store(self.parent.0, Ordering::Relaxed);
        store_bytes(&memory.name, self.name);
        let len = if self.name.len() > NAME_MAX_BYTES {
            0
        } else {
            self.name.len()
        };
        memory.name_len.store(len as u64, Ordering::Relaxed);
    }
}

/// A description that was live when it was looked up.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    pub(super) arena: &'a Arena,
    pub(super) memory: &'a SlotMemory,
    pub(super) id: SlotId,
}

impl<'a> Slot<'a> {
    pub(super) fn open(arena: &'a Arena, id: SlotId) -> Option<Slot<'a>> {
        let memory = arena.map.slot(id.index)?;
        let slot = Slot { arena, memory, id };
        slot.is_live().then_some(slot)
    }

    fn word(&self) -> Word {
        Word(self.memory.word.load(Ordering::SeqCst))
    }

    /// Still open, and still the same description.
    pub fn is_live(&self) -> bool {
        let word = self.word();
        word.state() == State::Live && word.generation() == self.id.generation
    }

    pub fn id(&self) -> SlotId {
        self.id
    }

    pub fn ino(&self) -> InodeId {
        InodeId(self.memory.ino.load(Ordering::Relaxed) & i64::MAX as u64)
    }

    pub fn open_id(&self) -> OpenId {
        OpenId(self.memory.open.load(Ordering::Relaxed))
    }

    pub fn cluster(&self) -> ClusterId {
        let [low, high] = &self.memory.cluster;
        let high = u128::from(high.load(Ordering::Relaxed)) << 64;
        ClusterId(high | u128::from(low.load(Ordering::Relaxed)))
    }

    pub fn manager(&self) -> ManagerIndex {
        ManagerIndex((self.memory.place.load(Ordering::Relaxed) >> 8) as u8)
    }

    /// Its session has ended at the servers, or they may have lost its locks: what it stood for is
    /// gone.
    pub fn is_lost(&self) -> bool {
        self.memory.place.load(Ordering::Relaxed) & PLACE_LOST != 0
    }

    pub fn volume(&self) -> VolumeId {
        VolumeId(self.memory.volume.load(Ordering::Relaxed))
    }

    pub fn mount(&self) -> u8 {
        self.memory.place.load(Ordering::Relaxed) as u8
    }

    /// File type, as S_IFMT bits.
    pub fn kind(&self) -> u32 {
        self.memory.kind.load(Ordering::Relaxed)
    }

    /// The directory and the name that it was opened by.
    pub fn opened_by(&self) -> Option<(InodeId, Vec<u8>)> {
        let len = self.memory.name_len.load(Ordering::Relaxed) as usize;
        let parent = InodeId(self.memory.parent.load(Ordering::Relaxed) & i64::MAX as u64);
        (1..=NAME_MAX_BYTES)
            .contains(&len)
            .then(|| (parent, load_bytes(&self.memory.name, len)))
    }

    pub fn flags(&self) -> u32 {
        self.memory.flags.load(Ordering::Relaxed)
    }

    /// F_SETFL: replaces the bits of `mask` and leaves the others.
    pub fn set_flags(&self, flags: u32, mask: u32) {
        let step = |old: u32| Some(old & !mask | flags & mask);
        let _ = self
            .memory
            .flags
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, step);
    }

    /// Whether more than one descriptor may hold it (dup, fork, SCM_RIGHTS).
    pub fn is_shared(&self) -> bool {
        self.word().is_shared()
    }

    /// Sets the bit; `false` if the description is not live any more.
    pub(super) fn set_shared(&self) -> bool {
        let step = |w: Word| (w.state() == State::Live).then(|| w.shared());
        Word::change(&self.memory.word, self.id, step).is_some()
    }

    /// Remembers in which incarnation of a shard this description wrote first, for fsync. Writes
    /// of a later one do not hide that those of an earlier may be lost.
    pub fn note_written(&self, shard: ShardId, incarnation: Incarnation) {
        let key = u64::from(shard.0) + 1;
        for w in &self.memory.written {
            let found = match w
                .shard
                .compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => true,
                Err(other) => other == key,
            };
            if found {
                let zero = w.incarnation.compare_exchange(
                    0,
                    incarnation.0,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                let _ = zero;
                return;
            }
        }
    }

    /// After an fsync that succeeded, or that reported the loss: the next one starts afresh.
    pub fn forget_written(&self, shard: ShardId) {
        let key = u64::from(shard.0) + 1;
        for w in &self.memory.written {
            if w.shard.load(Ordering::Acquire) == key {
                w.incarnation.store(0, Ordering::Release);
            }
        }
    }

    /// The shards that this description wrote to since the last fsync, and in which incarnation.
    /// More than [`WRITTEN_MAX`] shards are not remembered.
    pub fn written(&self) -> impl Iterator<Item = (ShardId, Incarnation)> + '_ {
        self.memory.written[..WRITTEN_MAX].iter().filter_map(|w| {
            let shard = w.shard.load(Ordering::Acquire).checked_sub(1)?;
            let incarnation = w.incarnation.load(Ordering::Acquire);
            (incarnation != 0).then_some((ShardId(shard as u32), Incarnation(incarnation)))
        })
    }

    /// Remembers that a lock was changed through it, at the latest then.
    pub fn note_locked(&self, mark: LockMark) {
        let _ = self.memory.locked.fetch_max(pack(mark), Ordering::AcqRel);
    }

    /// When a lock was last changed through it.
    pub fn locked(&self) -> Option<LockMark> {
        unpack(self.memory.locked.load(Ordering::Acquire))
    }

    /// What the server says of its locks after a restart: intact until then, or lost.
    pub fn judge_locks(&self, intact: Option<LockMark>) {
        match intact {
            Some(mark) => self.note_locked(mark),
            None => drop(self.memory.place.fetch_or(PLACE_LOST, Ordering::SeqCst)),
        }
    }

    /// The offset as it is, for those who do not hold the lock (/proc/self/fdinfo).
    pub fn peek_offset(&self) -> u64 {
        self.memory.offset.load(Ordering::Relaxed)
    }
}
