//! File locks: fcntl(2) record locks, OFD locks, flock(2).
//!
//! A wait stays with the server, in this call's request slot, until the lock is there or the wait is
//! taken back because a signal came. What must stay true: a wait that was taken back has either got
//! the lock, and says so, or holds nothing.

use crate::client::Client;
use crate::config::FileRef;
use crate::part::Part;
use crate::slots::LOCK_WAITERS_MAX;
use crate::walk::{done, unexpected};
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;
use sealfs_protocol::Errno;
use sealfs_protocol::message::{LockMark, LockRange, LockType, Op, OpReply};
use sealfs_transport::link::Tick;

/// With too many waits at the servers already, a further one asks again after this long, in ms.
const ASK_AGAIN_MS: u64 = 10;

impl Client {
    /// Sets or removes a lock. Without `wait` a lock in the way is EAGAIN; with it the call lasts
    /// until the lock is there or `wait` says true (asked after signals and ten times a second): then
    /// EINTR. `told` is when the server has last changed one, if it says anything.
    pub fn lock(
        &self,
        file: FileRef,
        range: LockRange,
        wait: Option<&mut dyn FnMut() -> bool>,
        told: &mut Option<LockMark>,
    ) -> Result<(), Errno> {
        self.file_info(file)?;
        if range.kind != LockType::Unlock {
            self.shared.files.lock().note_locked(file);
        }
        let taken = self.take_lock(file, range, wait, told);
        if let Some(mark) = *told {
            self.shared.files.lock().mark_locked(file, mark);
        }
        taken
    }

    fn take_lock(
        &self,
        file: FileRef,
        range: LockRange,
        wait: Option<&mut dyn FnMut() -> bool>,
        told: &mut Option<LockMark>,
    ) -> Result<(), Errno> {
        let try_it = Op::Lock {
            ino: file.ino,
            range,
            wait: None,
        };
        let Some(interrupted) = wait else {
            return self.try_lock(file, try_it, told);
        };
        let waiters = &self.shared.slots.lock_waiters;
        let admitted = waiters
            .fetch_update(Relaxed, Relaxed, |n| {
                (n < LOCK_WAITERS_MAX).then_some(n + 1)
            })
            .is_ok();
        if admitted {
            let waited = self.wait_at_server(file, range, interrupted, told);
            waiters.fetch_sub(1, Relaxed);
            return waited;
        }
        loop {
            match self.try_lock(file, try_it.clone(), told) {
                Err(Errno::EAGAIN) if interrupted() => return Err(Errno::EINTR),
                Err(Errno::EAGAIN) => {
                    let pause = Duration::from_millis(ASK_AGAIN_MS);
                    self.shared.config.world.sleep(pause);
                }
                other => return other,
            }
        }
    }

    fn try_lock(&self, file: FileRef, op: Op, told: &mut Option<LockMark>) -> Result<(), Errno> {
        let slot = self.shared.slots.take();
        let mut parts = [Part::new(
            &slot,
            vec![(file.ino.partition(), op)],
            &[],
            &mut [],
        )];
        self.run(&mut parts, &mut self.mode(&slot));
        let [part] = parts;
        concluded(part, told)
    }

    fn wait_at_server(
        &self,
        file: FileRef,
        range: LockRange,
        interrupted: &mut dyn FnMut() -> bool,
        told: &mut Option<LockMark>,
    ) -> Result<(), Errno> {
        let partition = file.ino.partition();
        let op = Op::Lock {
            ino: file.ino,
            range,
            wait: Some(0),
        };
        let slot = self.shared.slots.take();
        let index = slot.index();
        let mut cancelled = false;
        let mut look_around = || {
            cancelled = cancelled || interrupted();
            if !cancelled {
                return Tick::Wait;
            }
            // Again and again until the wait ends: a server that was restarted may hear of it before
            // it is asked for the wait once more.
            let op = Op::CancelWait {
                ino: file.ino,
                slot: index,
            };
            // The wait's own reply tells what became of it. If the server cannot be told, the
            // connection is given up, and the wait with it.
            match self.call(partition, op) {
                Ok(_) => Tick::Wait,
                Err(_) => Tick::GiveUp,
            }
        };
        let mut parts = [Part::new(&slot, vec![(partition, op)], &[], &mut [])];
        let mut mode = self.mode(&slot);
        mode.waiting = Some(&mut look_around);
        self.run(&mut parts, &mut mode);
        let [part] = parts;
        concluded(part, told)
    }

    /// F_GETLK: the lock that is in the way of `range`, if there is one.
    pub fn test_lock(&self, file: FileRef, range: LockRange) -> Result<Option<LockRange>, Errno> {
        let op = Op::TestLock {
            ino: file.ino,
            range,
        };
        match self.call(file.ino.partition(), op)? {
            OpReply::LockHeld(held) => Ok(held),
            reply => Err(unexpected(&reply)),
        }
    }
}

/// Also an error may have changed something: a flock(2) that fails to change its lock loses it.
fn concluded(mut part: Part<'_, '_>, told: &mut Option<LockMark>) -> Result<(), Errno> {
    let answer = part.take_answer()?;
    *told = Some(LockMark {
        incarnation: answer.incarnation,
        written: answer.written,
    });
    answer.replies.first().map_or(Err(Errno::EIO), done)
}
