//! Shadows: what inotify watches of files and directories of a volume really lie on.
//!
//! The kernel tells watchers about changes of its own inodes only. So each inode of a volume that a
//! program of this node watches has a *shadow* on the runtime directory's tmpfs, and programs repeat
//! there what they do to the inode. The kernel makes the events: their masks, names and cookies, what
//! a mask leaves out, and who reads them through which descriptor is its own affair.
//!
//! ```text
//! watch-ARENA/own/KEY         the shadow of a watched inode: a file, or a directory with an entry for
//!                             each name that the watched directory has
//!            /own/KEY~        where the shadow lies after an odd number of moves; KEY leads there
//!            /entry/KEY       a link to the entry that stands for this inode in a watched directory
//!            /lock/N          held by who changes the names of watched directories
//! ```
//!
//! Every event is made by one call that makes no other: utimensat(2) of the access time alone is
//! IN_ACCESS, of the modification time alone IN_MODIFY, of both IN_ATTRIB; exchanging KEY and KEY~ is
//! one IN_MOVE_SELF. IN_OPEN and IN_CLOSE_* come from a descriptor that the keeper holds for as long
//! as the description is open ([`super::watched`]).
//!
//! What must stay true: an entry comes into a shadow silently only before the shadow has its first
//! watch. What is missing or too many later (other nodes change things unseen) is put right with
//! the events that this makes. No error here is an error of the program's call.

use super::arena::ManagerIndex;
use super::mapped::FileKey;
use super::runtime::Runtime;
use super::shadow_files::{
    MODE, complete, exchange, link_target, make, names_in, open_silently, remove,
};
use super::sys::{self, CWD, Fd, Result};
use rkyv::{Archive, Deserialize, Serialize};
use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use sealfs_protocol::{Errno, InodeId, VolumeId};

/// Names of these trees in the runtime directory: this and the arena's number.
pub const SHADOWS_PREFIX: &[u8] = b"watch-";

/// A change of an inode, of no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Touch {
    Access,
    Modify,
    Attributes,
}

impl Touch {
    fn times(self) -> Timestamps {
        let time = |is_set| Timespec {
            tv_sec: 0,
            tv_nsec: if is_set { UTIME_NOW } else { UTIME_OMIT } as _,
        };
        Timestamps {
            last_access: time(self != Touch::Modify),
            last_modification: time(self != Touch::Access),
        }
    }

    /// The same event by a descriptor of a shadow, whether it has a name or not.
    pub fn by(self, file: &Fd) {
        let _ = rustix::fs::futimens(sys::borrow(file.raw()), &self.times());
    }
}

/// An entry of a directory: whose name it is, and what it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub directory: FileKey,
    pub name: Vec<u8>,
    pub child: FileKey,
    pub is_dir: bool,
}

/// Told of each link of an inode to an entry: before there is one more, after there is one less.
pub type Count<'a> = &'a dyn Fn(FileKey, bool);

/// The tree of shadows of one arena.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Vec<u8>,
}

fn key_text(key: FileKey) -> String {
    format!("{}.{}.{}", key.manager.0, key.volume.0, key.ino.0)
}

fn key_in(name: &[u8]) -> Option<FileKey> {
    let text = core::str::from_utf8(name).ok()?;
    let mut numbers = text.split('.');
    let key = FileKey {
        manager: ManagerIndex(numbers.next()?.parse().ok()?),
        volume: VolumeId(numbers.next()?.parse().ok()?),
        ino: InodeId(numbers.next()?.parse().ok()?),
    };
    numbers.next().is_none().then_some(key)
}

impl Tree {
    pub fn new(runtime: &Runtime, arena: u64) -> Tree {
        let mut root = runtime.path().to_vec();
        root.push(b'/');
        root.extend_from_slice(SHADOWS_PREFIX);
        root.extend_from_slice(arena.to_string().as_bytes());
        Tree { root }
    }

    fn path(&self, folder: &str, key: FileKey, rest: &[u8]) -> Vec<u8> {
        let mut path = self.root.clone();
        path.extend_from_slice(folder.as_bytes());
        path.extend_from_slice(key_text(key).as_bytes());
        path.extend_from_slice(rest);
        path
    }

    pub fn root(&self) -> &[u8] {
        &self.root
    }

    /// The shadow; follow links to it.
    pub fn own(&self, key: FileKey) -> Vec<u8> {
        self.path("/own/", key, b"")
    }

