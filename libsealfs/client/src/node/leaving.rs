//! Record locks that go with an exec, because it closes a descriptor of their file.
//!
//! The image that executes a program counts the files in its entry and tells the keeper, which drops
//! the locks when the program runs. What must stay true: the program neither sees nor takes a lock
//! before that is done, so that none of its own is taken for one of those; a count is taken back by
//! whoever finished it, and by a keeper that begins, since nobody finishes those of the one before.

use super::arena::Arena;
use super::keeper_link;
use super::memory::Table;
use super::processes::{IMAGE_SEQUENCE_BITS, ProcessIndex, client_of};
use super::sys::{self, Result};
use core::sync::atomic::Ordering;
use sealfs_protocol::{ClientId, Errno, Sequence};

/// How long a program's first touch of the mount waits for the keeper, in ms.
const LOCKS_MAX_MS: u64 = 5_000;

/// For the `nth` thing that the keeper does in the name of a program image that is gone: above all
/// sequences of that image, below those of the next.
pub fn sequence_after(image: u32, nth: u32) -> Sequence {
    const LEFT_BITS: u32 = IMAGE_SEQUENCE_BITS - 1;
    /// A call repeats its requests under the same number; one needs but a few.
    const EACH_BITS: u32 = 4;
    let nth = u64::from(nth) << EACH_BITS;
    Sequence(u64::from(image) << IMAGE_SEQUENCE_BITS | 1 << LEFT_BITS | nth)
}

impl Arena {
    /// The process is about to execute a program: record locks on so many `files` will go, and others
    /// may stay (`keeps`).
    pub fn begin_exec(&self, me: ProcessIndex, files: u32, keeps: bool) {
        if let Some(entry) = self.entry(me) {
            entry.keeps_locks.store(u32::from(keeps), Ordering::Release);
            entry.leaving.fetch_add(files, Ordering::SeqCst);
        }
    }

    /// Record locks on so many files of the process will not go after all, or have gone.
    pub fn end_exec(&self, index: ProcessIndex, client: ClientId, files: u32) {
        let entry = self.entry(index).filter(|e| client_of(e) == client);
        if let Some(entry) = entry {
            let less = |n: u32| Some(n.saturating_sub(files));
            let (order, load) = (Ordering::SeqCst, Ordering::Relaxed);
            let _ = entry.leaving.fetch_update(order, load, less);
        }
    }

    /// Keeper: whether that client's process still waits for its record locks to go.
    pub fn awaits_locks(&self, index: ProcessIndex, client: ClientId) -> bool {
        let entry = self.entry(index).filter(|e| client_of(e) == client);
        entry.is_some_and(|e| e.leaving.load(Ordering::SeqCst) > 0) && self.is_alive(index)
    }

    /// Keeper: it begins, before it can be told of anything.
    pub fn forget_execs(&self) {
        for index in 1..self.map.used(Table::Processes) {
            if let Some(entry) = self.map.process(index) {
                entry.leaving.store(0, Ordering::SeqCst);
            }
        }
    }

    /// Waits until the record locks that went with the image before have gone. Without a keeper they
    /// stay. EIO: their server does not answer.
    pub(super) fn wait_for_locks(&self, index: ProcessIndex) -> Result<()> {
        let Some(entry) = self.entry(index) else {
            return Ok(());
        };
        let until = sys::boot_ms() + LOCKS_MAX_MS;
        while entry.leaving.load(Ordering::SeqCst) > 0 {
            if !keeper_link::is_running(self) {
                entry.leaving.store(0, Ordering::SeqCst);
            } else if sys::boot_ms() > until {
                return Err(Errno::EIO);
            } else {
                sys::pause_ms(1);
            }
        }
        Ok(())
    }
}
