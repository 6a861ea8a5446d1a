//! One shard of the model: what it has stored, and what it knows until it dies.

use super::{ShardIndex, Txn};
use std::collections::{BTreeMap, BTreeSet};

/// What the log says when it is read from its start.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// The key: every change that it took, in order.
    pub history: Vec<Txn>,
    /// `TxnRecord::Prepared`
    pub prepared: BTreeSet<Txn>,
    /// `TxnRecord::Committed`
    pub committed: BTreeMap<Txn, BTreeSet<ShardIndex>>,
    /// Request slots: decided here, and the client will be told so when it asks again.
    pub replies: BTreeSet<Txn>,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    Prepared(Txn),
    /// A prepared transaction was applied or dropped.
    Settled(Txn, bool),
    /// The coordinator's decision, its own change and the reply, in one entry.
    Decided {
        txn: Txn,
        changes: bool,
        participants: BTreeSet<ShardIndex>,
    },
    Forgotten(Txn),
}

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Shard {
    pub flushed: Store,
    pub tail: Vec<Entry>,
    /// Who holds the key, and whether prepared (`KeyLocks`).
    pub lock: Option<(Txn, bool)>,
    /// Transactions of other shards, and whether they are prepared (`Core::participants`).
    pub participants: BTreeMap<Txn, bool>,
    /// Those that are over (`Core::settled`).
    pub settled: BTreeSet<Txn>,
    /// `Core::coordinated`
    pub coordinated: BTreeMap<Txn, BTreeSet<ShardIndex>>,
    /// Requests that were not answered (`Core::outstanding`).
    pub outstanding: BTreeSet<super::Message>,
}

impl Store {
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Prepared(txn) => {
                self.prepared.insert(*txn);
            }
            Entry::Settled(txn, commit) => {
                self.prepared.remove(txn);
                if *commit {
                    self.history.push(*txn);
                }
            }
            Entry::Decided {
                txn,
                changes,
                participants,
            } => {
                if *changes {
                    self.history.push(*txn);
                }
                if !participants.is_empty() {
                    self.committed.insert(*txn, participants.clone());
                }
                self.replies.insert(*txn);
            }
            Entry::Forgotten(txn) => {
                self.committed.remove(txn);
            }
        }
    }
}

impl Shard {
    /// The store with everything appended.
    pub fn written(&self) -> Store {
        let mut store = self.flushed.clone();
        for entry in &self.tail {
            store.apply(entry);
        }
        store
    }

    pub fn wants_flush(&self) -> bool {
        !self.tail.is_empty()
    }

    /// `KeyLocks::claim`: the older waits for the younger and the younger dies.
    pub fn claim(&mut self, txn: Txn) -> Claim {
        match self.lock {
            Some((holder, _)) if holder == txn => Claim::Granted,
            Some((holder, _)) if txn < holder => Claim::Wait,
            Some(_) => Claim::Die,
            None => {
                self.lock = Some((txn, false));
                Claim::Granted
            }
        }
    }

    pub fn release(&mut self, txn: Txn) {
        if self.lock.is_some_and(|(holder, _)| holder == txn) {
            self.lock = None;
        }
    }

    /// A new life: what memory held is made of what the log held (`recover_transactions`). Opening a
    /// store flushes what it has replayed (`Meta::start`).
    pub fn restarted(&self, keep: usize) -> Shard {
        let mut flushed = self.flushed.clone();
        for entry in &self.tail[..keep] {
            flushed.apply(entry);
        }
        let lock = flushed.prepared.first().map(|txn| (*txn, true));
        Shard {
            lock,
            participants: flushed.prepared.iter().map(|t| (*t, true)).collect(),
            coordinated: flushed.committed.clone(),
            flushed,
            ..Shard::default()
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    Granted,
    Wait,
    Die,
}
