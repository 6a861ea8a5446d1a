//! Bytes, locks, opens, and what a kill leaves.

use super::*;

#[test]
fn small_and_large_writes_read_back_with_zeros_in_the_gaps() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    fs.write(ino, 3, b"abc");
    assert_eq!(fs.read(ino, 0, 100), b"\0\0\0abc");
    fs.write(ino, 1799, b"x");
    fs.write(ino, 1800, b"yz");
    fs.write(ino, 40_000, b"far");
    let all = fs.read(ino, 0, 65_536);
    assert_eq!(all.len(), 40_003);
    assert_eq!((&all[3..6], &all[1799..1802]), (&b"abc"[..], &b"xyz"[..]));
    assert!(all[1802..40_000].iter().all(|b| *b == 0));
    assert_eq!(&all[40_000..], b"far");
    let attr = fs.stat("f").attr();
    assert_eq!((attr.size_bytes, attr.blocks_512), (40_003, 16));
}

#[test]
fn a_gap_between_inline_bytes_and_a_far_write_stays_a_hole() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    fs.write(ino, 0, b"head");
    fs.write(ino, 30_000, b"tail");
    let all = fs.read(ino, 0, 65_536);
    assert_eq!((&all[..4], &all[30_000..]), (&b"head"[..], &b"tail"[..]));
    assert!(all[4..30_000].iter().all(|b| *b == 0));
}

#[test]
fn shrinking_and_growing_reads_zeros() {
    for len in [100u32, 10_000] {
        let mut fs = Fs::new();
        let ino = fs.create("f");
        fs.write(ino, 0, &vec![b'q'; len as usize]);
        let size = |n| SetAttr {
            size_bytes: Some(n),
            ..SetAttr::default()
        };
        fs.set("f", size(10)).attr();
        fs.set("f", size(u64::from(len))).attr();
        let all = fs.read(ino, 0, len);
        assert_eq!(&all[..10], &[b'q'; 10]);
        assert!(all[10..].iter().all(|b| *b == 0) && all.len() == len as usize);
        assert_eq!(fs.open_flags("f", O_RDWR | O_TRUNC).attr().size_bytes, 0);
        assert_eq!(fs.stat("f").attr().blocks_512, 0);
    }
}

#[test]
fn a_write_under_an_old_generation_is_refused() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    fs.write(ino, 0, b"12345");
    fs.open_flags("f", O_RDWR | O_TRUNC);
    let late = fs.client.call_with(
        &mut fs.cluster,
        Op::Write {
            ino,
            chunk: 0,
            offset_bytes: 0,
            len_bytes: 1,
            generation: TruncateGeneration(0),
            open: sealfs_protocol::OpenId(1),
        },
        b"x",
    );
    assert!(matches!(late.reply, OpReply::Refused(_)), "{late:?}");
    assert_eq!(fs.stat("f").attr().size_bytes, 0);
}

#[test]
fn appends_follow_each_other_over_chunks() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    let mut expected = Vec::new();
    for i in 0..5u8 {
        let bytes = vec![b'a' + i; 30_000];
        let op = Op::Append {
            ino,
            len_bytes: 30_000,
            open: sealfs_protocol::OpenId(1),
        };
        let done = fs.client.call_with(&mut fs.cluster, op, &bytes);
        assert!(
            matches!(done.reply, OpReply::Written { offset, .. } if offset == expected.len() as u64)
        );
        expected.extend(bytes);
    }
    let attr = fs.stat("f").attr();
    assert_eq!((attr.size_bytes, attr.wide), (150_000, true));
    assert_eq!(fs.read(ino, 0, 65_536), &expected[..65_536]);
}

#[test]
fn an_unlinked_open_file_lives_until_it_is_closed() {
    let mut fs = Fs::new();
    let open = fs.client.fresh_open();
    let ino = fs
        .call(Op::Open {
            at: at(fs.root, "f"),
            flags: O_RDWR | O_CREAT,
            mode: 0o600,
            open,
            read_bytes: 0,
        })
        .attr()
        .ino;
    fs.write(ino, 0, b"still here");
    assert_eq!(fs.unlink("f"), None);
    assert_eq!(fs.read(ino, 0, 100), b"still here");
    fs.call(Op::Close { ino, open });
    let gone = fs.call(Op::GetAttr {
        at: at(ino, ""),
        follow: false,
    });
    assert_eq!(gone.errno(), Some(Errno::ESTALE));
}

#[test]
fn a_temporary_file_can_be_given_a_name_once() {
    let mut fs = Fs::new();
    let temporary = fs.open_flags("", O_RDWR | O_TMPFILE).attr();
    assert_eq!(temporary.nlink, 0);
    let ino = temporary.ino;
    let open = sealfs_protocol::OpenId(1);
    let named = fs.call(Op::Link {
        ino,
        to: at(fs.root, "t"),
        from_open: Some(open),
    });
    assert_eq!(named.attr().nlink, 1);
    assert_eq!(fs.unlink("t"), None);
    let again = fs.call(Op::Link {
        ino,
        to: at(fs.root, "u"),
        from_open: Some(open),
    });
    assert_eq!(again.errno(), Some(Errno::ENOENT));
}

