//! File locks: fcntl(2) record locks, open file description locks, flock(2), and executions.
//!
//! Here is what is held on which inode and who waits for it; what a lock changes in the list of an
//! inode is computed by `lock_ranges`. Record and OFD locks conflict with each other, flock locks live
//! apart. That a file is executed is kept as a lock, which denies writers the file: like all locks it
//! outlives a kill of the server. What must stay true: a POSIX lock that would close a circle of
//! waiting processes on this shard is refused (EDEADLK). Circles over several shards are looked for by
//! `core::deadlock`, which asks here who waits for whom.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::lock_ranges::{Held, conflict};
use super::locks::TaskId;
use super::task::Ended;
use sealfs_protocol::message::{LockOwner, LockRange, LockSpace};
use sealfs_protocol::{ClientId, InodeId, OpenId, SessionId};

/// Processes in the way of one wait that are looked at; the kernel looks at one.
const BLOCKERS_MAX: usize = 256;

/// When a wait began.
#[derive(Clone, Copy, Default, Debug)]
pub struct Begun {
    /// Since 1970, in ns.
    pub ns: i64,
    /// Its caller has asked before: the shard was restarted, or could not be reached.
    pub resumed: bool,
}

#[derive(Clone, Debug)]
pub struct Waiter {
    pub task: TaskId,
    pub ino: InodeId,
    pub range: LockRange,
    pub begun: Begun,
    /// Processes in its way, if it is a process that waits.
    pub blockers: Vec<ClientId>,
    /// Counts the times that another process came into its way; `None` once a search that began
    /// later has found that it closes no circle.
    pub unsettled: Option<u64>,
}

#[derive(Default)]
pub struct FileLocks {
    held: HashMap<InodeId, Held>,
    /// By the order of arrival, over all inodes.
    waiting: BTreeMap<u64, Waiter>,
    arrivals: u64,
    /// Times that a wait got somebody new in its way.
    changes: u64,
    /// Files on which nobody gets a lock while these descriptions are open: what they had locked may
    /// be lost, and who holds them may still go by it.
    sealed: HashMap<InodeId, Vec<(SessionId, OpenId)>>,
}

impl FileLocks {
    pub fn held(&self, ino: InodeId) -> &[LockRange] {
        self.held.get(&ino).map_or(&[], Vec::as_slice)
    }

    /// Whether the file is executed by somebody: then nobody opens it for writing.
    pub fn is_executed(&self, ino: InodeId) -> bool {
        self.held(ino).iter().any(|h| h.space == LockSpace::Execute)
    }

    pub fn set(&mut self, ino: InodeId, held: Held) {
        if held.is_empty() {
            self.held.remove(&ino);
        } else {
            self.held.insert(ino, held);
        }
    }

    /// A task waits, or goes on waiting; whether somebody new is in its way.
    pub fn wait(&mut self, task: TaskId, ino: InodeId, range: LockRange, begun: Begun) -> bool {
        let blockers = self.blockers(ino, &range);
        let known = self.waiting.values_mut().find(|w| w.task == task);
        let others = known.as_ref().map_or(&[][..], |w| &w.blockers);
        let is_new = blockers.iter().any(|b| !others.contains(b));
        if is_new {
            self.changes += 1;
        }
        let unsettled = is_new.then_some(self.changes);
        if let Some(waiter) = known {
            waiter.blockers = blockers;
            waiter.unsettled = unsettled.or(waiter.unsettled);
            return is_new;
        }
        self.arrivals += 1;
        let waiter = Waiter {
            task,
            ino,
            range,
            begun,
            blockers,
            unsettled,
        };
        self.waiting.insert(self.arrivals, waiter);
        is_new
    }

    /// The waits of processes, by number.
    pub fn waits(&self) -> impl Iterator<Item = (u64, ClientId, &Waiter)> {
        self.waiting.iter().filter_map(|(number, w)| {
            let client = process(&w.range.owner)?;
            (w.range.space == LockSpace::Record).then_some((*number, client, w))
        })
    }

    pub fn waiter(&self, number: u64) -> Option<&Waiter> {
        self.waiting.get(&number)
    }

    /// This wait closes no circle, if nobody came into its way since it was at `unsettled`.
    pub fn settle(&mut self, number: u64, unsettled: u64) {
        if let Some(waiter) = self.waiting.get_mut(&number)
            && waiter.unsettled == Some(unsettled)
        {
            waiter.unsettled = None;
        }
    }

    pub fn seal(&mut self, ino: InodeId, session: SessionId, open: OpenId) {
        let by = self.sealed.entry(ino).or_default();
        if !by.contains(&(session, open)) {
            by.push((session, open));
        }
    }

    pub fn is_sealed(&self, ino: InodeId) -> bool {
        self.sealed.contains_key(&ino)
    }

