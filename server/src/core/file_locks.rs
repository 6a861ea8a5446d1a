//! File locks of one shard's inodes: fcntl(2) record locks, open-file-description locks, flock(2).
//!
//! A plain state machine: what is held, who waits, who is granted what when something goes. It is
//! told by `ops/lock.rs`, and by the end of clients and sessions; what is held is stored as one
//! record per inode by the caller, so that a restarted server knows it again.
//!
//! What must stay true: two held ranges of different owners that overlap in one space are both
//! read locks; an owner's ranges in one space never overlap, and touching ones of one kind are one.
//! Iteration is in the order of the maps' keys, so that equal histories give equal grants.

use sealfs_protocol::InodeId;
use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType};
use std::collections::{BTreeMap, BTreeSet};

/// Names one parked request; chosen by the caller, unique among those parked.
pub type WaiterId = u64;

/// What became of a request for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is held (or, for an unlock, gone).
    Granted,
    /// Another owner is in the way, and the caller did not want to wait: EAGAIN.
    Conflict,
    /// Parked; it will be among the granted ones of a later call, or is cancelled.
    Waiting,
    /// Waiting would close a circle of processes that wait for each other: EDEADLK.
    Deadlock,
}

#[derive(Default)]
struct File {
    held: Vec<LockRange>,
    waiting: Vec<(WaiterId, LockRange)>,
}

/// A waiter that has got its lock: reply to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    pub ino: InodeId,
    pub waiter: WaiterId,
}

#[derive(Default)]
pub struct FileLocks {
    files: BTreeMap<InodeId, File>,
    by_owner: BTreeMap<LockOwner, BTreeSet<InodeId>>,
}

fn overlap(a: &LockRange, b: &LockRange) -> bool {
    a.space == b.space && a.start <= b.last && b.start <= a.last
}

fn conflict(held: &LockRange, wanted: &LockRange) -> bool {
    overlap(held, wanted)
        && held.owner != wanted.owner
        && (held.kind == LockType::Write || wanted.kind == LockType::Write)
}

impl FileLocks {
    /// Takes, changes or gives up a lock. `waiter` is who to grant later if the caller will wait.
    /// Locks that others now have are appended to `granted`.
    pub fn set(
        &mut self,
        ino: InodeId,
        range: LockRange,
        waiter: Option<WaiterId>,
        granted: &mut Vec<Granted>,
    ) -> Outcome {
        let file = self.files.entry(ino).or_default();
        if range.kind != LockType::Unlock {
            if range.space == LockSpace::Flock {
                // flock(2): a conversion gives the old lock up before it asks for the new one.
                if file.held.iter().any(|h| {
                    h.space == LockSpace::Flock && h.owner == range.owner && h.kind == range.kind
                }) {
                    return Outcome::Granted;
                }
                file.held.retain(|h| h.space != LockSpace::Flock || h.owner != range.owner);
            }
            if file.held.iter().any(|h| conflict(h, &range)) {
                let outcome = self.park(ino, range, waiter);
                self.grant_waiting(ino, granted);
                return outcome;
            }
        }
        self.place(ino, range);
        self.grant_waiting(ino, granted);
        Outcome::Granted
    }

    /// A lock that keeps `range` from being taken (F_GETLK), if there is one.
    pub fn test(&self, ino: InodeId, range: &LockRange) -> Option<LockRange> {
        self.files.get(&ino)?.held.iter().find(|h| conflict(h, range)).copied()
    }

    /// Takes a wait back. False if it waits no longer.
    pub fn cancel(&mut self, ino: InodeId, waiter: WaiterId) -> bool {
        let Some(file) = self.files.get_mut(&ino) else { return false };
        let before = file.waiting.len();
        file.waiting.retain(|(w, _)| *w != waiter);
        let found = file.waiting.len() < before;
        self.forget_if_idle(ino);
        found
    }

    /// All that an owner holds and waits for in one file is gone. True if it held something.
    pub fn release_in(
        &mut self,
        ino: InodeId,
        owner: LockOwner,
        granted: &mut Vec<Granted>,
    ) -> bool {
        let Some(file) = self.files.get_mut(&ino) else { return false };
        let before = file.held.len();
        file.held.retain(|h| h.owner != owner);
        file.waiting.retain(|(_, r)| r.owner != owner);
        let held = file.held.len() < before;
        self.reindex(ino, owner);
        self.grant_waiting(ino, granted);
        held
    }

