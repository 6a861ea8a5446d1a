//! The client against real servers: three processes on loopback.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]
#![allow(
    unsafe_code,
    reason = "hands bad addresses over, as programs may do to read and write"
)]

mod daemons;

use daemons::Cluster;
use sealfs_client::{At, Client, Failure, FileRef, IoVec, IoVecMut};
use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::message::{LockRange, LockSpace, LockType};
use sealfs_protocol::{Errno, OpenId};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;

/// Started again by the other tests as one of their daemons; on its own it has no role.
#[test]
fn daemon() {
    daemons::play_role();
}

fn at<'a>(client: &Client, path: &'a str) -> At<'a> {
    At {
        base: client.root(),
        path: path.as_bytes(),
    }
}

fn open(client: &Client, path: &str, flags: u32, id: u64) -> Result<FileRef, Failure> {
    let open = OpenId(id);
    let opened = client.open(at(client, path), flags, 0o644, open)?;
    Ok(FileRef {
        ino: opened.attr.ino,
        open,
    })
}

fn write(client: &Client, file: FileRef, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
    client.write(file, offset, &[IoVec::new(bytes)])
}

fn read(client: &Client, file: FileRef, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0xEE; len];
    let n = client.read(file, offset, &mut [IoVecMut::new(&mut bytes)])?;
    bytes.truncate(n);
    Ok(bytes)
}

fn errno<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> Errno {
    match outcome {
        Err(Failure::Errno(errno)) => errno,
        other => panic!("{other:?}"),
    }
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8)
        .collect()
}

#[test]
fn names_over_three_servers() {
    let cluster = Cluster::start(3);
    let c = cluster.client();
    for i in 0..12 {
        c.mkdir(at(&c, &format!("d{i}")), 0o755).unwrap();
        c.mkdir(at(&c, &format!("d{i}/sub")), 0o755).unwrap();
        let file = open(&c, &format!("d{i}/sub/f"), O_RDWR | O_CREAT | O_EXCL, i).unwrap();
        assert_eq!(write(&c, file, 0, b"hello"), Ok(5));
        c.close(file);
    }
    assert_eq!(errno(c.mkdir(at(&c, "d1"), 0o755)), Errno::EEXIST);
    assert_eq!(errno(c.stat(at(&c, "d1/none/x"), true)), Errno::ENOENT);
    assert_eq!(errno(c.stat(at(&c, "d1/sub/f/"), true)), Errno::ENOTDIR);
    assert_eq!(errno(c.rmdir(at(&c, "d1/sub"))), Errno::ENOTEMPTY);
    assert_eq!(c.entries(c.root()).unwrap().len(), 12);

    for i in 0..11 {
        let from = format!("d{i}/sub/f");
        let to = format!("d{}/g", i + 1);
        c.rename(at(&c, &from), at(&c, &to), 0).unwrap();
        assert_eq!(c.stat(at(&c, &to), true).unwrap().size_bytes, 5);
        assert_eq!(errno(c.stat(at(&c, &from), true)), Errno::ENOENT);
    }
    let linked = c.link(at(&c, "d1/g"), false, at(&c, "d5/sub/h")).unwrap();
    assert_eq!(linked.nlink, 2);
    c.symlink(at(&c, "d2/l"), b"../d1/g").unwrap();
    assert_eq!(c.stat(at(&c, "d2/l"), true).unwrap().ino, linked.ino);
    assert_eq!(c.readlink(at(&c, "d2/l")).unwrap(), b"../d1/g");
    c.unlink(at(&c, "d1/g")).unwrap();
    assert_eq!(c.stat(at(&c, "d5/sub/h"), true).unwrap().nlink, 1);
    let dir = c.stat(at(&c, "d5/sub"), true).unwrap().ino;
    assert_eq!(c.directory_path(dir).unwrap(), b"/sealfs/d5/sub");
    c.rename(at(&c, "d5"), at(&c, "d7/sub/moved"), 0).unwrap();
    assert_eq!(c.directory_path(dir).unwrap(), b"/sealfs/d7/sub/moved/sub");
    assert_eq!(
        errno(c.rename(at(&c, "d7"), at(&c, "d7/sub/x"), 0)),
        Errno::EINVAL
    );
    c.rmdir(at(&c, "d1/sub")).unwrap();
    assert_eq!(errno(c.stat(at(&c, "d1/sub"), true)), Errno::ENOENT);
    c.end();
}

