//! Directories and the names in them, as POSIX and the kernel have them.

use std::collections::BTreeMap;

use crate::linear::Object;
use sealfs_protocol::{Errno, InodeId};

/// Of a directory that was removed: its inode may be gone or not.
const GONE: &[Errno] = &[Errno::ENOENT, Errno::ESTALE];

/// A name in a directory.
pub type Place = (InodeId, String);

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Names {
    /// Directories that have a name, and what is in them.
    dirs: BTreeMap<InodeId, BTreeMap<String, InodeId>>,
    /// Names of each file.
    links: BTreeMap<InodeId, u32>,
    /// Inodes made by calls without an answer: nobody knows their numbers yet.
    unknown: u64,
}

#[derive(Clone, Debug)]
pub enum NameCall {
    /// open(2) with `O_CREAT | O_EXCL`.
    Create(Place),
    MakeDir(Place),
    Unlink(Place),
    RemoveDir(Place),
    Rename {
        from: Place,
        to: Place,
        noreplace: bool,
        exchange: bool,
    },
    Link(InodeId, Place),
    Lookup(Place),
    /// Whether a name does not lead to this inode: what a listing tells that has met it twice.
    Differs(Place, InodeId),
    List(InodeId),
    /// `st_nlink` of a directory, or of an open file.
    Links(InodeId),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NameAnswer {
    Done,
    Ino(InodeId),
    Entries(BTreeMap<String, InodeId>),
    Links(u32),
    Errno(Errno),
}

/// What the model says.
enum Said {
    Done,
    Ino(InodeId),
    Entries(BTreeMap<String, InodeId>),
    Links(u32),
    /// One of these.
    Fails(&'static [Errno]),
}

impl Names {
    /// Directories that are there from the beginning and stay.
    pub fn with_directories(dirs: &[InodeId]) -> Names {
        Names {
            dirs: dirs.iter().map(|d| (*d, BTreeMap::new())).collect(),
            ..Names::default()
        }
    }

    fn is_dir(&self, ino: InodeId) -> bool {
        self.dirs.contains_key(&ino)
    }

    fn find(&self, place: &Place) -> Option<InodeId> {
        self.dirs.get(&place.0)?.get(&place.1).copied()
    }

    fn parent(&self, dir: InodeId) -> Option<InodeId> {
        let mut dirs = self.dirs.iter();
        let found = dirs.find(|(_, entries)| entries.values().any(|ino| *ino == dir));
        found.map(|(parent, _)| *parent)
    }

    fn is_above(&self, upper: InodeId, dir: InodeId) -> bool {
        let mut at = Some(dir);
        while let Some(dir) = at {
            if dir == upper {
                return true;
            }
            at = self.parent(dir);
        }
        false
    }

    fn set(&mut self, place: &Place, ino: InodeId) {
        if let Some(entries) = self.dirs.get_mut(&place.0) {
            entries.insert(place.1.clone(), ino);
        }
    }

    fn take(&mut self, place: &Place) {
        if let Some(entries) = self.dirs.get_mut(&place.0) {
            entries.remove(&place.1);
        }
    }

    /// Something has lost its last or another name.
    fn drop_name(&mut self, ino: InodeId) {
        if self.dirs.remove(&ino).is_none() {
            *self.links.entry(ino).or_default() -= 1;
        }
    }

    fn create(&mut self, place: &Place, ino: InodeId, dir: bool) -> Said {
        if !self.is_dir(place.0) {
            return Said::Fails(GONE);
        }
        if self.find(place).is_some() {
            return Said::Fails(&[Errno::EEXIST]);
        }
        if dir {
            self.dirs.insert(ino, BTreeMap::new());
        } else {
            self.links.insert(ino, 1);
        }
        self.set(place, ino);
        Said::Ino(ino)
    }

    fn remove(&mut self, place: &Place, dir: bool) -> Said {
        if !self.is_dir(place.0) {
            return Said::Fails(GONE);
        }
        let Some(ino) = self.find(place) else {
            return Said::Fails(&[Errno::ENOENT]);
        };
        match (dir, self.dirs.get(&ino)) {
            (true, None) => return Said::Fails(&[Errno::ENOTDIR]),
            (false, Some(_)) => return Said::Fails(&[Errno::EISDIR]),
            (true, Some(entries)) if !entries.is_empty() => {
                return Said::Fails(&[Errno::ENOTEMPTY]);
            }
            _ => {}
        }
        self.take(place);
        self.drop_name(ino);
        Said::Done
    }