#[test]
fn a_repeated_request_is_executed_once() {
    let mut fs = Fs::new();
    let root = fs.root;
    let first = fs.mkdir("d");
    let ino = first.attr().ino;
    // The same sequence again: the library lost the reply with its connection.
    let mut twin = Client::new(&mut fs.cluster, 11, 0);
    let again = twin.call(
        &mut fs.cluster,
        Op::MakeDir {
            at: at(root, "d"),
            mode: 0o755,
        },
    );
    assert_eq!(again.attr().ino, ino);
    let old = Client::new(&mut fs.cluster, 11, 0);
    fs.mkdir("e").attr();
    fs.client = old;
    let refused = fs.mkdir("x");
    assert!(matches!(refused.reply, OpReply::Refused(_)), "{refused:?}");
}

fn owner(client: &Client) -> LockOwner {
    LockOwner::Process {
        client: client.id,
        session: client.session,
    }
}

#[test]
fn a_lock_waits_for_its_holder_and_survives_a_restart() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    let lock = |client: &Client, kind| LockRange {
        space: LockSpace::Record,
        owner: owner(client),
        kind,
        start: 0,
        last: u64::MAX,
        pid: 1,
    };
    let range = lock(&fs.client, LockType::Write);
    let op = Op::Lock {
        ino,
        range,
        wait: None,
    };
    assert_eq!(fs.call(op).reply, OpReply::Done);
    fs.cluster.kill(0);
    fs.cluster.start(0);
    let mut other = Client::new(&mut fs.cluster, 13, 0);
    let wanted = lock(&other, LockType::Read);
    let ask = |wait| Op::Lock {
        ino,
        range: wanted,
        wait: bool::then_some(wait, 0),
    };
    let refused = other.call(&mut fs.cluster, ask(false));
    assert_eq!(refused.errno(), Some(Errno::EAGAIN));
    other.begin(&mut fs.cluster, ask(true), &[]);
    fs.cluster.pass(200_000_000);
    assert!(other.poll(&mut fs.cluster).is_none());
    let op = Op::Lock {
        ino,
        range: lock(&fs.client, LockType::Unlock),
        wait: None,
    };
    fs.call(op);
    assert_eq!(other.finish(&mut fs.cluster).reply, OpReply::Done);
}

#[test]
fn the_end_of_a_client_releases_its_locks() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    let range = LockRange {
        space: LockSpace::Record,
        owner: owner(&fs.client),
        kind: LockType::Write,
        start: 0,
        last: 9,
        pid: 1,
    };
    fs.call(Op::Lock {
        ino,
        range,
        wait: None,
    });
    let client = fs.client.id;
    let home = sealfs_protocol::hash::client_home(client, fs.cluster.ring().partitions());
    let mut keeper = Client::new(&mut fs.cluster, 14, 0);
    keeper.begin_at(&mut fs.cluster, home, Op::EndClient { client }, &[]);
    assert_eq!(keeper.finish(&mut fs.cluster).reply, OpReply::Done);
    let mine = LockRange {
        owner: owner(&keeper),
        ..range
    };
    let test = keeper.call(&mut fs.cluster, Op::TestLock { ino, range: mine });
    assert_eq!(test.reply, OpReply::LockHeld(None));
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut fs = Fs::new();
    fs.mkdir("d").attr();
    let ino = fs.create("d/f");
    fs.write(ino, 0, &[7; 5000]);
    fs.cluster.kill(0);
    fs.cluster.start(0);
    assert_eq!(fs.read(ino, 0, 8192), [7; 5000]);
    assert_eq!(fs.stat("d/f").attr().size_bytes, 5000);
}

#[test]
fn holes_are_found_and_punched() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    fs.write(ino, 0, &vec![1; 20_000]);
    let punched = fs.call(Op::Allocate {
        ino,
        mode: 3,
        offset: 4096,
        len: 8192,
        open: sealfs_protocol::OpenId(1),
    });
    assert_eq!(punched.attr().size_bytes, 20_000);
    let seek = |fs: &mut Fs, offset, data| {
        let generation = fs.generation(ino);
        fs.call(Op::Seek {
            ino,
            from: offset,
            until: 20_000,
            data,
            layout: sealfs_protocol::attr::Layout::DEFAULT,
            generation,
        })
        .reply
    };
    let at = |position| OpReply::Sought {
        position,
        found: true,
    };
    assert_eq!(seek(&mut fs, 0, false), at(4096));
    assert_eq!(seek(&mut fs, 5000, true), at(12_288));
    let end = OpReply::Sought {
        position: 20_000,
        found: false,
    };
    assert_eq!(seek(&mut fs, 12_288, false), end);
    assert!(fs.read(ino, 4096, 8192).iter().all(|b| *b == 0));
}
