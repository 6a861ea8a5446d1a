//! fallocate(2) that reserves: what it has promised is there on a full device, and a call that fails
//! leaves nothing, on one shard and on three, whatever is killed.
#![allow(clippy::unwrap_used, reason = "tests")]

use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::hash::layout_slot_partition;
use sealfs_protocol::manager::Durability;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId, PartitionId};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Random, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 3;
const ZERO_RANGE: u32 = 16;
const CHUNK: u64 = 64 << 10;
const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;
const OPEN: OpenId = OpenId(1);

struct Fs {
    cluster: Cluster,
    client: Client,
    root: InodeId,
}

impl Fs {
    fn new(shards: u32, seed: u64) -> Fs {
        Fs::with(shards, seed, Durability::Fsync)
    }

    fn with(shards: u32, seed: u64, durability: Durability) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards,
            partitions: 48,
            seed,
            durability,
            device_bytes: 24 << 20,
            ..Settings::default()
        });
        let client = Client::new(&mut cluster, 12, 0);
        let root = client.root(&cluster);
        Fs {
            cluster,
            client,
            root,
        }
    }

    fn create(&mut self, name: &str) -> Attr {
        let op = Op::Open {
            at: at(self.root, name),
            flags: O_RDWR | O_CREAT,
            mode: 0o644,
            open: OPEN,
            read_bytes: 0,
        };
        let attr = self.client.call(&mut self.cluster, op).attr();
        let close = Op::Close {
            ino: attr.ino,
            open: OPEN,
        };
        self.client.call(&mut self.cluster, close);
        attr
    }

    fn allocate(&mut self, ino: InodeId, mode: u32, offset: u64, len: u64) -> Result<Attr, Errno> {
        let outcome = self
            .client
            .call(&mut self.cluster, allocate(ino, mode, offset, len));
        match outcome.reply {
            OpReply::Attr(attr) => Ok(attr),
            OpReply::Errno(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    fn stat(&mut self, ino: InodeId) -> Attr {
        let op = Op::GetAttr {
            at: at(ino, ""),
            follow: false,
        };
        self.client.call(&mut self.cluster, op).attr()
    }

    fn place(&self, attr: &Attr, chunk: u64) -> PartitionId {
        let partitions = self.cluster.ring().partitions();
        attr.layout.partition_of(attr.ino, chunk, partitions)
    }

    fn call_at(&mut self, place: PartitionId, op: Op, bytes: &[u8]) -> (OpReply, Vec<u8>) {
        self.client.begin_at(&mut self.cluster, place, op, bytes);
        let outcome = self.client.finish(&mut self.cluster);
        (outcome.reply, outcome.payload)
    }

    /// Writes in one chunk, as clients do.
    fn write(&mut self, ino: InodeId, offset: u64, bytes: &[u8]) -> Option<Errno> {
        let attr = self.stat(ino);
        if offset >= CHUNK && !attr.wide {
            let op = Op::Publish {
                ino,
                from_bytes: 0,
                size_at_least_bytes: 0,
                wide: true,
                generation: attr.generation,
                open: OPEN,
            };
            self.client.call(&mut self.cluster, op);
        }
        let op = Op::Write {
            ino,
            chunk: offset / CHUNK,
            offset_bytes: (offset % CHUNK) as u32,
            len_bytes: bytes.len() as u32,
            generation: attr.generation,
            open: OPEN,
        };
        match self.call_at(self.place(&attr, offset / CHUNK), op, bytes).0 {
            OpReply::Written { .. } => None,
            OpReply::Errno(errno) => Some(errno),
            other => panic!("{other:?}"),
        }
    }

    fn read(&mut self, ino: InodeId, offset: u64, len: u32) -> Vec<u8> {
        let attr = self.stat(ino);
        let op = Op::Read {
            ino,
            chunk: offset / CHUNK,
            offset_bytes: (offset % CHUNK) as u32,
            len_bytes: len,
            atime: false,
            generation: attr.generation,
        };
        let (_, mut bytes) = self.call_at(self.place(&attr, offset / CHUNK), op, &[]);
        bytes.resize(len as usize, 0);
        bytes
    }

    fn truncate(&mut self, ino: InodeId, size: u64) {
        let op = Op::SetAttr {
            at: at(ino, ""),
            follow: false,
            set: SetAttr {
                size_bytes: Some(size),
                by_handle: true,
                ..SetAttr::default()
            },
        };
        self.client.call(&mut self.cluster, op).attr();
    }

    fn unlink(&mut self, name: &str) {
        let op = Op::Unlink {
            at: at(self.root, name),
        };
        assert_eq!(self.client.call(&mut self.cluster, op).errno(), None);
        self.cluster.pass(2_000_000_000);
    }

    /// A file that takes what space is left.
    fn fill(&mut self) -> InodeId {
        let ino = self.create("filler").ino;
        let mut offset = 0;
        for len in [CHUNK, BLOCK] {
            let mut refused = 0;
            while refused < 40 {
                match self.write(ino, offset, &vec![7; len as usize]) {
                    None => refused = 0,
                    Some(errno) => {
                        assert_eq!(errno, Errno::ENOSPC);
                        refused += 1;
                    }
                }
                offset += CHUNK;
            }
        }
        ino
    }

    /// Space in use on all shards, as their stores and as their records say.
    fn used(&self) -> u64 {
        let cores = (0..self.cluster.shards()).filter_map(|i| self.cluster.core(i));
        cores
            .map(|core| {
                assert_eq!(core.usage_by_partition(), core.recount_usage());
                core.usage().used_bytes
            })
            .sum()
    }

    fn log_entries(&self) -> u64 {
        let cores = (0..self.cluster.shards()).filter_map(|i| self.cluster.core(i));
        cores.map(|core| core.last_index().0).sum()
    }
}

fn allocate(ino: InodeId, mode: u32, offset: u64, len: u64) -> Op {
    Op::Allocate {
        ino,
        mode,
        offset,
        len,
        open: OPEN,
    }
}

#[test]
fn what_is_reserved_is_written_and_overwritten_on_a_full_device() {
    for (shards, durability) in [
        (1, Durability::Fsync),
        (3, Durability::Fsync),
        (3, Durability::Memory),
    ] {
        let mut fs = Fs::with(shards, 3, durability);
        let file = fs.create("f");
        let attr = fs.allocate(file.ino, 0, 0, 4 * MIB).unwrap();
        assert_eq!((attr.size_bytes, attr.blocks_512 * 512), (4 * MIB, 4 * MIB));
        fs.fill();
        let full = fs.used();
        for round in 1..6u8 {
            for chunk in 0..4 * MIB / CHUNK {
                let bytes = vec![round; CHUNK as usize];
                assert_eq!(fs.write(file.ino, chunk * CHUNK, &bytes), None, "{shards}");
            }
        }
        assert_eq!(
            fs.read(file.ino, 3 * MIB, CHUNK as u32),
            vec![5; CHUNK as usize]
        );
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 4 * MIB);
        fs.cluster.pass(5_000_000_000);
        assert_eq!(fs.used(), full);
        // Cutting and zeroing go on as well.
        fs.allocate(file.ino, ZERO_RANGE, 10, 4 * MIB - 20).unwrap();
        assert_eq!(fs.read(file.ino, MIB, 4096), [0; 4096]);
        assert_eq!(fs.read(file.ino, 0, 16)[8..12], [5, 5, 0, 0]);
        fs.truncate(file.ino, 2 * MIB + 77);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 2 * MIB + BLOCK);
    }
}