    fn moved_own(&self, key: FileKey) -> Vec<u8> {
        self.path("/own/", key, b"~")
    }

    /// The link to the entry that stands for the inode in a watched directory.
    pub fn entry(&self, key: FileKey) -> Vec<u8> {
        self.path("/entry/", key, b"")
    }

    fn child(&self, directory: FileKey, name: &[u8]) -> Vec<u8> {
        let mut path = self.path("/own/", directory, b"/");
        path.extend_from_slice(name);
        path
    }

    /// A name of nothing yet, on the same file system.
    fn spare(&self, what: &str) -> Vec<u8> {
        let number = sys::random_u128().unwrap_or_default();
        let mut path = self.root.clone();
        path.extend_from_slice(format!("/own/{what}-{number:x}").as_bytes());
        path
    }

    pub fn lock_file(&self, number: u32) -> Vec<u8> {
        let mut path = self.root.clone();
        path.extend_from_slice(format!("/lock/{number}").as_bytes());
        path
    }

    pub fn make_folders(&self) -> Result<()> {
        for folder in ["", "/own", "/entry", "/lock"] {
            let path = [&self.root[..], folder.as_bytes()].concat();
            match sys::mkdir(path, MODE) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    pub fn is_watched(&self, key: FileKey) -> bool {
        self.inode(key).is_some()
    }

    /// The shadow's inode number.
    pub fn inode(&self, key: FileKey) -> Option<u64> {
        let stat = sys::stat_at(CWD, self.own(key), AtFlags::empty());
        stat.ok().map(|st| st.st_ino)
    }

    /// Every shadow, and its inode number.
    pub fn all(&self) -> Vec<(FileKey, u64)> {
        let keys = names_in(&[&self.root[..], b"/own"].concat()).into_iter();
        let keys = keys.filter_map(|name| key_in(&name));
        keys.filter_map(|key| Some((key, self.inode(key)?)))
            .collect()
    }

    /// Takes away the links that lead nowhere: which inodes had one.
    pub fn clear_links(&self) -> Vec<FileKey> {
        let keys = names_in(&[&self.root[..], b"/entry"].concat()).into_iter();
        keys.filter_map(|name| key_in(&name))
            .filter(|key| {
                let link = self.entry(*key);
                let leads = sys::stat_at(CWD, &link[..], AtFlags::empty());
                matches!(leads, Err(Errno::ENOENT)) && sys::unlink(link).is_ok()
            })
            .collect()
    }

    /// A shadow that nobody sees before [`Tree::reveal`]: its path.
    pub fn prepare(&self, is_dir: bool) -> Result<Vec<u8>> {
        let path = self.spare("new");
        make(&path, is_dir)?;
        Ok(path)
    }

    /// Puts a silent entry into a shadow that is being prepared.
    pub fn fill(&self, prepared: &[u8], entry: &Entry, count: Count<'_>) -> Result<Vec<u8>> {
        let path = [prepared, b"/", &entry.name].concat();
        make(&path, entry.is_dir)?;
        self.lead(entry, count);
        Ok(path)
    }

    pub fn reveal(&self, prepared: &[u8], key: FileKey) -> Result<()> {
        sys::rename(prepared, self.own(key))
    }

    /// Has the link of the child's inode lead to this entry.
    pub fn lead(&self, entry: &Entry, count: Count<'_>) {
        let (link, target) = (self.entry(entry.child), Tree::target(entry));
        let before = link_target(&link);
        if before.as_deref() == Some(&target[..]) {
            return;
        }
        count(entry.child, true);
        let spare = self.spare("link");
        let made = rustix::fs::symlinkat(&target[..], sys::borrow(CWD), &spare[..]).is_ok();
        let is_there = made && sys::rename(&spare[..], &link[..]).is_ok();
        if before.is_some() || !is_there {
            count(entry.child, false);
        }
    }

    fn target(entry: &Entry) -> Vec<u8> {
        let key = key_text(entry.directory);
        [b"../own/", key.as_bytes(), b"/", &entry.name].concat()
    }

    /// Takes the link away if it leads to this entry.
    fn unlead(&self, entry: &Entry, count: Count<'_>) {
        let link = self.entry(entry.child);
        if link_target(&link).as_deref() == Some(&Tree::target(entry)[..])
            && sys::unlink(link).is_ok()
        {
            count(entry.child, false);
        }
    }

    /// IN_CREATE
    pub fn created(&self, entry: &Entry, count: Count<'_>) {
        let path = self.child(entry.directory, &entry.name);
        if make(&path, entry.is_dir) == Err(Errno::EEXIST) {
            remove(&path);
            let _ = make(&path, entry.is_dir);
        }
        self.lead(entry, count);
    }

    /// IN_DELETE
    pub fn deleted(&self, entry: &Entry, count: Count<'_>) {
        let path = self.child(entry.directory, &entry.name);
        complete(&path, entry.is_dir);
        remove(&path);
        self.unlead(entry, count);
    }

    /// The entry, or what stands for it where its directory is not watched.
    fn place(&self, entry: &Entry, is_watched: bool) -> Vec<u8> {
        if is_watched {
            self.child(entry.directory, &entry.name)
        } else {
            self.spare("away")
        }
    }

    /// IN_MOVED_FROM and IN_MOVED_TO, or the one of them whose directory is watched. What `to` named
    /// before goes.
    pub fn moved(
        &self,
        (from, to): (&Entry, &Entry),
        watched: [bool; 2],
        over: Option<&Entry>,
        count: Count<'_>,
    ) {
        let (old, new) = (self.place(from, watched[0]), self.place(to, watched[1]));
        complete(&old, from.is_dir);
        if let Some(over) = over {
            self.unlead(over, count);
        }
        if sys::rename(&old[..], &new[..]).is_err() {
            remove(&new);
            let _ = sys::rename(&old[..], &new[..]);
        }
        if watched[1] {
            self.lead(to, count);
        } else {
            remove(&new);
        }
        self.unlead(from, count);
    }

    /// The same in both directions (RENAME_EXCHANGE): `a` and `b` as they were.
    pub fn exchanged(&self, (a, b): (&Entry, &Entry), watched: [bool; 2], count: Count<'_>) {
        let places = [self.place(a, watched[0]), self.place(b, watched[1])];
        complete(&places[0], a.is_dir);
        complete(&places[1], b.is_dir);
        let _ = exchange(&places[0], &places[1]);
        let pairs = [(a, b), (b, a)];
        for ((entry, other), is_watched) in pairs.into_iter().zip(watched) {
            if is_watched {
                let now = Entry {
                    child: other.child,
                    is_dir: other.is_dir,
                    ..entry.clone()
                };
                self.lead(&now, count);
            }
        }
        for ((entry, _), (path, is_watched)) in pairs.into_iter().zip(places.iter().zip(watched)) {
            self.unlead(entry, count);
            if !is_watched {
                remove(path);
            }
        }
    }

    /// IN_MOVE_SELF, if the inode has a shadow.
    pub fn self_moved(&self, key: FileKey) {
        if !self.is_watched(key) {
            return;
        }
        let (own, other) = (self.own(key), self.moved_own(key));
        let itself = [key_text(key).as_bytes(), b"~"].concat();
        // Seen only once it has the other name: then the text is true.
        let _ = rustix::fs::symlinkat(&itself[..], sys::borrow(CWD), &other[..]);
        let _ = exchange(&own, &other);
    }

    /// IN_ATTRIB for a file that lost its last name. Dropping what it returns is IN_DELETE_SELF and
    /// IN_IGNORED, unless the file is open.
    pub fn self_deleted(&self, key: FileKey) -> Option<Fd> {
        let own = self.own(key);
        let pinned = sys::open(&own[..], OFlags::PATH | OFlags::CLOEXEC, 0).ok()?;
        for path in [self.moved_own(key), own] {
            remove(&path);
        }
        Some(pinned)
    }

    /// The event of a change, of the inode's entry first, then of itself, as the kernel tells it.
    pub fn touched(&self, key: FileKey, touch: Touch) {
        let times = touch.times();
        for path in [self.entry(key), self.own(key)] {
            let _ = rustix::fs::utimensat(sys::borrow(CWD), &path[..], &times, AtFlags::empty());
        }
    }

    /// IN_ATTRIB of the inode alone: it has a link more or less.
    pub fn links_changed(&self, key: FileKey) {
        let times = Touch::Attributes.times();
        let own = self.own(key);
        let _ = rustix::fs::utimensat(sys::borrow(CWD), &own[..], &times, AtFlags::empty());
    }

    /// IN_OPEN of the entry and of the inode: what is to be held until the description is closed.
    pub fn opened(&self, key: FileKey, access: OFlags) -> Vec<Fd> {
        let open = |path: Vec<u8>| open_silently(&path, access);
        [self.entry(key), self.own(key)]
            .into_iter()
            .filter_map(open)
            .collect()
    }
}
