//! Transactions of other shards that are over here.
//!
//! A request is sent again over another connection until it is answered, and a copy on the old one may
//! arrive last. What must stay true: copies of all requests of a transaction that was applied or
//! dropped, however late, take no lock and apply nothing. Memory is enough, since no copy outlives the
//! connection to the process that forgets.

use std::collections::{HashSet, VecDeque};

use sealfs_protocol::TxnId;

/// Transactions remembered; a copy that is later than so many others comes too late to be expected.
const REMEMBERED_MAX: usize = 65_536;

#[derive(Default)]
pub struct Settled {
    known: HashSet<TxnId>,
    order: VecDeque<TxnId>,
}

impl Settled {
    pub fn contains(&self, txn: TxnId) -> bool {
        self.known.contains(&txn)
    }

    pub fn insert(&mut self, txn: TxnId) {
        if self.known.insert(txn) {
            self.order.push_back(txn);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut settled = Settled::default();
        for n in 0..=REMEMBERED_MAX as u128 {
            settled.insert(TxnId(n));
            settled.insert(TxnId(n));
        }
        assert!(!settled.contains(TxnId(0)) && settled.contains(TxnId(1)));
    }
}
