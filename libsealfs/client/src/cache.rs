//! Directories that were passed on the way, so that the next walk starts further on.
//!
//! An entry says: under the directory `parent`, `name` is the directory `ino`, and whoever has these
//! credentials may search `parent`. All entries hold under one rename version; requests carry it, and
//! a server that knows a newer one names the directories that changed. A directory that was removed
//! answers for itself (ESTALE). What must stay true: nothing is kept that was learned under another
//! version than the cache's.

use crate::hash::FixedState;
use sealfs_protocol::message::Passed;
use sealfs_protocol::{InodeId, PartitionId, RenameVersion, hash};
use std::collections::HashMap;

/// Most entries; a full cache starts anew.
const ENTRIES_MAX: usize = 32 << 10;
/// Most split directories whose parts are remembered; likewise.
const SPLITS_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct DirectoryCache {
    version: RenameVersion,
    /// What a credential set may find in a directory.
    directories: HashMap<(u16, InodeId), Names, FixedState>,
    entries: usize,
    /// The partitions of split directories' parts. A split is for good, whatever the version.
    splits: HashMap<InodeId, Box<[PartitionId]>, FixedState>,
}

type Names = HashMap<Box<[u8]>, InodeId, FixedState>;

/// How far the cache leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Start {
    pub base: InodeId,
    /// Bytes of the path that are consumed, slashes behind them included.
    pub consumed: usize,
}

impl DirectoryCache {
    /// The version to put into a request; 0 while nothing is kept.
    pub fn version(&self) -> RenameVersion {
        if self.entries == 0 {
            return RenameVersion(0);
        }
        self.version
    }

    /// Follows known directories from `base`; the last component is never consumed unless
    /// `whole`.
    pub fn walk(&self, credential: u16, base: InodeId, path: &[u8], whole: bool) -> Start {
        let mut at = Start { base, consumed: 0 };
        if self.entries == 0 {
            return at;
        }
        loop {
            let rest = &path[at.consumed..];
            let end = rest.iter().position(|b| *b == b'/');
            let Some(name_end) = end.or((whole && !rest.is_empty()).then_some(rest.len())) else {
                return at;
            };
            let slashes = rest[name_end..].iter().take_while(|b| **b == b'/').count();
            let is_last = name_end + slashes == rest.len();
            if is_last && !whole {
                return at;
            }
            let names = self.directories.get(&(credential, at.base));
            let Some(ino) = names.and_then(|n| n.get(&rest[..name_end])) else {
                return at;
            };
            at.base = *ino;
            at.consumed += name_end + slashes;
        }
    }

    /// Keeps the directories that a server passed while it walked `path` from `base`.
    pub fn learn(
        &mut self,
        credential: u16,
        base: InodeId,
        path: &[u8],
        passed: &[Passed],
        version: RenameVersion,
    ) {
        // Version 0: that server may not say what may be kept.
        if passed.is_empty() || version.0 == 0 {
            return;
        }
        if self.entries == 0 || self.entries + passed.len() > ENTRIES_MAX {
            self.clear();
            self.version = version;
        }
        if version != self.version {
            return;
        }
        let (mut parent, mut from) = (Some(base), 0);
        for p in passed {
            let Some(piece) = path.get(from..p.consumed_bytes as usize) else {
                return;
            };
            let name = trim_slashes(piece);
            let plain = !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/');
            if let (Some(parent), true) = (parent, plain) {
                let names = self.directories.entry((credential, parent)).or_default();
                if names.insert(name.into(), p.ino).is_none() {
                    self.entries += 1;
                }
            }
            parent = Some(p.ino);
            from = p.consumed_bytes as usize;
        }
    }

    /// A directory was found to be split.
    pub fn learn_split(&mut self, directory: InodeId, parts: &[PartitionId]) {
        if self.splits.len() >= SPLITS_MAX {
            self.splits.clear();
        }
        self.splits.insert(directory, parts.into());
    }

    /// Parts of a directory were not where they were said to be.
    pub fn forget_split(&mut self, directory: InodeId) {
        self.splits.remove(&directory);
    }

    /// The partition to ask for the first component of `path` in `directory`.
    pub fn partition(&self, directory: InodeId, path: &[u8]) -> PartitionId {
        let name = path.split(|b| *b == b'/').next().unwrap_or_default();
        if self.splits.is_empty() || matches!(name, b"" | b"." | b"..") {
            return directory.partition();
        }
        let parts = self.splits.get(&directory).map_or(&[][..], |p| p);
        let part = hash::directory_part(name, parts.len() as u16);
        part.map_or(directory.partition(), |p| parts[usize::from(p) - 1])
    }

    /// The partition of a part, from 1 on, of a directory.
    pub fn part(&self, directory: InodeId, part: usize) -> Option<PartitionId> {
        let parts = self.splits.get(&directory)?;
        parts.get(part.checked_sub(1)?).copied()
    }

    /// A server knows a newer version: forgets the directories that changed, or all.
    pub fn stale(&mut self, version: RenameVersion, directories: Option<&[InodeId]>) {
        match directories {
            Some(changed) => self.forget_all(|ino| changed.contains(&ino)),
            None => self.clear(),
        }
        self.version = version;
    }

