//! Changes of names, done and repeated on the shadows that inotify(7) watches (`repeat`).
//!
//! What must stay true: of a directory that is watched one name changes after the other, and the watchers
//! are told in that order; who found nobody watching looks again when the change is made.

use super::program::followed;
use super::repeat::{key, watching};
use crate::connected::ClientRef;
use crate::process::Node;
use crate::{credentials, descriptors, fdtable, kernel};
use sealfs_client::node::mapped::FileKey;
use sealfs_client::node::shadow::Entry;
use sealfs_client::node::watched::{NamesLock, unlock_names};
use sealfs_client::{At, Opened, Outcome};
use sealfs_protocol::InodeId;
use sealfs_protocol::attr::Attr;

/// The lock of the names of directories, with its descriptors out of the program's way.
pub struct Names(Vec<u32>);

impl Names {
    pub fn new(lock: NamesLock) -> Names {
        let placed = lock.into_descriptors().into_iter();
        Names(placed.map(|fd| descriptors::place_fd(fd) as u32).collect())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for fd in &self.0 {
            unlock_names(*fd as i32);
            fdtable::remove_internal(*fd);
            kernel::close(*fd);
        }
    }
}

/// A name that is about to change: its directory, and what it names now.
struct Name {
    directory: FileKey,
    name: Vec<u8>,
    names: Option<Attr>,
}

/// What of a name is of interest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Nothing,
    /// What it names now.
    Names,
    /// As open(2) takes it: a symbolic link stands for where it leads.
    Follow,
}

impl Name {
    fn at(client: &ClientRef, at: At<'_>, look: Look) -> Option<Name> {
        let (directory, name) = match look {
            Look::Follow => followed(client, at).ok()?,
            _ => client.parent_of(at).ok()?,
        };
        let itself = At {
            base: directory,
            path: &name,
        };
        let is_one = !matches!(&name[..], b"" | b"." | b"..");
        let names = if look == Look::Names && is_one {
            client.stat(itself, false).ok()
        } else {
            None
        };
        let directory = key(directory)?;
        is_one.then_some(Name {
            directory,
            name,
            names,
        })
    }

    fn entry(&self, ino: InodeId, is_dir: bool) -> Option<Entry> {
        Some(Entry {
            directory: self.directory,
            name: self.name.clone(),
            child: key(ino)?,
            is_dir,
        })
    }

    /// The entry that it is now; of an unknown inode if it was not looked at in time.
    fn old(&self, is_dir: bool) -> Option<Entry> {
        match &self.names {
            Some(attr) => self.entry(attr.ino, attr.is_dir()),
            None => self.entry(InodeId::default(), is_dir),
        }
    }

    fn is_last(&self) -> bool {
        let is_last = |attr: &Attr| attr.is_dir() || attr.nlink <= 1;
        self.names.as_ref().is_some_and(is_last)
    }
}

