//! Access times are seen at once, and reach the log later, with an fsync, or when they are set.

use super::{Fs, O_RDWR};
use sealfs_protocol::attr::{SetAttr, SetTime, Time};
use sealfs_protocol::message::Op;
use sealfs_protocol::{Incarnation, InodeId};

const SECOND_NS: u64 = 1_000_000_000;

/// A file of a few bytes that was just written.
fn written(fs: &mut Fs) -> InodeId {
    let ino = fs.create("f");
    fs.write(ino, 0, b"bytes");
    ino
}

fn atime(fs: &mut Fs) -> Time {
    fs.stat("f").attr().atime
}

fn kill_and_start(fs: &mut Fs) {
    fs.cluster.kill(0);
    fs.cluster.start(0);
}

#[test]
fn a_read_writes_nothing_and_its_access_time_is_seen_at_once() {
    let mut fs = Fs::new();
    let ino = written(&mut fs);
    let before = atime(&mut fs);
    fs.read(ino, 0, 5);
    let after = atime(&mut fs);
    assert!(after > before);
    assert_eq!(fs.open_flags("f", O_RDWR).attr().atime, after);
    fs.write(ino, 0, b"other");
    assert_eq!(
        atime(&mut fs),
        after,
        "a write that reads the inode keeps it"
    );
    kill_and_start(&mut fs);
    assert_eq!(atime(&mut fs), after, "what the write has logged");
}

#[test]
fn an_access_time_outlives_a_kill_a_second_later_or_with_an_fsync() {
    let mut fs = Fs::new();
    let ino = written(&mut fs);
    let before = atime(&mut fs);
    fs.read(ino, 0, 5);
    kill_and_start(&mut fs);
    assert_eq!(atime(&mut fs), before, "nobody has waited for it");
    fs.read(ino, 0, 5);
    let after = atime(&mut fs);
    fs.cluster.pass(2 * SECOND_NS);
    kill_and_start(&mut fs);
    assert_eq!(atime(&mut fs), after);

    fs.write(ino, 0, b"again");
    fs.read(ino, 0, 5);
    let synced = atime(&mut fs);
    assert!(synced > after);
    fs.call(Op::Fsync {
        ino,
        data_only: false,
        written_in: Incarnation(0),
    });
    kill_and_start(&mut fs);
    assert_eq!(atime(&mut fs), synced);
}

#[test]
fn a_time_that_is_set_stands_before_one_that_is_kept() {
    let mut fs = Fs::new();
    let ino = written(&mut fs);
    fs.read(ino, 0, 5);
    let old = Time::from_ns(1_000_000_000);
    let set = SetAttr {
        atime: Some(SetTime::At(old)),
        ..SetAttr::default()
    };
    fs.set("f", set).attr();
    assert_eq!(atime(&mut fs), old);
    fs.cluster.pass(2 * SECOND_NS);
    assert_eq!(atime(&mut fs), old);
    kill_and_start(&mut fs);
    assert_eq!(atime(&mut fs), old);
}
