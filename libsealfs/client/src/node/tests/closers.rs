//! Exactly one closer is the last, whoever it is and however they race.

use super::*;
use crate::node::sys;
use std::ffi::OsStr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

pub fn close_inherited(runtime: &Runtime, what: &str) {
    let (fd, id) = what.split_once(' ').unwrap();
    let (fd, id): (RawFd, _) = (fd.parse().unwrap(), parse_id(id));
    let (arena, me) = join(runtime);
    say("ready", "");
    listen();
    sys::close(fd);
    let is_last = placeholder::last_closer(runtime, &arena, id, me.index);
    say("last", is_last);
    listen();
}

/// Races run in a process of their own: here other tests fork, and for a moment their children hold
/// every descriptor.
#[test]
fn of_processes_that_close_an_inherited_descriptor_at_once_one_is_the_last() {
    Place::new().start("race processes").expect("done");
}

fn close_in_processes(runtime: &Runtime) {
    let (arena, me) = join(runtime);
    for round in 0..5 {
        let mut actors = Vec::new();
        let (id, fd) = start_holders(runtime, &arena, &me, 4, &mut actors);
        sys::close(fd);
        assert!(!placeholder::last_closer(runtime, &arena, id, me.index));
        for actor in &mut actors {
            actor.tell("go");
        }
        let last = actors
            .iter_mut()
            .filter_map(|a| (a.expect("last") == "true").then_some(()));
        assert_eq!(last.count(), 1, "round {round}");
    }
}

/// A shared description, and processes that have inherited a descriptor of it.
fn start_holders(
    runtime: &Runtime,
    arena: &Arena,
    me: &Registration,
    count: usize,
    actors: &mut Vec<Actor>,
) -> (SlotId, RawFd) {
    let id = open_slot(runtime, arena, me, 1);
    let fd = placeholder::open(runtime, arena, id, false).unwrap();
    assert_eq!(placeholder::mark_shared(runtime, arena, fd, id), Ok(true));
    let role = format!("close {fd} {}", id_text(id));
    let path = PathBuf::from(OsStr::from_bytes(runtime.path()));
    for _ in 0..count {
        actors.push(start_in(&path, &role));
    }
    for actor in actors {
        actor.expect("ready");
    }
    (id, fd)
}

#[test]
fn of_threads_that_close_duplicates_at_once_one_is_the_last() {
    Place::new().start("race duplicates").expect("done");
}

#[test]
fn a_close_that_meets_a_sharing_thread_is_the_last_once() {
    Place::new().start("race sharing").expect("done");
}

pub fn race(runtime: &Runtime, what: &str) {
    match what {
        "duplicates" => close_duplicates(runtime),
        "processes" => close_in_processes(runtime),
        "killed" => kill_holders(runtime),
        _ => close_while_sharing(runtime),
    }
    say("done", "");
}

fn close_duplicates(runtime: &Runtime) {
    let (arena, me) = join(runtime);
    for round in 0..2000 {
        let (id, fd) = open_file(runtime, &arena, &me, round + 1);
        assert_eq!(placeholder::mark_shared(runtime, &arena, fd, id), Ok(true));
        let all: Vec<_> = (0..3)
            .map(|_| sys::duplicate(fd, 0).unwrap().into_raw())
            .chain([fd])
            .collect();
        let (winners, barrier) = (AtomicU32::new(0), Barrier::new(all.len()));
        std::thread::scope(|s| {
            for fd in all {
                let (winners, barrier, arena, runtime) = (&winners, &barrier, &arena, runtime);
                s.spawn(move || {
                    barrier.wait();
                    sys::close(fd);
                    if placeholder::last_closer(runtime, arena, id, me.index) {
                        winners.fetch_add(1, Ordering::Relaxed);
                        arena.release(id);
                    }
                });
            }
        });
        assert_eq!(winners.load(Ordering::Relaxed), 1, "round {round}");
    }
}

/// close in one thread, fork (or dup) in another: whoever finds the description gone says so, and
/// still exactly one of them tells the server.
fn close_while_sharing(runtime: &Runtime) {
    let (arena, me) = join(runtime);
    for round in 0..2000 {
        let (id, fd) = open_file(runtime, &arena, &me, round + 1);
        let (winners, barrier) = (AtomicU32::new(0), Barrier::new(2));
        let last = || {
            if placeholder::last_closer(runtime, &arena, id, me.index) {
                winners.fetch_add(1, Ordering::Relaxed);
                arena.release(id);
            }
        };
        std::thread::scope(|s| {
            s.spawn(|| {
                barrier.wait();
                sys::close(fd);
                last();
            });
            s.spawn(|| {
                barrier.wait();
                if !matches!(placeholder::mark_shared(runtime, &arena, fd, id), Ok(true)) {
                    last();
                }
            });
        });
        // The kernel itself may hold the description for the length of the sharer's last look.
        let by_keeper = arena.take_unheld(runtime);
        for remains in &by_keeper {
            arena.release(remains.id);
        }
        let closers = winners.load(Ordering::Relaxed) as usize + by_keeper.len();
        assert_eq!(closers, 1, "round {round}");
    }
}

#[test]
fn a_shared_description_whose_holders_were_killed_is_found() {
    Place::new().start("race killed").expect("done");
}

fn kill_holders(runtime: &Runtime) {
    let (arena, me) = join(runtime);
    let mut actors = Vec::new();
    let (id, fd) = start_holders(runtime, &arena, &me, 2, &mut actors);
    sys::close(fd);
    for actor in &mut actors {
        assert!(arena.take_unheld(runtime).is_empty(), "an actor holds it");
        actor.kill();
    }
    let found = arena.take_unheld(runtime);
    assert_eq!(found.iter().map(|r| r.id).collect::<Vec<_>>(), [id]);
}
