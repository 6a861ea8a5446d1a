//! What is repeated on shadows is what the kernel tells watchers, and nothing else.

use super::*;
use crate::node::mapped::FileKey;
use crate::node::shadow::{Entry, Touch};
use crate::node::sys::Fd;
use crate::node::watched::Watched;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use sealfs_protocol::Errno;
use std::cell::RefCell;
use std::os::fd::OwnedFd;

const DIRECTORY: u64 = 10;
const FILE: u64 = 11;
const OTHER: u64 = 12;

fn key(ino: u64) -> FileKey {
    FileKey {
        manager: ManagerIndex(0),
        volume: VolumeId(3),
        ino: InodeId(ino),
    }
}

fn entry(name: &str, ino: u64) -> Entry {
    Entry {
        directory: key(DIRECTORY),
        name: name.as_bytes().to_vec(),
        child: key(ino),
        is_dir: false,
    }
}

/// A watched directory with one file.
struct Stage {
    place: Place,
    arena: Arena,
    me: Registration,
    instance: OwnedFd,
}

impl Stage {
    fn new() -> Stage {
        let place = Place::new();
        let (arena, me) = join(&place.runtime());
        let instance = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let stage = Stage {
            place,
            arena,
            me,
            instance,
        };
        stage.watched().tree().make_folders().unwrap();
        stage
    }

    fn watched(&self) -> Watched<'_> {
        self.arena.shadows(&self.place.runtime())
    }

    fn watch(&self, ino: u64, entries: Option<Vec<Entry>>) -> Vec<(SlotId, usize)> {
        let held = RefCell::new(Vec::new());
        let list = || -> Result<Vec<Entry>, Errno> { Ok(entries.clone().unwrap_or_default()) };
        let list: Option<&dyn Fn() -> Result<Vec<Entry>, Errno>> =
            if entries.is_some() { Some(&list) } else { None };
        let hold = |id, files: &[&Fd]| held.borrow_mut().push((id, files.len()));
        self.watched().begin(key(ino), list, &hold).unwrap();
        let path = self.watched().tree().own(key(ino));
        inotify::add_watch(&self.instance, &path[..], WatchFlags::ALL_EVENTS).unwrap();
        held.into_inner()
    }

    fn with_a_directory() -> Stage {
        let stage = Stage::new();
        stage.watch(DIRECTORY, Some(vec![entry("f", FILE)]));
        stage
    }

    /// What the kernel says: events and names.
    fn told(&self) -> Vec<(ReadFlags, String)> {
        let mut room = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.instance, &mut room);
        let mut told = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|n| n.to_string_lossy().into_owned());
            told.push((event.events(), name.unwrap_or_default()));
        }
        told
    }
}

fn is(told: &[(ReadFlags, String)], expected: &[(ReadFlags, &str)]) {
    let told: Vec<_> = told.iter().map(|(e, n)| (*e, n.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn each_change_of_an_inode_is_one_event_of_its_name() {
    let stage = Stage::with_a_directory();
    for (touch, event) in [
        (Touch::Access, ReadFlags::ACCESS),
        (Touch::Modify, ReadFlags::MODIFY),
        (Touch::Attributes, ReadFlags::ATTRIB),
    ] {
        stage.watched().touched(key(FILE), touch);
        is(&stage.told(), &[(event, "f")]);
    }
}

#[test]
fn an_inode_that_moves_stays_watched() {
    let stage = Stage::with_a_directory();
    stage.watch(FILE, None);
    for (from, to) in [("f", "g"), ("g", "h"), ("h", "f")] {
        stage
            .watched()
            .moved(&entry(from, FILE), &entry(to, FILE), None);
        let moved = [
            (ReadFlags::MOVED_FROM, from),
            (ReadFlags::MOVED_TO, to),
            (ReadFlags::MOVE_SELF, ""),
        ];
        is(&stage.told(), &moved);
        stage.watched().touched(key(FILE), Touch::Modify);
        is(
            &stage.told(),
            &[(ReadFlags::MODIFY, to), (ReadFlags::MODIFY, "")],
        );
    }
}

#[test]
fn what_another_node_changed_is_put_right_when_it_is_met() {
    let stage = Stage::with_a_directory();
    stage.watched().created(&entry("f", OTHER));
    let again = [(ReadFlags::DELETE, "f"), (ReadFlags::CREATE, "f")];
    is(&stage.told(), &again);
    stage.watched().deleted(&entry("unseen", 99), true);
    let unseen = [(ReadFlags::CREATE, "unseen"), (ReadFlags::DELETE, "unseen")];
    is(&stage.told(), &unseen);
}

#[test]
fn what_is_open_already_is_held_without_a_word() {
    let stage = Stage::new();
    let id = open_slot(&stage.place.runtime(), &stage.arena, &stage.me, FILE);
    let held = stage.watch(DIRECTORY, Some(vec![entry("f", FILE)]));
    assert_eq!(held, [(id, 1)]);
    is(&stage.told(), &[]);
}

#[test]
fn nothing_is_counted_once_everything_has_gone() {
    let stage = Stage::with_a_directory();
    let watched = stage.watched();
    assert!(stage.arena.is_watching());
    watched.created(&entry("a", OTHER));
    watched.moved(
        &entry("a", OTHER),
        &entry("f", OTHER),
        Some((&entry("f", FILE), true)),
    );
    watched.created(&entry("b", FILE));
    watched.exchanged(&entry("b", FILE), &entry("f", OTHER));
    watched.moved(
        &entry("b", OTHER),
        &Entry {
            directory: key(77),
            ..entry("elsewhere", OTHER)
        },
        None,
    );
    watched.deleted(&entry("f", FILE), true);
    let [(shadow, inode)] = watched.all()[..] else {
        panic!("one shadow");
    };
    watched.forget(shadow, inode);
    watched.clear_links();
    assert!(!stage.arena.is_watching());
    for ino in [DIRECTORY, FILE, OTHER, 77] {
        assert!(!stage.arena.may_be_watched(key(ino)), "inode {ino}");
    }
}