#[test]
fn another_clients_directory_rename_is_seen_at_once() {
    let cluster = Cluster::start(3);
    let (a, b) = (cluster.client(), cluster.client());
    a.mkdir(at(&a, "x"), 0o755).unwrap();
    a.mkdir(at(&a, "x/y"), 0o755).unwrap();
    let file = open(&a, "x/y/f", O_RDWR | O_CREAT, 1).unwrap();
    a.close(file);
    b.stat(at(&b, "x/y/f"), true).unwrap();
    a.rename(at(&a, "x"), at(&a, "z"), 0).unwrap();
    assert_eq!(errno(b.stat(at(&b, "x/y/f"), true)), Errno::ENOENT);
    b.stat(at(&b, "z/y/f"), true).unwrap();
    // Removed and made again under the same name: the old one answers for itself.
    a.unlink(at(&a, "z/y/f")).unwrap();
    a.rmdir(at(&a, "z/y")).unwrap();
    a.mkdir(at(&a, "z/y"), 0o755).unwrap();
    open(&a, "z/y/f", O_RDWR | O_CREAT, 2).unwrap();
    b.stat(at(&b, "z/y/f"), true).unwrap();
}

#[test]
fn data_over_three_servers() {
    let cluster = Cluster::start(3);
    let (a, b) = (cluster.client(), cluster.client());
    let file = open(&a, "big", O_RDWR | O_CREAT, 1).unwrap();
    let data = pattern(20 << 20, 7);
    assert_eq!(write(&a, file, 0, &data), Ok(data.len()));
    let other = open(&b, "big", O_RDWR, 2).unwrap();
    assert!(read(&b, other, 0, 21 << 20).unwrap() == data);
    assert!(read(&b, other, 999_999, 3 << 20).unwrap() == data[999_999..999_999 + (3 << 20)]);

    write(&a, file, 30 << 20, b"end").unwrap();
    let hole = read(&b, other, 20 << 20, 12 << 20).unwrap();
    assert_eq!(hole.len(), (10 << 20) + 3);
    assert!(hole[..10 << 20].iter().all(|x| *x == 0));
    assert_eq!(&hole[10 << 20..], b"end");
    assert_eq!(b.seek_data(other, 20 << 20), Ok(30 << 20));
    assert_eq!(b.seek_hole(other, 0), Ok(20 << 20));

    assert_eq!(
        a.append(file, &[IoVec::new(b"tail")]),
        Ok((4, (30 << 20) + 7))
    );
    assert_eq!(read(&b, other, (30 << 20) + 3, 100).unwrap(), b"tail");
    a.truncate(file, 5 << 20).unwrap();
    assert_eq!(read(&b, other, (5 << 20) - 3, 100).unwrap().len(), 3);
    a.truncate(file, 6 << 20).unwrap();
    let regrown = read(&b, other, (5 << 20) - 3, 2 << 20).unwrap();
    assert_eq!(regrown.len(), (1 << 20) + 3);
    assert!(
        regrown[3..].iter().all(|x| *x == 0),
        "old bytes do not come back"
    );
    a.fsync(file, false).unwrap();
    b.sync_fs().unwrap();

    // SAFETY: an address that is no memory at all.
    let bad = unsafe { IoVec::from_raw(8, 100) };
    assert_eq!(a.write(file, 0, &[bad]), Err(Errno::EFAULT));
    assert_eq!(write(&a, file, 0, b"fine"), Ok(4));
    let set = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    assert_eq!(
        a.setattr(at(&a, "big"), true, &set).unwrap().mode & 0o7777,
        0o600
    );
}

#[test]
fn many_threads_share_a_client() {
    let cluster = Cluster::start(3);
    let c = cluster.client();
    std::thread::scope(|s| {
        for t in 0..8u64 {
            let c = &c;
            s.spawn(move || {
                let dir = format!("t{t}");
                c.mkdir(at(c, &dir), 0o755).unwrap();
                for i in 0..25 {
                    let path = format!("{dir}/{i}");
                    let file = open(c, &path, O_RDWR | O_CREAT, t << 32 | i).unwrap();
                    let data = pattern(3_000 * (i as usize + 1), t as u32);
                    assert_eq!(write(c, file, 0, &data), Ok(data.len()));
                    assert!(read(c, file, 0, data.len() + 1).unwrap() == data);
                    c.close(file);
                    if i % 2 == 0 {
                        c.unlink(at(c, &path)).unwrap();
                    }
                }
            });
        }
    });
    let entries = c.entries(c.stat(at(&c, "t3"), true).unwrap().ino);
    assert_eq!(entries.unwrap().len(), 12);
}

