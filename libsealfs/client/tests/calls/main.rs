//! Calls against scripted servers: what is sent, what is repeated, and what a program is told.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

mod opens;
#[path = "../sim/mod.rs"]
mod sim;

use sealfs_client::{At, Client, Failure, FileRef};
use sealfs_protocol::attr::{Attr, Layout, S_IFDIR, S_IFREG};
use sealfs_protocol::header::FLAG_RETRY;
use sealfs_protocol::message::{LockRange, LockSpace, LockType, Op, OpReply, Passed, Refusal};
use sealfs_protocol::message::{Reply, Stop, Walked};
use sealfs_protocol::{Errno, Incarnation, InodeId, OpenId, PartitionId, RenameVersion};
use sealfs_protocol::{RingVersion, Sequence};
use sim::{Act, Seen, client};
use std::sync::{Arc, Mutex};

fn attr(ino: InodeId, kind: u32) -> Attr {
    Attr {
        ino,
        mode: kind | 0o644,
        layout: Layout::DEFAULT,
        ..Attr::default()
    }
}

fn op(seen: &Seen) -> &Op {
    &seen.request.ops[0].op
}

fn at(client: &Client, path: &'static str) -> At<'static> {
    At {
        base: client.root(),
        path: path.as_bytes(),
    }
}

fn ok() -> Act {
    Act::Reply(vec![OpReply::Done], vec![])
}

#[test]
fn a_request_whose_reply_was_lost_is_repeated_under_the_same_sequence() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let (client, sim) = client(1, move |seen| {
        let mut log = seen_log.lock().unwrap();
        log.push((seen.header.slot, seen.header.sequence, seen.header.flags));
        if log.len() == 1 { Act::Hang } else { ok() }
    });
    client.unlink(at(&client, "a")).unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 2);
    assert_eq!((log[0].0, log[0].1), (log[1].0, log[1].1));
    assert_eq!((log[0].2, log[1].2), (0, FLAG_RETRY));
    assert_eq!(
        sim.hellos.lock().unwrap().len(),
        2,
        "a new connection says hello"
    );
}

#[test]
fn a_server_that_is_away_is_waited_for_and_past_the_deadline_it_is_eio() {
    let (client, sim) = client(1, |_| ok());
    sim.down.lock().unwrap().push(0);
    let before = sim.now_ms();
    let error = client.unlink(at(&client, "a")).unwrap_err();
    assert_eq!(error, Failure::Errno(Errno::EIO));
    let waited = sim.now_ms() - before;
    assert!((29_000..31_000).contains(&waited), "{waited} ms");
    sim.down.lock().unwrap().clear();
    client.unlink(at(&client, "a")).unwrap();
}

#[test]
fn a_silent_server_is_given_up_at_the_deadline() {
    let (client, sim) = client(1, |_| Act::Silence);
    let before = sim.now_ms();
    assert_eq!(
        client.stat(at(&client, "a"), true),
        Err(Failure::Errno(Errno::EIO))
    );
    assert!(sim.now_ms() - before <= 31_000);
}

#[test]
fn an_unknown_client_says_hello_again() {
    let mut first = true;
    let (client, sim) = client(1, move |_| {
        if std::mem::take(&mut first) {
            return Act::Reply(vec![OpReply::Refused(Refusal::UnknownClient)], vec![]);
        }
        ok()
    });
    client.unlink(at(&client, "a")).unwrap();
    assert_eq!(sim.hellos.lock().unwrap().len(), 2);
}

#[test]
fn a_client_that_has_ended_is_told_eio() {
    let (client, _) = client(1, |_| {
        Act::Reply(vec![OpReply::Refused(Refusal::UnknownClient)], vec![])
    });
    assert_eq!(
        client.unlink(at(&client, "a")),
        Err(Failure::Errno(Errno::EIO))
    );
}

#[test]
fn a_busy_server_is_asked_again_later() {
    let mut left = 3;
    let (client, sim) = client(1, move |_| {
        left -= 1;
        if left > 0 {
            return Act::Reply(
                vec![OpReply::Refused(Refusal::Busy { retry_ms: 50 })],
                vec![],
            );
        }
        ok()
    });
    let before = sim.now_ms();
    client.unlink(at(&client, "a")).unwrap();
    assert!(sim.now_ms() - before >= 100);
}

#[test]
fn after_a_wrong_epoch_a_newer_ring_is_used() {
    let ring = sim::ring(2);
    let root = InodeId::root(sim::VOLUME, ring.partitions());
    let owner = ring.owner(root.partition()).unwrap().id.0 as usize - 1;
    let (client, sim) = client(2, move |seen| {
        if seen.server == owner {
            let ring_version = RingVersion(seen.header.ring_version.0 + 1);
            let refusal = Refusal::WrongEpoch { ring_version };
            return Act::Reply(vec![OpReply::Refused(refusal)], vec![]);
        }
        ok()
    });
    // The other server knows that the partition is its own now, and says so when greeted.
    let mut members = ring.shards.clone();
    members.remove(owner);
    *sim.ring.lock().unwrap() = ring.with_members(members);
    // Nobody else can tell: the old owner is greeted first, and its ring is the newer one.
    client.unlink(at(&client, "a")).unwrap();
    assert_eq!(client.cluster_state().ring.shards.len(), 1);
}

