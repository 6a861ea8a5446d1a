//! Copies between chunks on three shards: what arrives is what the source has, once, whatever is
//! killed.

use sealfs_protocol::attr::Layout;
use sealfs_protocol::message::{Op, OpReply, Source};
use sealfs_protocol::{Errno, InodeId, OpenId, PartitionId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Random, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const PUNCH_HOLE: u32 = 3;
const CHUNK_BYTES: u64 = 64 << 10;
const CHUNKS: u64 = 6;
const OPEN: OpenId = OpenId(1);

#[derive(Clone, Copy)]
struct File {
    ino: InodeId,
    layout: Layout,
}

struct Fs {
    cluster: Cluster,
    client: Client,
}

impl Fs {
    fn new(seed: u64) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards: 3,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let client = Client::new(&mut cluster, 12, 0);
        Fs { cluster, client }
    }

    fn call_at(&mut self, partition: PartitionId, op: Op, bytes: &[u8]) -> (OpReply, Vec<u8>) {
        self.client
            .begin_at(&mut self.cluster, partition, op, bytes);
        let outcome = self.client.finish(&mut self.cluster);
        (outcome.reply, outcome.payload)
    }

    /// A file of `CHUNKS` chunks, all holes.
    fn create(&mut self, name: &str) -> File {
        let root = self.client.root(&self.cluster);
        let op = Op::Open {
            at: at(root, name),
            flags: O_RDWR | O_CREAT,
            mode: 0o644,
            open: OPEN,
            read_bytes: 0,
        };
        let attr = self.client.call(&mut self.cluster, op).attr();
        let file = File {
            ino: attr.ino,
            layout: attr.layout,
        };
        let op = Op::Publish {
            ino: file.ino,
            from_bytes: 0,
            size_at_least_bytes: CHUNKS * CHUNK_BYTES,
            wide: true,
            generation: TruncateGeneration(0),
            open: OPEN,
        };
        let (reply, _) = self.call_at(file.ino.partition(), op, &[]);
        assert!(matches!(reply, OpReply::Written { .. }), "{reply:?}");
        file
    }

    fn place(&self, file: File, chunk: u64) -> PartitionId {
        let partitions = self.cluster.ring().partitions();
        file.layout.partition_of(file.ino, chunk, partitions)
    }

    fn write(&mut self, file: File, offset: u64, bytes: &[u8]) {
        let mut left = bytes;
        for span in file.layout.split(offset, bytes.len() as u64) {
            let (now, later) = left.split_at(span.len_bytes as usize);
            left = later;
            let op = Op::Write {
                ino: file.ino,
                chunk: span.chunk,
                offset_bytes: span.offset_bytes,
                len_bytes: span.len_bytes,
                generation: TruncateGeneration(0),
                open: OPEN,
            };
            let (reply, _) = self.call_at(self.place(file, span.chunk), op, now);
            assert!(matches!(reply, OpReply::Written { .. }), "{reply:?}");
        }
    }

    fn punch(&mut self, file: File, offset: u64, len: u64) {
        let op = Op::Allocate {
            ino: file.ino,
            mode: PUNCH_HOLE,
            offset,
            len,
            open: OPEN,
        };
        self.client.call(&mut self.cluster, op).attr();
    }

    /// One operation: both ranges lie in one chunk.
    fn copy_op(&self, from: (File, u64), to: (File, u64), len: u32) -> (PartitionId, Op) {
        let chunk = from.1 / CHUNK_BYTES;
        let target = to.1 / CHUNK_BYTES;
        let op = Op::Copy {
            ino: to.0.ino,
            chunk: target,
            offset_bytes: (to.1 % CHUNK_BYTES) as u32,
            len_bytes: len,
            generation: TruncateGeneration(0),
            open: OPEN,
            source: Source {
                ino: from.0.ino,
                partition: self.place(from.0, chunk),
                chunk,
                offset_bytes: (from.1 % CHUNK_BYTES) as u32,
                generation: TruncateGeneration(0),
                atime: true,
            },
        };
        (self.place(to.0, target), op)
    }

    fn copy(&mut self, from: (File, u64), to: (File, u64), len: u32) -> OpReply {
        let (place, op) = self.copy_op(from, to, len);
        self.call_at(place, op, &[]).0
    }

    /// All of a file, read as clients do: what a chunk does not have is zeros.
    fn content(&mut self, file: File) -> Vec<u8> {
        let mut all = Vec::new();
        for chunk in 0..CHUNKS {
            let op = Op::Read {
                ino: file.ino,
                chunk,
                offset_bytes: 0,
                len_bytes: CHUNK_BYTES as u32,
                atime: false,
                generation: TruncateGeneration(0),
            };
            let (reply, bytes) = self.call_at(self.place(file, chunk), op, &[]);
            assert!(matches!(reply, OpReply::Read { .. }), "{reply:?}");
            all.extend(bytes);
            all.resize(((chunk + 1) * CHUNK_BYTES) as usize, 0);
        }
        all
    }

    fn blocks(&mut self, file: File) -> u64 {
        let op = Op::GetAttr {
            at: at(file.ino, ""),
            follow: false,
        };
        self.client.call(&mut self.cluster, op).attr().blocks_512
    }

    /// The index of the shard that a chunk lies on.
    fn shard(&self, file: File, chunk: u64) -> usize {
        self.cluster.owner(self.place(file, chunk))
    }
}

