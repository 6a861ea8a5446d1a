//! File locks: fcntl(2) record locks, open file description locks and flock(2).
//!
//! Record and OFD locks conflict with each other, flock locks live apart. What must stay true: the
//! ranges of one owner in one space never overlap, neighbours of one kind are merged, and a POSIX
//! lock that would close a circle of waiting processes on this shard is refused (EDEADLK).

use std::collections::{BTreeMap, HashMap};

use super::locks::TaskId;
use super::task::Ended;
use sealfs_protocol::InodeId;
use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType};

/// The locks on one inode.
pub type Held = Vec<LockRange>;

#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    pub task: TaskId,
    pub ino: InodeId,
    pub range: LockRange,
}

#[derive(Default)]
pub struct FileLocks {
    held: HashMap<InodeId, Held>,
    /// By the order of arrival, over all inodes.
    waiting: BTreeMap<u64, Waiter>,
    arrivals: u64,
}

fn overlap(a: &LockRange, b: &LockRange) -> bool {
    a.start <= b.last && b.start <= a.last
}

/// The first lock in the way of `wanted`.
pub fn conflict<'a>(held: &'a [LockRange], wanted: &LockRange) -> Option<&'a LockRange> {
    held.iter().find(|h| {
        h.space == wanted.space
            && h.owner != wanted.owner
            && overlap(h, wanted)
            && (h.kind == LockType::Write || wanted.kind == LockType::Write)
    })
}

/// The locks after `change` was granted: its owner's locks below it are replaced, cut or split.
pub fn apply(held: &[LockRange], change: &LockRange) -> Held {
    let mut next = Held::with_capacity(held.len() + 2);
    let mut merged = *change;
    for h in held {
        let ours = h.space == change.space && h.owner == change.owner;
        if !ours {
            next.push(*h);
        } else if h.kind == change.kind && touches(h, &merged) {
            merged.start = merged.start.min(h.start);
            merged.last = merged.last.max(h.last);
        } else if overlap(h, change) {
            cut(h, change, &mut next);
        } else {
            next.push(*h);
        }
    }
    if change.kind != LockType::Unlock {
        next.push(merged);
    }
    next
}

/// Whether two ranges overlap or lie next to each other.
fn touches(a: &LockRange, b: &LockRange) -> bool {
    a.start <= b.last.saturating_add(1) && b.start <= a.last.saturating_add(1)
}

/// What is left of `h` outside of `hole`.
fn cut(h: &LockRange, hole: &LockRange, into: &mut Held) {
    if h.start < hole.start {
        into.push(LockRange {
            last: hole.start - 1,
            ..*h
        });
    }
    if h.last > hole.last {
        into.push(LockRange {
            start: hole.last + 1,
            ..*h
        });
    }
}

impl FileLocks {
    pub fn held(&self, ino: InodeId) -> &[LockRange] {
        self.held.get(&ino).map_or(&[], Vec::as_slice)
    }

    pub fn set(&mut self, ino: InodeId, held: Held) {
        if held.is_empty() {
            self.held.remove(&ino);
        } else {
            self.held.insert(ino, held);
        }
    }

    pub fn wait(&mut self, waiter: Waiter) {
        if self.waiting.values().any(|w| w.task == waiter.task) {
            return;
        }
        self.arrivals += 1;
        self.waiting.insert(self.arrivals, waiter);
    }

    pub fn leave(&mut self, task: TaskId) {
        self.waiting.retain(|_, w| w.task != task);
    }

    /// Tasks that wait for a lock on `ino`, first come first.
    pub fn waiters(&self, ino: InodeId) -> Vec<TaskId> {
        let on_ino = self.waiting.values().filter(|w| w.ino == ino);
        on_ino.map(|w| w.task).collect()
    }

