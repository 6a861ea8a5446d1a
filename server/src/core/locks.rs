//! Keys held by transactions that are under way.
//!
//! A change that one shard makes alone needs no lock: the shard is one thread. Locks are for keys
//! that a change over several shards has read or is about to write, and for an inode whose owner
//! works on it in several steps (append, truncate). Who finds a key locked waits, or dies if it
//! holds locks itself and is younger (wait-die), so no circle of waiting can close.
//!
//! What must stay true: a key has one holder; a *prepared* key may change at any moment by a
//! decision taken elsewhere, so it is not even read, nor the inode of a file that is being cut; any
//! other locked key may be read.

use std::collections::{BTreeMap, HashMap};

use crate::meta::db::{Db, Key};
use sealfs_protocol::TxnId;

/// Names a task of the core (see `core::task`).
pub type TaskId = u64;

type Name = (Db, Key);

#[derive(Clone, Copy, Debug)]
struct Held {
    txn: TxnId,
    prepared: bool,
}

/// Answer to a claim on a locked key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    Granted,
    /// The holder is younger: wait for it.
    Wait,
    /// The holder is older: give everything back and begin again.
    Die,
}

#[derive(Default)]
pub struct KeyLocks {
    held: BTreeMap<Name, Held>,
    holders: HashMap<TxnId, Holder>,
    waiting: HashMap<Name, Vec<TaskId>>,
}

#[derive(Default)]
struct Holder {
    age: u64,
    names: Vec<Name>,
}

impl KeyLocks {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn other(&self, db: Db, key: &Key, me: Option<TxnId>) -> Option<Held> {
        if self.held.is_empty() {
            return None;
        }
        let held = self.held.get(&(db, key.clone()))?;
        (Some(held.txn) != me).then_some(*held)
    }

    pub fn blocks_read(&self, db: Db, key: &Key, me: Option<TxnId>) -> bool {
        self.other(db, key, me).is_some_and(|h| h.prepared)
    }

    pub fn blocks_write(&self, db: Db, key: &Key, me: Option<TxnId>) -> bool {
        self.other(db, key, me).is_some()
    }

    /// A prepared key in `from..until`, which a scan must not pass by.
    pub fn blocks_scan(&self, db: Db, from: &Key, until: &Key, me: Option<TxnId>) -> Option<Key> {
        if self.held.is_empty() {
            return None;
        }
        self.held
            .range((db, from.clone())..(db, until.clone()))
            .find(|(_, h)| h.prepared && Some(h.txn) != me)
            .map(|((_, key), _)| key.clone())
    }

    /// Takes a key for `txn`, or says what to do about its holder.
    pub fn claim(&mut self, txn: TxnId, age: u64, db: Db, key: &Key) -> Claim {
        let name = (db, key.clone());
        match self.held.get(&name) {
            Some(h) if h.txn == txn => Claim::Granted,
            Some(h) => {
                let theirs = (self.holders.get(&h.txn).map_or(0, |x| x.age), h.txn);
                if (age, txn) < theirs {
                    Claim::Wait
                } else {
                    Claim::Die
                }
            }
            None => {
                let held = Held {
                    txn,
                    prepared: false,
                };
                self.held.insert(name.clone(), held);
                let holder = self.holders.entry(txn).or_default();
                holder.age = age;
                holder.names.push(name);
                Claim::Granted
            }
        }
    }

    /// Marks a key that `txn` holds as one whose value may change by its decision.
    pub fn prepare(&mut self, txn: TxnId, db: Db, key: &Key) {
        if let Some(h) = self.held.get_mut(&(db, key.clone()))
            && h.txn == txn
        {
            h.prepared = true;
        }
    }

    pub fn holds(&self, txn: TxnId) -> bool {
        self.holders.contains_key(&txn)
    }

    /// Remembers a task that waits for a key.
    pub fn wait(&mut self, db: Db, key: Key, task: TaskId) {
        self.waiting.entry((db, key)).or_default().push(task);
    }

    /// Gives back all that `txn` holds; the tasks to run again, in the order in which they came.
    pub fn release(&mut self, txn: TxnId) -> Vec<TaskId> {
        let mut woken = Vec::new();
        for name in self.holders.remove(&txn).unwrap_or_default().names {
            self.held.remove(&name);
            if let Some(tasks) = self.waiting.remove(&name) {
                woken.extend(tasks);
            }
        }
        woken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::from_slice(&[n])
    }

    #[test]
    fn the_older_waits_and_the_younger_dies() {
        let mut locks = KeyLocks::default();
        let (old, young) = (TxnId(9), TxnId(1));
        assert_eq!(locks.claim(young, 20, Db::Ino, &key(1)), Claim::Granted);
        assert_eq!(locks.claim(old, 10, Db::Ino, &key(1)), Claim::Wait);
        assert_eq!(locks.claim(old, 10, Db::Ino, &key(2)), Claim::Granted);
        assert_eq!(locks.claim(young, 20, Db::Ino, &key(2)), Claim::Die);
    }

    #[test]
    fn only_prepared_keys_block_readers() {
        let mut locks = KeyLocks::default();
        locks.claim(TxnId(1), 1, Db::Dent, &key(5));
        assert!(!locks.blocks_read(Db::Dent, &key(5), None));
        assert!(locks.blocks_write(Db::Dent, &key(5), None));
        locks.prepare(TxnId(1), Db::Dent, &key(5));
        assert!(locks.blocks_read(Db::Dent, &key(5), None));
        assert!(!locks.blocks_read(Db::Dent, &key(5), Some(TxnId(1))));
        assert_eq!(
            locks.blocks_scan(Db::Dent, &key(1), &key(9), None),
            Some(key(5))
        );
        assert_eq!(locks.blocks_scan(Db::Dent, &key(6), &key(9), None), None);
    }

    #[test]
    fn release_wakes_in_order_of_arrival() {
        let mut locks = KeyLocks::default();
        locks.claim(TxnId(1), 1, Db::Ino, &key(1));
        locks.wait(Db::Ino, key(1), 7);
        locks.wait(Db::Ino, key(1), 3);
        assert_eq!(locks.release(TxnId(1)), vec![7, 3]);
        assert!(locks.is_empty());
    }
}
