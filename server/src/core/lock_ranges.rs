//! The arithmetic of lock ranges: what is in the way of a lock, and what an owner holds after one.
//!
//! `flock` keeps the locks of all inodes and who waits for them; what happens to the list of one inode
//! is computed here, from values alone. What must stay true: the ranges of one owner in one space never
//! overlap, and neighbours of one kind are merged.

use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType};

/// The locks on one inode.
pub type Held = Vec<LockRange>;

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

/// The locks after `change` was granted: its owner's locks below it are replaced, cut or split. Owners
/// stand in the order in which they came, an owner's locks in the order of their ranges, as in the
/// kernel: F_GETLK names the first that is in the way.
pub fn apply(held: &[LockRange], change: &LockRange) -> Held {
    let mut next = Held::with_capacity(held.len() + 2);
    let mut merged = *change;
    let is_ours = |h: &LockRange| h.space == change.space && h.owner == change.owner;
    let mut came = None;
    for h in held {
        if is_ours(h) {
            came.get_or_insert(next.len());
        }
        if !is_ours(h) {
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
        let behind = next
            .iter()
            .position(|h| is_ours(h) && h.start > merged.start);
        let last = next.iter().rposition(is_ours).map(|at| at + 1);
        let at = behind.or(last).or(came).unwrap_or(next.len());
        next.insert(at, merged);
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
pub(super) mod tests {
    use super::*;
    use sealfs_protocol::{ClientId, SessionId};

    pub fn lock(client: u128, kind: LockType, start: u64, last: u64) -> LockRange {
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
    fn an_owners_locks_stand_in_the_order_of_their_ranges_where_the_owner_came() {
        let wanted = [
            (1, LockType::Write, 50, 59),
            (2, LockType::Read, 0, 9),
            (1, LockType::Read, 10, 19),
            (1, LockType::Write, 14, 15),
            (2, LockType::Read, 80, 89),
        ];
        let mut held = Held::new();
        for (client, kind, start, last) in wanted {
            held = apply(&held, &lock(client, kind, start, last));
        }
        let starts: Vec<_> = held.iter().map(|h| (h.pid, h.start)).collect();
        assert_eq!(
            starts,
            [(1, 10), (1, 14), (1, 16), (1, 50), (2, 0), (2, 80)]
        );
        let all = lock(3, LockType::Write, 0, u64::MAX);
        assert_eq!(conflict(&held, &all).map(|h| h.start), Some(10));
        let held = apply(&held, &lock(1, LockType::Write, 0, u64::MAX));
        assert_eq!(held[0], lock(1, LockType::Write, 0, u64::MAX));
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
}