#[test]
fn a_walk_goes_from_server_to_server_and_the_next_one_starts_at_the_end() {
    let (dir_a, dir_b) = (
        InodeId::new(PartitionId(3), 9),
        InodeId::new(PartitionId(9), 9),
    );
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let (client, _) = client(3, move |seen| {
        let Op::GetAttr { at, .. } = op(seen) else {
            panic!("{:?}", op(seen));
        };
        log.lock().unwrap().push((at.base, at.path.clone()));
        let (next, consumed) = match at.path.as_slice() {
            b"a/b/file" => (dir_a, 1),
            b"b/file" => (dir_b, 1),
            _ => return Act::Reply(vec![OpReply::Attr(attr(InodeId(77), S_IFREG))], vec![]),
        };
        let passed = Passed {
            consumed_bytes: consumed,
            ino: next,
        };
        let reply = OpReply::Walked(Walked {
            consumed_bytes: consumed,
            base: next,
            stop: Stop::Elsewhere,
        });
        Act::Full(
            Reply {
                replies: vec![reply],
                passed: vec![passed],
                rename_version: RenameVersion(1),
                written: 0,
            },
            vec![],
        )
    });
    assert_eq!(
        client.stat(at(&client, "a/b/file"), true).unwrap().ino,
        InodeId(77)
    );
    assert_eq!(sent.lock().unwrap().len(), 3);
    client.stat(at(&client, "a/b/other"), true).unwrap();
    assert_eq!(sent.lock().unwrap()[3], (dir_b, b"other".to_vec()));
}

#[test]
fn a_removed_directory_in_the_cache_is_looked_up_again() {
    let dir = InodeId::new(PartitionId(3), 9);
    let mut asked = 0;
    let (client, _) = client(1, move |seen| {
        let Op::GetAttr { at, .. } = op(seen) else {
            panic!("{:?}", op(seen));
        };
        asked += 1;
        if at.base == dir {
            return Act::Reply(vec![OpReply::Errno(Errno::ESTALE)], vec![]);
        }
        let passed = vec![Passed {
            consumed_bytes: 1,
            ino: dir,
        }];
        let replies = match asked {
            1 => vec![OpReply::Attr(attr(InodeId(5), S_IFREG))],
            _ => vec![OpReply::Errno(Errno::ENOENT)],
        };
        Act::Full(
            Reply {
                replies,
                passed: if asked == 1 { passed } else { vec![] },
                rename_version: RenameVersion(1),
                written: 0,
            },
            vec![],
        )
    });
    client.stat(at(&client, "d/x"), true).unwrap();
    let again = client.stat(at(&client, "d/x"), true);
    assert_eq!(again, Err(Failure::Errno(Errno::ENOENT)));
}

#[test]
fn links_lead_through_the_mount_and_out_of_it() {
    let link = |target: &[u8], consumed| {
        let reply = OpReply::Walked(Walked {
            consumed_bytes: consumed,
            base: InodeId::root(sim::VOLUME, 64),
            stop: Stop::Symlink {
                target: target.to_vec(),
            },
        });
        Act::Reply(vec![reply], vec![])
    };
    let (client, _) = client(1, move |seen| {
        let Op::GetAttr { at, .. } = op(seen) else {
            panic!("{:?}", op(seen));
        };
        match at.path.as_slice() {
            b"in/x" => link(b"/sealfs/d", 2),
            b"out/x/y" => link(b"/etc", 3),
            b"rel" => link(b"d//x", 3),
            b"loop" => link(b"loop", 4),
            b".." | b"../etc" => {
                let reply = OpReply::Walked(Walked {
                    consumed_bytes: 0,
                    base: InodeId::root(sim::VOLUME, 64),
                    stop: Stop::AboveRoot,
                });
                Act::Reply(vec![reply], vec![])
            }
            b"d/x" | b"d//x" => Act::Reply(vec![OpReply::Attr(attr(InodeId(5), S_IFREG))], vec![]),
            other => panic!("{other:?}"),
        }
    });
    let stat = |path| client.stat(at(&client, path), true).map(|a| a.ino.0);
    assert_eq!(stat("in/x"), Ok(5));
    assert_eq!(stat("rel"), Ok(5));
    assert_eq!(stat("loop"), Err(Failure::Errno(Errno::ELOOP)));
    assert_eq!(stat("out/x/y"), Err(Failure::Outside(b"/etc/x/y".to_vec())));
    assert_eq!(stat(".."), Err(Failure::Outside(b"/".to_vec())));
    assert_eq!(stat("../etc"), Err(Failure::Outside(b"/etc".to_vec())));
}

