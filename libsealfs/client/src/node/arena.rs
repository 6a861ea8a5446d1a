//! The arena: the open file descriptions of one user on one node, in shared memory.
//!
//! The first process makes the file and mints the node session in it; both live exactly as long as
//! each other. The keeper ends them when no process, description or mapping is left: it sets the
//! state to *ending*, looks once more, and either takes it back or removes the file. A process
//! therefore registers first and looks at the state after ([`super::processes`]); one that finds
//! *ended* attaches anew.
//!
//! Slots are taken by one compare-and-swap that names the taker, so that whoever is killed leaves
//! a trace that the keeper can follow; see [`super::slot`] for the life of a slot.

use super::memory::{
    ARENA_FILE, HEADER_BYTES, MAGIC, MANAGER_URL_MAX_BYTES, Mapping, STATE_ENDED, Table, VERSION,
    load_bytes, store_bytes,
};
use super::processes::ProcessIndex;
use super::runtime::{NodeError, Runtime};
use super::slot::{OpenedFile, Slot, SlotId, SlotInit, State, Word};
use super::sys::{self, Fd, Result};
use core::sync::atomic::Ordering;
use rustix::fs::{AtFlags, FlockOperation, OFlags};
use sealfs_protocol::{Errno, OpenId, SessionId};

/// How long a process waits for another that makes the arena, in ms.
const ATTACH_MAX_MS: u64 = 5_000;

/// Index of a manager's URL in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ManagerIndex(pub u8);

/// The mapped arena. Keeps no descriptor; survives fork (the mapping is shared).
#[derive(Debug)]
pub struct Arena {
    pub(super) map: Mapping,
}

