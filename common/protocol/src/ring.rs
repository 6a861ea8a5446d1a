//! The ring: the published table that says which shard owns each partition, and in which epoch.
//!
//! What must stay true: no shard owns more than 2 % over its fair share (one partition of rounding
//! apart), and a change of members moves only what it has to. Lookup is one index into a table.

use crate::ids::{ClusterId, Epoch, PartitionId, RingVersion, ShardId};
use rkyv::{Archive, Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// A shard as the ring lists it.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct ShardInfo {
    pub id: ShardId,
    /// The server process it runs in, e.g. `server-0`.
    pub server: String,
    /// Where it listens, as URLs in the order of preference (`tcp://127.0.0.1:4711`).
    pub addresses: Vec<String>,
    /// Relative share of the partitions; 1 unless configured.
    pub weight: u32,
}

/// The published table.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Ring {
    pub version: RingVersion,
    pub cluster: ClusterId,
    pub shards: Vec<ShardInfo>,
    /// For each partition the index of its owner in `shards`; its length is the partition count.
    pub owners: Vec<u16>,
    pub epochs: Vec<Epoch>,
}

impl Ring {
    /// A ring without members, every partition unowned.
    pub fn empty(cluster: ClusterId, partitions: u16) -> Ring {
        Ring {
            version: RingVersion(0),
            cluster,
            shards: Vec::new(),
            owners: vec![u16::MAX; usize::from(partitions)],
            epochs: vec![Epoch(0); usize::from(partitions)],
        }
    }

    pub fn partitions(&self) -> u16 {
        self.owners.len() as u16
    }

    /// The owner of a partition, or `None` while the cluster has no servers.
    pub fn owner(&self, partition: PartitionId) -> Option<&ShardInfo> {
        self.shards
            .get(usize::from(*self.owners.get(usize::from(partition.0))?))
    }

    pub fn epoch(&self, partition: PartitionId) -> Epoch {
        self.epochs
            .get(usize::from(partition.0))
            .copied()
            .unwrap_or_default()
    }

    /// Whether every index of a table from outside is within its bounds.
    pub fn is_consistent(&self) -> bool {
        let n = self.shards.len();
        self.owners.len() == self.epochs.len()
            && (1..=usize::from(crate::limits::PARTITIONS_MAX)).contains(&self.owners.len())
            && self
                .owners
                .iter()
                .all(|o| usize::from(*o) < n || (n == 0 && *o == u16::MAX))
    }

    /// The ring with `members` in place of the shards so far: version + 1, and epoch + 1 for each
    /// partition whose owner changes. Addresses may change without moving anything.
    pub fn with_members(&self, mut members: Vec<ShardInfo>) -> Ring {
        members.sort_by_key(|s| s.id);
        let quota = quotas(&members, self.owners.len());
        let mut next = Ring {
            version: RingVersion(self.version.0 + 1),
            shards: members,
            ..self.clone()
        };
        let mut load = vec![0usize; next.shards.len()];
        let mut homeless = Vec::new();
        for p in 0..next.owners.len() {
            let kept = self
                .shards
                .get(usize::from(self.owners[p]))
                .and_then(|s| next.shards.binary_search_by_key(&s.id, |n| n.id).ok());
            match kept {
                Some(i) => {
                    next.owners[p] = i as u16;
                    load[i] += 1;
                }
                None => homeless.push(p),
            }
        }
        shed_excess(
            &mut next.owners,
            &mut load,
            &quota,
            &next.shards,
            &mut homeless,
        );
        for p in homeless {
            let best = (0..next.shards.len())
                .filter(|&i| load[i] < quota[i])
                .max_by_key(|&i| score(p, next.shards[i].id));
            next.owners[p] = best.map_or(u16::MAX, |i| i as u16);
            if let Some(i) = best {
                load[i] += 1;
            }
        }
        for p in 0..next.owners.len() {
            let before = self.shards.get(usize::from(self.owners[p])).map(|s| s.id);
            let after = next.shards.get(usize::from(next.owners[p])).map(|s| s.id);
            if before != after {
                next.epochs[p] = Epoch(self.epochs[p].0 + 1);
            }
        }
        next
    }
}

/// How well a partition suits a shard; highest random weight breaks ties alike everywhere.
fn score(partition: usize, shard: ShardId) -> u64 {
    let mut key = [0u8; 12];
    key[..8].copy_from_slice(&(partition as u64).to_le_bytes());
    key[8..].copy_from_slice(&shard.0.to_le_bytes());
    xxh3_64(&key)
}

/// Fair shares by weight that add up to `partitions`; shares of equal weight differ by at most one.
fn quotas(members: &[ShardInfo], partitions: usize) -> Vec<usize> {
    let total: u64 = members.iter().map(|s| u64::from(s.weight.max(1))).sum();
    let mut sum_before = 0u64;
    members
        .iter()
        .map(|s| {
            let from = sum_before * partitions as u64 / total;
            sum_before += u64::from(s.weight.max(1));
            (sum_before * partitions as u64 / total - from) as usize
        })
        .collect()
}

/// Takes from each overfull shard the partitions that suit it least.
fn shed_excess(
    owners: &mut [u16],
    load: &mut [usize],
    quota: &[usize],
    shards: &[ShardInfo],
    homeless: &mut Vec<usize>,
) {
    for i in 0..shards.len() {
        if load[i] <= quota[i] {
            continue;
        }
        let mut mine: Vec<usize> = (0..owners.len())
            .filter(|&p| usize::from(owners[p]) == i && !homeless.contains(&p))
            .collect();
        mine.sort_by_key(|&p| score(p, shards[i].id));
        let excess = load[i] - quota[i];
        homeless.extend(&mine[..excess]);
        load[i] = quota[i];
    }
    homeless.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(n: u32) -> Vec<ShardInfo> {
        (1..=n)
            .map(|i| ShardInfo {
                id: ShardId(i),
                server: format!("server-{i}"),
                addresses: vec![],
                weight: 1,
            })
            .collect()
    }

    fn counts(r: &Ring) -> Vec<usize> {
        (0..r.shards.len())
            .map(|i| r.owners.iter().filter(|o| usize::from(**o) == i).count())
            .collect()
    }

    #[test]
    fn shares_are_balanced_and_growth_moves_only_the_new_share() {
        let mut ring = Ring::empty(ClusterId(1), 4096).with_members(members(1));
        for n in 2..=64 {
            let next = ring.with_members(members(n));
            let moved = (0..4096)
                .filter(|&p| {
                    ring.shards[ring.owners[p] as usize].id
                        != next.shards[next.owners[p] as usize].id
                })
                .count();
            let c = counts(&next);
            assert!(
                c.iter().max().unwrap() - c.iter().min().unwrap() <= 1,
                "{n}: {c:?}"
            );
            // Shares of 4096/n are cut at different remainders for each n: n partitions may shift.
            assert!(
                moved <= 4096 / n as usize + n as usize,
                "{n}: {moved} moved"
            );
            assert!(next.is_consistent());
            ring = next;
        }
    }

    #[test]
    fn a_new_address_moves_nothing() {
        let ring = Ring::empty(ClusterId(1), 4096).with_members(members(3));
        let mut m = members(3);
        m[1].addresses = vec!["tcp://127.0.0.1:1".into()];
        let next = ring.with_members(m);
        assert_eq!((&next.owners, &next.epochs), (&ring.owners, &ring.epochs));
        assert_eq!(next.version.0, ring.version.0 + 1);
    }
}