#[test]
fn a_lost_incarnation_is_eio_once() {
    let (client, sim) = client(1, |seen| match op(seen) {
        Op::GetAttr { .. } => Act::Reply(vec![OpReply::Attr(attr(InodeId(5), S_IFREG))], vec![]),
        Op::Fsync { written_in, .. } if *written_in == Incarnation(1) => {
            Act::Reply(vec![OpReply::Errno(Errno::EIO)], vec![])
        }
        _ => ok(),
    });
    let file = FileRef {
        ino: InodeId(5),
        open: OpenId(1),
    };
    client.stat_open(file).unwrap();
    client.fsync(file, false).unwrap();
    client.note_written(file, &[(sealfs_protocol::ShardId(1), Incarnation(1))]);
    sim.incarnation
        .store(2, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(client.fsync(file, false), Err(Errno::EIO));
    assert_eq!(client.fsync(file, false), Ok(()));
}

#[test]
fn a_wait_for_a_lock_is_taken_back_by_a_signal() {
    let waiting: Arc<Mutex<Option<Sequence>>> = Arc::default();
    let waits = Arc::clone(&waiting);
    let (client, _) = client(1, move |seen| match op(seen) {
        Op::GetAttr { .. } => Act::Reply(vec![OpReply::Attr(attr(InodeId(5), S_IFREG))], vec![]),
        Op::Lock { wait: Some(0), .. } => {
            *waits.lock().unwrap() = Some(seen.header.sequence);
            Act::Silence
        }
        Op::CancelWait { .. } => Act::Hang,
        other => panic!("{other:?}"),
    });
    let file = FileRef {
        ino: InodeId(5),
        open: OpenId(1),
    };
    let range = LockRange {
        space: LockSpace::Record,
        owner: client.process_owner(),
        kind: LockType::Write,
        start: 0,
        last: u64::MAX,
        pid: 1,
    };
    let mut asked = 0;
    let mut interrupted = || {
        asked += 1;
        asked > 3
    };
    let waited = client.lock(file, range, Some(&mut interrupted), &mut None);
    assert_eq!(waited, Err(Errno::EINTR));
    assert!(waiting.lock().unwrap().is_some());
}

#[test]
fn a_wait_that_is_asked_for_again_after_it_was_taken_back_is_taken_back_again() {
    let (mut locks, mut cancels) = (0, 0);
    let counts: Arc<Mutex<(u32, u32)>> = Arc::default();
    let seen_counts = Arc::clone(&counts);
    let (client, _) = client(1, move |seen| {
        let act = match op(seen) {
            Op::GetAttr { .. } => {
                Act::Reply(vec![OpReply::Attr(attr(InodeId(5), S_IFREG))], vec![])
            }
            Op::Lock { .. } => {
                locks += 1;
                Act::Silence
            }
            Op::CancelWait { .. } => {
                cancels += 1;
                // The first breaks the connection. The next life of the server knows of no wait, until
                // it is asked for it.
                if cancels > 1 && locks == 1 {
                    ok()
                } else {
                    Act::Hang
                }
            }
            other => panic!("{other:?}"),
        };
        *seen_counts.lock().unwrap() = (locks, cancels);
        act
    });
    let file = FileRef {
        ino: InodeId(5),
        open: OpenId(1),
    };
    let range = LockRange {
        space: LockSpace::Record,
        owner: client.process_owner(),
        kind: LockType::Write,
        start: 0,
        last: u64::MAX,
        pid: 1,
    };
    let waited = client.lock(file, range, Some(&mut || true), &mut None);
    assert_eq!(waited, Err(Errno::EINTR));
    let (locks, cancels) = *counts.lock().unwrap();
    assert!(locks == 2 && cancels > 2, "{locks} {cancels}");
}

#[test]
fn a_directory_learned_by_mkdir_needs_no_walk() {
    let dir = InodeId::new(PartitionId(3), 9);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let (client, _) = client(1, move |seen| {
        if let Op::Unlink { at } = op(seen) {
            log.lock().unwrap().push((at.base, at.path.clone()));
            return ok();
        }
        Act::Reply(vec![OpReply::Attr(attr(dir, S_IFDIR))], vec![])
    });
    client.mkdir(at(&client, "d"), 0o755).unwrap();
    client.unlink(at(&client, "d/f")).unwrap();
    assert_eq!(sent.lock().unwrap()[0], (dir, b"f".to_vec()));
    assert_eq!(
        client.parent_of(at(&client, "d/g")),
        Ok((dir, b"g".to_vec()))
    );
}
