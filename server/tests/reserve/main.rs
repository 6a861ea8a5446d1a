//! fallocate(2) that reserves: what it has promised is there on a full device, and a call that fails
//! leaves nothing, on one shard and on three, whatever is killed. Here is what the tests do to files;
//! they stand beside it, by what they are about.
#![allow(clippy::unwrap_used, reason = "tests")]

mod holes;
mod room;

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