    fn link(&mut self, ino: InodeId, to: &Place) -> Said {
        let links = self.links.get(&ino).copied().unwrap_or(0);
        if !self.is_dir(to.0) {
            return Said::Fails(GONE);
        }
        match (self.find(to), links) {
            (Some(_), 0) => Said::Fails(&[Errno::EEXIST, Errno::ENOENT]),
            (Some(_), _) => Said::Fails(&[Errno::EEXIST]),
            (None, 0) => Said::Fails(&[Errno::ENOENT]),
            (None, _) => {
                self.links.insert(ino, links + 1);
                self.set(to, ino);
                Said::Ino(ino)
            }
        }
    }

    fn rename(&mut self, from: &Place, to: &Place, noreplace: bool, exchange: bool) -> Said {
        if !self.is_dir(from.0) {
            return Said::Fails(GONE);
        }
        if !self.is_dir(to.0) {
            // It may have been removed from below what is to be moved.
            return Said::Fails(&[Errno::ENOENT, Errno::ESTALE, Errno::EINVAL]);
        }
        let Some(old) = self.find(from) else {
            return Said::Fails(&[Errno::ENOENT]);
        };
        let new = self.find(to);
        match new {
            Some(_) if noreplace => return Said::Fails(&[Errno::EEXIST]),
            None if exchange => return Said::Fails(&[Errno::ENOENT]),
            _ => {}
        }
        let old_dir = self.is_dir(old);
        let new_dir = new.filter(|new| self.is_dir(*new));
        if from.0 != to.0 {
            if old_dir && self.is_above(old, to.0) {
                return Said::Fails(&[Errno::EINVAL]);
            }
            let matters = exchange || old_dir;
            if new_dir.is_some_and(|new| matters && self.is_above(new, from.0)) {
                return Said::Fails(if exchange {
                    &[Errno::EINVAL]
                } else {
                    &[Errno::ENOTEMPTY]
                });
            }
        }
        if new == Some(old) {
            return Said::Done;
        }
        if exchange {
            self.set(from, new.unwrap_or(old));
            self.set(to, old);
            return Said::Done;
        }
        match (old_dir, new, new_dir) {
            (true, Some(_), None) => return Said::Fails(&[Errno::ENOTDIR]),
            (false, _, Some(_)) => return Said::Fails(&[Errno::EISDIR]),
            (_, _, Some(new)) if !self.dirs[&new].is_empty() => {
                return Said::Fails(&[Errno::ENOTEMPTY]);
            }
            _ => {}
        }
        if let Some(new) = new {
            self.drop_name(new);
        }
        self.take(from);
        self.set(to, old);
        Said::Done
    }

    fn links_of(&self, ino: InodeId) -> Said {
        if let Some(entries) = self.dirs.get(&ino) {
            let subdirs = entries.values().filter(|ino| self.is_dir(**ino));
            return Said::Links(2 + subdirs.count() as u32);
        }
        match self.links.get(&ino) {
            Some(links) => Said::Links(*links),
            None => Said::Fails(GONE),
        }
    }

    fn run(&mut self, call: &NameCall, fresh: InodeId) -> Said {
        match call {
            NameCall::Create(place) => self.create(place, fresh, false),
            NameCall::MakeDir(place) => self.create(place, fresh, true),
            NameCall::Unlink(place) => self.remove(place, false),
            NameCall::RemoveDir(place) => self.remove(place, true),
            NameCall::Rename {
                from,
                to,
                noreplace,
                exchange,
            } => self.rename(from, to, *noreplace, *exchange),
            NameCall::Link(ino, to) => self.link(*ino, to),
            NameCall::Lookup(place) => match self.find(place) {
                Some(ino) => Said::Ino(ino),
                None if self.is_dir(place.0) => Said::Fails(&[Errno::ENOENT]),
                None => Said::Fails(GONE),
            },
            NameCall::Differs(place, ino) if self.find(place) == Some(*ino) => {
                Said::Fails(&[Errno::EEXIST])
            }
            NameCall::Differs(..) => Said::Done,
            NameCall::List(dir) => match self.dirs.get(dir) {
                Some(entries) => Said::Entries(entries.clone()),
                None => Said::Fails(GONE),
            },
            NameCall::Links(ino) => self.links_of(*ino),
        }
    }

