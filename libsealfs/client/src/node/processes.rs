//! Who is registered: the processes of this node session, by pid and start time.
//!
//! An entry gives a process its short number in the arena ([`ProcessIndex`]), by which slots and
//! locks name their owner, and its client id. exec keeps pid and start time and therefore finds its
//! entry again; only fork makes a new process, which registers anew when it touches the mount. A new
//! image does not know which request sequences were used up: see [`Registration::first_sequence`].
//!
//! Entries are freed by the keeper alone, after it gave back everything that names them; so an
//! index never means two processes in one slot or lock.

use super::arena::{Arena, ManagerIndex};
use super::memory::{ProcessMemory, STATE_ENDED, STATE_ENDING, STATE_LIVE, Table};
use super::proc_stat::{exists, stat_of};
use super::runtime::{NodeError, Runtime};
use super::sys::{self, Result};
use core::sync::atomic::Ordering;
use sealfs_protocol::{ClientId, Errno, Sequence};

/// How long a registering process waits for a keeper that looks whether anybody is left, in ms.
const ENDING_MAX_MS: u64 = 2_000;
/// Bits of a sequence that count within one program image.
pub(super) const IMAGE_SEQUENCE_BITS: u32 = 40;

const FREE: u64 = 0;
const CLAIMED: u64 = 1;
const LIVE: u64 = 2;

/// Short number of a registered process; 0 is nobody (and the keeper).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ProcessIndex(pub u32);

impl ProcessIndex {
    pub const NOBODY: ProcessIndex = ProcessIndex(0);
}

/// A process as the kernel tells it apart from every other since boot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Process {
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, in clock ticks; 0 where `/proc` is not there.
    pub start: u64,
}

impl Process {
    /// The calling process.
    pub fn current() -> Process {
        let pid = rustix::process::getpid().as_raw_nonzero().get() as u32;
        Process {
            pid,
            start: stat_of(pid).map_or(0, |s| s.start),
        }
    }

    /// The process that has `pid` now, unless it is dead (a zombie counts as dead).
    pub fn find(pid: u32) -> Option<Process> {
        let stat = stat_of(pid)?;
        (!stat.is_dead).then_some(Process {
            pid,
            start: stat.start,
        })
    }

    /// Whether it still runs: not ended, no zombie, not another one with its pid.
    pub fn is_alive(self) -> bool {
        match stat_of(self.pid) {
            Some(s) => !s.is_dead && (self.start == 0 || s.start == self.start),
            None => self.start == 0 && exists(self.pid),
        }
    }
}

/// An entry as the keeper reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registered {
    pub index: ProcessIndex,
    pub process: Process,
    /// 0 while it registers.
    pub client: ClientId,
    pub manager: ManagerIndex,
    /// Its servers know that its client has ended.
    pub is_ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registration {
    pub index: ProcessIndex,
    pub process: Process,
    pub client: ClientId,
    /// 1 for a new client; more after exec.
    pub image: u32,
    /// The image before may have left it record locks.
    pub inherits_locks: bool,
}

impl Registration {
    /// The client's sequences start above this in every request slot.
    pub fn first_sequence(&self) -> Sequence {
        Sequence(u64::from(self.image) << IMAGE_SEQUENCE_BITS)
    }
}

impl Arena {
    /// Registers the calling process, or finds it again after exec. ESTALE: the session ended;
    /// attach anew (or use [`join`], which does).
    pub fn register(&self, runtime: &Runtime, manager: ManagerIndex) -> Result<Registration> {
        let process = Process::current();
        let registration = match self.find_process(process) {
            Some(index) => {
                self.wait_for_locks(index)?;
                self.register_again(index, process, manager)?
            }
            None => self.register_new(runtime, process, manager)?,
        };
        self.wait_for_live()?;
        Ok(registration)
    }

    pub(super) fn entry(&self, index: ProcessIndex) -> Option<&ProcessMemory> {
        self.map.process(index.0)
    }

    fn find_process(&self, process: Process) -> Option<ProcessIndex> {
        (1..self.map.used(Table::Processes))
            .map(ProcessIndex)
            .find(|i| {
                self.entry(*i).is_some_and(|e| {
                    let word = e.word.load(Ordering::SeqCst);
                    word & 0xff == LIVE
                        && (word >> 32) as u32 == process.pid
                        && e.start.load(Ordering::Relaxed) == process.start
                })
            })
    }

    fn register_again(
        &self,
        index: ProcessIndex,
        process: Process,
        manager: ManagerIndex,
    ) -> Result<Registration> {
        let entry = self.entry(index).ok_or(Errno::EIO)?;
        entry
            .word
            .store(word(LIVE, manager, process.pid), Ordering::SeqCst);
        let image = entry.images.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        if image == 1 {
            // The image before ended its client, and yet it was no exit.
            store_client(entry, ClientId(sys::random_u128()?));
        }
        Ok(Registration {
            index,
            process,
            client: client_of(entry),
            image,
            inherits_locks: entry.keeps_locks.load(Ordering::Acquire) != 0,
        })
    }

