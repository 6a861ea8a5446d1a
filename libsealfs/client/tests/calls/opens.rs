//! Open files: what is told late, what comes along, and what is told again to a server that has forgotten.

use crate::sim::{Act, client};
use crate::{at, attr, ok, op};
use sealfs_client::{FileRef, IoVecMut};
use sealfs_protocol::attr::{S_IFDIR, S_IFREG};
use sealfs_protocol::message::{
    Entry, LockRange, LockSpace, LockType, Op, OpReply, PageEnd, Refusal,
};
use sealfs_protocol::{Errno, InodeId, OpenId, dirent};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

#[test]
fn a_close_goes_along_with_the_next_request() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let (client, _) = client(1, move |seen| {
        let ops: Vec<Op> = seen.request.ops.iter().map(|e| e.op.clone()).collect();
        let replies = ops.iter().map(|op| match op {
            Op::Open { .. } => OpReply::Opened {
                attr: attr(InodeId(5), S_IFREG),
                created: true,
                read_bytes: 0,
                page: None,
            },
            _ => OpReply::Done,
        });
        let replies = replies.collect();
        seen_log.lock().unwrap().push(ops);
        Act::Reply(replies, vec![])
    });
    let opened = client.open(at(&client, "f"), 0, 0, OpenId(9)).unwrap();
    let file = FileRef {
        ino: opened.attr.ino,
        open: OpenId(9),
    };
    client.close(file);
    assert_eq!(log.lock().unwrap().len(), 1, "nobody waits for a close");
    client.unlink(at(&client, "f")).unwrap();
    let close = Op::Close {
        ino: file.ino,
        open: file.open,
    };
    assert_eq!(log.lock().unwrap()[1][1], close);
    client.close(file);
    client.flush_deferred();
    assert_eq!(log.lock().unwrap()[2], [close]);
}

#[test]
fn a_close_counts_only_when_a_server_has_confirmed_it() {
    let silent = Arc::new(AtomicBool::new(true));
    let is_silent = Arc::clone(&silent);
    let (client, _) = client(1, move |seen| {
        if is_silent.load(SeqCst) {
            return Act::Silence;
        }
        Act::Reply(vec![OpReply::Done; seen.request.ops.len()], vec![])
    });
    let closed = || {
        let mut closed = Vec::new();
        client.drain_closed(|open| closed.push(open));
        closed
    };
    let file = |n| FileRef {
        ino: InodeId(5),
        open: OpenId(n),
    };
    client.close(file(1));
    let unlinked = client.unlink(at(&client, "f"));
    assert!(unlinked.is_err());
    client.close(file(2));
    client.flush_deferred();
    assert_eq!(closed(), []);
    silent.store(false, SeqCst);
    client.unlink(at(&client, "f")).unwrap();
    assert_eq!(closed(), [OpenId(1), OpenId(2)]);
    assert_eq!(closed(), [], "each once");
}

#[test]
fn an_access_goes_along_before_the_next_request_and_again_if_it_is_refused() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let (client, _) = client(1, move |seen| {
        let ops: Vec<Op> = seen.request.ops.iter().map(|e| e.op.clone()).collect();
        let first = seen_log.lock().unwrap().is_empty();
        let replies = ops.iter().map(|op| match op {
            Op::Accessed { .. } if first => OpReply::Refused(Refusal::Busy { retry_ms: 1 }),
            Op::GetAttr { .. } => OpReply::Attr(attr(InodeId(5), S_IFDIR)),
            _ => OpReply::Done,
        });
        let replies = replies.collect();
        seen_log.lock().unwrap().push(ops);
        Act::Reply(replies, vec![])
    });
    let ino = InodeId(5);
    client.accessed(ino);
    client.accessed(ino);
    let stat = || client.stat(at(&client, "d"), true).unwrap().ino;
    assert_eq!(stat(), ino);
    assert_eq!(stat(), ino);
    client.accessed(ino);
    client.flush_deferred();
    let log = log.lock().unwrap();
    let accessed = Op::Accessed { ino };
    for ops in &log[..2] {
        assert_eq!(ops[0], accessed);
        assert!(matches!(ops[1], Op::GetAttr { .. }) && ops.len() == 2);
    }
    assert_eq!(log[2], [accessed]);
    assert_eq!(log.len(), 3);
}

