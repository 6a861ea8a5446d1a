//! Who waits for which reply on one connection.
//!
//! Each request under way has an entry, found by the low byte of its tag. The thread that receives
//! (the leader) delivers replies into entries of other threads, payloads straight into their
//! memory. What must stay true: while an entry is `Receiving`, the thread that owns it stays in
//! [`super::exchange`]'s wait, so the memory that the leader writes to is alive.

use crate::memory::IoVecMut;
use crate::sync::{self, Mutex, Woken};
use core::sync::atomic::AtomicU32;
use core::sync::atomic::Ordering::{AcqRel, Acquire, Release, SeqCst};
use core::time::Duration;
use sealfs_protocol::header::Header;

/// Requests that may be under way on one connection: the credits of a server, and lock waiters,
/// which hold none.
pub(super) const ENTRIES: usize = 96;

/// Values of an entry's word.
const WAITING: u32 = 1;
const DONE: u32 = 2;
/// The leader has left: whoever finds this tries to lead.
const LEAD: u32 = 3;
/// As [`WAITING`]; the thread sleeps on the word, or is about to.
const SLEEPING: u32 = 4;

pub(super) struct Table {
    entries: Mutex<Entries>,
    /// One futex word for each entry.
    words: [AtomicU32; ENTRIES],
    /// Raised whenever an entry becomes free.
    freed: AtomicU32,
    /// Threads that sleep until an entry is free.
    hungry: AtomicU32,
}

struct Entries {
    list: [Entry; ENTRIES],
    next_tag: u64,
    used: usize,
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Replied,
    /// The connection broke before the reply was complete.
    Broken,
}

struct Entry {
    /// 0: free.
    tag: u64,
    state: State,
    targets: Targets,
    header: Header,
    body: Vec<u8>,
    landed: usize,
    fault: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    Waiting,
    Receiving,
    Ended(End),
}

/// The owner's list of places for the payload, as the leader sees it.
#[derive(Clone, Copy)]
pub(super) struct Targets {
    list: *const IoVecMut<'static>,
    count: usize,
}

#[allow(
    unsafe_code,
    reason = "lists of places cross threads under the table's lock"
)]
// SAFETY: the list is only followed by the leader, while its owner waits (see the header).
unsafe impl Send for Targets {}

impl Targets {
    pub const NONE: Targets = Targets {
        list: core::ptr::null(),
        count: 0,
    };

    pub fn new(list: &mut [IoVecMut<'_>]) -> Targets {
        Targets {
            list: list.as_ptr().cast(),
            count: list.len(),
        }
    }

    /// The places themselves.
    ///
    /// # Safety
    /// The owner of the list waits in `exchange` until the entry has ended.
    #[allow(unsafe_code, reason = "see the header")]
    pub unsafe fn list(&self) -> &[IoVecMut<'static>] {
        if self.count == 0 {
            return &[];
        }
        // SAFETY: made from a live slice in `new`; the caller keeps it alive.
        unsafe { core::slice::from_raw_parts(self.list, self.count) }
    }
}

/// What came back for one request.
#[derive(Debug)]
pub struct Response {
    pub header: Header,
    /// Payload bytes that landed in the caller's memory.
    pub payload_bytes: usize,
    /// Some of the payload met memory that could not be written (EFAULT).
    pub fault: bool,
}

impl Table {
    pub fn new() -> Table {
        let entry = || Entry {
            tag: 0,
            state: State::Free,
            targets: Targets::NONE,
            header: Header::new(sealfs_protocol::header::Kind::Reply),
            body: Vec::new(),
            landed: 0,
            fault: false,
        };
        Table {
            entries: Mutex::new(Entries {
                list: core::array::from_fn(|_| entry()),
                next_tag: 1,
                used: 0,
            }),
            words: core::array::from_fn(|_| AtomicU32::new(0)),
            freed: AtomicU32::new(0),
            hungry: AtomicU32::new(0),
        }
    }

    /// Takes an entry; `None` when all are in use. Returns its index and the tag to send.
    pub fn take(&self, targets: Targets) -> Option<(usize, u64)> {
        let mut entries = self.entries.lock();
        let index = entries.list.iter().position(|e| e.state == State::Free)?;
        let tag = entries.next_tag << 8 | index as u64;
        entries.next_tag += 1;
        entries.used += 1;
        let entry = &mut entries.list[index];
        entry.tag = tag;
        entry.state = State::Waiting;
        entry.targets = targets;
        entry.landed = 0;
        entry.fault = false;
        self.words[index].store(WAITING, Release);
        Some((index, tag))
    }

