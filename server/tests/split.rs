//! Large directories: split over parts on all shards while they are in use, and for programs as
//! they were.

use std::collections::BTreeSet;

use sealfs_protocol::attr::{Attr, S_IFDIR, SetAttr, SetTime, Time};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId, dirent};
use sealfs_server::core::Core;
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Outcome, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
/// Names after which a directory is split, and some.
const MANY: usize = 4300;

struct Fs {
    cluster: Cluster,
    client: Client,
    dir: InodeId,
}

impl Fs {
    fn new(shards: u32) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards,
            ..Settings::default()
        });
        let mut client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        let make = Op::MakeDir {
            at: at(root, "large"),
            mode: 0o755,
        };
        let dir = client.call(&mut cluster, make).attr().ino;
        Fs {
            cluster,
            client,
            dir,
        }
    }

    /// One that is split with so many names, and a directory of another shard.
    fn beside(entries: u64) -> (Fs, InodeId) {
        let mut cluster = Cluster::new(Settings {
            shards: 3,
            split_entries: Some(entries),
            ..Settings::default()
        });
        let mut client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        let dirs = ["large", "a", "b", "c", "d", "e"].map(|name| {
            let make = Op::MakeDir {
                at: at(root, name),
                mode: 0o755,
            };
            client.call(&mut cluster, make).attr().ino
        });
        let owner = |ino: &InodeId| cluster.owner(ino.partition());
        let mut others = dirs.iter().copied();
        let elsewhere = others.find(|other| owner(other) != owner(&dirs[0]));
        let elsewhere = elsewhere.expect("one of them lies on another shard");
        let dir = dirs[0];
        let fs = Fs {
            cluster,
            client,
            dir,
        };
        (fs, elsewhere)
    }

    /// With [`MANY`] files and three directories among them.
    fn large(shards: u32) -> Fs {
        let mut fs = Fs::new(shards);
        for i in 0..MANY {
            if i % 1500 == 0 {
                fs.make_dir(&format!("d{i}"));
            }
            assert_eq!(fs.create(&format!("f{i}")).errno(), None, "f{i}");
        }
        fs.cluster.pass(1_000_000_000);
        assert!(fs.is_split(), "{shards} shards");
        fs
    }

    fn call(&mut self, op: Op) -> Outcome {
        self.client.call(&mut self.cluster, op)
    }

    fn create(&mut self, name: &str) -> Outcome {
        self.call(Op::Open {
            at: at(self.dir, name),
            flags: O_RDWR | O_CREAT | O_EXCL,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        })
    }

    fn make_dir(&mut self, name: &str) -> Attr {
        let at = at(self.dir, name);
        self.call(Op::MakeDir { at, mode: 0o700 }).attr()
    }

    fn stat(&mut self, path: &str) -> Outcome {
        let at = at(self.dir, path);
        self.call(Op::GetAttr { at, follow: true })
    }

    fn unlink(&mut self, name: &str) -> Option<Errno> {
        let at = at(self.dir, name);
        self.call(Op::Unlink { at }).errno()
    }

    fn remove_dir(&mut self, base: InodeId, name: &str) -> Option<Errno> {
        let at = at(base, name);
        self.call(Op::RemoveDir { at }).errno()
    }

    fn rename(&mut self, from: (InodeId, &str), to: (InodeId, &str), flags: u32) -> Option<Errno> {
        let op = Op::Rename {
            from: at(from.0, from.1),
            to: at(to.0, to.1),
            flags,
        };
        self.call(op).errno()
    }

    fn names(&mut self) -> Vec<String> {
        let listed = self.client.list(&mut self.cluster, self.dir, 4096);
        let names = listed.into_iter().map(|(name, ..)| String::from_utf8(name));
        names.map(|n| n.expect("a name in UTF-8")).collect()
    }

    /// Whether the directory's owner refers to parts at the end of its own list.
    fn is_split(&mut self) -> bool {
        let op = Op::ReadDir {
            dir: self.dir,
            position: (1 << dirent::PART_SHIFT) - 1,
            limit_bytes: 4096,
            with_attributes: false,
        };
        match self.call(op).reply {
            OpReply::Entries { parts, .. } => !parts.is_empty(),
            other => panic!("{other:?}"),
        }
    }
}

