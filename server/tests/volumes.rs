//! Volumes under their programs: made read-only, deleted, and what statfs(2) says of them.

use sealfs_protocol::attr::{S_IFIFO, SetAttr, SetTime};
use sealfs_protocol::message::{Op, OpReply, Statfs};
use sealfs_protocol::{Errno, InodeId, OpenId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Settings};

const O_WRONLY: u32 = 1;
const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_TMPFILE: u32 = 0o20_200_000;
const EROFS: Option<Errno> = Some(Errno::EROFS);

struct Fs {
    cluster: Cluster,
    client: Client,
    root: InodeId,
}

impl Fs {
    fn new(shards: u32, uid: u32) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards,
            partitions: 48,
            ..Settings::default()
        });
        let client = Client::new(&mut cluster, 11, uid);
        let root = client.root(&cluster);
        Fs {
            cluster,
            client,
            root,
        }
    }

    fn call(&mut self, op: Op) -> OpReply {
        self.client.call(&mut self.cluster, op).reply
    }

    fn errno(&mut self, op: Op) -> Option<Errno> {
        match self.call(op) {
            OpReply::Errno(errno) => Some(errno),
            _ => None,
        }
    }

    fn open(&mut self, path: &str, flags: u32) -> OpReply {
        let at = at(self.root, path);
        self.call(Op::Open {
            at,
            flags,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        })
    }

    fn open_errno(&mut self, path: &str, flags: u32) -> Option<Errno> {
        match self.open(path, flags) {
            OpReply::Errno(errno) => Some(errno),
            _ => None,
        }
    }

    fn create(&mut self, path: &str) -> InodeId {
        match self.open(path, O_RDWR | O_CREAT) {
            OpReply::Opened { attr, .. } => attr.ino,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, ino: InodeId, bytes: &[u8]) -> Option<Errno> {
        let op = Op::Write {
            ino,
            chunk: 0,
            offset_bytes: 0,
            len_bytes: bytes.len() as u32,
            generation: TruncateGeneration(0),
            open: OpenId(1),
        };
        self.client.call_with(&mut self.cluster, op, bytes).errno()
    }

    fn set_read_only(&mut self, read_only: bool) {
        self.cluster
            .publish(|state| state.volumes[0].read_only = read_only);
    }

    fn set(&mut self, path: &str, set: SetAttr) -> Option<Errno> {
        let at = at(self.root, path);
        let follow = true;
        self.errno(Op::SetAttr { at, follow, set })
    }

    /// The shares of all shards, in their order.
    fn shares(&mut self) -> Vec<Statfs> {
        let mut shares = Vec::new();
        for shard in self.cluster.ring().shards.clone() {
            let ring = self.cluster.ring();
            let mut all = (0..ring.partitions()).map(sealfs_protocol::PartitionId);
            let own = all.find(|p| ring.owner(*p).map(|s| s.id) == Some(shard.id));
            let partition = own.expect("every shard owns something");
            self.client
                .begin_at(&mut self.cluster, partition, Op::Statfs, &[]);
            match self.client.finish(&mut self.cluster).reply {
                OpReply::Statfs(share) => shares.push(share),
                other => panic!("{other:?}"),
            }
        }
        shares
    }
}

/// A file `f`, a directory `d` and a FIFO `p`, then read-only.
fn read_only() -> Fs {
    let mut fs = Fs::new(1, 0);
    fs.create("f");
    let (root, mode) = (fs.root, 0o755);
    fs.call(Op::MakeDir {
        at: at(root, "d"),
        mode,
    });
    fs.call(Op::MakeNode {
        at: at(root, "p"),
        mode: S_IFIFO | 0o644,
        rdev: 0,
    });
    fs.set_read_only(true);
    fs
}

#[test]
fn opening_on_a_read_only_volume_fails_where_the_kernel_fails() {
    let mut fs = read_only();
    let all: Vec<Option<Errno>> = [
        ("f", 0),
        ("f", O_WRONLY),
        ("f", O_RDWR),
        ("f", O_TRUNC),
        ("f", O_CREAT),
        ("f", O_CREAT | O_EXCL),
        ("new", O_CREAT),
        ("new", 0),
        ("d", O_WRONLY),
        ("p", O_WRONLY),
        ("", O_TMPFILE | O_RDWR),
    ]
    .into_iter()
    .map(|(path, flags)| fs.open_errno(path, flags))
    .collect();
    let expected = [
        None,
        EROFS,
        EROFS,
        EROFS,
        None,
        Some(Errno::EEXIST),
        EROFS,
        Some(Errno::ENOENT),
        Some(Errno::EISDIR),
        None,
        EROFS,
    ];
    assert_eq!(all, expected);
}

#[test]
fn names_on_a_read_only_volume_neither_come_nor_go() {
    let mut fs = read_only();
    let root = fs.root;
    let place = |name: &str| at(root, name);
    let make_dir = |name: &str| Op::MakeDir {
        at: place(name),
        mode: 0o755,
    };
    assert_eq!(fs.errno(make_dir("new")), EROFS);
    assert_eq!(fs.errno(make_dir("f")), Some(Errno::EEXIST));
    let target = b"x".to_vec();
    let at_new = place("new");
    assert_eq!(fs.errno(Op::Symlink { at: at_new, target }), EROFS);
    // The kernel wants to write before it looks the name up.
    for name in ["f", "missing"] {
        assert_eq!(fs.errno(Op::Unlink { at: place(name) }), EROFS, "{name}");
        assert_eq!(fs.errno(Op::RemoveDir { at: place(name) }), EROFS, "{name}");
        let rename = Op::Rename {
            from: place(name),
            to: place("g"),
            flags: 0,
        };
        assert_eq!(fs.errno(rename), EROFS, "{name}");
    }
}