    /// Gives an entry back; its body is swapped into `body`.
    pub fn give_back(&self, index: usize, body: &mut Vec<u8>) -> (End, Response) {
        let mut entries = self.entries.lock();
        entries.used -= 1;
        let entry = &mut entries.list[index];
        let end = match entry.state {
            State::Ended(end) => end,
            State::Free | State::Waiting | State::Receiving => End::Broken,
        };
        entry.state = State::Free;
        entry.tag = 0;
        entry.targets = Targets::NONE;
        core::mem::swap(&mut entry.body, body);
        let response = Response {
            header: entry.header,
            payload_bytes: entry.landed,
            fault: entry.fault,
        };
        // Under the lock: the next owner of the entry sets this word, and must not lose its own.
        self.words[index].store(0, Release);
        drop(entries);
        self.freed.fetch_add(1, SeqCst);
        if self.hungry.load(SeqCst) > 0 {
            sync::wake(&self.freed, 1);
        }
        (end, response)
    }

    /// Counts the entries that became free, for a thread that is about to look for one.
    pub fn freed(&self) -> u32 {
        self.freed.load(SeqCst)
    }

    /// Sleeps until an entry has become free since `freed` was asked, at most `limit`.
    pub fn wait_for_free(&self, freed: u32, limit: Duration) {
        // Whoever frees one after the sleep has begun sees that somebody sleeps.
        self.hungry.fetch_add(1, SeqCst);
        sync::sleep_while(&self.freed, freed, Some(limit));
        self.hungry.fetch_sub(1, SeqCst);
    }

    /// Sleeps until the entry has ended or its owner is asked to lead, at most `limit`.
    pub fn wait_for_word(&self, index: usize, limit: Duration) -> Woken {
        let word = &self.words[index];
        match word.compare_exchange(WAITING, SLEEPING, AcqRel, Acquire) {
            Ok(_) | Err(SLEEPING) => sync::sleep_while(word, SLEEPING, Some(limit)),
            Err(_) => Woken::Changed,
        }
    }

    /// Forgets that the entry's owner was asked to lead.
    pub fn take_call(&self, index: usize) {
        let _ = self.words[index].compare_exchange(LEAD, WAITING, AcqRel, Acquire);
    }

    fn tell(&self, index: usize, what: u32) {
        if self.words[index].swap(what, AcqRel) == SLEEPING {
            sync::wake(&self.words[index], 1);
        }
    }

    pub fn is_done(&self, index: usize) -> bool {
        self.words[index].load(Acquire) == DONE
    }

    /// The leader has a reply's header: claims the entry. `None`: nobody waits for it.
    pub fn claim(&self, tag: u64) -> Option<(usize, Targets)> {
        let index = (tag & 0xff) as usize;
        let mut entries = self.entries.lock();
        let entry = entries.list.get_mut(index)?;
        if entry.tag != tag || entry.state != State::Waiting {
            return None;
        }
        entry.state = State::Receiving;
        Some((index, entry.targets))
    }

    /// The leader has all of a claimed reply.
    pub fn deliver(&self, index: usize, header: Header, body: &[u8], landed: usize, fault: bool) {
        let mut entries = self.entries.lock();
        let entry = &mut entries.list[index];
        entry.header = header;
        entry.body.clear();
        entry.body.extend_from_slice(body);
        entry.landed = landed;
        entry.fault = fault;
        self.end(entry, index, End::Replied);
    }

    /// The connection is broken: whoever waits learns it. `claimed` is the entry that the calling
    /// leader had claimed; another leader's is left to that leader.
    pub fn fail_all(&self, claimed: Option<usize>) {
        let mut entries = self.entries.lock();
        for (index, entry) in entries.list.iter_mut().enumerate() {
            let mine = entry.state == State::Receiving && claimed == Some(index);
            if entry.state == State::Waiting || mine {
                self.end(entry, index, End::Broken);
            }
        }
    }

    fn end(&self, entry: &mut Entry, index: usize, end: End) {
        entry.state = State::Ended(end);
        self.tell(index, DONE);
    }

    /// After the leader has left: asks one of the waiting threads to lead.
    pub fn hand_over(&self) {
        let entries = self.entries.lock();
        if entries.used == 0 {
            return;
        }
        for (index, entry) in entries.list.iter().enumerate() {
            if matches!(entry.state, State::Waiting | State::Receiving) {
                self.tell(index, LEAD);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::header::Kind;

    #[test]
    fn a_reply_is_not_lost_to_the_thread_that_had_the_entry_before() {
        let table = Table::new();
        let header = Header::new(Kind::Reply);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    let mut body = Vec::new();
                    for _ in 0..20_000 {
                        let Some((index, tag)) = table.take(Targets::NONE) else {
                            continue;
                        };
                        assert!(table.claim(tag).is_some());
                        table.deliver(index, header, b"x", 0, false);
                        assert!(table.is_done(index));
                        assert_eq!(table.give_back(index, &mut body).0, End::Replied);
                    }
                });
            }
        });
    }
}