    /// All that an owner holds anywhere is gone. Returns the files whose held locks changed.
    pub fn release_owner(&mut self, owner: LockOwner, granted: &mut Vec<Granted>) -> Vec<InodeId> {
        let mut files = self.by_owner.get(&owner).cloned().unwrap_or_default();
        files.extend(
            self.files
                .iter()
                .filter(|(_, f)| f.waiting.iter().any(|(_, r)| r.owner == owner))
                .map(|(ino, _)| *ino),
        );
        files.into_iter().filter(|ino| self.release_in(*ino, owner, granted)).collect()
    }

    /// Owners that hold something, for the end of sessions and their descriptions.
    pub fn owners(&self) -> impl Iterator<Item = LockOwner> + '_ {
        self.by_owner.keys().copied()
    }

    /// What is held in a file, to be stored.
    pub fn held(&self, ino: InodeId) -> &[LockRange] {
        self.files.get(&ino).map_or(&[], |f| &f.held)
    }

    /// What was stored, after a restart.
    pub fn restore(&mut self, ino: InodeId, held: Vec<LockRange>) {
        for range in &held {
            self.by_owner.entry(range.owner).or_default().insert(ino);
        }
        self.files.entry(ino).or_default().held = held;
    }

    fn park(&mut self, ino: InodeId, range: LockRange, waiter: Option<WaiterId>) -> Outcome {
        let Some(waiter) = waiter else { return Outcome::Conflict };
        if range.space == LockSpace::Record && self.closes_a_circle(ino, &range) {
            return Outcome::Deadlock;
        }
        self.files.entry(ino).or_default().waiting.push((waiter, range));
        Outcome::Waiting
    }

    /// Whether some owner in the way waits, over others, for the one that asks (fcntl(2): only
    /// record locks of processes are looked at).
    fn closes_a_circle(&self, ino: InodeId, wanted: &LockRange) -> bool {
        if !matches!(wanted.owner, LockOwner::Process { .. }) {
            return false;
        }
        let mut seen = BTreeSet::new();
        let mut todo = self.in_the_way(ino, wanted);
        while let Some(owner) = todo.pop() {
            if owner == wanted.owner {
                return true;
            }
            if !seen.insert(owner) {
                continue;
            }
            for (other, file) in &self.files {
                for (_, range) in file.waiting.iter().filter(|(_, r)| r.owner == owner) {
                    todo.extend(self.in_the_way(*other, range));
                }
            }
        }
        false
    }

    fn in_the_way(&self, ino: InodeId, wanted: &LockRange) -> Vec<LockOwner> {
        self.files.get(&ino).map_or_else(Vec::new, |f| {
            f.held.iter().filter(|h| conflict(h, wanted)).map(|h| h.owner).collect()
        })
    }

    /// Puts `range` in place of whatever its owner held there: cuts, splits, merges.
    fn place(&mut self, ino: InodeId, range: LockRange) {
        let file = self.files.entry(ino).or_default();
        let mut wanted = range;
        let mut rest = Vec::with_capacity(file.held.len() + 2);
        for h in file.held.drain(..) {
            let mine = h.owner == range.owner && h.space == range.space;
            let touches = h.start <= range.last.saturating_add(1)
                && range.start <= h.last.saturating_add(1);
            if mine && h.kind == range.kind && touches {
                wanted.start = wanted.start.min(h.start);
                wanted.last = wanted.last.max(h.last);
            } else if mine && overlap(&h, &range) {
                if h.start < range.start {
                    rest.push(LockRange { last: range.start - 1, ..h });
                }
                if h.last > range.last {
                    rest.push(LockRange { start: range.last + 1, ..h });
                }
            } else {
                rest.push(h);
            }
        }
        if range.kind != LockType::Unlock {
            rest.push(wanted);
        }
        rest.sort_by_key(|h| (h.start, h.last, h.owner));
        file.held = rest;
        self.reindex(ino, range.owner);
    }

    /// Gives waiters, in the order of their arrival, what nothing stands in the way of any longer.
    fn grant_waiting(&mut self, ino: InodeId, granted: &mut Vec<Granted>) {
        loop {
            let Some(file) = self.files.get_mut(&ino) else { return };
            let free = file
                .waiting
                .iter()
                .position(|(_, wanted)| !file.held.iter().any(|h| conflict(h, wanted)));
            let Some(at) = free else { break };
            let (waiter, range) = file.waiting.remove(at);
            self.place(ino, range);
            granted.push(Granted { ino, waiter });
        }
        self.forget_if_idle(ino);
    }

    fn reindex(&mut self, ino: InodeId, owner: LockOwner) {
        let holds =
            self.files.get(&ino).is_some_and(|f| f.held.iter().any(|h| h.owner == owner));
        let files = self.by_owner.entry(owner).or_default();
        if holds {
            files.insert(ino);
        } else {
            files.remove(&ino);
        }
        if files.is_empty() {
            self.by_owner.remove(&owner);
        }
    }

    fn forget_if_idle(&mut self, ino: InodeId) {
        if self.files.get(&ino).is_some_and(|f| f.held.is_empty() && f.waiting.is_empty()) {
            self.files.remove(&ino);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::{ClientId, OpenId, SessionId};

    const A: InodeId = InodeId(1);
    const B: InodeId = InodeId(2);

    fn record(process: u128, kind: LockType, start: u64, last: u64) -> LockRange {
        let owner = LockOwner::Process { client: ClientId(process) };
        LockRange { space: LockSpace::Record, owner, kind, start, last, pid: process as u32 }
    }

    fn whole(open: u64, kind: LockType) -> LockRange {
        let owner = LockOwner::Description { session: SessionId(1), open: OpenId(open) };
        LockRange { space: LockSpace::Flock, owner, kind, start: 0, last: u64::MAX, pid: 0 }
    }

    #[test]
    fn an_unlock_in_the_middle_splits_a_lock_and_a_new_lock_merges_it() {
        let (mut l, mut g) = (FileLocks::default(), vec![]);
        l.set(A, record(1, LockType::Write, 0, 99), None, &mut g);
        l.set(A, record(1, LockType::Unlock, 40, 49), None, &mut g);
        assert_eq!(l.held(A).iter().map(|h| (h.start, h.last)).collect::<Vec<_>>(), [
            (0, 39),
            (50, 99)
        ]);
        l.set(A, record(1, LockType::Write, 40, 49), None, &mut g);
        assert_eq!(l.held(A).len(), 1);
    }

    #[test]
    fn readers_share_and_a_waiting_writer_is_granted_when_the_last_goes() {
        let (mut l, mut g) = (FileLocks::default(), vec![]);
        assert_eq!(l.set(A, record(1, LockType::Read, 0, 9), None, &mut g), Outcome::Granted);
        assert_eq!(l.set(A, record(2, LockType::Read, 5, 9), None, &mut g), Outcome::Granted);
        assert_eq!(l.set(A, record(3, LockType::Write, 9, 9), Some(7), &mut g), Outcome::Waiting);
        l.set(A, record(1, LockType::Unlock, 0, 9), None, &mut g);
        assert!(g.is_empty());
        l.release_owner(LockOwner::Process { client: ClientId(2) }, &mut g);
        assert_eq!(g, [Granted { ino: A, waiter: 7 }]);
    }

    #[test]
    fn a_circle_of_waiting_processes_is_refused() {
        let (mut l, mut g) = (FileLocks::default(), vec![]);
        l.set(A, record(1, LockType::Write, 0, 0), None, &mut g);
        l.set(B, record(2, LockType::Write, 0, 0), None, &mut g);
        assert_eq!(l.set(A, record(2, LockType::Write, 0, 0), Some(1), &mut g), Outcome::Waiting);
        assert_eq!(l.set(B, record(1, LockType::Read, 0, 0), Some(2), &mut g), Outcome::Deadlock);
    }

    #[test]
    fn a_failed_flock_conversion_loses_the_old_lock() {
        let (mut l, mut g) = (FileLocks::default(), vec![]);
        l.set(A, whole(1, LockType::Read), None, &mut g);
        l.set(A, whole(2, LockType::Read), None, &mut g);
        assert_eq!(l.set(A, whole(1, LockType::Write), None, &mut g), Outcome::Conflict);
        assert_eq!(l.held(A).len(), 1);
    }

    #[test]
    fn a_cancelled_wait_is_never_granted() {
        let (mut l, mut g) = (FileLocks::default(), vec![]);
        l.set(A, whole(1, LockType::Write), None, &mut g);
        l.set(A, whole(2, LockType::Write), Some(5), &mut g);
        assert!(l.cancel(A, 5));
        l.release_in(A, whole(1, LockType::Write).owner, &mut g);
        assert!(g.is_empty() && l.held(A).is_empty());
    }
}