impl Arena {
    /// Maps the node's arena and makes it if there is none.
    pub fn attach(runtime: &Runtime) -> core::result::Result<Arena, NodeError> {
        let path = runtime.join(ARENA_FILE);
        let until = sys::boot_ms() + ATTACH_MAX_MS;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let opened = match sys::open(path.as_c_str(), flags, 0o600) {
                // A keeper that ended took the directory away.
                Err(Errno::ENOENT) if runtime.is_default() => sys::mkdir(runtime.path(), 0o700)
                    .or_else(|e| if e == Errno::EEXIST { Ok(()) } else { Err(e) })
                    .and_then(|()| sys::open(path.as_c_str(), flags, 0o600)),
                other => other,
            };
            let file = opened
                .map_err(|e| NodeError::new(e, "cannot open the arena in the runtime directory"))?;
            let arena = Arena::map_file(runtime, &file, until)?;
            if arena.map.header().state.load(Ordering::Acquire) != STATE_ENDED {
                return Ok(arena);
            }
            if sys::boot_ms() > until {
                let text = "the arena ended and was not removed";
                return Err(NodeError::new(Errno::EIO, text));
            }
            if !super::keeper_link::is_running(&arena) {
                arena.remove_abandoned(runtime, &file, until)?;
            }
            sys::pause_ms(1);
        }
    }

    /// The keeper was killed after it ended the arena and before it removed it.
    fn remove_abandoned(
        &self,
        runtime: &Runtime,
        file: &Fd,
        until: u64,
    ) -> core::result::Result<(), NodeError> {
        let _lock = FileLock::take(file, until)?;
        let path = runtime.join(ARENA_FILE);
        let named = sys::stat_at(sys::CWD, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW);
        if named.is_ok_and(|st| st.st_ino == self.map.inode()) {
            sys::unlink(path.as_c_str())?;
        }
        Ok(())
    }

    fn map_file(
        runtime: &Runtime,
        file: &Fd,
        until: u64,
    ) -> core::result::Result<Arena, NodeError> {
        let st = sys::fstat(file.raw())?;
        if st.st_uid != runtime.uid() {
            return Err(NodeError::new(
                Errno::EACCES,
                "the arena belongs to another user",
            ));
        }
        let is_made = st.st_size > 0;
        if !is_made {
            sys::allocate(file.raw(), 0, HEADER_BYTES as u64)
                .map_err(|e| NodeError::new(e, "no room for the arena in the runtime directory"))?;
        }
        let map = Mapping::map(file, st.st_ino)?;
        if map.header().magic.load(Ordering::Acquire) == 0 {
            let _lock = FileLock::take(file, until)?;
            if map.header().magic.load(Ordering::Acquire) == 0 {
                map.initialise(file)?;
            }
        }
        let magic = map.header().magic.load(Ordering::Acquire);
        if magic != MAGIC || map.header().version.load(Ordering::Relaxed) != VERSION {
            let text = "the arena was made by another version of sealfs; end its programs or set \
                        SEALFS_RUNTIME_DIR";
            return Err(NodeError::new(Errno::EOPNOTSUPP, text));
        }
        super::placeholder::make_slots_dir(runtime)?;
        Ok(Arena { map })
    }

    /// The node session that everything here belongs to. Another one follows only when the servers
    /// ended it because the keeper could not renew its lease in time.
    pub fn session(&self) -> SessionId {
        let header = self.map.header();
        let [low, high] = &header.session;
        loop {
            let before = header.session_version.load(Ordering::SeqCst);
            let id = u128::from(high.load(Ordering::SeqCst)) << 64
                | u128::from(low.load(Ordering::SeqCst));
            let after = header.session_version.load(Ordering::SeqCst);
            // A keeper killed while it changed the session leaves an odd version until the next one.
            if before == after {
                return SessionId(id);
            }
            core::hint::spin_loop();
        }
    }

    /// A number for a new open file description, unique within the session.
    pub fn mint_open(&self) -> OpenId {
        OpenId(self.map.header().next_open.fetch_add(1, Ordering::Relaxed))
    }

    /// The numbers of all that are open.
    pub fn live_opens(&self) -> Vec<OpenId> {
        let slots = (0..self.map.used(Table::Slots)).filter_map(|index| self.map.slot(index));
        let live = slots.filter(|s| Word(s.word.load(Ordering::SeqCst)).state() == State::Live);
        live.map(|s| OpenId(s.open.load(Ordering::Relaxed)))
            .collect()
    }

    /// The word that the keeper raises for every callback from a server.
    pub fn callbacks(&self) -> u32 {
        self.map.header().callback.load(Ordering::Acquire)
    }

    /// Takes a slot for a description that is about to be opened. Nobody else sees it before
    /// [`Arena::publish`]. ENFILE when the arena is full.
    pub fn allocate(&self, runtime: &Runtime, me: ProcessIndex, init: &SlotInit) -> Result<SlotId> {
        loop {
            let have = self.map.capacity(Table::Slots);
            let start = self.map.header().slot_hint.load(Ordering::Relaxed) % have.max(1);
            for index in (start..have).chain(0..start) {
                if let Some(id) = self.try_claim(index, me) {
                    self.map
                        .header()
                        .slot_hint
                        .store(index + 1, Ordering::Relaxed);
                    self.map.note_used(Table::Slots, index);
                    init.store(self.map.slot(index).ok_or(Errno::EIO)?);
                    return Ok(id);
                }
            }
            self.map.grow(runtime, Table::Slots, have)?;
        }
    }

    fn try_claim(&self, index: u32, me: ProcessIndex) -> Option<SlotId> {
        let memory = self.map.slot(index)?;
        let old = Word(memory.word.load(Ordering::Relaxed));
        if old.state() != State::Free {
            return None;
        }
        let generation = old.generation().wrapping_add(1).max(1);
        let new = Word::new(State::Claimed, me, generation);
        memory
            .word
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
            .ok()
            .map(|_| SlotId { index, generation })
    }

    /// The description is open at the server: everybody who holds its descriptor may use it.
    pub fn publish(&self, id: SlotId, file: &OpenedFile<'_>) -> Result<()> {
        let memory = self.map.slot(id.index).ok_or(Errno::EBADF)?;
        if self.word(id).map(Word::state) != Some(State::Claimed) {
            return Err(Errno::EBADF);
        }
        file.store(memory);
        let step = |w: Word| (w.state() == State::Claimed).then(|| w.with_state(State::Live));
        Word::change(&memory.word, id, step)
            .map(drop)
            .ok_or(Errno::EBADF)
    }

    /// The slot's word, if it is still of that generation.
    pub(super) fn word(&self, id: SlotId) -> Option<Word> {
        let word = Word(self.map.slot(id.index)?.word.load(Ordering::SeqCst));
        (word.generation() == id.generation).then_some(word)
    }

    /// The description, if it is (still) open.
    pub fn slot(&self, id: SlotId) -> Option<Slot<'_>> {
        Slot::open(self, id)
    }

    /// What a descriptor on the placeholder of slot `index` means now.
    pub fn live(&self, index: u32) -> Option<SlotId> {
        let word = Word(self.map.slot(index)?.word.load(Ordering::Acquire));
        (word.state() == State::Live).then(|| SlotId {
            index,
            generation: word.generation(),
        })
    }

    /// The one closer wins: from now on the description is closing, and the caller has to tell the
    /// server and then [`Arena::release`] it. `false`: somebody else did. For descriptions that are
    /// not shared; [`super::placeholder::last_closer`] decides for all.
    pub fn begin_close(&self, id: SlotId, me: ProcessIndex) -> bool {
        let Some(memory) = self.map.slot(id.index) else {
            return false;
        };
        let step = |w: Word| {
            (w.state() == State::Live).then(|| Word::new(State::Closing, me, w.generation()))
        };
        Word::change(&memory.word, id, step).is_some()
    }

    /// Gives the slot back: after the server was told, or for one that was never published.
    /// A thread that is still inside an operation on it gives it back when it leaves.
    pub fn release(&self, id: SlotId) {
        let Some(memory) = self.map.slot(id.index) else {
            return;
        };
        let step = |w: Word| {
            matches!(w.state(), State::Claimed | State::Closing)
                .then(|| w.with_state(State::Draining))
        };
        if Word::change(&memory.word, id, step).is_some()
            && memory.offset_lock.load(Ordering::SeqCst) == 0
        {
            self.finish_release(id);
        }
    }

    /// Draining to free; whoever of closer and last user comes second does it.
    pub(super) fn finish_release(&self, id: SlotId) {
        let Some(memory) = self.map.slot(id.index) else {
            return;
        };
        let step = |w: Word| (w.state() == State::Draining).then(|| Word::free(w.generation()));
        if Word::change(&memory.word, id, step).is_some() {
            self.map
                .header()
                .slot_hint
                .store(id.index, Ordering::Relaxed);
        }
    }

    /// The place of a manager's URL in the arena, added if new.
    pub fn manager(
        &self,
        runtime: &Runtime,
        url: &str,
    ) -> core::result::Result<ManagerIndex, NodeError> {
        if url.is_empty() || url.len() > MANAGER_URL_MAX_BYTES {
            let text = format!("manager URL must have 1 to {MANAGER_URL_MAX_BYTES} bytes: {url}");
            return Err(NodeError::new(Errno::EINVAL, text));
        }
        if let Some(found) = self.find_manager(url) {
            return Ok(found);
        }
        let path = runtime.join(ARENA_FILE);
        let file = sys::open(
            path.as_c_str(),
            OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            0,
        )?;
        let _lock = FileLock::take(&file, sys::boot_ms() + ATTACH_MAX_MS)?;
        if let Some(found) = self.find_manager(url) {
            return Ok(found);
        }
        for (i, entry) in self.map.header().managers.iter().enumerate() {
            if entry.len.load(Ordering::Acquire) == 0 {
                store_bytes(&entry.url, url.as_bytes());
                entry.len.store(url.len() as u64, Ordering::Release);
                return Ok(ManagerIndex(i as u8));
            }
        }
        Err(NodeError::new(
            Errno::ENFILE,
            "too many clusters are in use on this node",
        ))
    }

    fn find_manager(&self, url: &str) -> Option<ManagerIndex> {
        (0..super::memory::MANAGERS_MAX as u8)
            .map(ManagerIndex)
            .map_while(|i| self.manager_url(i).map(|u| (i, u)))
            .find_map(|(i, u)| (u == url).then_some(i))
    }

    /// The URL at `index`.
    pub fn manager_url(&self, index: ManagerIndex) -> Option<String> {
        let entry = self.map.header().managers.get(usize::from(index.0))?;
        let len = entry.len.load(Ordering::Acquire) as usize;
        if len == 0 || len > MANAGER_URL_MAX_BYTES {
            return None;
        }
        String::from_utf8(load_bytes(&entry.url, len)).ok()
    }
}

/// flock(2) on a file of the runtime directory, let go when dropped.
pub(super) struct FileLock<'a>(&'a Fd);

impl<'a> FileLock<'a> {
    /// Its holder may be stopped, so the wait has an end ([`sys::boot_ms`]).
    pub(super) fn take(file: &'a Fd, until: u64) -> core::result::Result<FileLock<'a>, NodeError> {
        loop {
            match sys::flock(file.raw(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(FileLock(file)),
                Err(Errno::EAGAIN | Errno::EINTR) if sys::boot_ms() < until => sys::pause_ms(1),
                Err(e) => return Err(NodeError::new(e, "the runtime directory stays locked")),
            }
        }
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        let _ = sys::flock(self.0.raw(), FlockOperation::Unlock);
    }
}
