//! The operations on one shard in memory, told as the kernel tells them.

use sealfs_protocol::attr::{S_IFDIR, S_IFIFO, SetAttr, SetTime};
use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType, Op, OpReply, Stop};
use sealfs_protocol::{Errno, InodeId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Outcome, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_DIRECTORY: u32 = 0o200_000;
const O_NOFOLLOW: u32 = 0o400_000;
const O_TMPFILE: u32 = 0o20_000_000 | O_DIRECTORY;

struct Fs {
    cluster: Cluster,
    client: Client,
    root: InodeId,
}

impl Fs {
    fn new() -> Fs {
        Fs::with(Settings::default(), 0)
    }

    fn with(settings: Settings, uid: u32) -> Fs {
        let mut cluster = Cluster::new(settings);
        let client = Client::new(&mut cluster, 11, uid);
        let root = client.root(&cluster);
        Fs {
            cluster,
            client,
            root,
        }
    }

    fn call(&mut self, op: Op) -> Outcome {
        self.client.call(&mut self.cluster, op)
    }

    fn open_flags(&mut self, path: &str, flags: u32) -> Outcome {
        let open = self.client.fresh_open();
        self.call(Op::Open {
            at: at(self.root, path),
            flags,
            mode: 0o644,
            open,
            read_bytes: 0,
        })
    }

    fn create(&mut self, path: &str) -> InodeId {
        self.open_flags(path, O_RDWR | O_CREAT | O_EXCL).attr().ino
    }

    fn mkdir(&mut self, path: &str) -> Outcome {
        self.call(Op::MakeDir {
            at: at(self.root, path),
            mode: 0o755,
        })
    }

    fn stat(&mut self, path: &str) -> Outcome {
        self.call(Op::GetAttr {
            at: at(self.root, path),
            follow: false,
        })
    }

    fn unlink(&mut self, path: &str) -> Option<Errno> {
        self.call(Op::Unlink {
            at: at(self.root, path),
        })
        .errno()
    }

    fn rmdir(&mut self, path: &str) -> Option<Errno> {
        self.call(Op::RemoveDir {
            at: at(self.root, path),
        })
        .errno()
    }

    fn dir(&mut self, path: &str) -> InodeId {
        if path.is_empty() {
            return self.root;
        }
        self.stat(path).attr().ino
    }

    fn rename(&mut self, from: (&str, &str), to: (&str, &str), flags: u32) -> Option<Errno> {
        let (a, b) = (self.dir(from.0), self.dir(to.0));
        self.call(Op::Rename {
            from: at(a, from.1),
            to: at(b, to.1),
            flags,
        })
        .errno()
    }

    fn write(&mut self, ino: InodeId, offset: u32, bytes: &[u8]) -> Outcome {
        let generation = self.generation(ino);
        let op = Op::Write {
            ino,
            chunk: 0,
            offset_bytes: offset,
            len_bytes: bytes.len() as u32,
            generation,
            open: sealfs_protocol::OpenId(1),
        };
        self.client.call_with(&mut self.cluster, op, bytes)
    }

    fn generation(&mut self, ino: InodeId) -> TruncateGeneration {
        let op = Op::GetAttr {
            at: at(ino, ""),
            follow: false,
        };
        self.call(op).attr().generation
    }

    fn read(&mut self, ino: InodeId, offset: u32, len: u32) -> Vec<u8> {
        let generation = self.generation(ino);
        let read = self.call(Op::Read {
            ino,
            chunk: 0,
            offset_bytes: offset,
            len_bytes: len,
            generation,
        });
        assert!(
            matches!(read.reply, OpReply::Read { len_bytes } if len_bytes as usize == read.payload.len())
        );
        read.payload
    }

    fn set(&mut self, path: &str, set: SetAttr) -> Outcome {
        self.call(Op::SetAttr {
            at: at(self.root, path),
            follow: true,
            set,
        })
    }

    fn names(&mut self, dir: InodeId) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let page = self.call(Op::ReadDir {
                dir,
                cookie,
                limit_bytes: 600,
                with_attributes: true,
            });
            let OpReply::Entries { entries, end } = page.reply else {
                panic!("{page:?}");
            };
            for entry in entries {
                cookie = entry.cookie;
                names.push(String::from_utf8(entry.name).expect("a name in UTF-8"));
            }
            if end {
                return names;
            }
        }
    }
}

