//! Split directories: every part is there with the directory's access, knows its originals, and
//! hosts the names that belong to it and no others.

use std::collections::BTreeSet;

use super::Audit;
use sealfs_protocol::{InodeId, PartitionId, hash};
use sealfs_server::records::InodeRecord;

impl Audit {
    pub(super) fn check_parts(&mut self) {
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for (dir, record) in &self.inodes {
            let split = record.directory().map_or(&[][..], |d| &d.split);
            for (host, number) in split.iter().zip(1..) {
                known.insert((*dir, *host));
                found.extend(self.check_part((*dir, record), *host, number));
            }
            if !split.is_empty() {
                known.insert((*dir, dir.partition()));
                found.extend(self.check_places(*dir, split));
            }
        }
        for at in self.parts.keys().chain(self.originals.keys()) {
            if !known.contains(at) {
                found.push(format!("{at:?} is a part of nothing"));
            }
        }
        self.problems.extend(found);
    }

    fn check_part(
        &self,
        (dir, whole): (InodeId, &InodeRecord),
        host: PartitionId,
        number: u16,
    ) -> Option<String> {
        let what = format!("part {number} of {dir:?} in {host:?}");
        let parts = whole.directory().map_or(0, |d| d.split.len()) as u16;
        let Some(part) = self.parts.get(&(dir, host)) else {
            return Some(format!("{what} is missing"));
        };
        if (part.part, part.parts) != (number, parts) {
            return Some(format!("{what} is {} of {}", part.part, part.parts));
        }
        let access = |r: &InodeRecord| (r.mode, r.uid, r.gid, r.layout, r.volume);
        if access(&part.record) != access(whole) {
            return Some(format!("{what} has other access attributes"));
        }
        let all = self.originals.get(&(dir, dir.partition()))?;
        let belongs = |hash: &&u64| hash::part_of_hash(**hash, parts) == Some(number);
        let own: Vec<u64> = all.hashes.iter().filter(belongs).copied().collect();
        let knows = self.originals.get(&(dir, host)).map(|o| &o.hashes);
        (knows != Some(&own)).then(|| format!("{what} has other originals"))
    }

    /// Originals lie with the inode, every other name in its part.
    fn check_places(&self, dir: InodeId, split: &[PartitionId]) -> Vec<String> {
        let Some(all) = self.originals.get(&(dir, dir.partition())) else {
            return vec![format!("{dir:?} does not know its originals")];
        };
        let mut found = Vec::new();
        let names = self.names.range((dir, Vec::new())..);
        for ((_, name), (host, _)) in names.take_while(|((d, _), _)| *d == dir) {
            let hash = hash::name(name);
            let part = hash::part_of_hash(hash, split.len() as u16);
            let right = match part {
                Some(part) if all.hashes.binary_search(&hash).is_err() => {
                    split[usize::from(part) - 1]
                }
                _ => dir.partition(),
            };
            if *host != right {
                let name = String::from_utf8_lossy(name);
                found.push(format!("{name} of {dir:?} is in {host:?}, not {right:?}"));
            }
        }
        found
    }
}
