//! How many round trips between shards an operation waits for (design: each client operation is one
//! request; changes over several shards prepare, then decide).
//!
//! Every frame takes one tick on a network without noise and nothing else takes time, so the time from
//! a request to its reply counts the frames on the way that it waited for.

use super::{Fs, O_CREAT, O_RDWR};
use sealfs_protocol::InodeId;
use sealfs_protocol::manager::Durability;
use sealfs_protocol::message::Op;
use sealfs_testkit::client::at;
use sealfs_testkit::{Outcome, Settings};

const TICK_NS: u64 = 1_000;

/// A cluster of three shards with a directory on each, which has been used.
struct Trips {
    fs: Fs,
    dirs: Vec<InodeId>,
}

impl Trips {
    fn new() -> Trips {
        let settings = Settings {
            shards: 3,
            durability: Durability::Memory,
            delay_max_ns: 1,
            disk_max_ns: 1,
            ..Settings::default()
        };
        let mut fs = Fs::with(settings, 0);
        let mut dirs: Vec<Option<InodeId>> = vec![None; 3];
        for n in 0.. {
            let ino = fs.mkdir(&format!("d{n}")).attr().ino;
            dirs[fs.cluster.owner(ino.partition())].get_or_insert(ino);
            if dirs.iter().all(Option::is_some) {
                break;
            }
        }
        let dirs = dirs.into_iter().flatten().collect();
        let mut trips = Trips { fs, dirs };
        // Connections and leases are made by the first that need them.
        for from in 0..3 {
            for to in 0..3 {
                trips.create(from, "warm");
                trips.rename((from, "warm"), (to, "warmed"));
                trips.mkdir(from, "warmdir");
                trips.rename((from, "warmdir"), (to, "warmeddir"));
            }
        }
        trips
    }

    /// The outcome, and how many round trips it took besides the client's own.
    fn measure(&mut self, op: Op) -> (Outcome, u64) {
        let before = self.fs.cluster.now().mono_ns;
        let outcome = self.fs.call(op);
        let frames = (self.fs.cluster.now().mono_ns - before) / TICK_NS;
        assert_eq!(outcome.errno(), None, "{outcome:?}");
        assert_eq!(frames % 2, 0, "{frames} frames");
        (outcome, frames / 2 - 1)
    }

    fn count(&mut self, op: Op) -> u64 {
        self.measure(op).1
    }

    fn create(&mut self, dir: usize, name: &str) -> u64 {
        self.open(dir, name).1
    }

    fn open(&mut self, dir: usize, name: &str) -> (Outcome, u64) {
        let open = self.fs.client.fresh_open();
        self.measure(Op::Open {
            at: at(self.dirs[dir], name),
            flags: O_RDWR | O_CREAT,
            mode: 0o644,
            open,
            read_bytes: 0,
        })
    }

    fn mkdir(&mut self, dir: usize, name: &str) -> u64 {
        self.count(Op::MakeDir {
            at: at(self.dirs[dir], name),
            mode: 0o755,
        })
    }

    fn rename(&mut self, from: (usize, &str), to: (usize, &str)) -> u64 {
        self.count(Op::Rename {
            from: at(self.dirs[from.0], from.1),
            to: at(self.dirs[to.0], to.1),
            flags: 0,
        })
    }
}

#[test]
fn what_touches_one_shard_waits_for_no_other() {
    let mut t = Trips::new();
    assert_eq!(t.create(1, "a"), 0);
    assert_eq!(t.rename((1, "a"), (1, "b")), 0);
    let stat = Op::GetAttr {
        at: at(t.dirs[1], "b"),
        follow: false,
    };
    assert_eq!(t.count(stat), 0);
    let unlink = Op::Unlink {
        at: at(t.dirs[1], "b"),
    };
    assert_eq!(t.count(unlink), 0);
}

#[test]
fn a_file_is_renamed_to_another_shard_in_two_round_trips_between_them() {
    let mut t = Trips::new();
    t.create(0, "a");
    t.create(1, "victim");
    assert_eq!(t.rename((0, "a"), (1, "b")), 2);
    t.create(0, "c");
    assert_eq!(t.rename((0, "c"), (1, "victim")), 2);
    assert_eq!(t.rename((1, "b"), (2, "b")), 2);
}

#[test]
fn a_directory_is_renamed_with_the_lock_at_the_root_and_a_push_of_the_version_besides() {
    let mut t = Trips::new();
    t.mkdir(1, "x");
    // Reading everything with the lock, preparing, raising the version at the root's owner, who pushes it.
    assert!(t.rename((1, "x"), (2, "x")) <= 4);
}

#[test]
fn directories_and_links_over_shards_take_two_round_trips_between_them() {
    let mut t = Trips::new();
    let mut apart = 0;
    for n in 0..8 {
        let name = format!("x{n}");
        let made = t.mkdir(0, &name);
        let removed = t.count(Op::RemoveDir {
            at: at(t.dirs[0], &name),
        });
        assert!(made <= 2 && removed <= 2, "{made} {removed}");
        apart += made / 2;
    }
    assert!(apart > 0, "no directory was apart from its parent");
    let ino = t.open(1, "a").0.attr().ino;
    let link = Op::Link {
        ino,
        to: at(t.dirs[2], "b"),
        from_open: None,
    };
    assert_eq!(t.count(link), 2);
    let unlink = Op::Unlink {
        at: at(t.dirs[2], "b"),
    };
    assert_eq!(t.count(unlink), 2);
}