#[test]
fn a_created_file_is_found_and_counted() {
    let mut fs = Fs::new();
    let ino = fs.create("a");
    let attr = fs.stat("a").attr();
    assert_eq!((attr.ino, attr.nlink, attr.size_bytes), (ino, 1, 0));
    assert_eq!(
        fs.open_flags("a", O_RDWR | O_CREAT | O_EXCL).errno(),
        Some(Errno::EEXIST)
    );
    assert_eq!(fs.stat("b").errno(), Some(Errno::ENOENT));
    assert_eq!(fs.stat("a/b").errno(), Some(Errno::ENOTDIR));
    assert_eq!(fs.stat("a/").errno(), Some(Errno::ENOTDIR));
    let long = "n".repeat(256);
    assert_eq!(fs.stat(&long).errno(), Some(Errno::ENAMETOOLONG));
}

#[test]
fn directories_count_their_subdirectories() {
    let mut fs = Fs::new();
    assert_eq!(fs.mkdir("d").attr().nlink, 2);
    assert_eq!(fs.mkdir("d/").errno(), Some(Errno::EEXIST));
    fs.mkdir("d/e/").attr();
    assert_eq!(fs.stat("d").attr().nlink, 3);
    assert_eq!(fs.stat("d/e/..").attr().ino, fs.dir("d"));
    assert_eq!(fs.rmdir("d"), Some(Errno::ENOTEMPTY));
    assert_eq!(fs.rmdir("d/."), Some(Errno::EINVAL));
    assert_eq!(fs.rmdir("d/.."), Some(Errno::ENOTEMPTY));
    assert_eq!(fs.rmdir(""), Some(Errno::EBUSY));
    assert_eq!(fs.rmdir("d/e"), None);
    assert_eq!(fs.stat("d").attr().nlink, 2);
    assert_eq!(fs.unlink("d"), Some(Errno::EISDIR));
    let gone = fs.dir("d");
    assert_eq!(fs.rmdir("d"), None);
    let inside = fs.call(Op::MakeDir {
        at: at(gone, "x"),
        mode: 0o755,
    });
    // It is gone for good: the library makes ENOENT of it, after a fresh walk.
    assert_eq!(inside.errno(), Some(Errno::ESTALE));
}

#[test]
fn walks_stop_at_symbolic_links_and_above_the_root() {
    let mut fs = Fs::new();
    let link = fs.call(Op::Symlink {
        at: at(fs.root, "l"),
        target: b"to/there".to_vec(),
    });
    assert_eq!(link.attr().size_bytes, 8);
    let walked = fs.stat("l/x");
    let OpReply::Walked(walked) = walked.reply else {
        panic!("{walked:?}");
    };
    let stop = Stop::Symlink {
        target: b"to/there".to_vec(),
    };
    assert_eq!(
        (walked.consumed_bytes, walked.base, walked.stop),
        (1, fs.root, stop)
    );
    let above = fs.stat("./../x");
    let OpReply::Walked(walked) = above.reply else {
        panic!("{above:?}");
    };
    assert_eq!((walked.consumed_bytes, walked.stop), (1, Stop::AboveRoot));
    let refused = fs.open_flags("l", O_RDWR | O_NOFOLLOW);
    assert_eq!(refused.errno(), Some(Errno::ELOOP));
}

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
fn rename_replaces_exchanges_and_refuses_like_the_kernel() {
    let mut fs = Fs::new();
    for dir in ["a", "b", "a/sub"] {
        fs.mkdir(dir).attr();
    }
    let one = fs.create("a/one");
    let two = fs.create("b/two");
    assert_eq!(
        fs.rename(("a", "one"), ("b", "two"), 1),
        Some(Errno::EEXIST)
    );
    assert_eq!(fs.rename(("a", "one"), ("b", "two"), 2), None);
    assert_eq!(fs.stat("a/one").attr().ino, two);
    assert_eq!(fs.rename(("a", "one"), ("b", "two"), 0), None);
    assert_eq!(fs.stat("b/two").attr().ino, two);
    assert_eq!(fs.stat("a/one").errno(), Some(Errno::ENOENT));
    let gone = fs.call(Op::GetAttr {
        at: at(one, ""),
        follow: false,
    });
    // It was opened by create and never closed.
    assert_eq!(gone.attr().nlink, 0);
    assert_eq!(fs.rename(("a", "sub"), ("b", "moved"), 0), None);
    assert_eq!(
        (fs.stat("a").attr().nlink, fs.stat("b").attr().nlink),
        (2, 3)
    );
    assert_eq!(fs.stat("b/moved/..").attr().ino, fs.dir("b"));
    assert_eq!(
        fs.rename(("", "b"), ("b/moved", "x"), 0),
        Some(Errno::EINVAL)
    );
    assert_eq!(
        fs.rename(("b", "moved"), ("", "b"), 0),
        Some(Errno::ENOTEMPTY)
    );
    assert_eq!(fs.rename(("b", "two"), ("", "a"), 0), Some(Errno::EISDIR));
    assert_eq!(fs.rename(("", "a"), ("b", "two"), 0), Some(Errno::ENOTDIR));
    assert_eq!(fs.rename(("", "a"), ("b", "moved"), 0), None);
    assert_eq!(fs.rename(("b", "."), ("", "z"), 0), Some(Errno::EBUSY));
    let path = fs.dir("b/moved");
    let path = fs.call(Op::GetPath { dir: path });
    let OpReply::Ancestors { names, top, .. } = path.reply else {
        panic!("{path:?}");
    };
    assert_eq!(names, [b"moved".to_vec(), b"b".to_vec()]);
    assert_eq!(top, fs.root);
}

