//! The keeper's view of the arena: what ended processes leave, and whether anybody is left.
//!
//! Used by the keeper alone, from one thread; there is one keeper by its lock. What it takes over
//! it marks as *closing, owned by nobody*, so that a keeper that is killed in the middle leaves
//! that to the next one; telling a server twice does no harm.

use super::arena::{Arena, ManagerIndex};
use super::memory::{ARENA_FILE, PLACE_LOST, STATE_ENDED, STATE_ENDING, STATE_LIVE, Table};
use super::offset::{offset_holder, unlock_offset};
use super::placeholder::{self, SLOTS_DIR};
use super::processes::{Process, ProcessIndex};
use super::runtime::Runtime;
use super::slot::{SlotId, State, Word, unpack};
use super::sys;
use core::sync::atomic::Ordering;
use sealfs_protocol::message::LockMark;
use sealfs_protocol::{InodeId, OpenId, SessionId};

/// A description that the server has to be told the end of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remains {
    pub id: SlotId,
    pub manager: ManagerIndex,
    pub ino: InodeId,
    pub open: OpenId,
    /// When a lock was last changed through it.
    pub locked: Option<LockMark>,
}

impl Arena {
    /// The keeper lives: it says who it is.
    pub fn set_keeper(&self, keeper: Process) {
        let header = self.map.header();
        header.keeper_start.store(keeper.start, Ordering::SeqCst);
        header.keeper_pid.store(keeper.pid, Ordering::SeqCst);
        // One that died while it looked for an end did not end anything.
        let _ = header.state.compare_exchange(
            STATE_ENDING,
            STATE_LIVE,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }

    /// The keeper is there and at work; said at least every second.
    pub fn set_renewed(&self) {
        self.map
            .header()
            .renewed_ms
            .store(sys::boot_ms(), Ordering::Relaxed);
    }

    /// The servers have ended the session: another begins. The open descriptions were of the one
    /// before, with their locks; whoever holds one is told so from now on.
    pub fn begin_session(&self) -> sys::Result<SessionId> {
        for index in 0..self.map.used(Table::Slots) {
            if let (Some((_, word)), Some(memory)) = (self.slot_word(index), self.map.slot(index))
                && word.state() == State::Live
            {
                memory.place.fetch_or(PLACE_LOST, Ordering::SeqCst);
            }
        }
        let header = self.map.header();
        let id = sys::random_u128()?;
        header.session_version.fetch_add(1, Ordering::SeqCst);
        header.session[0].store(id as u64, Ordering::SeqCst);
        header.session[1].store((id >> 64) as u64, Ordering::SeqCst);
        header.session_version.fetch_add(1, Ordering::SeqCst);
        Ok(SessionId(id))
    }

    /// Makes every process drop what it caches.
    pub fn raise_callback(&self) {
        self.map.header().callback.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes over what the ended process `dead` leaves: its locks, and descriptions that nobody else
    /// holds. Those that others hold lose their owner.
    pub fn take_remains(&self, runtime: &Runtime, dead: ProcessIndex) -> Vec<Remains> {
        let mut found = Vec::new();
        for index in 0..self.map.used(Table::Slots) {
            self.break_offset_lock(index, dead);
            let Some((id, word)) = self.slot_word(index) else {
                continue;
            };
            if word.owner() != dead {
                continue;
            }
            match word.state() {
                State::Free => {}
                State::Claimed => self.release(id),
                State::Draining => self.finish_release(id),
                State::Closing => {
                    self.disown(id, State::Closing);
                    found.extend(self.remains(id));
                }
                State::Live if self.take_if_unheld(runtime, id, word) => {
                    found.extend(self.remains(id));
                }
                State::Live => self.disown(id, State::Live),
            }
        }
        found
    }

    /// Takes over shared descriptions whose last descriptor went away without a word.
    pub fn take_unheld(&self, runtime: &Runtime) -> Vec<Remains> {
        (0..self.map.used(Table::Slots))
            .filter_map(|index| self.take_if_left(runtime, self.slot_word(index)?.0))
            .collect()
    }

    /// Takes over this description if it was shared and its last descriptor went away without a word.
    pub fn take_if_left(&self, runtime: &Runtime, id: SlotId) -> Option<Remains> {
        let (now, word) = self.slot_word(id.index)?;
        let is_candidate = now == id && word.state() == State::Live && word.is_shared();
        (is_candidate && self.take_if_unheld(runtime, id, word))
            .then(|| self.remains(id))
            .flatten()
    }

    /// What a keeper before took over and did not finish.
    pub fn unfinished(&self) -> Vec<Remains> {
        (0..self.map.used(Table::Slots))
            .filter_map(|index| {
                let (id, word) = self.slot_word(index)?;
                let is_left = word.owner() == ProcessIndex::NOBODY;
                match word.state() {
                    State::Closing if is_left => self.remains(id),
                    State::Draining | State::Claimed if is_left => {
                        self.release(id);
                        self.finish_release(id);
                        None
                    }
                    _ => None,
                }
            })
            .collect()
    }

    /// Open descriptions, those included that are being opened or closed.
    pub fn slots_in_use(&self) -> usize {
        (0..self.map.used(Table::Slots))
            .filter(|i| {
                self.slot_word(*i)
                    .is_some_and(|(_, w)| w.state() != State::Free)
            })
            .count()
    }

    /// The live descriptions of the node, for reasserting them after a server's restart; not those
    /// of a session that has ended.
    pub fn live_descriptions(&self) -> Vec<Remains> {
        (0..self.map.used(Table::Slots))
            .filter_map(|index| {
                let (id, word) = self.slot_word(index)?;
                let is_lost = self.slot(id).is_some_and(|slot| slot.is_lost());
                (word.state() == State::Live && !is_lost)
                    .then(|| self.remains(id))
                    .flatten()
            })
            .collect()
    }

    /// What a server said of the locks of a description after its restart.
    pub fn judge_locks(
        &self,
        manager: ManagerIndex,
        ino: InodeId,
        open: OpenId,
        intact: Option<LockMark>,
    ) {
        for index in 0..self.map.used(Table::Slots) {
            let slot = self.slot_word(index).and_then(|(id, _)| self.slot(id));
            let slot = slot.filter(|s| (s.manager(), s.ino(), s.open_id()) == (manager, ino, open));
            if let Some(slot) = slot {
                slot.judge_locks(intact);
            }
        }
    }

    fn slot_word(&self, index: u32) -> Option<(SlotId, Word)> {
        let word = Word(self.map.slot(index)?.word.load(Ordering::SeqCst));
        Some((
            SlotId {
                index,
                generation: word.generation(),
            },
            word,
        ))
    }

    fn break_offset_lock(&self, index: u32, dead: ProcessIndex) {
        let Some(memory) = self.map.slot(index) else {
            return;
        };
        let word = memory.offset_lock.load(Ordering::SeqCst);
        if offset_holder(word) == Some(dead) {
            unlock_offset(&memory.offset_lock, word);
            if let Some((id, _)) = self.slot_word(index) {
                self.finish_release(id);
            }
        }
    }

    fn take_if_unheld(&self, runtime: &Runtime, id: SlotId, word: Word) -> bool {
        let nobody = ProcessIndex::NOBODY;
        if word.is_shared() {
            placeholder::last_closer(runtime, self, id, nobody)
        } else {
            self.begin_close(id, nobody)
        }
    }

    fn disown(&self, id: SlotId, state: State) {
        let Some(memory) = self.map.slot(id.index) else {
            return;
        };
        let step = |w: Word| (w.state() == state).then(|| w.with_owner(ProcessIndex::NOBODY));
        Word::change(&memory.word, id, step);
    }

    fn remains(&self, id: SlotId) -> Option<Remains> {
        let memory = self.map.slot(id.index)?;
        Some(Remains {
            id,
            manager: ManagerIndex((memory.place.load(Ordering::Relaxed) >> 8) as u8),
            ino: InodeId(memory.ino.load(Ordering::Relaxed) & i64::MAX as u64),
            open: OpenId(memory.open.load(Ordering::Relaxed)),
            locked: unpack(memory.locked.load(Ordering::Acquire)),
        })
    }

    /// No process is registered, no description open, no file mapped.
    pub fn is_empty(&self) -> bool {
        self.processes().next().is_none()
            && self.slots_in_use() == 0
            && self.map.header().mapped_count.load(Ordering::SeqCst) == 0
    }

    /// Ends the arena and with it the session if no process, description or mapping is left.
    /// Processes that register meanwhile wait for the answer, which takes microseconds.
    pub fn try_end(&self) -> bool {
        let state = &self.map.header().state;
        let (order, live, ending) = (Ordering::SeqCst, STATE_LIVE, STATE_ENDING);
        if state.compare_exchange(live, ending, order, order).is_err() {
            return false;
        }
        let is_empty = self.is_empty();
        state.store(if is_empty { STATE_ENDED } else { STATE_LIVE }, order);
        is_empty
    }

    /// After [`Arena::try_end`] said yes: the files go, the arena last, since the next one may be made
    /// from then on.
    pub fn remove_files(&self, runtime: &Runtime) {
        for index in 0..self.map.used(Table::Slots) {
            let mut path = runtime.join(SLOTS_DIR);
            let _ = sys::rmdir(path.push(b"/").push_number(u64::from(index)).as_c_str());
        }
        let _ = sys::rmdir(runtime.join(SLOTS_DIR).as_c_str());
        let _ = sys::unlink(runtime.join(ARENA_FILE).as_c_str());
    }
}
