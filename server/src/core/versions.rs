//! Rename versions: under which version of a volume's directory structure clients may use what
//! they have cached.
//!
//! The owner of a root directory keeps the version and pushes every change, before it takes place,
//! to all shards, and repeats it every [`PUSH_MS`]. What must stay true: a shard that has not heard
//! from the owner for [`LEASE_MS`] claims no version at all, so that nobody relies on a cache that
//! it could not have been told to drop.

use std::collections::{HashMap, VecDeque};

use sealfs_protocol::message::Refusal;
use sealfs_protocol::{InodeId, RenameVersion, VolumeId};

/// Interval at which an owner repeats the versions of its volumes, in ms.
pub const PUSH_MS: u64 = 500;
/// How long a pushed version stands without being repeated, in ms.
pub const LEASE_MS: u64 = 2_000;
/// Changes remembered for each volume; clients that are further behind drop everything.
const REMEMBERED: usize = 64;

#[derive(Default)]
pub struct Versions {
    known: HashMap<VolumeId, Known>,
}

#[derive(Default)]
struct Known {
    version: RenameVersion,
    /// Until when it may be relied on; none for the owner itself.
    until_ns: Option<u64>,
    /// The changes that led to `version`, oldest first; each raised it by one.
    recent: VecDeque<(RenameVersion, Vec<InodeId>)>,
}

impl Versions {
    /// The version under which replies of now may be cached; 0 for none.
    pub fn current(&self, volume: VolumeId, now_ns: u64) -> RenameVersion {
        match self.known.get(&volume) {
            Some(k) if k.until_ns.is_none_or(|until| now_ns < until) => k.version,
            _ => RenameVersion(0),
        }
    }

    /// Why a request that used a cache of version `theirs` is refused, if it is.
    pub fn check(&self, volume: VolumeId, theirs: RenameVersion, now_ns: u64) -> Option<Refusal> {
        if theirs.0 == 0 {
            return None;
        }
        let version = self.current(volume, now_ns);
        if theirs >= version && version.0 != 0 {
            return None;
        }
        let directories = self.known.get(&volume).and_then(|k| k.since(theirs));
        Some(Refusal::StaleVersion {
            version,
            directories: directories.filter(|_| version.0 != 0),
        })
    }

    /// Takes over a version, ours (`until_ns` none) or pushed by its owner.
    pub fn learn(
        &mut self,
        volume: VolumeId,
        version: RenameVersion,
        directories: &[InodeId],
        until_ns: Option<u64>,
    ) {
        let known = self.known.entry(volume).or_default();
        if version < known.version {
            return;
        }
        known.until_ns = until_ns;
        if version == known.version {
            return;
        }
        if version.0 != known.version.0 + 1 || directories.is_empty() {
            known.recent.clear();
        }
        if !directories.is_empty() {
            known.recent.push_back((version, directories.to_vec()));
        }
        if known.recent.len() > REMEMBERED {
            known.recent.pop_front();
        }
        known.version = version;
    }

    pub fn forget(&mut self, volume: VolumeId) {
        self.known.remove(&volume);
    }
}

impl Known {
    /// The directories that changed after `theirs`, if all of them are remembered.
    fn since(&self, theirs: RenameVersion) -> Option<Vec<InodeId>> {
        let first = self.recent.front()?.0;
        if theirs.0 + 1 < first.0 || theirs > self.version {
            return None;
        }
        let newer = self.recent.iter().filter(|(v, _)| *v > theirs);
        Some(newer.flat_map(|(_, dirs)| dirs.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: VolumeId = VolumeId(1);

    #[test]
    fn an_older_cache_is_told_what_changed_and_a_much_older_one_drops_all() {
        let mut versions = Versions::default();
        versions.learn(VOLUME, RenameVersion(5), &[], None);
        versions.learn(VOLUME, RenameVersion(6), &[InodeId(1)], None);
        versions.learn(VOLUME, RenameVersion(7), &[InodeId(2)], None);
        let refused = |theirs| versions.check(VOLUME, RenameVersion(theirs), 0);
        assert_eq!((refused(7), refused(0)), (None, None));
        let stale = |directories| {
            Some(Refusal::StaleVersion {
                version: RenameVersion(7),
                directories,
            })
        };
        assert_eq!(refused(6), stale(Some(vec![InodeId(2)])));
        assert_eq!(refused(5), stale(Some(vec![InodeId(1), InodeId(2)])));
        assert_eq!(refused(4), stale(None));
    }

    #[test]
    fn a_pushed_version_that_is_not_repeated_is_relied_on_no_more() {
        let mut versions = Versions::default();
        versions.learn(VOLUME, RenameVersion(5), &[], Some(100));
        assert_eq!(versions.current(VOLUME, 99), RenameVersion(5));
        assert_eq!(versions.current(VOLUME, 100), RenameVersion(0));
        assert!(versions.check(VOLUME, RenameVersion(5), 100).is_some());
    }
}