#[test]
fn files_that_are_copied_into_each_other_are_as_byte_vectors_are() {
    for seed in 0..12 {
        let mut fs = Fs::new(seed);
        let mut random = Random::new(seed);
        let files = [fs.create("a"), fs.create("b")];
        let size = (CHUNKS * CHUNK_BYTES) as usize;
        let mut models = [vec![0u8; size], vec![0u8; size]];
        for step in 0..40 {
            let which = random.below(2) as usize;
            let (offset, len) = (random.below(size as u64), 1 + random.below(20_000));
            let len = len.min(size as u64 - offset);
            let range = offset as usize..(offset + len) as usize;
            match random.below(5) {
                0 => {
                    let bytes = vec![step + 1; len as usize];
                    fs.write(files[which], offset, &bytes);
                    models[which][range].fill(step + 1);
                }
                1 => {
                    fs.punch(files[which], offset, len);
                    models[which][range].fill(0);
                }
                _ => {
                    let other = random.below(2) as usize;
                    let to = random.below(size as u64);
                    let room = |at: u64| CHUNK_BYTES - at % CHUNK_BYTES;
                    let len = len.min(room(offset)).min(room(to)) as usize;
                    if which == other && offset.abs_diff(to) < len as u64 {
                        continue;
                    }
                    let (from, target) = ((files[which], offset), (files[other], to));
                    let reply = fs.copy(from, target, len as u32);
                    assert!(matches!(reply, OpReply::Written { .. }), "{reply:?}");
                    let start = offset as usize;
                    let bytes = models[which][start..start + len].to_vec();
                    models[other][to as usize..to as usize + len].copy_from_slice(&bytes);
                }
            }
            if random.one_in(15) {
                let index = random.below(3) as usize;
                fs.cluster.kill(index);
                fs.cluster.start(index);
            }
        }
        for (file, model) in files.into_iter().zip(&models) {
            assert!(fs.content(file) == *model, "seed {seed}");
        }
    }
}

#[test]
fn a_hole_that_is_copied_takes_no_space_and_leaves_what_was_there_its_own() {
    let mut fs = Fs::new(3);
    let (a, b) = (fs.create("a"), fs.create("b"));
    let whole = CHUNK_BYTES as u32;
    for chunk in 0..CHUNKS {
        let offset = chunk * CHUNK_BYTES;
        fs.copy((a, offset), (b, offset), whole);
    }
    assert_eq!(fs.blocks(b), 0);
    fs.write(b, 0, &vec![1; (CHUNKS * CHUNK_BYTES) as usize]);
    for chunk in 0..CHUNKS {
        let offset = chunk * CHUNK_BYTES;
        fs.copy((a, offset), (b, offset), whole);
    }
    assert_eq!(fs.blocks(b) * 512, CHUNKS * CHUNK_BYTES);
    assert!(fs.content(b).iter().all(|byte| *byte == 0));
}

#[test]
fn a_small_file_inside_its_inode_is_copied_to_any_chunk() {
    let mut fs = Fs::new(4);
    let (a, b) = (fs.create("a"), fs.create("b"));
    fs.write(a, 5, b"some bytes");
    for chunk in 0..CHUNKS {
        fs.copy((a, 0), (b, chunk * CHUNK_BYTES + 7), 100);
    }
    let content = fs.content(b);
    for chunk in 0..CHUNKS {
        let start = (chunk * CHUNK_BYTES) as usize + 7;
        assert_eq!(&content[start + 5..start + 15], b"some bytes");
    }
}

/// A chunk of another shard than the given chunk of a file.
fn elsewhere(fs: &Fs, file: File, chunk: u64, other: File) -> u64 {
    let here = fs.shard(file, chunk);
    let mut chunks = 0..CHUNKS;
    let found = chunks.find(|c| fs.shard(other, *c) != here);
    found.expect("three shards hold the chunks of one file")
}

