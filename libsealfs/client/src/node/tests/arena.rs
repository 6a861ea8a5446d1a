//! Slots, offsets and tables between processes.

use super::*;
use crate::node::mapped::FileKey;
use crate::node::placeholder::Kind;
use crate::node::state_file;
use sealfs_protocol::manager::ClusterState;
use sealfs_protocol::message::LockMark;
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{Errno, Incarnation, ShardId};

#[test]
fn every_attach_finds_the_same_session_and_descriptions() {
    let place = Place::new();
    let runtime = place.runtime();
    let (first, me) = join(&runtime);
    let id = open_slot(&runtime, &first, &me, 42);
    let second = Arena::attach(&runtime).unwrap();
    assert_eq!(first.session(), second.session());
    let slot = second.slot(id).unwrap();
    assert_eq!(
        (slot.ino(), slot.volume(), slot.flags()),
        (InodeId(42), VolumeId(3), 2)
    );
    assert_eq!(slot.opened_by(), Some((InodeId(1), b"name".to_vec())));
    assert_eq!(second.manager_url(slot.manager()).as_deref(), Some(URL));
}

#[test]
fn a_closed_description_is_not_found_under_its_old_generation() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let old = open_slot(&runtime, &arena, &me, 1);
    assert!(arena.begin_close(old, me.index) && !arena.begin_close(old, me.index));
    arena.release(old);
    let new = open_slot(&runtime, &arena, &me, 2);
    assert_eq!(new.index, old.index);
    assert!(arena.slot(old).is_none() && arena.slot(new).is_some());
}

#[test]
fn a_description_that_somebody_is_inside_of_is_reused_only_when_he_left() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let old = open_slot(&runtime, &arena, &me, 1);
    let guard = arena.slot(old).unwrap().lock_offset(me.index, 100).unwrap();
    assert!(arena.begin_close(old, me.index));
    arena.release(old);
    assert_ne!(open_slot(&runtime, &arena, &me, 2).index, old.index);
    drop(guard);
    assert_eq!(open_slot(&runtime, &arena, &me, 3).index, old.index);
}

#[test]
fn the_arena_grows_and_keeps_what_it_has() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let ids: Vec<_> = (1..=3000)
        .map(|i| open_slot(&runtime, &arena, &me, i))
        .collect();
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(arena.slot(*id).unwrap().ino().0, i as u64 + 1);
    }
}

pub fn allocate_many(runtime: &Runtime, count: &str) {
    let (arena, me) = join(runtime);
    say("ready", "");
    listen();
    for i in 0..count.parse().unwrap() {
        open_slot(runtime, &arena, &me, i + 1);
    }
    say("done", "");
    listen();
}

#[test]
fn processes_that_open_at_once_never_share_a_slot_and_what_they_leave_comes_back() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, _me) = join(&runtime);
    let mut actors: Vec<_> = (0..4).map(|_| place.start("allocate 700")).collect();
    for actor in &mut actors {
        actor.expect("ready");
    }
    for actor in &mut actors {
        actor.tell("go");
    }
    for actor in &mut actors {
        actor.expect("done");
    }
    assert_eq!(arena.slots_in_use(), 4 * 700);
    for actor in &mut actors {
        actor.kill();
    }
    let dead: Vec<_> = arena
        .processes()
        .filter(|p| !p.process.is_alive())
        .collect();
    let mut opens: Vec<_> = dead
        .iter()
        .flat_map(|p| arena.take_remains(&runtime, p.index))
        .collect();
    for remains in &opens {
        arena.release(remains.id);
    }
    opens.sort_by_key(|r| r.open);
    opens.dedup_by_key(|r| r.open);
    assert_eq!((opens.len(), arena.slots_in_use()), (4 * 700, 0));
}

pub fn hold_offset(runtime: &Runtime, id: &str) {
    let (arena, me) = join(runtime);
    let guard = arena
        .slot(parse_id(id))
        .unwrap()
        .lock_offset(me.index, 1000)
        .unwrap();
    guard.set(77);
    say("held", "");
    listen();
    drop(guard);
}

#[test]
fn an_offset_is_waited_for_while_its_holder_lives_and_taken_when_it_is_killed() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let id = open_slot(&runtime, &arena, &me, 1);
    let mut actor = place.start(&format!("hold-offset {}", id_text(id)));
    actor.expect("held");
    let slot = arena.slot(id).unwrap();
    assert_eq!(slot.lock_offset(me.index, 120).err(), Some(Errno::EIO));
    actor.kill();
    assert_eq!(slot.lock_offset(me.index, 5_000).unwrap().get(), 77);
}

#[test]
fn threads_take_turns_at_an_offset() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let id = open_slot(&runtime, &arena, &me, 1);
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                for _ in 0..5_000 {
                    let guard = arena
                        .slot(id)
                        .unwrap()
                        .lock_offset(me.index, 10_000)
                        .unwrap();
                    guard.set(guard.get() + 1);
                }
            });
        }
    });
    assert_eq!(arena.slot(id).unwrap().peek_offset(), 20_000);
}