#[test]
fn an_opened_directory_comes_with_its_first_records() {
    let mut records = Vec::new();
    dirent::push(&mut records, 7, 3, S_IFREG, b"name");
    let sent = records.clone();
    let (client, _) = client(1, move |seen| {
        let opened = |page| OpReply::Opened {
            attr: attr(InodeId(5), S_IFDIR),
            created: false,
            read_bytes: sent.len() as u32,
            page,
        };
        let end = PageEnd {
            parent: InodeId(1),
            next: 3,
            moves_atime: true,
        };
        match op(seen) {
            Op::Open { read_bytes: 64, .. } => Act::Reply(vec![opened(Some(end))], sent.clone()),
            // Bytes that are said to be there and are not.
            _ => Act::Reply(vec![opened(Some(end))], vec![]),
        }
    });
    let mut room = [0; 64];
    let opened = client.open_directory(at(&client, "d"), 0, OpenId(9), IoVecMut::new(&mut room));
    let (opened, page) = opened.unwrap();
    let page = page.unwrap();
    assert_eq!(opened.attr.ino, InodeId(5));
    assert_eq!(
        (page.parent, page.next, page.moves_atime),
        (InodeId(1), 3, true)
    );
    assert_eq!(room[..page.len], records);
    let into = IoVecMut::new(&mut room[..32]);
    let opened = client.open_directory(at(&client, "d"), 0, OpenId(10), into);
    assert_eq!(opened.unwrap().1, None);
}

#[test]
fn open_files_are_told_to_a_server_that_has_forgotten_them() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let mut hang = false;
    let (client, sim) = client(1, move |seen| {
        seen_log.lock().unwrap().push(op(seen).clone());
        match op(seen) {
            Op::Open { .. } => Act::Reply(
                vec![OpReply::Opened {
                    attr: attr(InodeId(5), S_IFREG),
                    created: false,
                    read_bytes: 0,
                    page: None,
                }],
                vec![],
            ),
            Op::Unlink { .. } if !std::mem::replace(&mut hang, true) => Act::Hang,
            _ => ok(),
        }
    });
    client.open(at(&client, "f"), 0, 0, OpenId(9)).unwrap();
    *sim.known.lock().unwrap() = false;
    client.unlink(at(&client, "x")).unwrap();
    let told = Op::Reassert {
        ino: InodeId(5),
        open: OpenId(9),
        executes: false,
        locked: None,
    };
    let log = log.lock().unwrap();
    assert_eq!(log[2], told, "before the request is repeated");
    assert!(matches!(log[3], Op::Unlink { .. }));
}

#[test]
fn a_server_that_has_heard_a_greeting_and_not_answered_is_told_what_is_open() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let mut hang = false;
    let (client, sim) = client(1, move |seen| {
        seen_log.lock().unwrap().push(op(seen).clone());
        match op(seen) {
            Op::Open { .. } => Act::Reply(
                vec![OpReply::Opened {
                    attr: attr(InodeId(5), S_IFREG),
                    created: false,
                    read_bytes: 0,
                    page: None,
                }],
                vec![],
            ),
            Op::Unlink { .. } if !std::mem::replace(&mut hang, true) => Act::Hang,
            _ => ok(),
        }
    });
    client.open(at(&client, "f"), 0, 0, OpenId(9)).unwrap();
    // The server restarts; the greeting after the one whose answer is lost says that it knows us.
    let greetings = sim.hellos.lock().unwrap().len();
    *sim.known.lock().unwrap() = false;
    sim.knows_after(greetings + 1);
    sim.lost_greetings.store(1, SeqCst);
    client.unlink(at(&client, "x")).unwrap();
    let log = log.lock().unwrap();
    let told = |op: &Op| matches!(op, Op::Reassert { .. });
    assert_eq!(log.iter().filter(|op| told(op)).count(), 1);
}

