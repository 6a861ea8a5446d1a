//! What each volume takes on this shard, by partition: running totals, exact with the log.
//!
//! A log entry states what it adds to a volume's usage (`Item::Usage`); the totals are its sum.
//! They live in memory and go to the index with the commit that applies the entries, so that an
//! operation costs no further key: after a restart the index has the totals through `applied`, and
//! replay adds what the entries behind it state.

use std::collections::{BTreeMap, HashMap};

use sealfs_protocol::ids::{PartitionId, VolumeId};
use sealfs_protocol::usage::{Charge, Totals};

use super::db::{Key, key};

const VERSION: u8 = 1;

#[derive(Clone, Copy, Default)]
struct Entry {
    totals: Totals,
    /// Changed since the last commit began.
    changed: bool,
}

#[derive(Default)]
pub struct Usages {
    partitions: HashMap<(PartitionId, VolumeId), Entry>,
    volumes: BTreeMap<VolumeId, Totals>,
    changed: Vec<(PartitionId, VolumeId)>,
}

impl Usages {
    /// An entry of the log takes effect. False if it takes more than there is: damage, which
    /// counts as nothing left.
    #[must_use]
    pub fn apply(&mut self, partition: PartitionId, charge: Charge) -> bool {
        let place = (partition, charge.volume);
        let entry = self.partitions.entry(place).or_default();
        let all = self.volumes.entry(charge.volume).or_default();
        let (totals, sum) = (entry.totals.after(charge), all.after(charge));
        entry.totals = totals.unwrap_or_default();
        *all = sum.unwrap_or_default();
        if !entry.changed {
            entry.changed = true;
            self.changed.push(place);
        }
        totals.is_some() && sum.is_some()
    }

    /// What the index says; false if it does not parse.
    #[must_use]
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> bool {
        let (Some((place, [])), Some(totals)) = (place_of(key), decode(value)) else {
            return false;
        };
        let totals_so_far = self.volumes.entry(place.1).or_default();
        *totals_so_far = totals_so_far.plus(totals);
        let changed = false;
        self.partitions.insert(place, Entry { totals, changed });
        true
    }

    /// The records that have changed since this was last asked; `None`: the record goes.
    pub fn take_changed(&mut self) -> Vec<(Key, Option<[u8; 17]>)> {
        let changed = std::mem::take(&mut self.changed);
        let mut records = Vec::with_capacity(changed.len());
        for place in changed {
            let Some(entry) = self.partitions.get_mut(&place) else {
                continue;
            };
            entry.changed = false;
            let totals = entry.totals;
            let gone = totals == Totals::default();
            if gone {
                self.partitions.remove(&place);
            }
            let value = (!gone).then(|| encode(totals));
            records.push((key::usage(place.0, place.1), value));
        }
        self.volumes
            .retain(|_, totals| *totals != Totals::default());
        records
    }

    pub fn volume(&self, volume: VolumeId) -> Totals {
        self.volumes.get(&volume).copied().unwrap_or_default()
    }

    /// What a volume takes in one partition.
    pub fn partition(&self, partition: PartitionId, volume: VolumeId) -> Totals {
        let entry = self.partitions.get(&(partition, volume));
        entry.map_or(Totals::default(), |e| e.totals)
    }

    pub fn volumes(&self) -> impl Iterator<Item = (VolumeId, Totals)> + '_ {
        self.volumes
            .iter()
            .map(|(volume, totals)| (*volume, *totals))
    }

    /// Every record, in the order of its key.
    pub fn partitions(&self) -> BTreeMap<(PartitionId, VolumeId), Totals> {
        let kept = self.partitions.iter().map(|(place, e)| (*place, e.totals));
        kept.filter(|(_, t)| *t != Totals::default()).collect()
    }
}

fn place_of(key: &[u8]) -> Option<((PartitionId, VolumeId), &[u8])> {
    let (partition, rest) = key.split_first_chunk()?;
    let (volume, rest) = rest.split_first_chunk()?;
    let partition = PartitionId(u16::from_be_bytes(*partition));
    Some(((partition, VolumeId(u32::from_be_bytes(*volume))), rest))
}

fn encode(totals: Totals) -> [u8; 17] {
    let mut bytes = [VERSION; 17];
    bytes[1..9].copy_from_slice(&totals.bytes.to_le_bytes());
    bytes[9..].copy_from_slice(&totals.inodes.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Totals> {
    let (version, rest) = bytes.split_first()?;
    let (used, inodes) = rest.split_first_chunk()?;
    let totals = Totals {
        bytes: u64::from_le_bytes(*used),
        inodes: u64::from_le_bytes(inodes.try_into().ok()?),
    };
    (*version == VERSION).then_some(totals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(bytes: i64, inodes: i64) -> Charge {
        Charge {
            volume: VolumeId(3),
            bytes,
            inodes,
        }
    }

    #[test]
    fn what_was_committed_and_what_is_replayed_make_the_same_totals() {
        let mut usages = Usages::default();
        assert!(usages.apply(PartitionId(1), charge(8192, 2)));
        assert!(usages.apply(PartitionId(2), charge(4096, 1)));
        let committed = usages.take_changed();
        assert!(usages.apply(PartitionId(1), charge(-4096, 0)));

        let mut again = Usages::default();
        for (key, value) in &committed {
            assert!(again.load(key, value.as_ref().unwrap()));
        }
        assert!(again.apply(PartitionId(1), charge(-4096, 0)));
        assert_eq!(again.partitions(), usages.partitions());
        let all = again.volume(VolumeId(3));
        assert_eq!((all.bytes, all.inodes), (8192, 3));
    }

    #[test]
    fn a_volume_without_anything_leaves_no_record() {
        let mut usages = Usages::default();
        assert!(usages.apply(PartitionId(1), charge(0, 1)));
        usages.take_changed();
        assert!(usages.apply(PartitionId(1), charge(0, -1)));
        let records = usages.take_changed();
        assert_eq!(records, [(key::usage(PartitionId(1), VolumeId(3)), None)]);
        assert_eq!(usages.volumes().count(), 0);
        assert!(!usages.apply(PartitionId(1), charge(0, -1)));
    }

    #[test]
    fn bytes_that_are_no_record_are_refused() {
        let mut usages = Usages::default();
        let key = key::usage(PartitionId(1), VolumeId(3));
        assert!(!usages.load(&key, &[1; 16]));
        assert!(!usages.load(&key[..5], &[1; 17]));
        assert!(!usages.load(&key, &[2; 17]));
    }
}