#[test]
fn a_copy_that_is_repeated_takes_effect_once_also_over_a_restart() {
    for restarts in [false, true] {
        let mut fs = Fs::new(5);
        let (a, b) = (fs.create("a"), fs.create("b"));
        let chunk = elsewhere(&fs, b, 2, a);
        let (from, to) = ((a, chunk * CHUNK_BYTES), (b, 2 * CHUNK_BYTES));
        fs.write(a, from.1, b"first");
        let (place, op) = fs.copy_op(from, to, 5);
        let copy = |fs: &mut Fs| {
            // The same client from its start: the same slot and sequence.
            let mut twin = Client::new(&mut fs.cluster, 77, 0);
            twin.begin_at(&mut fs.cluster, place, op.clone(), &[]);
            twin.finish(&mut fs.cluster).reply
        };
        let reply = copy(&mut fs);
        assert!(matches!(reply, OpReply::Written { .. }), "{reply:?}");
        fs.write(a, from.1, b"other");
        fs.write(b, to.1, b"later");
        if restarts {
            let index = fs.shard(b, 2);
            fs.cluster.kill(index);
            fs.cluster.start(index);
        }
        assert_eq!(copy(&mut fs), reply);
        let start = to.1 as usize;
        assert_eq!(&fs.content(b)[start..start + 5], b"later");
    }
}

#[test]
fn a_copy_under_an_old_generation_of_either_file_changes_nothing() {
    for wide in [false, true] {
        for old in [0, 1] {
            let mut fs = Fs::new(6);
            let (a, b) = (fs.create("a"), fs.create("b"));
            let target = u64::from(wide);
            let chunk = if wide {
                elsewhere(&fs, b, target, a)
            } else {
                0
            };
            let (from, to) = ((a, chunk * CHUNK_BYTES), (b, target * CHUNK_BYTES));
            fs.write(a, from.1, &[9; 5000]);
            let (place, op) = fs.copy_op(from, to, 5000);
            let set = sealfs_protocol::attr::SetAttr {
                size_bytes: Some(0),
                by_handle: true,
                ..Default::default()
            };
            let cut = Op::SetAttr {
                at: at([a, b][old].ino, ""),
                follow: false,
                set,
            };
            fs.client.call(&mut fs.cluster, cut).attr();
            let (reply, _) = fs.call_at(place, op, &[]);
            assert!(matches!(reply, OpReply::Refused(_)), "{reply:?}");
            assert_eq!(fs.blocks(b), 0);
        }
    }
}

#[test]
fn a_copy_waits_for_the_owner_of_its_source() {
    let mut fs = Fs::new(7);
    let (a, b) = (fs.create("a"), fs.create("b"));
    let chunk = elsewhere(&fs, b, 1, a);
    fs.write(a, chunk * CHUNK_BYTES, &[4; 9000]);
    let index = fs.shard(a, chunk);
    fs.cluster.kill(index);
    let (place, op) = fs.copy_op((a, chunk * CHUNK_BYTES), (b, CHUNK_BYTES), 9000);
    fs.client.begin_at(&mut fs.cluster, place, op, &[]);
    fs.cluster.pass(1_000_000_000);
    assert!(fs.client.poll(&mut fs.cluster).is_none());
    fs.cluster.start(index);
    let reply = fs.client.finish(&mut fs.cluster).reply;
    assert!(matches!(reply, OpReply::Written { .. }), "{reply:?}");
    let start = CHUNK_BYTES as usize;
    assert_eq!(fs.content(b)[start..start + 9000], [4; 9000]);
}

#[test]
fn more_copies_at_once_than_may_be_under_way_all_end() {
    let mut fs = Fs::new(8);
    let (a, b) = (fs.create("a"), fs.create("b"));
    let chunk = elsewhere(&fs, b, 1, a);
    fs.write(a, chunk * CHUNK_BYTES, &vec![4; 60_000]);
    let mut clients: Vec<Client> = (0..50)
        .map(|id| Client::new(&mut fs.cluster, 100 + id, 0))
        .collect();
    for (client, i) in clients.iter_mut().zip(0..) {
        let from = (a, chunk * CHUNK_BYTES + i * 1000);
        let (place, op) = fs.copy_op(from, (b, CHUNK_BYTES + i * 1000), 1000);
        client.begin_at(&mut fs.cluster, place, op, &[]);
    }
    for client in &mut clients {
        let reply = client.finish(&mut fs.cluster).reply;
        assert!(matches!(reply, OpReply::Written { .. }), "{reply:?}");
    }
    let start = CHUNK_BYTES as usize;
    assert!(fs.content(b)[start..start + 50_000] == vec![4; 50_000]);
}

#[test]
fn a_span_that_no_chunk_has_is_refused() {
    let mut fs = Fs::new(9);
    let (a, b) = (fs.create("a"), fs.create("b"));
    let (place, op) = fs.copy_op((a, 0), (b, 0), u32::MAX);
    let (reply, _) = fs.call_at(place, op, &[]);
    assert_eq!(reply, OpReply::Errno(Errno::EINVAL));
}
