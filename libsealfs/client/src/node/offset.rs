//! The offset of an open file description, and the lock on it.
//!
//! The lock is held over read, write and lseek as the kernel holds `f_pos_lock`; pread and pwrite
//! never take it. Its word names its holder and the slot's generation; a waiter breaks it when the
//! holder is dead, and so does the keeper. A process that holds it must not be interrupted by a
//! handler that uses the same descriptor: the caller blocks signals.

use super::processes::ProcessIndex;
use super::slot::{OWNER_BITS, Slot};
use super::sys::Result;
use core::sync::atomic::{AtomicU32, Ordering};
use rustix::thread::futex;
use sealfs_protocol::Errno;

/// Between two looks whether the holder still lives, in ms.
const LOOK_MS: u32 = 50;
/// Tries before a waiter sleeps.
const SPINS: u32 = 64;
const WAITERS: u32 = 1 << 31;
const OWNER_MASK: u32 = (1 << OWNER_BITS) - 1;

impl<'a> Slot<'a> {
    /// Takes the offset lock. EBADF when the description was closed meanwhile, EIO when the holder
    /// lives and does not let go within `wait_ms`.
    pub fn lock_offset(&self, me: ProcessIndex, wait_ms: u32) -> Result<OffsetGuard<'a>> {
        let mine = me.0 & OWNER_MASK | (self.id.generation & 0x7ff) << OWNER_BITS;
        let lock = &self.memory.offset_lock;
        if lock
            .compare_exchange(0, mine, Ordering::SeqCst, Ordering::Relaxed)
            .is_err()
        {
            self.wait_offset(lock, mine, wait_ms)?;
        }
        let guard = OffsetGuard { slot: *self, mine };
        if self.is_live() {
            Ok(guard)
        } else {
            Err(Errno::EBADF)
        }
    }

    fn wait_offset(&self, lock: &AtomicU32, mine: u32, wait_ms: u32) -> Result<()> {
        for _ in 0..SPINS {
            core::hint::spin_loop();
            if lock
                .compare_exchange(0, mine, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(());
            }
        }
        let until = super::sys::boot_ms() + u64::from(wait_ms);
        loop {
            let now = lock.load(Ordering::Relaxed);
            if now == 0 {
                let taken = mine | WAITERS;
                if lock
                    .compare_exchange(0, taken, Ordering::SeqCst, Ordering::Relaxed)
                    .is_ok()
                {
                    return Ok(());
                }
                continue;
            }
            let marked = now | WAITERS;
            if now != marked
                && lock
                    .compare_exchange(now, marked, Ordering::SeqCst, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            if !wait_for_change(lock, marked) && self.break_dead(lock, marked, mine) {
                return Ok(());
            }
            if super::sys::boot_ms() >= until {
                return Err(Errno::EIO);
            }
        }
    }

    /// Takes the lock over from a holder that is dead.
    fn break_dead(&self, lock: &AtomicU32, seen: u32, mine: u32) -> bool {
        let holder = ProcessIndex(seen & OWNER_MASK);
        !self.arena.is_alive(holder)
            && lock
                .compare_exchange(seen, mine | WAITERS, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
    }
}

/// Waits for the word to change, for [`LOOK_MS`]; `false` when that time passed.
fn wait_for_change(lock: &AtomicU32, seen: u32) -> bool {
    let time = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(LOOK_MS) * 1_000_000,
    };
    !matches!(
        futex::wait(lock, futex::Flags::empty(), seen, Some(&time)),
        Err(rustix::io::Errno::TIMEDOUT)
    )
}

/// Lets go of an offset lock whose word is `mine`; used by its holder and by the keeper.
pub(super) fn unlock_offset(lock: &AtomicU32, mine: u32) {
    let mut now = lock.load(Ordering::Relaxed);
    while now & !WAITERS == mine & !WAITERS {
        match lock.compare_exchange_weak(now, 0, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => {
                if now & WAITERS != 0 {
                    let _ = futex::wake(lock, futex::Flags::empty(), 1);
                }
                return;
            }
            Err(other) => now = other,
        }
    }
}

/// The process that holds an offset lock with this word.
pub(super) fn offset_holder(word: u32) -> Option<ProcessIndex> {
    (word != 0).then_some(ProcessIndex(word & OWNER_MASK))
}

/// The offset of a description, held as the kernel holds `f_pos`.
pub struct OffsetGuard<'a> {
    slot: Slot<'a>,
    mine: u32,
}

impl OffsetGuard<'_> {
    pub fn get(&self) -> u64 {
        self.slot.memory.offset.load(Ordering::Relaxed)
    }

    pub fn set(&self, offset: u64) {
        self.slot.memory.offset.store(offset, Ordering::Relaxed);
    }
}

impl Drop for OffsetGuard<'_> {
    fn drop(&mut self) {
        unlock_offset(&self.slot.memory.offset_lock, self.mine);
        self.slot.arena.finish_release(self.slot.id);
    }
}
