//! Who waits for whom as a graph, and the circles in it: the half of `deadlock` that asks nobody.
//!
//! A search gathers waits into a [`Graph`]; here it is told what of two gatherings stood both times,
//! whether there is a circle, and which of its waits is to be ended. What must stay true: the answers
//! follow from the graph alone, so that shards that have gathered the same circle end the same wait.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use sealfs_protocol::peer::{LockWait, LockWaitId};
use sealfs_protocol::{ClientId, ShardId};

/// Waits by their identities.
pub(super) type Graph = BTreeMap<LockWaitId, LockWait>;

/// The wait that has closed a circle, and whether it may be settled.
pub(super) fn last_of(circle: &[LockWait]) -> Option<(LockWaitId, bool)> {
    let resumed = circle.iter().any(|w| w.resumed);
    let may_be = circle.iter().filter(|w| resumed || !w.settled);
    Some((may_be.map(|w| w.id).max()?, resumed))
}

/// What stood both times.
pub(super) fn both(before: &Graph, now: &Graph) -> Graph {
    let mut stood = now.clone();
    stood.retain(|id, wait| match before.get(id) {
        Some(earlier) => {
            wait.blockers.retain(|b| earlier.blockers.contains(b));
            true
        }
        None => false,
    });
    stood
}

/// A circle that one of the covered waits of shard `me` is part of.
pub(super) fn closed_circle(
    graph: &Graph,
    covered: &[(u64, u64)],
    me: ShardId,
) -> Option<Vec<LockWait>> {
    let mut by_client: HashMap<ClientId, Vec<&LockWait>> = HashMap::new();
    for wait in graph.values() {
        by_client.entry(wait.client).or_default().push(wait);
    }
    let numbers: HashSet<u64> = covered.iter().map(|(number, _)| *number).collect();
    let ours = |w: &&LockWait| w.id.shard == me && numbers.contains(&w.id.number);
    let mut starts = graph.values().filter(ours);
    starts.find_map(|start| circle_from(start, &by_client))
}

/// The shortest circle from a wait back to its own process.
fn circle_from<'a>(
    start: &'a LockWait,
    by_client: &HashMap<ClientId, Vec<&'a LockWait>>,
) -> Option<Vec<LockWait>> {
    // By which wait a wait was reached.
    let mut reached: HashMap<LockWaitId, &LockWait> = HashMap::new();
    let mut todo = VecDeque::from([start]);
    while let Some(wait) = todo.pop_front() {
        if wait.blockers.contains(&start.client) {
            let mut circle = vec![wait.clone()];
            let mut at = wait;
            while let Some(before) = reached.get(&at.id) {
                circle.push((*before).clone());
                at = before;
            }
            return Some(circle);
        }
        for next in wait
            .blockers
            .iter()
            .filter_map(|b| by_client.get(b))
            .flatten()
        {
            if next.id != start.id && !reached.contains_key(&next.id) {
                reached.insert(next.id, wait);
                todo.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(number: u64, shard: u32, client: u128, blockers: &[u128]) -> LockWait {
        LockWait {
            id: LockWaitId {
                begun_ns: number as i64,
                shard: ShardId(shard),
                number,
            },
            client: ClientId(client),
            blockers: blockers.iter().map(|b| ClientId(*b)).collect(),
            settled: false,
            resumed: false,
        }
    }

    fn graph(waits: &[LockWait]) -> Graph {
        waits.iter().map(|w| (w.id, w.clone())).collect()
    }

    fn clients(circle: Option<Vec<LockWait>>) -> Vec<u128> {
        let mut found: Vec<u128> = circle.iter().flatten().map(|w| w.client.0).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_circle_is_found_from_a_wait_in_it_and_not_from_one_that_leads_to_it() {
        let all = graph(&[
            wait(1, 1, 10, &[20, 99]),
            wait(2, 2, 20, &[30]),
            wait(3, 3, 30, &[10]),
            wait(4, 1, 40, &[10]),
        ]);
        let found = closed_circle(&all, &[(1, 0)], ShardId(1));
        assert_eq!(clients(found), [10, 20, 30]);
        assert!(closed_circle(&all, &[(4, 0)], ShardId(1)).is_none());
        assert!(closed_circle(&all, &[(2, 0)], ShardId(1)).is_none());
    }

    #[test]
    fn the_last_of_a_circle_is_not_one_that_only_asked_again() {
        let mut circle = [wait(1, 1, 10, &[20]), wait(2, 2, 20, &[10])];
        circle[1].settled = true;
        assert_eq!(last_of(&circle), Some((circle[0].id, false)));
        circle[0].resumed = true;
        assert_eq!(last_of(&circle), Some((circle[1].id, true)));
    }

    #[test]
    fn what_stood_only_once_is_in_no_circle() {
        let first = graph(&[wait(1, 1, 10, &[20]), wait(2, 2, 20, &[10])]);
        let other_blocker = graph(&[wait(1, 1, 10, &[30]), wait(2, 2, 20, &[10])]);
        let other_wait = graph(&[wait(1, 1, 10, &[20]), wait(3, 2, 20, &[10])]);
        let find = |g: &Graph| clients(closed_circle(g, &[(1, 0)], ShardId(1)));
        assert_eq!(find(&both(&first, &first)), [10, 20]);
        assert_eq!(find(&both(&first, &other_blocker)), [0u128; 0]);
        assert_eq!(find(&both(&first, &other_wait)), [0u128; 0]);
    }
}