fn expected(range: impl Iterator<Item = usize>) -> BTreeSet<String> {
    range.map(|i| format!("f{i}")).collect()
}

#[test]
fn a_split_directory_lists_every_name_once() {
    for shards in [1, 3] {
        let mut fs = Fs::large(shards);
        let names = fs.names();
        let mut all = expected(0..MANY);
        all.extend(["d0", "d1500", "d3000"].map(String::from));
        assert_eq!(names.len(), all.len());
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), all);
    }
}

#[test]
fn names_that_other_shards_add_split_it_where_its_names_are() {
    let (mut fs, elsewhere) = Fs::beside(8);
    let dir = fs.dir;
    for i in 0..20 {
        let name = format!("f{i}");
        fs.dir = elsewhere;
        assert_eq!(fs.create(&name).errno(), None);
        assert_eq!(fs.rename((elsewhere, &name), (dir, &name), 0), None);
        fs.cluster.pass(100_000_000);
    }
    fs.dir = dir;
    assert!(fs.is_split());
    let all = expected(0..20);
    let names = fs.names();
    assert_eq!(names.len(), all.len());
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), all);
    for name in all {
        assert_eq!(fs.stat(&name).errno(), None, "{name}");
    }
}

#[test]
fn names_of_both_lives_are_found_removed_and_made_anew() {
    for shards in [1, 3] {
        let mut fs = Fs::large(shards);
        for name in ["f0", "f4095", "f4299"] {
            assert_eq!(fs.create(name).errno(), Some(Errno::EEXIST), "{name}");
            assert_eq!(fs.stat(name).attr().nlink, 1);
            assert_eq!(fs.unlink(name), None, "{name}");
            assert_eq!(fs.stat(name).errno(), Some(Errno::ENOENT));
            assert_eq!(fs.unlink(name), Some(Errno::ENOENT));
            assert_eq!(fs.create(name).errno(), None);
        }
        assert_eq!(fs.names().len(), MANY + 3);
    }
}

#[test]
fn a_reader_in_the_middle_of_the_split_sees_what_stays_once() {
    let mut fs = Fs::new(3);
    for i in 0..4000 {
        fs.create(&format!("f{i}"));
    }
    let (mut seen, mut position, mut hosts) = (Vec::new(), 0, Vec::new());
    let mut made = 4000;
    while position != dirent::END {
        let op = Op::ReadDir {
            dir: fs.dir,
            position,
            limit_bytes: 20_000,
            with_attributes: false,
        };
        let part = dirent::part_of(position);
        let host = part.checked_sub(1).map(|p| hosts[p]);
        let host = host.unwrap_or(fs.dir.partition());
        fs.client.begin_at(&mut fs.cluster, host, op, &[]);
        let page = fs.client.finish(&mut fs.cluster);
        let OpReply::Entries { next, parts, .. } = page.reply else {
            panic!("{page:?}");
        };
        seen.extend(dirent::records(&page.payload).map(|r| r.name.to_vec()));
        hosts.extend(parts);
        position = next;
        for _ in 0..100 {
            fs.create(&format!("f{made}"));
            made += 1;
        }
    }
    assert!(!hosts.is_empty());
    let once: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "none twice");
    for i in 0..4000 {
        assert!(once.contains(format!("f{i}").as_bytes()), "f{i}");
    }
}

#[test]
fn links_times_and_access_are_those_of_the_whole() {
    for shards in [1, 3] {
        let mut fs = Fs::large(shards);
        let before = fs.stat("").attr();
        assert_eq!(before.nlink, 5);
        fs.make_dir("another");
        let after = fs.stat("").attr();
        assert_eq!(after.nlink, 6);
        assert!(after.mtime > before.mtime && after.ctime > before.ctime);

        let old = Time {
            seconds: 1_000,
            nanoseconds: 5,
        };
        let set = SetAttr {
            mode: Some(0o700),
            uid: Some(77),
            mtime: Some(SetTime::At(old)),
            ..SetAttr::default()
        };
        let changed = fs.call(Op::SetAttr {
            at: at(fs.dir, ""),
            follow: true,
            set,
        });
        assert_eq!(changed.attr().nlink, 6);
        let attr = fs.stat("").attr();
        assert_eq!((attr.mode, attr.uid), (S_IFDIR | 0o700, 77));
        assert_eq!(attr.mtime, old);
        let mut other = Client::new(&mut fs.cluster, 12, 1000);
        for name in ["f0", "f4299", "none"] {
            let op = Op::GetAttr {
                at: at(fs.dir, name),
                follow: true,
            };
            let denied = other.call(&mut fs.cluster, op).errno();
            assert_eq!(denied, Some(Errno::EACCES), "{name}");
        }
    }
}