#[test]
fn attributes_and_content_of_a_read_only_volume_stay_as_they_are() {
    let mut fs = Fs::new(1, 0);
    let file = fs.create("f");
    assert_eq!(fs.write(file, b"before"), None);
    fs.set_read_only(true);
    let times = SetAttr {
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let size = SetAttr {
        size_bytes: Some(1),
        by_handle: true,
        ..SetAttr::default()
    };
    for change in [times, mode, size] {
        assert_eq!(fs.set("f", change), EROFS);
    }
    let xattr = Op::SetXattr {
        at: at(fs.root, "f"),
        follow: true,
        name: b"user.a".to_vec(),
        value: Vec::new(),
        flags: 0,
    };
    assert_eq!(fs.errno(xattr), EROFS);
    let asked = [(2, "f", EROFS), (4, "f", None), (2, "", EROFS)];
    for (mode, path, expected) in asked {
        let at = at(fs.root, path);
        let follow = true;
        assert_eq!(fs.errno(Op::Access { at, follow, mode }), expected);
    }
    // A program that had it open for writing is stopped at once, and goes on when it may again.
    assert_eq!(fs.write(file, b"during"), EROFS);
    fs.set_read_only(false);
    assert_eq!(fs.write(file, b"after"), None);
}

#[test]
fn reading_a_read_only_volume_leaves_the_access_time() {
    let mut fs = Fs::new(1, 0);
    let file = fs.create("f");
    fs.write(file, b"data");
    fs.set_read_only(true);
    let stat = |fs: &mut Fs| {
        let at = at(fs.root, "f");
        match fs.call(Op::GetAttr { at, follow: false }) {
            OpReply::Attr(attr) => attr,
            other => panic!("{other:?}"),
        }
    };
    let before = stat(&mut fs);
    let read = Op::Read {
        ino: file,
        chunk: 0,
        offset_bytes: 0,
        len_bytes: 4,
        atime: true,
        generation: TruncateGeneration(0),
    };
    assert!(matches!(fs.call(read), OpReply::Read { len_bytes: 4 }));
    assert_eq!(stat(&mut fs), before);
    assert!(fs.shares()[0].read_only);
}

#[test]
fn a_read_only_volume_says_so_before_it_looks_at_permissions() {
    let mut fs = Fs::new(1, 1000);
    // The root belongs to uid 0: without EROFS this would be EACCES.
    fs.set_read_only(true);
    assert_eq!(fs.open_errno("new", O_CREAT), EROFS);
}

#[test]
fn a_deleted_volume_gives_all_its_space_back_and_its_programs_get_estale() {
    let mut fs = Fs::new(3, 0);
    let used = |fs: &Fs| -> Vec<u64> {
        let cores = (0..fs.cluster.shards()).filter_map(|i| fs.cluster.core(i));
        cores.map(|core| core.usage().used_bytes).collect()
    };
    let before = used(&fs);
    for i in 0..40 {
        let dir = format!("d{i}");
        fs.call(Op::MakeDir {
            at: at(fs.root, &dir),
            mode: 0o755,
        });
        let ino = fs.create(&format!("{dir}/f"));
        let op = Op::Append {
            ino,
            len_bytes: 200_000,
            open: OpenId(1),
        };
        let written = fs
            .client
            .call_with(&mut fs.cluster, op, &vec![5; 200_000])
            .reply;
        assert!(matches!(written, OpReply::Written { .. }), "{written:?}");
    }
    assert!(used(&fs).iter().zip(&before).all(|(now, then)| now > then));
    fs.cluster.publish(|state| {
        let gone = state.volumes.remove(0);
        state.deleted.push(gone.id);
    });
    assert_eq!(fs.open_errno("d1/f", 0), Some(Errno::ESTALE));
    fs.cluster.pass(20_000_000_000);
    assert_eq!(used(&fs), before);
    for index in 0..3 {
        let core = fs.cluster.core(index).expect("it is up");
        assert!(core.usage_by_partition().is_empty(), "shard {index}");
        assert!(core.recount_usage().is_empty(), "shard {index}");
        assert_eq!(core.usage().inodes, 0);
    }
}

#[test]
fn new_files_of_a_directory_get_its_chunk_size_and_old_ones_keep_theirs() {
    let mut fs = Fs::new(1, 0);
    let dir = |name: &str| Op::MakeDir {
        at: at(fs.root, name),
        mode: 0o755,
    };
    let (outer, inner) = (dir("d"), dir("d/sub"));
    fs.call(outer);
    fs.create("d/old");
    let size = |log2| SetAttr {
        chunk_size_log2: Some(log2),
        ..SetAttr::default()
    };
    assert_eq!(fs.set("d", size(20)), None);
    fs.call(inner);
    fs.create("d/sub/new");
    let layout = |fs: &mut Fs, path: &str| {
        let at = at(fs.root, path);
        match fs.call(Op::GetAttr { at, follow: false }) {
            OpReply::Attr(attr) => attr.layout.chunk_size_log2,
            other => panic!("{other:?}"),
        }
    };
    let all = ["", "d", "d/old", "d/sub", "d/sub/new"].map(|path| layout(&mut fs, path));
    assert_eq!(all, [16, 20, 16, 20, 20]);
    assert_eq!(fs.set("d", size(27)), Some(Errno::EINVAL));
    assert_eq!(fs.set("d/old", size(20)), Some(Errno::ENOTDIR));
}