#[test]
fn a_descriptor_tells_what_it_is() {
    let (place, other) = (Place::new(), Place::new());
    let (runtime, elsewhere) = (place.runtime(), other.runtime());
    let (arena, me) = join(&runtime);
    let (foreign_arena, foreign_me) = join(&elsewhere);
    let (id, fd) = open_file(&runtime, &arena, &me, 9);
    let (_, stale) = open_file(&elsewhere, &foreign_arena, &foreign_me, 9);
    let cwd = placeholder::make_cwd(&runtime, &arena, InodeId(5 << 40), 2, true).unwrap();
    let kind = |fd| placeholder::classify(&runtime, Some(&arena), fd).unwrap();
    assert_eq!(kind(fd), Kind::Slot(id.index));
    assert_eq!(arena.live(id.index), Some(id));
    assert_eq!(
        kind(cwd),
        Kind::Cwd {
            ino: InodeId(5 << 40),
            mount: 2
        }
    );
    assert_eq!(kind(stale), Kind::Stale);
    assert_eq!(kind(2), Kind::Native);
    assert_eq!(
        placeholder::classify(&runtime, Some(&arena), 9999),
        Err(Errno::EBADF)
    );
    [fd, stale, cwd]
        .into_iter()
        .for_each(crate::node::sys::close);
}

#[test]
fn lent_directory_descriptors_open_the_same_placeholders() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let slots = runtime.open_slots().unwrap();
    runtime.lend_slots_fd(slots);
    let (id, fd) = open_file(&runtime, &arena, &me, 9);
    assert_eq!(
        placeholder::classify(&runtime, Some(&arena), fd),
        Ok(Kind::Slot(id.index))
    );
    for fd in [fd, slots] {
        crate::node::sys::close(fd);
    }
}

#[test]
fn a_description_remembers_the_first_incarnation_that_it_wrote_in() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let slot = arena.slot(open_slot(&runtime, &arena, &me, 1)).unwrap();
    slot.note_written(ShardId(0), Incarnation(4));
    slot.note_written(ShardId(9), Incarnation(1));
    slot.note_written(ShardId(0), Incarnation(5));
    let written: Vec<_> = slot.written().collect();
    assert_eq!(
        written,
        [(ShardId(0), Incarnation(4)), (ShardId(9), Incarnation(1))]
    );
    slot.forget_written(ShardId(0));
    assert_eq!(slot.written().count(), 1);
}

#[test]
fn a_description_remembers_its_last_lock_and_loses_it_only_by_a_word_of_the_server() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    let slot = arena.slot(open_slot(&runtime, &arena, &me, 1)).unwrap();
    let mark = |incarnation, written| LockMark {
        incarnation: Incarnation(incarnation),
        written,
    };
    assert_eq!(slot.locked(), None);
    slot.note_locked(mark(2, 100));
    slot.note_locked(mark(2, 90));
    assert_eq!(slot.locked(), Some(mark(2, 100)));
    let judge = |intact| arena.judge_locks(slot.manager(), slot.ino(), slot.open_id(), intact);
    judge(Some(mark(3, 0)));
    assert_eq!(slot.locked(), Some(mark(3, 0)));
    assert!(!slot.is_lost() && arena.live_descriptions().len() == 1);
    judge(None);
    assert!(slot.is_lost() && slot.is_live());
}

#[test]
fn mapped_inodes_are_found_until_they_are_removed() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, _me) = join(&runtime);
    let key = |ino| FileKey {
        manager: ManagerIndex(0),
        volume: VolumeId(1),
        ino: InodeId(ino),
    };
    assert_eq!(arena.mapped(key(1)), None);
    let ids: Vec<_> = (1..200)
        .map(|i| arena.add_mapped(&runtime, key(i), i).unwrap())
        .collect();
    assert_eq!(
        arena.mapped(key(150)).and_then(|id| arena.mapped_size(id)),
        Some(150)
    );
    arena.remove_mapped(ids[149]);
    assert_eq!(
        (arena.mapped(key(150)), arena.mapped(key(151))),
        (None, Some(ids[150]))
    );
}

fn state(version: u64) -> ClusterState {
    let ring = Ring::empty(ClusterId(5), 4096);
    ClusterState {
        version,
        ring,
        volumes: vec![],
        deleted: vec![],
    }
}

#[test]
fn the_state_file_keeps_the_newest_version_and_refuses_damage() {
    let place = Place::new();
    let runtime = place.runtime();
    assert_eq!(state_file::read(&runtime, URL), None);
    state_file::write(&runtime, URL, &state(2)).unwrap();
    state_file::write(&runtime, URL, &state(1)).unwrap();
    assert_eq!(state_file::read(&runtime, URL), Some(state(2)));
    assert_eq!(state_file::read(&runtime, "tcp://127.0.0.1:2"), None);
    let file = std::fs::read_dir(&place.path)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.to_string_lossy().contains("/state-"))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert_eq!(state_file::read(&runtime, URL), None);
}

#[test]
fn an_arena_ends_only_when_nothing_is_left_and_the_next_is_another_session() {
    let place = Place::new();
    let runtime = place.runtime();
    let (arena, me) = join(&runtime);
    assert!(!arena.try_end(), "a process is registered");
    arena.forget_process(me.index);
    let id = open_slot(&runtime, &arena, &me, 1);
    assert!(!arena.try_end(), "a description is open");
    assert!(arena.begin_close(id, me.index));
    arena.release(id);
    assert!(arena.try_end());
    arena.remove_files(&runtime);
    let (next, _) = join(&runtime);
    assert_ne!(next.session(), arena.session());
}