#[test]
fn renaming_one_link_onto_another_of_the_same_file_changes_nothing() {
    let mut fs = Fs::new();
    let ino = fs.create("a");
    let linked = fs.call(Op::Link {
        ino,
        to: at(fs.root, "b"),
        from_open: None,
    });
    assert_eq!(linked.attr().nlink, 2);
    assert_eq!(fs.rename(("", "a"), ("", "b"), 0), None);
    assert_eq!(fs.stat("a").attr().nlink, 2);
    let root = fs.root;
    assert_eq!(fs.names(root), ["a", "b"]);
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
fn a_listing_sees_what_stays_exactly_once() {
    let mut fs = Fs::new();
    let root = fs.root;
    for i in 0..20 {
        fs.create(&format!("f{i}"));
    }
    let page = fs.call(Op::ReadDir {
        dir: root,
        cookie: 0,
        limit_bytes: 1000,
        with_attributes: false,
    });
    let OpReply::Entries { entries, end } = page.reply else {
        panic!("{page:?}");
    };
    assert!(!end && entries[0].cookie > 2);
    let mut seen: Vec<_> = entries.iter().map(|e| e.name.clone()).collect();
    for i in 0..10 {
        fs.unlink(&format!("f{i}"));
        fs.create(&format!("new{i}"));
    }
    let mut cookie = entries.last().unwrap().cookie;
    loop {
        let page = fs.call(Op::ReadDir {
            dir: root,
            cookie,
            limit_bytes: 1000,
            with_attributes: false,
        });
        let OpReply::Entries { entries, end } = page.reply else {
            panic!("{page:?}");
        };
        seen.extend(entries.iter().map(|e| e.name.clone()));
        cookie = entries.last().map_or(cookie, |e| e.cookie);
        if end {
            break;
        }
    }
    for i in 10..20 {
        let name = format!("f{i}").into_bytes();
        assert_eq!(seen.iter().filter(|n| **n == name).count(), 1);
    }
}

#[test]
fn permissions_are_those_of_the_kernel() {
    let mut fs = Fs::new();
    fs.create("secret");
    let mode = |m| SetAttr {
        mode: Some(m),
        ..SetAttr::default()
    };
    fs.set("secret", mode(0o600)).attr();
    fs.set("", mode(0o1777)).attr();
    fs.mkdir("closed").attr();
    fs.create("closed/x");
    fs.set("closed", mode(0o700)).attr();
    let root_client = std::mem::replace(&mut fs.client, Client::new(&mut fs.cluster, 12, 1000));
    assert_eq!(fs.open_flags("secret", 0).errno(), Some(Errno::EACCES));
    assert_eq!(fs.stat("closed/x").errno(), Some(Errno::EACCES));
    assert_eq!(fs.unlink("secret"), Some(Errno::EPERM));
    assert_eq!(fs.set("secret", mode(0o777)).errno(), Some(Errno::EPERM));
    let own = fs.create("mine");
    let chown = SetAttr {
        uid: Some(0),
        ..SetAttr::default()
    };
    assert_eq!(fs.set("mine", chown).errno(), Some(Errno::EPERM));
    fs.set("mine", mode(0o6755)).attr();
    fs.write(own, 0, b"changed");
    assert_eq!(fs.stat("mine").attr().mode & 0o7777, 0o755);
    let touch = SetAttr {
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    assert_eq!(fs.set("secret", touch).errno(), Some(Errno::EACCES));
    fs.client = root_client;
    let access = fs.call(Op::Access {
        at: at(fs.root, "secret"),
        follow: true,
        mode: 1,
    });
    assert_eq!(access.errno(), Some(Errno::EACCES), "root needs one x bit");
}

#[test]
fn set_group_id_directories_hand_their_group_down() {
    let mut fs = Fs::new();
    fs.mkdir("d").attr();
    let set = SetAttr {
        gid: Some(77),
        ..SetAttr::default()
    };
    fs.set("d", set).attr();
    let set = SetAttr {
        mode: Some(0o2775),
        ..SetAttr::default()
    };
    fs.set("d", set).attr();
    let below = fs.mkdir("d/e").attr();
    assert_eq!((below.gid, below.mode), (77, S_IFDIR | 0o2755));
    fs.create("d/f");
    assert_eq!(fs.stat("d/f").attr().gid, 77);
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

#[test]
fn nodes_and_extended_attributes() {
    let mut fs = Fs::new();
    let fifo = fs.call(Op::MakeNode {
        at: at(fs.root, "p"),
        mode: S_IFIFO | 0o600,
        rdev: 0,
    });
    assert_eq!(fifo.attr().mode, S_IFIFO | 0o600);
    fs.create("f");
    let xattr = |fs: &mut Fs, name: &str, flags| {
        fs.call(Op::SetXattr {
            at: at(fs.root, "f"),
            follow: true,
            name: name.into(),
            value: b"v".to_vec(),
            flags,
        })
        .errno()
    };
    assert_eq!(xattr(&mut fs, "user.a", 2), Some(Errno::ENODATA));
    assert_eq!(xattr(&mut fs, "user.a", 1), None);
    assert_eq!(xattr(&mut fs, "user.a", 1), Some(Errno::EEXIST));
    assert_eq!(xattr(&mut fs, "security.a", 0), Some(Errno::EOPNOTSUPP));
    let list = fs.call(Op::ListXattr {
        at: at(fs.root, "f"),
        follow: true,
    });
    assert_eq!(list.reply, OpReply::Bytes(b"user.a\0".to_vec()));
    let get = fs.call(Op::GetXattr {
        at: at(fs.root, "f"),
        follow: true,
        name: b"user.a".to_vec(),
    });
    assert_eq!(get.reply, OpReply::Bytes(b"v".to_vec()));
}

#[test]
fn a_lock_waits_for_its_holder_and_survives_a_restart() {
    let mut fs = Fs::new();
    let ino = fs.create("f");
    let lock = |client: &Client, kind| LockRange {
        space: LockSpace::Record,
        owner: LockOwner::Process { client: client.id },
        kind,
        start: 0,
        last: u64::MAX,
        pid: 1,
    };
    let range = lock(&fs.client, LockType::Write);
    let op = Op::Lock {
        ino,
        range,
        wait: false,
    };
    assert_eq!(fs.call(op).reply, OpReply::Done);
    fs.cluster.kill(0);
    fs.cluster.start(0);
    let mut other = Client::new(&mut fs.cluster, 13, 0);
    let wanted = lock(&other, LockType::Read);
    let ask = |wait| Op::Lock {
        ino,
        range: wanted,
        wait,
    };
    let refused = other.call(&mut fs.cluster, ask(false));
    assert_eq!(refused.errno(), Some(Errno::EAGAIN));
    other.begin(&mut fs.cluster, ask(true), &[]);
    fs.cluster.pass(200_000_000);
    assert!(other.poll(&mut fs.cluster).is_none());
    let op = Op::Lock {
        ino,
        range: lock(&fs.client, LockType::Unlock),
        wait: false,
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
        owner: LockOwner::Process {
            client: fs.client.id,
        },
        kind: LockType::Write,
        start: 0,
        last: 9,
        pid: 1,
    };
    fs.call(Op::Lock {
        ino,
        range,
        wait: false,
    });
    let client = fs.client.id;
    let home = sealfs_protocol::hash::client_home(client, fs.cluster.ring().partitions());
    let mut keeper = Client::new(&mut fs.cluster, 14, 0);
    keeper.begin_at(&mut fs.cluster, home, Op::EndClient { client }, &[]);
    assert_eq!(keeper.finish(&mut fs.cluster).reply, OpReply::Done);
    let mine = LockRange {
        owner: LockOwner::Process { client: keeper.id },
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
            chunk: 0,
            offset_bytes: offset,
            data,
            generation,
        })
        .reply
    };
    assert_eq!(seek(&mut fs, 0, false), OpReply::Position(4096));
    assert_eq!(seek(&mut fs, 5000, true), OpReply::Position(12_288));
    assert!(fs.read(ino, 4096, 8192).iter().all(|b| *b == 0));
}