    fn register_new(
        &self,
        runtime: &Runtime,
        process: Process,
        manager: ManagerIndex,
    ) -> Result<Registration> {
        let client = ClientId(sys::random_u128()?);
        loop {
            let have = self.map.capacity(Table::Processes);
            for i in 1..have {
                let Some(entry) = self.map.process(i) else {
                    continue;
                };
                let claim = word(CLAIMED, manager, process.pid);
                if entry
                    .word
                    .compare_exchange(FREE, claim, Ordering::SeqCst, Ordering::Relaxed)
                    .is_err()
                {
                    continue;
                }
                self.map.note_used(Table::Processes, i);
                entry.start.store(process.start, Ordering::Relaxed);
                store_client(entry, client);
                entry.images.store(1, Ordering::Relaxed);
                entry.extending.store(0, Ordering::Relaxed);
                entry.leaving.store(0, Ordering::Relaxed);
                entry.keeps_locks.store(0, Ordering::Relaxed);
                entry
                    .word
                    .store(word(LIVE, manager, process.pid), Ordering::SeqCst);
                return Ok(Registration {
                    index: ProcessIndex(i),
                    process,
                    client,
                    image: 1,
                    inherits_locks: false,
                });
            }
            self.map.grow(runtime, Table::Processes, have)?;
        }
    }

    /// A keeper may be looking whether anybody is left; it decides in microseconds unless it died.
    fn wait_for_live(&self) -> Result<()> {
        let state = &self.map.header().state;
        let until = sys::boot_ms() + ENDING_MAX_MS;
        loop {
            match state.load(Ordering::SeqCst) {
                STATE_LIVE => return Ok(()),
                STATE_ENDED => return Err(Errno::ESTALE),
                _ => {}
            }
            if !super::keeper_link::is_running(self) || sys::boot_ms() > until {
                let (from, to) = (STATE_ENDING, STATE_LIVE);
                let _ = state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
                continue;
            }
            sys::pause_ms(1);
        }
    }

    /// Whether a registered process still runs; nobody does not.
    pub fn is_alive(&self, index: ProcessIndex) -> bool {
        let Some(entry) = self.entry(index) else {
            return false;
        };
        let word = entry.word.load(Ordering::SeqCst);
        let pid = (word >> 32) as u32;
        match word & 0xff {
            LIVE => Process {
                pid,
                start: entry.start.load(Ordering::Relaxed),
            }
            .is_alive(),
            // Its start time may not be there yet.
            CLAIMED => Process { pid, start: 0 }.is_alive(),
            _ => false,
        }
    }

    /// Every registered process, for the keeper. Entries whose process died while it registered
    /// come without a client.
    pub fn processes(&self) -> impl Iterator<Item = Registered> + '_ {
        (1..self.map.used(Table::Processes)).filter_map(|i| {
            let entry = self.map.process(i)?;
            let word = entry.word.load(Ordering::SeqCst);
            let is_live = word & 0xff == LIVE;
            (word & 0xff != FREE).then(|| Registered {
                index: ProcessIndex(i),
                process: Process {
                    pid: (word >> 32) as u32,
                    start: if is_live {
                        entry.start.load(Ordering::Relaxed)
                    } else {
                        0
                    },
                },
                client: if is_live {
                    client_of(entry)
                } else {
                    ClientId(0)
                },
                manager: ManagerIndex((word >> 8) as u8),
                is_ended: is_live && entry.images.load(Ordering::SeqCst) == 0,
            })
        })
    }

    /// The process told the servers its end itself ([`Registered::is_ended`]); the keeper need not.
    pub fn set_ended(&self, me: ProcessIndex) {
        if let Some(entry) = self.entry(me) {
            entry.images.store(0, Ordering::SeqCst);
        }
    }

    /// Keeper: nothing in the arena names this process any more.
    pub fn forget_process(&self, index: ProcessIndex) {
        if let Some(entry) = self.entry(index) {
            entry.word.store(FREE, Ordering::SeqCst);
        }
    }
}

/// Attaches to the node's arena and registers the calling process in it.
pub fn join(
    runtime: &Runtime,
    manager_url: &str,
) -> core::result::Result<(Arena, Registration), NodeError> {
    const TRIES: u32 = 50;
    for _ in 0..TRIES {
        let arena = Arena::attach(runtime)?;
        let manager = arena.manager(runtime, manager_url)?;
        match arena.register(runtime, manager) {
            Ok(registration) => return Ok((arena, registration)),
            Err(Errno::ESTALE) => {}
            Err(e) => return Err(NodeError::new(e, "cannot register in the arena")),
        }
    }
    Err(NodeError::new(
        Errno::EIO,
        "the arena ended again and again",
    ))
}

fn word(state: u64, manager: ManagerIndex, pid: u32) -> u64 {
    state | u64::from(manager.0) << 8 | u64::from(pid) << 32
}

fn store_client(entry: &ProcessMemory, client: ClientId) {
    entry.client[0].store(client.0 as u64, Ordering::Relaxed);
    entry.client[1].store((client.0 >> 64) as u64, Ordering::Relaxed);
}

pub(super) fn client_of(entry: &ProcessMemory) -> ClientId {
    let [low, high] = &entry.client;
    let high = u128::from(high.load(Ordering::Relaxed)) << 64;
    ClientId(high | u128::from(low.load(Ordering::Relaxed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calling_process_is_alive_and_another_start_time_is_not_it() {
        let me = Process::current();
        assert!(me.start > 0 && me.is_alive());
        assert!(
            !Process {
                pid: me.pid,
                start: me.start + 1
            }
            .is_alive()
        );
    }
}
