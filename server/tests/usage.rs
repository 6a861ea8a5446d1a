//! What a volume is said to take is what its records add up to, whatever was done to it.
//!
//! Clients of three simulated shards do everything that makes, moves and frees inodes and chunks,
//! with kills in between; then every shard's running totals are compared with a count of its
//! records, and the volume's with what stat(2) says of the tree.

use std::collections::BTreeSet;

use sealfs_protocol::attr::{S_IFDIR, S_IFIFO, SetAttr};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{InodeId, OpenId};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Random, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;
const O_TMPFILE: u32 = 0o20_200_000;
const PUNCH_HOLE: u32 = 3;
const CHUNK_BYTES: u64 = 64 << 10;

struct Fs {
    cluster: Cluster,
    client: Client,
    random: Random,
    root: InodeId,
    dirs: Vec<InodeId>,
}

impl Fs {
    fn new(seed: u64, shards: u32) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        Fs {
            cluster,
            client,
            random: Random::new(seed),
            root,
            dirs: vec![root],
        }
    }

    fn dir(&mut self) -> InodeId {
        self.dirs[self.random.below(self.dirs.len() as u64) as usize]
    }

    /// One of a few names, so that operations meet.
    fn place(&mut self) -> sealfs_protocol::message::At {
        let name = format!("n{}", self.random.below(8));
        at(self.dir(), &name)
    }

    fn call(&mut self, op: Op, payload: &[u8]) -> OpReply {
        self.client.call_with(&mut self.cluster, op, payload).reply
    }

    /// An open file, if the name can be one.
    fn file(&mut self, flags: u32) -> Option<sealfs_protocol::attr::Attr> {
        let place = self.place();
        let op = Op::Open {
            at: place,
            flags: O_RDWR | O_CREAT | flags,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        };
        match self.call(op, &[]) {
            OpReply::Opened { attr, .. } if attr.is_regular() => Some(attr),
            OpReply::Opened { attr, .. } => {
                self.close(attr.ino);
                None
            }
            _ => None,
        }
    }

    fn step(&mut self) {
        let place = self.place();
        match self.random.below(12) {
            0 => {
                if let Some(made) = self.file(0) {
                    self.close(made.ino);
                }
            }
            1 => {
                if let OpReply::Attr(dir) = self.call(
                    Op::MakeDir {
                        at: place,
                        mode: 0o755,
                    },
                    &[],
                ) {
                    self.dirs.push(dir.ino);
                }
            }
            2 => self.make_other(place),
            3 | 4 => drop(self.call(Op::Unlink { at: place }, &[])),
            5 => {
                self.call(Op::RemoveDir { at: place }, &[]);
            }
            6 => {
                let (from, to, flags) = (self.place(), place, self.random.below(3) as u32);
                self.call(Op::Rename { from, to, flags }, &[]);
            }
            7 => self.link(),
            8 | 9 => self.write(),
            10 => self.append(),
            _ => self.cut(),
        }
    }

    fn make_other(&mut self, at: sealfs_protocol::message::At) {
        let op = match self.random.below(3) {
            0 => Op::Symlink {
                at,
                target: b"somewhere".to_vec(),
            },
            1 => Op::MakeNode {
                at,
                mode: S_IFIFO | 0o644,
                rdev: 0,
            },
            _ => Op::Open {
                at: sealfs_protocol::message::At {
                    base: at.base,
                    path: Vec::new(),
                },
                flags: O_RDWR | O_TMPFILE,
                mode: 0o600,
                open: OpenId(1),
                read_bytes: 0,
            },
        };
        if let OpReply::Opened { attr, .. } = self.call(op, &[]) {
            self.close(attr.ino);
        }
    }

    fn close(&mut self, ino: InodeId) {
        let open = OpenId(1);
        self.call(Op::Close { ino, open }, &[]);
    }

    fn link(&mut self) {
        if let Some(attr) = self.file(0) {
            let to = self.place();
            let from_open = None;
            let ino = attr.ino;
            self.call(Op::Link { ino, to, from_open }, &[]);
            self.close(attr.ino);
        }
    }

    /// Anywhere in the first chunks, as a client does it.
    fn write(&mut self) {
        let Some(attr) = self.file(0) else { return };
        let (ino, generation, open) = (attr.ino, attr.generation, OpenId(1));
        let offset = self.random.below(5 * CHUNK_BYTES);
        let len = 1 + self.random.below(30_000);
        let wide = offset + len > CHUNK_BYTES;
        if wide {
            let op = Op::Publish {
                ino,
                from_bytes: 0,
                size_at_least_bytes: 0,
                wide,
                generation,
                open,
            };
            self.call(op, &[]);
        }
        for span in attr.layout.split(offset, len) {
            let partitions = self.cluster.ring().partitions();
            let partition = attr.layout.partition_of(ino, span.chunk, partitions);
            let op = Op::Write {
                ino,
                chunk: span.chunk,
                offset_bytes: span.offset_bytes,
                len_bytes: span.len_bytes,
                generation,
                open,
            };
            let bytes = vec![7; span.len_bytes as usize];
            self.client
                .begin_at(&mut self.cluster, partition, op, &bytes);
            self.client.finish(&mut self.cluster);
        }
        if wide {
            let op = Op::Publish {
                ino,
                from_bytes: offset,
                size_at_least_bytes: offset + len,
                wide,
                generation,
                open,
            };
            self.call(op, &[]);
        }
        self.close(ino);
    }

    fn append(&mut self) {
        let Some(attr) = self.file(0) else { return };
        let len = 1 + self.random.below(90_000) as u32;
        let op = Op::Append {
            ino: attr.ino,
            len_bytes: len,
            open: OpenId(1),
        };
        self.call(op, &vec![9; len as usize]);
        self.close(attr.ino);
    }

    /// Truncates or punches.
    fn cut(&mut self) {
        let flags = if self.random.one_in(4) { O_TRUNC } else { 0 };
        let Some(attr) = self.file(flags) else { return };
        let at_byte = self.random.below(6 * CHUNK_BYTES);
        let op = if self.random.one_in(2) {
            Op::Allocate {
                ino: attr.ino,
                mode: PUNCH_HOLE,
                offset: at_byte / 2,
                len: 1 + at_byte,
                open: OpenId(1),
            }
        } else {
            Op::SetAttr {
                at: at(attr.ino, ""),
                follow: false,
                set: SetAttr {
                    size_bytes: Some(at_byte),
                    by_handle: true,
                    ..SetAttr::default()
                },
            }
        };
        self.call(op, &[]);
        self.close(attr.ino);
    }

    fn restart(&mut self, index: usize) {
        self.cluster.kill(index);
        self.cluster.start(index);
    }

    /// Compares totals with records on every shard; the sum over the cluster.
    fn check(&self, when: &str) -> Totals {
        let mut sum = Totals::default();
        for index in 0..self.cluster.shards() {
            let core = self.cluster.core(index).expect("it is up");
            let told = core.usage_by_partition();
            assert_eq!(told, core.recount_usage(), "shard {index} {when}");
            sum = told.values().fold(sum, |sum, t| sum.plus(*t));
        }
        sum
    }

    /// What stat(2) says of the whole tree.
    fn walk(&mut self) -> Totals {
        let mut seen = BTreeSet::new();
        let mut sum = Totals::default();
        let mut left = vec![(self.root, S_IFDIR)];
        while let Some((ino, kind)) = left.pop() {
            if !seen.insert(ino) {
                continue;
            }
            let op = Op::GetAttr {
                at: at(ino, ""),
                follow: false,
            };
            let attr = self.client.call(&mut self.cluster, op).attr();
            sum.inodes += 1;
            sum.bytes += attr.blocks_512 * 512;
            if kind == S_IFDIR {
                left.extend(self.names(ino));
            }
        }
        sum
    }

    fn names(&mut self, dir: InodeId) -> Vec<(InodeId, u32)> {
        let entries = self.client.list(&mut self.cluster, dir, 1 << 16);
        entries
            .into_iter()
            .map(|(_, ino, kind)| (ino, kind))
            .collect()
    }
}

fn play(seed: u64, shards: u32, kills: bool) {
    let mut fs = Fs::new(seed, shards);
    for step in 0..250 {
        fs.step();
        if kills && fs.random.one_in(40) {
            let victim = fs.random.below(u64::from(shards)) as usize;
            fs.restart(victim);
        }
        if step % 50 == 0 {
            fs.check("in between");
        }
    }
    // Until nothing is open, orphans are collected and everything is in the index.
    fs.cluster.pass(30_000_000_000);
    let told = fs.check("at the end");
    assert_eq!(
        told,
        fs.walk(),
        "seed {seed}: usage and what the tree takes"
    );
    for index in 0..fs.cluster.shards() {
        fs.restart(index);
    }
    assert_eq!(fs.check("after a restart"), told);
}

#[test]
fn on_one_shard_the_records_add_up_to_the_usage() {
    for seed in 0..8 {
        play(seed, 1, false);
    }
}

#[test]
fn over_three_shards_with_kills_the_records_add_up_to_the_usage() {
    for seed in 100..112 {
        play(seed, 3, true);
    }
}
