//! Processes come and go; the keeper tells the servers and goes last.

use super::*;
use sealfs_client::node::placeholder;
use std::os::fd::AsRawFd;

const LONG: Duration = Duration::from_secs(100);

#[test]
fn what_a_killed_process_had_open_is_closed_and_its_client_ended() {
    let kept = Kept::start(LONG);
    let mut actor = kept.actor(3);
    let client = kept.node.arena.processes().next().unwrap().client;
    actor.kill();
    until("the table is empty", || kept.node.is_empty());
    let inodes: Vec<u64> = kept
        .told
        .closed
        .lock()
        .unwrap()
        .iter()
        .map(|f| f.ino.0)
        .collect();
    assert_eq!(inodes, [1, 2, 3]);
    assert_eq!(*kept.told.ended.lock().unwrap(), [client]);
}

#[test]
fn what_a_process_may_have_left_that_was_killed_while_it_wrote_is_told() {
    let kept = Kept::start(LONG);
    let mut actor = kept.actor(2);
    let index = kept.node.arena.processes().next().unwrap().index;
    kept.node.arena.note_extending(index, true);
    actor.kill();
    until("the table is empty", || kept.node.is_empty());
    assert_eq!(*kept.told.doubted.lock().unwrap(), [InodeId(1), InodeId(2)]);
    let mut next = kept.actor(1);
    next.kill();
    until("the table is empty", || kept.node.is_empty());
    assert_eq!(
        kept.told.doubted.lock().unwrap().len(),
        2,
        "it wrote nothing"
    );
}

#[test]
fn servers_that_are_away_hear_of_it_when_they_are_back() {
    let kept = Kept::start(LONG);
    *kept.told.is_away.lock().unwrap() = true;
    kept.actor(1).kill();
    until("the courier tried", || {
        kept.node.arena.live_descriptions().is_empty()
    });
    assert!(kept.told.closed.lock().unwrap().is_empty() && !kept.node.is_empty());
    *kept.told.is_away.lock().unwrap() = false;
    until("the table is empty", || kept.node.is_empty());
    assert_eq!(kept.told.closed.lock().unwrap().len(), 1);
}

#[test]
fn a_description_that_lives_on_in_another_process_is_not_closed() {
    let mut kept = Kept::start(LONG);
    let runtime = runtime_at(&kept.path);
    let (arena, me) = processes::join(&runtime, URL).unwrap();
    let id = open_slot(&runtime, &arena, &me, 1);
    let fd = placeholder::open(&runtime, &arena, id, true).unwrap();
    assert_eq!(placeholder::mark_shared(&runtime, &arena, fd, id), Ok(true));
    // The actor comes and goes; this process holds the descriptor all the time.
    kept.actor(0).kill();
    until("the actor is forgotten", || arena.processes().count() == 1);
    assert!(arena.slot(id).is_some());
    sys::close(fd);
    until("nobody holds it", || arena.slots_in_use() == 0);
    assert_eq!(kept.told.closed.lock().unwrap().len(), 1);
    assert_eq!(kept.stop(), End::Signal);
}

#[test]
fn the_lease_is_renewed_while_processes_exist() {
    let kept = Kept::start(LONG);
    let _actor = kept.actor(0);
    until("a second renewal", || {
        *kept.told.renewals.lock().unwrap() >= 2
    });
}

#[test]
fn servers_are_told_again_and_again_what_is_open() {
    let kept = Kept::start(LONG);
    let _actor = kept.actor(2);
    until("both are named", || {
        kept.told.known.lock().unwrap().len() == 2
    });
}

#[test]
fn a_description_whose_locks_a_server_lost_is_lost_and_no_other() {
    let kept = Kept::start(LONG);
    let _actor = kept.actor(2);
    until("both are named", || {
        kept.told.known.lock().unwrap().len() == 2
    });
    let first = kept.told.known.lock().unwrap()[0];
    kept.told.judged.lock().unwrap().push((first, None));
    until("one is left", || {
        kept.node.arena.live_descriptions().len() == 1
    });
    assert_ne!(kept.node.arena.live_descriptions()[0].open, first.open);
}

