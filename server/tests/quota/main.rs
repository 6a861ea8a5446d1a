//! Quotas: never exceeded, whatever happens at once or is killed; and nobody is refused while there
//! is room, on whichever shard it lies.

mod exact;

use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{Errno, InodeId, OpenId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Random, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const BLOCK: u64 = 4096;
const EDQUOT: Option<Errno> = Some(Errno::EDQUOT);

struct Fs {
    cluster: Cluster,
    client: Client,
    root: InodeId,
    quota: Totals,
}

impl Fs {
    /// A cluster whose volume may hold `bytes` and `inodes` (0: no limit).
    fn new(shards: u32, seed: u64, bytes: u64, inodes: u64) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        let mut fs = Fs {
            cluster,
            client,
            root,
            quota: Totals::default(),
        };
        fs.resize(bytes, inodes);
        fs
    }

    fn resize(&mut self, bytes: u64, inodes: u64) {
        let limit = |quota: u64| if quota == 0 { u64::MAX } else { quota };
        self.quota = Totals {
            bytes: limit(bytes),
            inodes: limit(inodes),
        };
        self.cluster.publish(|state| {
            state.volumes[0].quota_bytes = bytes;
            state.volumes[0].quota_inodes = inodes;
        });
    }

    /// What the volume takes on all shards that are up.
    fn used(&self) -> Totals {
        let cores = (0..self.cluster.shards()).filter_map(|i| self.cluster.core(i));
        let shares = cores.flat_map(|core| core.usage_by_partition().into_values());
        shares.fold(Totals::default(), Totals::plus)
    }

    fn check(&self) {
        let (used, quota) = (self.used(), self.quota);
        let within = used.bytes <= quota.bytes && used.inodes <= quota.inodes;
        assert!(within, "{used:?} of {quota:?}");
    }

    fn call(&mut self, op: Op, payload: &[u8]) -> OpReply {
        let reply = self.client.call_with(&mut self.cluster, op, payload).reply;
        self.check();
        reply
    }

    fn errno(&mut self, op: Op) -> Option<Errno> {
        match self.call(op, &[]) {
            OpReply::Errno(errno) => Some(errno),
            _ => None,
        }
    }

    fn create(&mut self, path: &str) -> Result<InodeId, Errno> {
        let op = open(self.root, path);
        match self.call(op, &[]) {
            OpReply::Opened { attr, .. } => {
                self.close(attr.ino);
                Ok(attr.ino)
            }
            OpReply::Errno(errno) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    fn close(&mut self, ino: InodeId) {
        let open = OpenId(1);
        self.call(Op::Close { ino, open }, &[]);
    }

    /// `blocks` blocks at the end of a file.
    fn append(&mut self, ino: InodeId, blocks: u64) -> Option<Errno> {
        let bytes = vec![3; (blocks * BLOCK) as usize];
        match self.call(append(ino, blocks), &bytes) {
            OpReply::Written { .. } => None,
            OpReply::Errno(errno) => Some(errno),
            other => panic!("{other:?}"),
        }
    }

    fn generation(&mut self, ino: InodeId) -> TruncateGeneration {
        let (at, follow) = (at(ino, ""), false);
        match self.call(Op::GetAttr { at, follow }, &[]) {
            OpReply::Attr(attr) => attr.generation,
            other => panic!("{other:?}"),
        }
    }

    fn make_dir(&mut self, path: &str) -> Option<Errno> {
        let at = at(self.root, path);
        self.errno(Op::MakeDir { at, mode: 0o755 })
    }

    fn unlink(&mut self, path: &str) -> Option<Errno> {
        let at = at(self.root, path);
        self.errno(Op::Unlink { at })
    }

    fn truncate(&mut self, ino: InodeId, size: u64) -> Option<Errno> {
        self.errno(Op::SetAttr {
            at: at(ino, ""),
            follow: false,
            set: SetAttr {
                size_bytes: Some(size),
                by_handle: true,
                ..SetAttr::default()
            },
        })
    }
}

fn open(base: InodeId, path: &str) -> Op {
    Op::Open {
        at: at(base, path),
        flags: O_RDWR | O_CREAT,
        mode: 0o644,
        open: OpenId(1),
        read_bytes: 0,
    }
}

fn append(ino: InodeId, blocks: u64) -> Op {
    Op::Append {
        ino,
        len_bytes: (blocks * BLOCK) as u32,
        open: OpenId(1),
    }
}

#[test]
fn one_shard_fills_to_the_last_block_and_refuses_the_next() {
    // The root takes one block.
    let mut fs = Fs::new(1, 1, 11 * BLOCK, 0);
    let file = fs.create("f").expect("there is room");
    assert_eq!(fs.append(file, 10), None);
    assert_eq!(fs.used().bytes, 11 * BLOCK);
    assert_eq!(fs.append(file, 1), EDQUOT);
    assert_eq!(fs.make_dir("d"), EDQUOT);
    // What needs no block goes on: an empty file, an overwrite, a removal.
    fs.create("empty").expect("it takes no block");
    let overwrite = Op::Write {
        ino: file,
        chunk: 0,
        offset_bytes: 0,
        len_bytes: BLOCK as u32,
        generation: TruncateGeneration(0),
        open: OpenId(1),
    };
    let written = fs.call(overwrite, &vec![4; BLOCK as usize]);
    assert!(matches!(written, OpReply::Written { .. }), "{written:?}");
    assert_eq!(fs.truncate(file, 5 * BLOCK), None);
    assert_eq!(fs.append(file, 5), None);
    assert_eq!(fs.append(file, 1), EDQUOT);
}

#[test]
fn inodes_are_counted_to_the_last_for_every_kind() {
    let mut fs = Fs::new(1, 1, 0, 3);
    fs.create("a").expect("there is room");
    assert_eq!(fs.make_dir("b"), None);
    assert_eq!(fs.create("c"), Err(Errno::EDQUOT));
    assert_eq!(fs.make_dir("c"), EDQUOT);
    let place = at(fs.root, "c");
    let target = b"x".to_vec();
    assert_eq!(fs.errno(Op::Symlink { at: place, target }), EDQUOT);
    // A further name is no further inode.
    let ino = fs.create("a").expect("it exists");
    let to = at(fs.root, "second");
    let from_open = None;
    assert_eq!(fs.errno(Op::Link { ino, to, from_open }), None);
    assert_eq!(fs.unlink("a"), None);
    assert_eq!(fs.create("c"), Err(Errno::EDQUOT));
    assert_eq!(fs.unlink("second"), None);
    fs.create("c").expect("there is room again");
}

#[test]
fn what_fallocate_gives_counts_at_once_and_is_written_at_the_limit() {
    for shards in [1, 3] {
        let mut fs = Fs::new(shards, 1, 101 * BLOCK, 0);
        let file = fs.create("f").expect("there is room");
        let allocate = |len: u64| Op::Allocate {
            ino: file,
            mode: 0,
            offset: 0,
            len,
            open: OpenId(1),
        };
        for too_much in [101 * BLOCK, 40 << 20] {
            assert_eq!(fs.errno(allocate(too_much)), EDQUOT);
            fs.cluster.pass(2_000_000_000);
            assert_eq!(fs.used().bytes, BLOCK, "{shards} shards, {too_much}");
        }
        assert_eq!(fs.errno(allocate(100 * BLOCK)), None);
        assert_eq!(fs.used().bytes, 101 * BLOCK);
        for byte in [4, 5] {
            let overwrite = Op::Write {
                ino: file,
                chunk: 0,
                offset_bytes: 100,
                len_bytes: 9 * BLOCK as u32,
                generation: fs.generation(file),
                open: OpenId(1),
            };
            let written = fs.call(overwrite, &vec![byte; 9 * BLOCK as usize]);
            assert!(matches!(written, OpReply::Written { .. }), "{written:?}");
        }
        assert_eq!(fs.append(file, 1), EDQUOT);
    }
}

#[test]
fn a_quota_below_the_use_lets_things_go_and_nothing_come() {
    let mut fs = Fs::new(3, 5, 0, 0);
    let file = fs.create("f").expect("there is no limit");
    assert_eq!(fs.append(file, 20), None);
    fs.quota.bytes = u64::MAX;
    fs.cluster
        .publish(|state| state.volumes[0].quota_bytes = 10 * BLOCK);
    assert_eq!(fs.append(file, 1), EDQUOT);
    assert_eq!(fs.truncate(file, 2 * BLOCK), None);
    fs.resize(10 * BLOCK, 0);
    assert_eq!(fs.append(file, 7), None);
    assert_eq!(fs.append(file, 1), EDQUOT);
    fs.resize(20 * BLOCK, 0);
    assert_eq!(fs.append(file, 10), None);
    assert_eq!(fs.append(file, 1), EDQUOT);
}

#[test]
fn many_at_once_reach_the_limit_and_never_pass_it() {
    for seed in 0..6 {
        let mut fs = Fs::new(3, seed, 0, 200);
        for dir in 0..5 {
            assert_eq!(fs.make_dir(&format!("d{dir}")), None);
        }
        let mut clients: Vec<(Client, u32, bool)> = (0..5)
            .map(|i| (Client::new(&mut fs.cluster, 100 + i, 0), 0, false))
            .collect();
        let mut steps = 0;
        let next = |i: usize, n: u32| open(InodeId(0), &format!("d{}/f{i}-{n}", n % 5));
        let begin = |fs: &mut Fs, client: &mut Client, i: usize, n: u32| {
            let mut op = next(i, n);
            if let Op::Open { at, .. } = &mut op {
                at.base = fs.root;
            }
            client.begin(&mut fs.cluster, op, &[]);
        };
        for (i, (client, _, _)) in clients.iter_mut().enumerate() {
            begin(&mut fs, client, i, 0);
        }
        while clients.iter().any(|(_, _, done)| !done) {
            steps += 1;
            assert!(steps < 1_000_000, "no progress");
            for (i, (client, n, done)) in clients.iter_mut().enumerate() {
                let Some(outcome) = (!*done).then(|| client.poll(&mut fs.cluster)).flatten() else {
                    continue;
                };
                match outcome.errno() {
                    None => {
                        *n += 1;
                        begin(&mut fs, client, i, *n);
                    }
                    Some(errno) => {
                        assert_eq!(errno, Errno::EDQUOT);
                        *done = true;
                    }
                }
            }
            fs.cluster.advance();
            fs.check();
        }
        assert_eq!(fs.used().inodes, 200, "seed {seed}");
    }
}
