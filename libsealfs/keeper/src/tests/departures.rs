//! Programs that are executed, and the record locks that go with a descriptor.

use super::*;
use sealfs_client::node::keeper_link::{leaving, stayed};
use sealfs_client::node::mapped::FileKey;

/// This process is about to execute a program; the connection that the kernel will close.
fn depart(node: &Node, me: &Registration, ino: InodeId) -> Fd {
    let file = FileKey {
        manager: ManagerIndex(0),
        volume: VolumeId(3),
        ino,
    };
    node.arena.begin_exec(me.index, 1, false);
    let said = leaving(&node.runtime, Some(me), &[], &[file]);
    assert_eq!(said.len(), 1);
    Fd::new(said[0].0)
}

#[test]
fn a_program_waits_until_the_record_locks_of_the_one_before_have_gone() {
    let kept = Kept::start(PATIENCE);
    let (arena, me) = processes::join(&kept.node.runtime, URL).unwrap();
    drop(depart(&kept.node, &me, InodeId(5)));
    let next = arena.register(&kept.node.runtime, ManagerIndex(0)).unwrap();
    assert_eq!((next.client, next.image), (me.client, 2));
    let unlocked = kept.told.unlocked.lock().unwrap().clone();
    assert_eq!(unlocked, [(me.client, InodeId(5))]);
}

#[test]
fn an_exec_that_fails_keeps_its_record_locks() {
    let kept = Kept::start(PATIENCE);
    let (_, me) = processes::join(&kept.node.runtime, URL).unwrap();
    let failed = depart(&kept.node, &me, InodeId(5));
    stayed(failed.raw());
    kept.node.arena.end_exec(me.index, me.client, 1);
    drop(failed);
    drop(depart(&kept.node, &me, InodeId(6)));
    until("the second is heard", || {
        !kept.node.arena.awaits_locks(me.index, me.client)
    });
    let unlocked = kept.told.unlocked.lock().unwrap().clone();
    assert_eq!(unlocked, [(me.client, InodeId(6))]);
}

#[test]
fn while_the_server_of_a_lock_is_away_the_program_gets_an_error() {
    let kept = Kept::start(PATIENCE);
    let (arena, me) = processes::join(&kept.node.runtime, URL).unwrap();
    *kept.told.is_away.lock().unwrap() = true;
    drop(depart(&kept.node, &me, InodeId(5)));
    let again = || arena.register(&kept.node.runtime, ManagerIndex(0));
    assert_eq!(again().unwrap_err(), Errno::EIO);
    *kept.told.is_away.lock().unwrap() = false;
    assert!(again().is_ok());
    assert_eq!(kept.told.unlocked.lock().unwrap().len(), 1);
}
