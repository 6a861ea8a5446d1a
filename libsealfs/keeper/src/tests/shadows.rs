//! Watches of inotify(7): what the keeper holds for open descriptions, and what it clears away.

use super::*;
use crate::shadows::Shadows;
use rustix::fd::OwnedFd;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use sealfs_client::node::held;
use sealfs_client::node::mapped::FileKey;

const KEY: FileKey = FileKey {
    manager: ManagerIndex(0),
    volume: VolumeId(3),
    ino: InodeId(5),
};

/// A shadow of a file, and an instance that watches it.
fn watch(node: &Node) -> OwnedFd {
    let watched = node.arena.shadows(&node.runtime);
    watched.tree().make_folders().unwrap();
    watched.begin(KEY, None, &|_, _| ()).unwrap();
    let instance = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    let path = watched.tree().own(KEY);
    inotify::add_watch(&instance, &path[..], WatchFlags::ALL_EVENTS).unwrap();
    instance
}

fn told(instance: &OwnedFd) -> Vec<ReadFlags> {
    let mut room = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(instance, &mut room);
    let mut told = Vec::new();
    while let Ok(event) = reader.next() {
        told.push(event.events());
    }
    told
}

/// The file is opened for writing by this description, and the keeper holds its shadow.
fn open(node: &Node, id: SlotId) {
    let files = node.arena.shadows(&node.runtime).opened(KEY, 1);
    let files: Vec<&Fd> = files.iter().collect();
    held::hold(&node.runtime, id, &files).unwrap();
}

#[test]
fn watchers_hear_of_a_close_when_the_program_says_it() {
    let kept = Kept::start(PATIENCE);
    let (_, me) = processes::join(&kept.node.runtime, URL).unwrap();
    let instance = watch(&kept.node);
    let id = open_slot(&kept.node.runtime, &kept.node.arena, &me, 5);
    open(&kept.node, id);
    assert_eq!(told(&instance), [ReadFlags::OPEN]);
    held::release(&kept.node.runtime, id).unwrap();
    assert_eq!(told(&instance), [ReadFlags::CLOSE_WRITE]);
}

#[test]
fn watchers_hear_of_the_close_of_one_that_was_killed() {
    let kept = Kept::start(PATIENCE);
    let instance = watch(&kept.node);
    let mut actor = kept.actor(1);
    open(&kept.node, kept.node.arena.live_descriptions()[0].id);
    assert_eq!(told(&instance), [ReadFlags::OPEN]);
    actor.kill();
    until("the close is told", || {
        told(&instance) == [ReadFlags::CLOSE_WRITE]
    });
}

#[test]
fn a_shadow_stays_for_as_long_as_it_is_watched() {
    let kept = Kept::start(PATIENCE);
    let instance = watch(&kept.node);
    let mut shadows = Shadows::default();
    for _ in 0..10 {
        shadows.look_now(&kept.node);
    }
    assert!(kept.node.arena.is_watching() && told(&instance).is_empty());
    drop(instance);
    for _ in 0..10 {
        shadows.look_now(&kept.node);
    }
    assert!(!kept.node.arena.is_watching() && !kept.node.arena.may_be_watched(KEY));
}