    /// A call has seen the number of an inode that was made without an answer.
    fn learn(&mut self, mine: InodeId, seen: InodeId) -> bool {
        if mine == seen {
            return true;
        }
        if mine.0 < FIRST_UNKNOWN || self.dirs.contains_key(&seen) || self.links.contains_key(&seen)
        {
            return false;
        }
        if let Some(entries) = self.dirs.remove(&mine) {
            self.dirs.insert(seen, entries);
        }
        if let Some(links) = self.links.remove(&mine) {
            self.links.insert(seen, links);
        }
        for ino in self.dirs.values_mut().flat_map(|e| e.values_mut()) {
            if *ino == mine {
                *ino = seen;
            }
        }
        true
    }
}

/// Numbers that no inode has.
const FIRST_UNKNOWN: u64 = 1 << 63;

impl Object for Names {
    type Call = NameCall;
    type Answer = NameAnswer;

    fn only_looks(call: &NameCall, answer: &NameAnswer) -> bool {
        let looks = matches!(
            call,
            NameCall::Lookup(_) | NameCall::Differs(..) | NameCall::List(_) | NameCall::Links(_)
        );
        looks || matches!(answer, NameAnswer::Errno(_))
    }

    fn carry_out(&mut self, call: &NameCall, answer: Option<&NameAnswer>) -> bool {
        let fresh = match answer {
            Some(NameAnswer::Ino(ino)) => *ino,
            Some(_) => InodeId(FIRST_UNKNOWN),
            None => {
                self.unknown += 1;
                InodeId(FIRST_UNKNOWN + self.unknown)
            }
        };
        let said = self.run(call, fresh);
        match (said, answer) {
            (_, None) | (Said::Done, Some(NameAnswer::Done)) => true,
            (Said::Ino(mine), Some(NameAnswer::Ino(seen))) => self.learn(mine, *seen),
            (Said::Entries(mine), Some(NameAnswer::Entries(seen))) => {
                let same = mine.keys().eq(seen.keys());
                let mut pairs = mine.values().zip(seen.values());
                same && pairs.all(|(mine, seen)| self.learn(*mine, *seen))
            }
            (Said::Links(mine), Some(NameAnswer::Links(seen))) => mine == *seen,
            // A removed directory whose inode is not collected yet.
            (Said::Fails(GONE), Some(NameAnswer::Links(0))) => true,
            (Said::Fails(errnos), Some(NameAnswer::Errno(errno))) => errnos.contains(errno),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOP: InodeId = InodeId(1);

    fn at(dir: InodeId, name: &str) -> Place {
        (dir, name.to_owned())
    }

    #[test]
    fn a_directory_does_not_move_below_itself() {
        let mut names = Names::with_directories(&[TOP]);
        for (place, ino) in [
            (at(TOP, "a"), InodeId(2)),
            (at(InodeId(2), "b"), InodeId(3)),
        ] {
            let made = names.carry_out(&NameCall::MakeDir(place), Some(&NameAnswer::Ino(ino)));
            assert!(made);
        }
        let call = NameCall::Rename {
            from: at(TOP, "a"),
            to: at(InodeId(3), "c"),
            noreplace: false,
            exchange: false,
        };
        let refused = NameAnswer::Errno(Errno::EINVAL);
        assert!(names.carry_out(&call, Some(&refused)));
        assert!(!names.carry_out(&call, Some(&NameAnswer::Done)));
    }

    #[test]
    fn an_inode_made_without_an_answer_gets_its_number_when_it_is_seen() {
        let mut names = Names::with_directories(&[TOP]);
        names.carry_out(&NameCall::MakeDir(at(TOP, "a")), None);
        let lookup = NameCall::Lookup(at(TOP, "a"));
        assert!(names.carry_out(&lookup, Some(&NameAnswer::Ino(InodeId(9)))));
        assert!(!names.carry_out(&lookup, Some(&NameAnswer::Ino(InodeId(8)))));
        assert!(names.is_dir(InodeId(9)));
    }
}