#[test]
fn a_session_that_the_servers_ended_is_followed_by_another_and_its_descriptions_are_lost() {
    let kept = Kept::start(LONG);
    let _actor = kept.actor(2);
    let first = kept.node.arena.session();
    *kept.told.refused.lock().unwrap() = Some(first);
    assert_eq!(kept.node.arena.live_descriptions().len(), 2);
    until("another session", || kept.node.arena.session() != first);
    assert!(kept.node.arena.live_descriptions().is_empty());
}

#[test]
fn a_keeper_goes_when_the_last_process_has_gone_and_ends_the_session() {
    let mut kept = Kept::start(Duration::from_millis(300));
    kept.actor(1).leave();
    let session = kept.node.arena.session();
    assert_eq!(kept.end(), End::Idle);
    assert_eq!(kept.told.closed.lock().unwrap().len(), 1);
    let ended = kept.told.sessions_ended.lock().unwrap().clone();
    // Only clusters that were told of the session are told of its end.
    assert!(ended.is_empty() || ended == [session]);
    assert!(!kept.path.join("keeper.sock").exists());
    assert!(!kept.node.arena.try_end(), "it has ended");
}

#[test]
fn a_keeper_that_is_told_to_end_finishes_what_ended_processes_left() {
    let mut kept = Kept::start(LONG);
    *kept.told.is_away.lock().unwrap() = true;
    kept.actor(1).kill();
    until("the courier tried", || {
        kept.node.arena.live_descriptions().is_empty()
    });
    kept.signal();
    *kept.told.is_away.lock().unwrap() = false;
    assert_eq!(kept.end(), End::Idle);
    assert_eq!(kept.told.closed.lock().unwrap().len(), 1);
}

#[test]
fn a_keeper_that_is_told_to_end_does_so_though_no_server_answers() {
    let mut kept = Kept::start(LONG);
    *kept.told.is_away.lock().unwrap() = true;
    kept.actor(1).kill();
    until("the courier tried", || {
        kept.node.arena.live_descriptions().is_empty()
    });
    let before = Instant::now();
    assert_eq!(kept.stop(), End::Signal);
    assert!(before.elapsed() < Duration::from_millis(1_500));
}

#[test]
fn servers_are_asked_at_once_when_a_connection_breaks_and_until_they_answer() {
    let kept = Kept::start(LONG);
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    kept.told.sockets.lock().unwrap().push(ours.as_raw_fd());
    let _actor = kept.actor(1);
    until("a renewal", || *kept.told.renewals.lock().unwrap() == 1);
    *kept.told.is_away.lock().unwrap() = true;
    let before = *kept.told.asked.lock().unwrap();
    let cut = Instant::now();
    drop(theirs);
    until("it is asked again and again", || {
        *kept.told.asked.lock().unwrap() > before + 5
    });
    *kept.told.is_away.lock().unwrap() = false;
    until("it is told", || kept.told.known.lock().unwrap().len() == 1);
    assert!(cut.elapsed() < Duration::from_secs(2), "before a renewal");
}

#[test]
fn a_keeper_that_was_killed_is_followed_by_one_that_finishes_its_work() {
    let mut first = Kept::start(LONG);
    *first.told.is_away.lock().unwrap() = true;
    let mut actor = first.actor(2);
    assert_eq!(first.stop(), End::Signal);
    actor.kill();
    let path = std::mem::take(&mut first.path);
    let node = Arc::clone(&first.node);
    let told = Arc::new(Told::default());
    let clusters: Arc<dyn Clusters> = Arc::new(One(Arc::clone(&told)));
    let (signals, signal) = rustix::pipe::pipe().unwrap();
    let (signals, signal) = (
        Fd::new(signals.into_raw_fd()),
        Fd::new(signal.into_raw_fd()),
    );
    let thread = std::thread::spawn({
        let node = Arc::clone(&node);
        move || run::keep(&node, &clusters, &signals, LONG)
    });
    until("all is told", || node.is_empty());
    sys::write_all(signal.raw(), b"x").unwrap();
    // Nobody was left: the signal ends the arena too.
    assert_eq!(thread.join().unwrap(), Ok(End::Idle));
    assert_eq!(
        (
            told.closed.lock().unwrap().len(),
            told.ended.lock().unwrap().len()
        ),
        (2, 1)
    );
    std::fs::remove_dir_all(path).unwrap();
}
