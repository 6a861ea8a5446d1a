//! What must be true of a state.

use super::shard::Store;
use super::{Phase, State, Transactions, Txn};
use std::collections::{BTreeMap, BTreeSet};

fn changed(stores: &[Store], txn: Txn) -> BTreeSet<usize> {
    let with = stores.iter().enumerate();
    let with = with.filter(|(_, store)| store.history.contains(&txn));
    with.map(|(index, _)| index).collect()
}

fn all_txns(stores: &[Store]) -> BTreeSet<Txn> {
    let histories = stores.iter().flat_map(|store| store.history.iter());
    histories.copied().collect()
}

pub fn is_whole(model: &Transactions, state: &State) -> bool {
    let stores = Transactions::stores(state);
    let mut txns = all_txns(&stores).into_iter();
    txns.all(|txn| {
        let wanted: BTreeSet<usize> = model.plans[txn.plan].writes.iter().copied().collect();
        changed(&stores, txn) == wanted
    })
}

pub fn is_once(state: &State) -> bool {
    Transactions::stores(state).iter().all(|store| {
        let plans: BTreeSet<usize> = store.history.iter().map(|t| t.plan).collect();
        plans.len() == store.history.len()
    })
}

/// A change that was decided elsewhere is there only if that decision is durable.
pub fn nobody_decides_alone(model: &Transactions, state: &State) -> bool {
    Transactions::stores(state)
        .iter()
        .enumerate()
        .all(|(index, store)| {
            store.history.iter().all(|txn| {
                let home = model.plans[txn.plan].home;
                home == index || state.shards[home].flushed.replies.contains(txn)
            })
        })
}

pub fn is_kept(model: &Transactions, state: &State) -> bool {
    let stores = Transactions::stores(state);
    state.tasks.iter().enumerate().all(|(plan, task)| {
        let wanted = model.plans[plan].writes;
        let is_there = |s: &usize| stores[*s].history.iter().any(|t| t.plan == plan);
        task.phase != Phase::Done || wanted.iter().all(is_there)
    })
}

pub fn is_free(state: &State) -> bool {
    let idle = state.shards.iter().all(|s| {
        s.lock.is_none()
            && s.participants.is_empty()
            && s.coordinated.is_empty()
            && s.outstanding.is_empty()
            && s.flushed.prepared.is_empty()
            && s.flushed.committed.is_empty()
    });
    let over = |p: &Phase| matches!(p, Phase::Done | Phase::Failed);
    idle && state.tasks.iter().all(|t| over(&t.phase))
}

/// Each of `txns` has read a value that lasted, and who comes before whom makes no circle.
pub fn is_serial(model: &Transactions, state: &State) -> bool {
    let stores = Transactions::stores(state);
    let txns = all_txns(&stores);
    let mut before: BTreeMap<Txn, BTreeSet<Txn>> = BTreeMap::new();
    for txn in &txns {
        for (shard, seen) in state.decided.get(txn).into_iter().flatten() {
            let history = &stores[*shard].history;
            let writes = model.plans[txn.plan].writes.contains(shard);
            let next = history.get(seen.len());
            if !history.starts_with(seen) || writes && next != Some(txn) {
                return false;
            }
            let (earlier, later) = history.split_at(seen.len());
            before.entry(*txn).or_default().extend(earlier);
            for other in later.iter().filter(|t| *t != txn) {
                before.entry(*other).or_default().insert(*txn);
            }
        }
    }
    txns.iter().all(|txn| {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<Txn> = before.get(txn).into_iter().flatten().copied().collect();
        while let Some(next) = todo.pop() {
            if next == *txn {
                return false;
            }
            if seen.insert(next) {
                todo.extend(before.get(&next).into_iter().flatten());
            }
        }
        true
    })
}