    /// Whether waiting for `wanted` on `ino` closes a circle. As in the kernel only processes'
    /// record locks count, and a search that grows too long is given up.
    pub fn deadlock(&self, ino: InodeId, wanted: &LockRange) -> bool {
        let LockOwner::Process { .. } = wanted.owner else {
            return false;
        };
        const SEARCH_MAX: usize = 64;
        let mut seen = Vec::new();
        let mut todo = self.blockers(ino, wanted);
        while let Some(owner) = todo.pop() {
            if owner == wanted.owner {
                return true;
            }
            if seen.contains(&owner) || seen.len() >= SEARCH_MAX {
                continue;
            }
            seen.push(owner);
            for w in self.waiting.values().filter(|w| w.range.owner == owner) {
                todo.extend(self.blockers(w.ino, &w.range));
            }
        }
        false
    }

    fn blockers(&self, ino: InodeId, wanted: &LockRange) -> Vec<LockOwner> {
        let in_the_way = self.held(ino).iter().filter(|h| {
            matches!(h.owner, LockOwner::Process { .. })
                && conflict(std::slice::from_ref(h), wanted).is_some()
        });
        in_the_way.map(|h| h.owner).collect()
    }

    /// The inodes on which the ended one holds locks, in a fixed order.
    pub fn inodes_of(&self, ended: Ended) -> Vec<InodeId> {
        let mut held = self.held.iter().collect::<Vec<_>>();
        held.retain(|(_, held)| held.iter().any(|h| ended.owned(&h.owner)));
        let mut inos: Vec<InodeId> = held.into_iter().map(|(ino, _)| *ino).collect();
        inos.sort_unstable();
        inos
    }

    pub fn is_held_by(&self, ended: Ended) -> bool {
        let mut all = self.held.values().flatten();
        all.any(|h| ended.owned(&h.owner))
    }
}

/// The whole file, for unlocking everything of one owner.
pub fn everything(space: LockSpace, owner: LockOwner) -> LockRange {
    LockRange {
        space,
        owner,
        kind: LockType::Unlock,
        start: 0,
        last: u64::MAX,
        pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::{ClientId, SessionId};

    fn lock(client: u128, kind: LockType, start: u64, last: u64) -> LockRange {
        LockRange {
            space: LockSpace::Record,
            owner: LockOwner::Process {
                client: ClientId(client),
                session: SessionId(1),
            },
            kind,
            start,
            last,
            pid: client as u32,
        }
    }

    #[test]
    fn unlocking_the_middle_splits_a_lock() {
        let held = apply(&[], &lock(1, LockType::Write, 0, 99));
        let held = apply(&held, &lock(1, LockType::Unlock, 40, 59));
        assert_eq!(
            held,
            [
                lock(1, LockType::Write, 0, 39),
                lock(1, LockType::Write, 60, 99)
            ]
        );
    }

    #[test]
    fn neighbours_of_one_kind_merge_and_others_are_replaced() {
        let held = apply(&[], &lock(1, LockType::Read, 0, 9));
        let held = apply(&held, &lock(1, LockType::Read, 10, 19));
        assert_eq!(held, [lock(1, LockType::Read, 0, 19)]);
        let held = apply(&held, &lock(1, LockType::Write, 0, u64::MAX));
        assert_eq!(held, [lock(1, LockType::Write, 0, u64::MAX)]);
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let held = [lock(1, LockType::Read, 0, 9)];
        assert!(conflict(&held, &lock(2, LockType::Read, 5, 5)).is_none());
        assert!(conflict(&held, &lock(2, LockType::Write, 5, 5)).is_some());
        assert!(conflict(&held, &lock(1, LockType::Write, 5, 5)).is_none());
        assert!(conflict(&held, &lock(2, LockType::Write, 10, 12)).is_none());
    }

    #[test]
    fn a_circle_of_two_processes_is_found() {
        let mut locks = FileLocks::default();
        locks.set(InodeId(1), vec![lock(1, LockType::Write, 0, 0)]);
        locks.set(InodeId(2), vec![lock(2, LockType::Write, 0, 0)]);
        let wanted = lock(1, LockType::Write, 0, 0);
        assert!(!locks.deadlock(InodeId(2), &wanted));
        locks.wait(Waiter {
            task: 1,
            ino: InodeId(2),
            range: wanted,
        });
        assert!(locks.deadlock(InodeId(1), &lock(2, LockType::Write, 0, 0)));
    }
}