#[test]
fn a_lock_is_waited_for_and_a_signal_ends_the_wait() {
    let cluster = Cluster::start(3);
    let (a, b) = (cluster.client(), cluster.client());
    let held = open(&a, "f", O_RDWR | O_CREAT, 1).unwrap();
    let wanted = open(&b, "f", O_RDWR, 2).unwrap();
    let range = |c: &Client, kind| LockRange {
        space: LockSpace::Record,
        owner: c.process_owner(),
        kind,
        start: 0,
        last: u64::MAX,
        pid: 1,
    };
    a.lock(held, range(&a, LockType::Write), None, &mut None)
        .unwrap();
    let write = range(&b, LockType::Write);
    assert_eq!(b.lock(wanted, write, None, &mut None), Err(Errno::EAGAIN));
    assert_eq!(
        b.test_lock(wanted, write).unwrap().map(|l| l.kind),
        Some(LockType::Write)
    );
    let signalled = b.lock(wanted, write, Some(&mut || true), &mut None);
    assert_eq!(signalled, Err(Errno::EINTR));
    let waiting = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !waiting.load(SeqCst) {
                std::thread::yield_now();
            }
            a.lock(held, range(&a, LockType::Unlock), None, &mut None)
                .unwrap();
        });
        let mut look = || {
            waiting.store(true, SeqCst);
            false
        };
        b.lock(wanted, write, Some(&mut look), &mut None).unwrap();
    });
}

#[test]
fn a_wait_for_a_lock_that_is_older_than_the_deadline_outlives_restarts() {
    const DEADLINE_MS: u32 = 1_000;
    let mut cluster = Cluster::start(1);
    let a = cluster.client();
    let b = cluster.client_with(|config| config.deadline_ms = DEADLINE_MS);
    let held = open(&a, "f", O_RDWR | O_CREAT, 1).unwrap();
    let wanted = open(&b, "f", O_RDWR, 2).unwrap();
    let range = |c: &Client, kind| LockRange {
        space: LockSpace::Record,
        owner: c.process_owner(),
        kind,
        start: 0,
        last: u64::MAX,
        pid: 1,
    };
    a.lock(held, range(&a, LockType::Write), None, &mut None)
        .unwrap();
    let begun = Instant::now();
    let is_old = AtomicBool::new(false);
    let b = &b;
    std::thread::scope(|s| {
        let waiter = s.spawn(|| {
            let mut look = || {
                let age = begun.elapsed();
                is_old.store(
                    age > Duration::from_millis(u64::from(2 * DEADLINE_MS)),
                    SeqCst,
                );
                false
            };
            b.lock(
                wanted,
                range(b, LockType::Write),
                Some(&mut look),
                &mut None,
            )
        });
        while !is_old.load(SeqCst) && !waiter.is_finished() {
            std::thread::yield_now();
        }
        cluster.kill_and_restart(0);
        a.lock(held, range(&a, LockType::Unlock), None, &mut None)
            .unwrap();
        assert_eq!(waiter.join().unwrap(), Ok(()));
    });
}

/// Kills that the test wants to see, and files of each worker meanwhile, at most.
const KILLS: u64 = 12;
const FILES_MAX: u64 = 20_000;

#[test]
fn killed_servers_lose_nothing_and_nothing_happens_twice() {
    let mut cluster = Cluster::start(3);
    let c = cluster.client();
    c.mkdir(at(&c, "d"), 0o755).unwrap();
    let finished = AtomicBool::new(false);
    let (done, kills) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|s| {
        let workers: Vec<_> = (0..3u64)
            .map(|t| {
                let (c, done, kills) = (&c, &done, &kills);
                s.spawn(move || {
                    let goes_on = |i: &u64| *i < FILES_MAX && kills.load(SeqCst) < KILLS;
                    for i in (0..).take_while(goes_on) {
                        let path = format!("d/{t}-{i}");
                        let flags = O_RDWR | O_CREAT | O_EXCL | O_TRUNC;
                        let file = open(c, &path, flags, t << 32 | i).unwrap();
                        let data = pattern(40_000, i as u32);
                        assert_eq!(write(c, file, 0, &data), Ok(data.len()));
                        assert_eq!(c.append(file, &[IoVec::new(b"!")]), Ok((1, 40_001)));
                        let moved = format!("d/{t}-{i}-moved");
                        c.rename(at(c, &path), at(c, &moved), 0).unwrap();
                        assert_eq!(read(c, file, 40_000, 9).unwrap(), b"!");
                        c.close(file);
                        done.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        s.spawn(|| {
            while !finished.load(SeqCst) {
                // Servers that are killed before they serve again let nobody get on.
                let before = done.load(SeqCst);
                cluster.kill_and_restart(kills.load(SeqCst) as usize % 3);
                while done.load(SeqCst) < before + 3 && !finished.load(SeqCst) {
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                kills.fetch_add(1, SeqCst);
            }
        });
        let ended: Vec<_> = workers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        finished.store(true, SeqCst);
        assert!(ended.iter().all(Result::is_ok));
    });
    assert!(kills.load(SeqCst) >= KILLS);
    cluster.kill_manager();
    let dir = c.stat(at(&c, "d"), true).unwrap().ino;
    let entries = c.entries(dir).unwrap();
    assert_eq!(entries.len() as u64, done.load(SeqCst));
    assert!(entries.iter().all(|e| e.name.ends_with(b"-moved")));
}
