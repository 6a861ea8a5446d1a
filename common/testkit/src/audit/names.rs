//! Names, listings and inodes: each name leads to an inode of its type and is listed once, counts
//! of names and links are right, and directories form a tree.

use std::collections::BTreeMap;

use super::Audit;
use sealfs_protocol::InodeId;
use sealfs_protocol::attr::S_IFMT;
use sealfs_server::records::{InodeRecord, part_of_entry};

impl Audit {
    pub(super) fn check_names(&mut self) {
        let mut found = Vec::new();
        for ((dir, name), (host, dentry)) in &self.names {
            let listed = self.positions.get(&(*dir, dentry.entry));
            let same = listed.is_some_and(|(at, position)| {
                at == host && position.ino == dentry.ino && position.name == *name
            });
            let name = String::from_utf8_lossy(name);
            match self.inodes.get(dir) {
                Some(record) if record.is_dir() && record.nlink > 0 => {}
                Some(_) => found.push(format!("{name} is in {dir:?}, which was removed")),
                None => found.push(format!("{name} is in {dir:?}, which is not there")),
            }
            match self.inodes.get(&dentry.ino) {
                Some(record) if record.mode & S_IFMT == dentry.kind => {}
                Some(_) => found.push(format!("{name} in {dir:?} is of another type")),
                None => found.push(format!("{name} in {dir:?} leads nowhere")),
            }
            if !same {
                found.push(format!("{name} in {dir:?} is not listed"));
            }
        }
        self.problems.extend(found);
    }

    /// A directory, or a part of one, counts its names, and lists as many under numbers of its own.
    pub(super) fn check_positions(&mut self) {
        let mut count: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        let mut found = Vec::new();
        for ((dir, _), (host, _)) in &self.names {
            count.entry((*dir, *host)).or_default().0 += 1;
        }
        for ((dir, number), (host, _)) in &self.positions {
            let part = self.parts.get(&(*dir, *host));
            let record = part.map_or(self.inodes.get(dir), |part| Some(&part.record));
            let next = record.and_then(|r| r.directory()).map(|d| d.next_entry);
            let own = part.map_or(0, |part| u64::from(part.part));
            if next.is_none_or(|next| *number >= next) || part_of_entry(*number) != own {
                found.push(format!("{dir:?} in {host:?} lists {number}, never given"));
            }
            count.entry((*dir, *host)).or_default().1 += 1;
        }
        let wholes = self.inodes.iter().map(|(d, r)| ((*d, d.partition()), r));
        let parts = self.parts.iter().map(|(at, part)| (*at, &part.record));
        for (at, record) in wholes.chain(parts) {
            let Some(directory) = record.directory() else {
                continue;
            };
            let counted = count.remove(&at).unwrap_or_default();
            if counted != (directory.entries, directory.entries) {
                let says = directory.entries;
                found.push(format!("{at:?} says {says} entries, and has {counted:?}"));
            }
        }
        let nowhere = count.keys();
        found.extend(nowhere.map(|at| format!("names in {at:?}, which hosts none")));
        self.problems.extend(found);
    }

    pub(super) fn check_inodes(&mut self) {
        let mut named: BTreeMap<InodeId, Vec<(InodeId, &[u8])>> = BTreeMap::new();
        let mut subdirs: BTreeMap<_, u32> = BTreeMap::new();
        for ((dir, name), (host, dentry)) in &self.names {
            named.entry(dentry.ino).or_default().push((*dir, name));
            if self
                .inodes
                .get(&dentry.ino)
                .is_some_and(InodeRecord::is_dir)
            {
                *subdirs.entry((*dir, *host)).or_default() += 1;
            }
        }
        let mut found = Vec::new();
        for (ino, record) in &self.inodes {
            let names = named.get(ino).map_or(&[][..], Vec::as_slice);
            let Some(directory) = record.directory() else {
                if record.nlink as usize != names.len() || names.is_empty() {
                    let nlink = record.nlink;
                    found.push(format!("{ino:?} has {nlink} links and names {names:?}"));
                }
                continue;
            };
            let home = (directory.parent, directory.name.as_slice());
            if *ino != self.root && names != [home] {
                found.push(format!("{ino:?} believes in {home:?} and is {names:?}"));
            }
            if !self.reaches_root(*ino) {
                found.push(format!("{ino:?} does not lie below the root"));
            }
        }
        let wholes = self.inodes.iter().map(|(d, r)| ((*d, d.partition()), r));
        let parts = self.parts.iter().map(|(at, part)| (*at, &part.record));
        for (at, record) in wholes.chain(parts).filter(|(_, r)| r.is_dir()) {
            let nlink = 2 + subdirs.get(&at).copied().unwrap_or_default();
            if record.nlink != nlink {
                found.push(format!("{at:?} has {} links, not {nlink}", record.nlink));
            }
        }
        self.problems.extend(found);
    }

    fn reaches_root(&self, dir: InodeId) -> bool {
        let mut at = dir;
        for _ in 0..=self.inodes.len() {
            if at == self.root {
                return true;
            }
            match self.inodes.get(&at).and_then(|r| r.directory()) {
                Some(d) => at = d.parent,
                None => return false,
            }
        }
        false
    }
}