#[test]
fn names_move_between_parts_and_other_directories() {
    for shards in [1, 3] {
        let mut fs = Fs::large(shards);
        let root = fs.client.root(&fs.cluster);
        let dir = fs.dir;
        let ino = fs.stat("f7").attr().ino;
        assert_eq!(fs.rename((dir, "f7"), (dir, "moved"), 0), None);
        assert_eq!(fs.stat("moved").attr().ino, ino);
        assert_eq!(fs.rename((dir, "moved"), (root, "out"), 0), None);
        assert_eq!(fs.rename((root, "out"), (dir, "f8"), 0), None);
        assert_eq!(fs.stat("f8").attr().ino, ino);
        let other = fs.stat("f4299").attr().ino;
        assert_eq!(fs.rename((dir, "f8"), (dir, "f4299"), 2), None);
        assert_eq!(fs.stat("f8").attr().ino, other);
        assert_eq!(fs.stat("f4299").attr().ino, ino);
        assert_eq!(fs.rename((dir, "d0"), (dir, "renamed"), 0), None);
        assert_eq!(fs.stat("renamed/..").attr().ino, dir);
        assert_eq!(fs.stat("").attr().nlink, 5);
        let link = Op::Link {
            ino,
            to: at(dir, "link"),
            from_open: None,
        };
        assert_eq!(fs.call(link).attr().nlink, 2);
        assert_eq!(fs.unlink("f4299"), None);
        assert_eq!(fs.stat("link").attr().nlink, 1);
        let names = fs.names();
        let once: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), once.len()), (MANY + 2, MANY + 2));
    }
}

#[test]
fn it_is_removed_when_every_part_is_empty() {
    for shards in [1, 3] {
        let mut fs = Fs::large(shards);
        let root = fs.client.root(&fs.cluster);
        assert_eq!(fs.remove_dir(root, "large"), Some(Errno::ENOTEMPTY));
        for name in fs.names() {
            let removed = if name.starts_with('d') {
                fs.remove_dir(fs.dir, &name)
            } else {
                fs.unlink(&name)
            };
            assert_eq!(removed, None, "{name}");
        }
        assert_eq!(fs.names().len(), 0);
        assert_eq!(fs.stat("").attr().nlink, 2);
        assert_eq!(fs.remove_dir(root, "large"), None);
        let late = fs.create("late").errno();
        assert!(
            matches!(late, Some(Errno::ENOENT | Errno::ESTALE)),
            "{late:?}"
        );
        fs.cluster.pass(20_000_000_000);
        for shard in 0..fs.cluster.shards() {
            assert_eq!(fs.cluster.core(shard).map(Core::is_idle), Some(true));
        }
    }
}

#[test]
fn it_survives_the_death_of_every_shard() {
    let mut fs = Fs::large(3);
    for shard in 0..3 {
        fs.cluster.kill(shard);
        fs.cluster.start(shard);
    }
    assert_eq!(fs.names().len(), MANY + 3);
    assert_eq!(fs.create("new").errno(), None);
    assert_eq!(fs.unlink("f1"), None);
    assert_eq!(fs.names().len(), MANY + 3);
}

#[test]
fn shards_share_the_names_of_a_split_directory_evenly() {
    let mut fs = Fs::large(3);
    for i in MANY..MANY + 3000 {
        fs.create(&format!("f{i}"));
    }
    let mut per_shard = [0usize; 3];
    for i in MANY..MANY + 3000 {
        let ino = fs.stat(&format!("f{i}")).attr().ino;
        per_shard[fs.cluster.owner(ino.partition())] += 1;
    }
    let most = per_shard.iter().max().copied().unwrap_or_default();
    assert!(most * 10 <= 1000 * 13, "{per_shard:?}");
}