#[test]
fn a_server_whose_connection_breaks_before_it_is_told_what_is_open_is_told_over_the_next() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let mut breaks = 2;
    let (client, sim) = client(1, move |seen| {
        seen_log.lock().unwrap().push(op(seen).clone());
        match op(seen) {
            Op::Open { .. } => Act::Reply(
                vec![OpReply::Opened {
                    attr: attr(InodeId(5), S_IFREG),
                    created: false,
                    read_bytes: 0,
                    page: None,
                }],
                vec![],
            ),
            // The first breaks the old connection, the second the new one after its Hello.
            Op::Unlink { .. } | Op::Reassert { .. } if breaks > 0 => {
                breaks -= 1;
                Act::Hang
            }
            _ => ok(),
        }
    });
    client.open(at(&client, "f"), 0, 0, OpenId(9)).unwrap();
    *sim.known.lock().unwrap() = false;
    // The server restarts; the greeting after the one that breaks says that it knows us.
    let greetings = sim.hellos.lock().unwrap().len();
    sim.knows_after(greetings + 1);
    client.unlink(at(&client, "x")).unwrap();
    client.unlink(at(&client, "y")).unwrap();
    let log = log.lock().unwrap();
    let told = |op: &Op| {
        matches!(
            op,
            Op::Reassert {
                ino: InodeId(5),
                ..
            }
        )
    };
    assert!(told(&log[2]) && told(&log[3]), "told again: {log:?}");
    assert!(matches!(log[4], Op::Unlink { .. }), "before anything else");
    assert_eq!(
        log.iter().filter(|op| told(op)).count(),
        2,
        "and then no more"
    );
    assert_eq!(sim.hellos.lock().unwrap().len(), greetings + 2);
}

#[test]
fn locks_that_a_server_may_have_lost_are_eio_until_the_file_is_closed() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let seen_log = Arc::clone(&log);
    let mut hang = true;
    let (client, sim) = client(1, move |seen| {
        seen_log.lock().unwrap().push(op(seen).clone());
        match op(seen) {
            Op::Open { open, .. } => Act::Reply(
                vec![OpReply::Opened {
                    attr: attr(InodeId(5 + open.0), S_IFREG),
                    created: false,
                    read_bytes: 0,
                    page: None,
                }],
                vec![],
            ),
            Op::Unlink { .. } if std::mem::take(&mut hang) => Act::Hang,
            Op::Reassert { .. } => {
                let lost = |e: &Entry| match &e.op {
                    Op::Reassert {
                        open: OpenId(1), ..
                    } => OpReply::Errno(Errno::EIO),
                    _ => OpReply::Done,
                };
                Act::Reply(seen.request.ops.iter().map(lost).collect(), vec![])
            }
            _ => ok(),
        }
    });
    let files = [1, 2].map(|n| {
        client.open(at(&client, "f"), 0, 0, OpenId(n)).unwrap();
        FileRef {
            ino: InodeId(5 + n),
            open: OpenId(n),
        }
    });
    for file in files {
        let range = LockRange {
            space: LockSpace::Record,
            owner: client.process_owner(),
            kind: LockType::Write,
            start: 0,
            last: 9,
            pid: 1,
        };
        let mut told = None;
        client.lock(file, range, None, &mut told).unwrap();
        assert!(told.is_some());
    }
    *sim.known.lock().unwrap() = false;
    client.unlink(at(&client, "x")).unwrap();
    assert_eq!(client.fsync(files[0], false), Err(Errno::EIO));
    assert_eq!(client.fsync(files[0], false), Err(Errno::EIO));
    assert_eq!(client.fsync(files[1], false), Ok(()));
    client.close(files[0]);
    let again = client.open(at(&client, "f"), 0, 0, OpenId(3)).unwrap();
    assert_eq!(again.attr.ino, InodeId(8));
}