#[test]
fn a_call_that_does_not_fit_leaves_nothing() {
    for shards in [1, 3] {
        let mut fs = Fs::new(shards, 4);
        let file = fs.create("f");
        assert_eq!(fs.write(file.ino, 3 * CHUNK + 4096, &[1; 9000]), None);
        let before = (fs.used(), fs.stat(file.ino).blocks_512);
        // What is yet to be discarded holds nobody up.
        let large = fs.create("large").ino;
        fs.allocate(large, 0, 0, 8 * MIB).unwrap();
        fs.unlink("large");
        fs.cluster.pass(10_000_000_000);
        let (entries, begun) = (fs.log_entries(), fs.cluster.now().mono_ns);
        let tera = 1 << 40;
        assert_eq!(fs.allocate(file.ino, 0, 0, tera), Err(Errno::ENOSPC));
        assert!(fs.log_entries() - entries < 20, "{shards}");
        assert!(fs.cluster.now().mono_ns - begun < 100_000_000, "{shards}");
        for len in [80 * MIB, 60 * MIB, 24 * MIB * u64::from(shards)] {
            assert_eq!(fs.allocate(file.ino, 0, 8000, len), Err(Errno::ENOSPC));
        }
        fs.cluster.pass(5_000_000_000);
        assert_eq!((fs.used(), fs.stat(file.ino).blocks_512), before);
        assert_eq!(fs.stat(file.ino).size_bytes, 0);
        assert_eq!(fs.read(file.ino, 3 * CHUNK + 4096, 9000), [1; 9000]);
        fs.allocate(file.ino, 0, 0, 8 * MIB).unwrap();
    }
}

#[test]
fn one_full_shard_refuses_for_all() {
    let mut fs = Fs::new(3, 5);
    // A file that lies on one shard fills it.
    let partitions = fs.cluster.ring().partitions();
    let mut hog = None;
    for i in 0..2000 {
        let attr = fs.create(&format!("hog{i}"));
        let owner = |slot| {
            let place = layout_slot_partition(attr.ino, slot, partitions);
            fs.cluster.owner(place)
        };
        if (1..4).all(|slot| owner(slot) == owner(0)) {
            hog = Some(attr.ino);
            break;
        }
    }
    let hog = hog.expect("some file lies on one shard");
    let mut len = 16 * MIB;
    while len >= CHUNK {
        let from = fs.stat(hog).size_bytes;
        if fs.allocate(hog, 0, from, len).is_err() {
            len /= 2;
        }
    }
    let file = fs.create("f");
    let before = fs.used();
    assert_eq!(fs.allocate(file.ino, 0, 0, 6 * MIB), Err(Errno::ENOSPC));
    fs.cluster.pass(5_000_000_000);
    assert_eq!(fs.used(), before);
    assert_eq!(fs.stat(file.ino).blocks_512, 0);
    assert_eq!(fs.stat(file.ino).size_bytes, 0);
}

