//! Names, attributes, permissions.

use super::*;
use sealfs_protocol::dirent;

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

/// The names of one page and the position behind it.
fn page(fs: &mut Fs, dir: InodeId, position: u64) -> (Vec<Vec<u8>>, u64) {
    let page = fs.call(Op::ReadDir {
        dir,
        position,
        limit_bytes: 200,
        with_attributes: false,
    });
    let OpReply::Entries { next, .. } = page.reply else {
        panic!("{page:?}");
    };
    let records: Vec<_> = dirent::records(&page.payload).collect();
    assert_eq!(records.last().map(|r| r.position), Some(next));
    (records.iter().map(|r| r.name.to_vec()).collect(), next)
}

#[test]
fn a_listing_sees_what_stays_exactly_once() {
    let mut fs = Fs::new();
    let root = fs.root;
    for i in 0..20 {
        fs.create(&format!("f{i}"));
    }
    let (mut seen, mut position) = page(&mut fs, root, 0);
    assert!(position != dirent::END && !seen.is_empty());
    for i in 0..10 {
        fs.unlink(&format!("f{i}"));
        fs.create(&format!("new{i}"));
    }
    while position != dirent::END {
        let (names, next) = page(&mut fs, root, position);
        seen.extend(names);
        position = next;
    }
    for i in 10..20 {
        let name = format!("f{i}").into_bytes();
        assert_eq!(seen.iter().filter(|n| **n == name).count(), 1);
    }
}

/// The names that come along with an open of the root, and whether reading them moves its access
/// time.
fn open_with_names(fs: &mut Fs) -> (Vec<Vec<u8>>, bool) {
    let open = fs.client.fresh_open();
    let opened = fs.call(Op::Open {
        at: at(fs.root, ""),
        flags: O_DIRECTORY,
        mode: 0,
        open,
        read_bytes: 4096,
    });
    let OpReply::Opened {
        read_bytes,
        page: Some(end),
        ..
    } = opened.reply
    else {
        panic!("{opened:?}");
    };
    assert_eq!(opened.payload.len(), read_bytes as usize);
    assert_eq!((end.parent, end.next), (fs.root, dirent::END));
    let records = dirent::records(&opened.payload);
    (records.map(|r| r.name.to_vec()).collect(), end.moves_atime)
}

#[test]
fn an_opened_directory_brings_its_entries_and_its_access_time_moves_when_they_are_read() {
    let mut fs = Fs::new();
    let root = fs.root;
    fs.create("a");
    let before = fs.stat("").attr().atime;
    assert_eq!(open_with_names(&mut fs), (vec![b"a".to_vec()], true));
    assert_eq!(fs.stat("").attr().atime, before);
    fs.call(Op::Accessed { ino: root });
    let after = fs.stat("").attr().atime;
    assert!(after > before);
    assert_eq!(open_with_names(&mut fs), (vec![b"a".to_vec()], false));
    fs.call(Op::Accessed { ino: root });
    assert_eq!(fs.stat("").attr().atime, after);
    fs.create("b");
    assert!(open_with_names(&mut fs).1);
    page(&mut fs, root, 0);
    assert!(fs.stat("").attr().atime > after);
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