/// Does what changes the names at `places`, and has `tell` repeat it. Whoever watches a directory
/// concerned sees its changes in the order in which they took place.
fn changing<T>(
    client: &ClientRef,
    places: &[At<'_>],
    look: Look,
    change: impl FnOnce() -> Outcome<T>,
    tell: impl FnOnce(&'static Node, &[Name], &T) -> Option<()>,
) -> Outcome<T> {
    let find = |look| -> Option<Vec<Name>> {
        let names = places.iter().map(|at| Name::at(client, *at, look));
        names.collect()
    };
    let first = if look == Look::Follow {
        look
    } else {
        Look::Nothing
    };
    let Some(node) = watching() else {
        let done = change()?;
        // A directory may have got a watch, and its shadow the entries of before.
        if let Some(node) = watching()
            && let Some(names) = find(first)
        {
            let _owner = credentials::as_owner(node.runtime);
            tell(node, &names, &done);
        }
        return Ok(done);
    };
    let directories = |names: &[Name]| -> Vec<FileKey> {
        let keys = names.iter().map(|name| name.directory);
        keys.filter(|key| node.arena.may_be_watched(*key)).collect()
    };
    // What the names name is looked at under the lock.
    let found = find(first);
    let lock = {
        let _owner = credentials::as_owner(node.runtime);
        let keys = directories(found.as_deref().unwrap_or_default());
        Names::new(node.arena.shadows(node.runtime).lock(&keys))
    };
    let names = if look == first { found } else { find(look) };
    let done = change()?;
    if let Some(names) = names {
        let _owner = credentials::as_owner(node.runtime);
        tell(node, &names, &done);
    }
    drop(lock);
    Ok(done)
}

/// mkdir, mknod, symlink: `make` makes the name at `at`.
pub fn making(
    client: &ClientRef,
    at: At<'_>,
    make: impl FnOnce() -> Outcome<Attr>,
) -> Outcome<Attr> {
    changing(client, &[at], Look::Nothing, make, |node, names, attr| {
        created(node, &names[0], attr)
    })
}

fn created(node: &Node, name: &Name, attr: &Attr) -> Option<()> {
    let entry = name.entry(attr.ino, attr.is_dir())?;
    let watched = node.arena.watched(node.runtime, entry.directory)?;
    watched.created(&entry);
    Some(())
}

/// open: if `names`, it may make the name at `at`.
pub fn opening(
    client: &ClientRef,
    at: At<'_>,
    names: bool,
    open: impl FnOnce() -> Outcome<Opened>,
) -> Outcome<Opened> {
    if !names {
        return open();
    }
    changing(client, &[at], Look::Follow, open, |node, names, opened| {
        opened
            .created
            .then(|| created(node, &names[0], &opened.attr))?
    })
}

/// link: `link` gives a file one name more.
pub fn linking(
    client: &ClientRef,
    to: At<'_>,
    link: impl FnOnce() -> Outcome<Attr>,
) -> Outcome<Attr> {
    changing(client, &[to], Look::Nothing, link, |node, names, attr| {
        if let Some(watched) = node.arena.watched(node.runtime, key(attr.ino)?) {
            watched.links_changed(key(attr.ino)?);
        }
        created(node, &names[0], attr)
    })
}

/// unlink and rmdir.
pub fn removing(
    client: &ClientRef,
    at: At<'_>,
    is_dir: bool,
    remove: impl FnOnce() -> Outcome<()>,
) -> Outcome<()> {
    changing(client, &[at], Look::Names, remove, |node, names, ()| {
        let entry = names[0].old(is_dir)?;
        let places = [entry.directory, entry.child];
        if places.iter().any(|key| node.arena.may_be_watched(*key)) {
            let watched = node.arena.shadows(node.runtime);
            watched.deleted(&entry, names[0].is_last());
        }
        Some(())
    })
}

/// rename, with its flags.
pub fn renaming(
    client: &ClientRef,
    (from, to): (At<'_>, At<'_>),
    flags: u32,
    rename: impl FnOnce() -> Outcome<()>,
) -> Outcome<()> {
    changing(
        client,
        &[from, to],
        Look::Names,
        rename,
        |node, names, ()| {
            let (old, new) = (&names[0], &names[1]);
            let from = old.old(false)?;
            if new
                .names
                .as_ref()
                .is_some_and(|attr| attr.ino == from.child.ino)
            {
                // Two names of one file: rename(2) does nothing.
                return None;
            }
            let to = new.entry(from.child.ino, from.is_dir)?;
            let over = new.names.as_ref().and_then(|_| new.old(false));
            let mut keys = vec![from.directory, to.directory, from.child];
            keys.extend(over.as_ref().map(|over| over.child));
            if keys.iter().any(|key| node.arena.may_be_watched(*key)) {
                let watched = node.arena.shadows(node.runtime);
                match over {
                    Some(over) if flags & libc::RENAME_EXCHANGE != 0 => {
                        watched.exchanged(&from, &over);
                    }
                    over => watched.moved(&from, &to, over.as_ref().map(|o| (o, new.is_last()))),
                }
            }
            Some(())
        },
    )
}

/// The entry that a file with several names was opened by.
pub fn entry_of(client: &ClientRef, at: At<'_>, ino: InodeId) -> Option<Entry> {
    Name::at(client, at, Look::Follow)?.entry(ino, false)
}