#[test]
fn what_is_kept_past_the_end_survives_a_kill_and_goes_with_a_truncation() {
    for shards in [1, 3] {
        let mut fs = Fs::new(shards, 6);
        let file = fs.create("f");
        let before = fs.used();
        assert_eq!(fs.write(file.ino, 0, &[1; 5000]), None);
        let small = fs.used();
        fs.allocate(file.ino, KEEP_SIZE, 100, MIB).unwrap();
        let attr = fs.stat(file.ino);
        assert_eq!(
            (attr.size_bytes, attr.blocks_512 * 512),
            (5000, MIB + BLOCK)
        );
        for shard in 0..fs.cluster.shards() {
            fs.cluster.kill(shard);
            fs.cluster.start(shard);
        }
        let attr = fs.stat(file.ino);
        assert_eq!(
            (attr.size_bytes, attr.blocks_512 * 512),
            (5000, MIB + BLOCK)
        );
        // The file grows into it, by hand and by writing, and keeps it.
        fs.truncate(file.ino, 70_000);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, MIB + BLOCK);
        assert_eq!(fs.read(file.ino, CHUNK, 4464), [0; 4464]);
        fs.truncate(file.ino, 5000);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 2 * BLOCK);
        // A truncation to the same size lets it go.
        fs.allocate(file.ino, KEEP_SIZE, 0, MIB).unwrap();
        fs.truncate(file.ino, 5000);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 2 * BLOCK);
        fs.cluster.pass(5_000_000_000);
        assert_eq!(fs.used(), small);
        fs.allocate(file.ino, KEEP_SIZE, 0, MIB).unwrap();
        fs.unlink("f");
        fs.cluster.pass(5_000_000_000);
        assert_eq!(fs.used(), before);
    }
}

#[test]
fn holes_are_where_nothing_was_written() {
    let mut fs = Fs::new(1, 7);
    let file = fs.create("f");
    fs.allocate(file.ino, 0, 0, CHUNK).unwrap();
    assert_eq!(fs.write(file.ino, 8192, &[1; 4096]), None);
    let seek = |fs: &mut Fs, from, data| {
        let attr = fs.stat(file.ino);
        let op = Op::Seek {
            ino: file.ino,
            from,
            until: CHUNK,
            data,
            layout: attr.layout,
            generation: attr.generation,
        };
        match fs.client.call(&mut fs.cluster, op).reply {
            OpReply::Sought { position, .. } => position,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seek(&mut fs, 0, true), 8192);
    assert_eq!(seek(&mut fs, 8192, false), 12288);
    fs.allocate(file.ino, ZERO_RANGE, 8192, 4096).unwrap();
    assert_eq!(seek(&mut fs, 0, true), CHUNK);
    assert_eq!(fs.stat(file.ino).blocks_512 * 512, CHUNK);
    fs.allocate(file.ino, PUNCH_HOLE, 4096, 8192).unwrap();
    assert_eq!(fs.stat(file.ino).blocks_512 * 512, CHUNK - 8192);
}

/// Calls of all kinds with a shard killed at any moment: in the end the records agree, every call
/// that succeeded has its space, and a removed file leaves nothing.
#[test]
fn kills_at_any_moment_leak_nothing() {
    for seed in 0..40 {
        let mut fs = Fs::new(3, seed);
        let mut random = Random::new(seed);
        let empty = fs.used();
        let file = fs.create("f");
        for _ in 0..12 {
            let mode = [0, KEEP_SIZE, ZERO_RANGE, PUNCH_HOLE][random.below(4) as usize];
            let offset = random.below(20) * 10_000;
            let len = match random.below(4) {
                0 => 90 * MIB,
                1 => 30_000,
                2 => 55 * MIB,
                _ => MIB,
            };
            let op = allocate(file.ino, mode, offset, len);
            fs.client.begin(&mut fs.cluster, op, &[]);
            let mut outcome = None;
            for _ in 0..random.below(60) {
                outcome = fs.client.poll(&mut fs.cluster);
                if outcome.is_some() {
                    break;
                }
                fs.cluster.advance();
            }
            if outcome.is_none() {
                let victim = random.below(3) as usize;
                fs.cluster.kill(victim);
                fs.cluster.start(victim);
            }
            let outcome = outcome.unwrap_or_else(|| fs.client.finish(&mut fs.cluster));
            match outcome.reply {
                OpReply::Attr(_) if mode != PUNCH_HOLE => {
                    let chunks = offset.div_ceil(CHUNK)..(offset + len) / CHUNK;
                    let whole = chunks.end.saturating_sub(chunks.start) * CHUNK;
                    assert!(fs.stat(file.ino).blocks_512 * 512 >= whole, "seed {seed}");
                }
                OpReply::Attr(_) | OpReply::Errno(Errno::ENOSPC) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        fs.unlink("f");
        fs.cluster.pass(30_000_000_000);
        assert_eq!(fs.used(), empty, "seed {seed}");
    }
}