    /// A directory is gone or has moved, as it told us itself.
    pub fn forget(&mut self, directory: InodeId) {
        self.forget_all(|ino| ino == directory);
    }

    fn forget_all(&mut self, gone: impl Fn(InodeId) -> bool) {
        self.directories.retain(|(_, parent), _| !gone(*parent));
        for names in self.directories.values_mut() {
            names.retain(|_, ino| !gone(*ino));
        }
        self.entries = self.directories.values().map(HashMap::len).sum();
    }

    /// This process removed or replaced a name.
    pub fn forget_name(&mut self, credential: u16, parent: InodeId, name: &[u8]) {
        if let Some(names) = self.directories.get_mut(&(credential, parent))
            && names.remove(name).is_some()
        {
            self.entries -= 1;
        }
    }

    fn clear(&mut self) {
        self.directories.clear();
        self.entries = 0;
    }
}

/// Without slashes at either end.
pub(crate) fn trim_slashes(path: &[u8]) -> &[u8] {
    let from = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    let to = path
        .iter()
        .rposition(|b| *b != b'/')
        .map_or(from, |p| p + 1);
    &path[from..to]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: InodeId = InodeId(1);
    const A: InodeId = InodeId(2);
    const B: InodeId = InodeId(3);
    const V: RenameVersion = RenameVersion(5);

    fn learned() -> DirectoryCache {
        let mut cache = DirectoryCache::default();
        let passed = [
            Passed {
                consumed_bytes: 1,
                ino: A,
            },
            Passed {
                consumed_bytes: 4,
                ino: B,
            },
        ];
        cache.learn(0, ROOT, b"a//b/c", &passed, V);
        cache
    }

    fn walk(cache: &DirectoryCache, path: &[u8], whole: bool) -> (InodeId, usize) {
        let start = cache.walk(0, ROOT, path, whole);
        (start.base, start.consumed)
    }

    #[test]
    fn a_walk_goes_as_far_as_directories_are_known() {
        let cache = learned();
        assert_eq!(walk(&cache, b"a/b/x", false), (B, 4));
        assert_eq!(walk(&cache, b"a/b", false), (A, 2));
        assert_eq!(walk(&cache, b"a/b", true), (B, 3));
        assert_eq!(walk(&cache, b"a/b/", false), (A, 2));
        assert_eq!(walk(&cache, b"a///b//c/d", false), (B, 7));
        assert_eq!(walk(&cache, b"x/b", false), (ROOT, 0));
        assert_eq!(walk(&cache, b"", true), (ROOT, 0));
        let other = cache.walk(1, ROOT, b"a/b/x", false);
        assert_eq!(other.consumed, 0, "known to one identity only");
    }

    #[test]
    fn changed_directories_are_forgotten_and_the_rest_stays() {
        let mut cache = learned();
        cache.stale(RenameVersion(6), Some(&[B]));
        assert_eq!(walk(&cache, b"a/b/x", false), (A, 2));
        assert_eq!(cache.version(), RenameVersion(6));
        cache.stale(RenameVersion(7), None);
        assert_eq!(walk(&cache, b"a/b/x", false), (ROOT, 0));
        assert_eq!(cache.version(), RenameVersion(0));
    }

    #[test]
    fn what_holds_under_another_version_is_not_kept() {
        let mut cache = learned();
        let passed = [Passed {
            consumed_bytes: 1,
            ino: B,
        }];
        cache.learn(0, ROOT, b"z/x", &passed, RenameVersion(9));
        assert_eq!(walk(&cache, b"z/x", false), (ROOT, 0));
    }

    #[test]
    fn names_of_a_split_directory_are_asked_of_their_parts() {
        let mut cache = DirectoryCache::default();
        assert_eq!(cache.partition(A, b"name/x"), A.partition());
        let parts = [PartitionId(7), PartitionId(9)];
        cache.learn_split(A, &parts);
        let part = usize::from(hash::directory_part(b"name", 2).unwrap());
        assert_eq!(cache.partition(A, b"name/x"), parts[part - 1]);
        assert_eq!(cache.part(A, part), Some(parts[part - 1]));
        assert_eq!(cache.partition(A, b"../x"), A.partition());
        assert_eq!(cache.partition(A, b""), A.partition());
        assert_eq!(cache.partition(B, b"name"), B.partition());
        assert_eq!((cache.part(A, 0), cache.part(A, 3)), (None, None));
        cache.forget_split(A);
        assert_eq!(cache.partition(A, b"name"), A.partition());
    }

    #[test]
    fn dots_are_not_names() {
        let mut cache = learned();
        let passed = [
            Passed {
                consumed_bytes: 1,
                ino: A,
            },
            Passed {
                consumed_bytes: 4,
                ino: ROOT,
            },
        ];
        cache.learn(0, ROOT, b"a/../a/x", &passed, V);
        assert_eq!(walk(&cache, b"a/../a/x", false), (A, 2));
    }
}