    /// A description is closed; whether it was the last that sealed its file.
    pub fn unseal(&mut self, ino: InodeId, session: SessionId, open: OpenId) -> bool {
        let Some(by) = self.sealed.get_mut(&ino) else {
            return false;
        };
        by.retain(|of| *of != (session, open));
        let last = by.is_empty();
        if last {
            self.sealed.remove(&ino);
        }
        last
    }

    /// A session has ended; the files that it alone had sealed, in a fixed order.
    pub fn unseal_session(&mut self, session: SessionId) -> Vec<InodeId> {
        let mut free = Vec::new();
        self.sealed.retain(|ino, by| {
            by.retain(|(s, _)| *s != session);
            if by.is_empty() {
                free.push(*ino);
            }
            !by.is_empty()
        });
        free.sort_unstable();
        free
    }

    /// All locks that are held, by inode in a fixed order.
    pub fn all(&self) -> Vec<(InodeId, &Held)> {
        let mut all: Vec<_> = self.held.iter().map(|(ino, held)| (*ino, held)).collect();
        all.sort_unstable_by_key(|(ino, _)| *ino);
        all
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
        const SEARCH_MAX: usize = 64;
        let Some(me) = process(&wanted.owner) else {
            return false;
        };
        let mut seen = HashSet::new();
        let mut todo = self.blockers(ino, wanted);
        while let Some(client) = todo.pop() {
            if client == me {
                return true;
            }
            if seen.len() >= SEARCH_MAX || !seen.insert(client) {
                continue;
            }
            let theirs = self.waits().filter(|(_, waiting, _)| *waiting == client);
            for (_, _, w) in theirs {
                todo.extend(self.blockers(w.ino, &w.range));
            }
        }
        false
    }

    /// The processes whose record locks are in the way of a process' `wanted`.
    fn blockers(&self, ino: InodeId, wanted: &LockRange) -> Vec<ClientId> {
        let mut found = Vec::new();
        if wanted.space != LockSpace::Record || process(&wanted.owner).is_none() {
            return found;
        }
        for held in self.held(ino) {
            if let Some(client) = process(&held.owner)
                && conflict(std::slice::from_ref(held), wanted).is_some()
                && !found.contains(&client)
            {
                found.push(client);
                if found.len() == BLOCKERS_MAX {
                    break;
                }
            }
        }
        found
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

/// The process that owns a lock.
fn process(owner: &LockOwner) -> Option<ClientId> {
    match owner {
        LockOwner::Process { client, .. } => Some(*client),
        LockOwner::Description { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::lock_ranges::tests::lock;
    use super::*;
    use sealfs_protocol::message::LockType;

    #[test]
    fn a_circle_of_two_processes_is_found() {
        let mut locks = FileLocks::default();
        locks.set(InodeId(1), vec![lock(1, LockType::Write, 0, 0)]);
        locks.set(InodeId(2), vec![lock(2, LockType::Write, 0, 0)]);
        let wanted = lock(1, LockType::Write, 0, 0);
        assert!(!locks.deadlock(InodeId(2), &wanted));
        assert!(locks.wait(1, InodeId(2), wanted, Begun::default()));
        assert!(locks.deadlock(InodeId(1), &lock(2, LockType::Write, 0, 0)));
    }

    #[test]
    fn a_wait_is_settled_until_somebody_else_is_in_its_way() {
        let mut locks = FileLocks::default();
        locks.set(InodeId(1), vec![lock(1, LockType::Write, 0, 0)]);
        let wanted = lock(3, LockType::Write, 0, 0);
        assert!(locks.wait(1, InodeId(1), wanted, Begun::default()));
        locks.settle(1, 1);
        assert!(!locks.wait(1, InodeId(1), wanted, Begun::default()));
        assert_eq!(locks.waiter(1).and_then(|w| w.unsettled), None);
        locks.set(InodeId(1), vec![lock(2, LockType::Write, 0, 0)]);
        assert!(locks.wait(1, InodeId(1), wanted, Begun::default()));
        locks.settle(1, 1);
        assert_eq!(locks.waiter(1).and_then(|w| w.unsettled), Some(2));
    }

    #[test]
    fn descriptions_wait_in_no_circle() {
        let mut locks = FileLocks::default();
        let description = LockRange {
            owner: LockOwner::Description {
                session: SessionId(1),
                open: sealfs_protocol::OpenId(1),
            },
            ..lock(2, LockType::Write, 0, 0)
        };
        locks.set(InodeId(1), vec![lock(1, LockType::Write, 0, 0)]);
        locks.set(InodeId(2), vec![description]);
        assert!(!locks.wait(
            1,
            InodeId(2),
            lock(1, LockType::Write, 0, 0),
            Begun::default()
        ));
        assert!(!locks.wait(2, InodeId(1), description, Begun::default()));
        assert!(!locks.deadlock(InodeId(1), &description));
        assert_eq!(locks.waits().count(), 1);
    }
}
