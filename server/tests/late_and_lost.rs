//! Late copies, lost tails and crowded moments: what the simulator found, or reading beside it, each
//! told by itself.

use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::message::{
    Credentials, Entry, LockOwner, LockRange, LockSpace, LockType, Op, OpReply, Reply, Request, Who,
};
use sealfs_protocol::{
    ClientId, Errno, Incarnation, InodeId, OpenId, Sequence, SessionId, ShardId,
    TruncateGeneration, codec, hash,
};
use sealfs_server::core::ConnId;
use sealfs_testkit::audit::Audit;
use sealfs_testkit::client::at;
use sealfs_testkit::cluster::{Arrival, VOLUME};
use sealfs_testkit::{Client, Cluster, Place, Settings};

const O_RDWR_CREAT: u32 = 0o102;
/// Of raw clients.
const SESSION: SessionId = SessionId(78);
const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000 * MS;

fn cluster(shards: u32) -> Cluster {
    Cluster::new(Settings {
        shards,
        partitions: 48,
        seed: 5,
        ..Settings::default()
    })
}

fn make_dir(client: &mut Client, cluster: &mut Cluster, dir: InodeId, name: &str) -> InodeId {
    let op = Op::MakeDir {
        at: at(dir, name),
        mode: 0o755,
    };
    client.call(cluster, op).attr().ino
}

/// A new directory whose inode lies on a shard. Its name begins with `prefix`.
fn make_dir_on(
    client: &mut Client,
    cluster: &mut Cluster,
    dir: InodeId,
    (prefix, shard): (&str, usize),
) -> (InodeId, String) {
    let partitions = cluster.ring().partitions();
    let fits = |name: &String| {
        let partition = hash::directory_partition(dir, name.as_bytes(), partitions);
        cluster.owner(partition) == shard
    };
    let name = (0..10_000).map(|i| format!("{prefix}{i}")).find(fits);
    let name = name.expect("some name fits");
    (make_dir(client, cluster, dir, &name), name)
}

fn open(client: &mut Client, cluster: &mut Cluster, dir: InodeId, name: &str) -> InodeId {
    let op = Op::Open {
        at: at(dir, name),
        flags: O_RDWR_CREAT,
        mode: 0o644,
        open: OpenId(1),
        read_bytes: 0,
    };
    client.call(cluster, op).attr().ino
}

fn close(client: &mut Client, cluster: &mut Cluster, ino: InodeId) {
    let open = OpenId(1);
    let closed = client.call(cluster, Op::Close { ino, open });
    assert_eq!(closed.reply, OpReply::Done);
}

fn append(client: &mut Client, cluster: &mut Cluster, ino: InodeId, bytes: &[u8]) {
    let op = Op::Append {
        ino,
        len_bytes: bytes.len() as u32,
        open: OpenId(1),
    };
    let written = client.call_with(cluster, op, bytes);
    let done = matches!(written.reply, OpReply::Written { .. });
    assert!(done, "{written:?}");
}

fn rename(from: (InodeId, &str), to: (InodeId, &str)) -> Op {
    Op::Rename {
        from: at(from.0, from.1),
        to: at(to.0, to.1),
        flags: 0,
    }
}

fn owner(client: &Client) -> LockOwner {
    LockOwner::Process {
        client: client.id,
        session: client.session,
    }
}

fn record_lock(owner: LockOwner, kind: LockType) -> LockRange {
    LockRange {
        space: LockSpace::Record,
        owner,
        kind,
        start: 0,
        last: 9,
        pid: 1,
    }
}

fn is_sound(cluster: &mut Cluster) {
    cluster.pass(15 * SECOND_NS);
    let problems = Audit::of(cluster).check_tree().problems();
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn two_directories_of_one_shard_do_not_move_below_each_other() {
    let mut cluster = cluster(2);
    let mut first = Client::new(&mut cluster, 11, 0);
    let mut second = Client::new(&mut cluster, 12, 0);
    let root = first.root(&cluster);
    let shard = cluster.owner(root.partition());
    let mut make = |dir, prefix| make_dir_on(&mut first, &mut cluster, dir, (prefix, shard));
    let ((a, _), (b, _)) = (make(root, "a"), make(root, "b"));
    let ((x, x_name), (y, y_name)) = (make(a, "x"), make(b, "y"));
    let (below_x, _) = make(x, "w");
    // Both are about to take place and wait for the other shard to hear of it.
    cluster.net().part(Place::Shard(0), Place::Shard(1));
    first.begin(&mut cluster, rename((a, &x_name), (y, "x")), &[]);
    second.begin(&mut cluster, rename((b, &y_name), (below_x, "y")), &[]);
    cluster.pass(50 * MS);
    cluster.net().heal();
    let outcomes = [first.finish(&mut cluster), second.finish(&mut cluster)];
    let refused = outcomes.iter().filter(|o| o.errno() == Some(Errno::EINVAL));
    assert_eq!(refused.count(), 1, "{outcomes:?}");
    is_sound(&mut cluster);
}

/// Moves a directory from one shard to another, whose entry of a third is concerned, while `fell`
/// makes a shard go down after so many steps; whether the move was over before.
fn move_while(steps: u32, victim: usize, fell: fn(&mut Cluster, usize)) -> bool {
    let mut cluster = cluster(3);
    let mut mover = Client::new(&mut cluster, 11, 0);
    let mut other = Client::new(&mut cluster, 12, 0);
    let root = mover.root(&cluster);
    let (from, _) = make_dir_on(&mut mover, &mut cluster, root, ("d0-", 0));
    let (to, _) = make_dir_on(&mut mover, &mut cluster, root, ("d1-", 1));
    let (moved, name) = make_dir_on(&mut mover, &mut cluster, from, ("d1-", 1));
    cluster.pass(2 * SECOND_NS);
    mover.begin(&mut cluster, rename((from, &name), (to, "moved")), &[]);
    let mut early = None;
    for _ in 0..steps {
        cluster.advance();
        early = early.or_else(|| mover.poll(&mut cluster));
    }
    fell(&mut cluster, victim);
    cluster.start(victim);
    let made = open(&mut other, &mut cluster, to, "made");
    close(&mut other, &mut cluster, made);
    let over = early.is_some();
    let outcome = early.unwrap_or_else(|| mover.finish(&mut cluster));
    assert_eq!(outcome.reply, OpReply::Done, "step {steps}, shard {victim}");
    is_sound(&mut cluster);
    let op = Op::GetAttr {
        at: at(to, "moved"),
        follow: false,
    };
    assert_eq!(other.call(&mut cluster, op).attr().ino, moved);
    over
}

#[test]
fn a_shard_may_die_at_any_moment_of_a_move() {
    for fell in [Cluster::kill, Cluster::power_cut] {
        for victim in 0..3 {
            let over = (0..400).find(|steps| move_while(*steps, victim, fell));
            assert!(over.is_some_and(|steps| steps > 10), "{over:?}");
        }
    }
}

#[test]
fn bytes_are_sent_once_when_their_read_has_to_wait() {
    let content = [7u8; 3_000];
    for steps in 0..60 {
        let mut cluster = cluster(2);
        let mut linker = Client::new(&mut cluster, 11, 0);
        let mut reader = Client::new(&mut cluster, 12, 0);
        let root = linker.root(&cluster);
        let (here, _) = make_dir_on(&mut linker, &mut cluster, root, ("d0-", 0));
        let (there, _) = make_dir_on(&mut linker, &mut cluster, root, ("d1-", 1));
        let ino = open(&mut linker, &mut cluster, here, "f");
        append(&mut linker, &mut cluster, ino, &content);
        let op = Op::Link {
            ino,
            to: at(there, "f"),
            from_open: None,
        };
        linker.begin(&mut cluster, op, &[]);
        for _ in 0..steps {
            cluster.advance();
        }
        let op = Op::Read {
            ino,
            chunk: 0,
            offset_bytes: 0,
            len_bytes: 4_096,
            atime: true,
            generation: TruncateGeneration(0),
        };
        let read = reader.call(&mut cluster, op);
        assert_eq!(read.payload, content, "after {steps} steps");
    }
}

/// A client that says just what the test says, over two connections.
struct Raw {
    end: usize,
    client: ClientId,
}

impl Raw {
    fn new(cluster: &mut Cluster) -> Raw {
        let end = cluster.fresh_end();
        let client = ClientId(77);
        Raw { end, client }
    }

    fn connect(&self, cluster: &mut Cluster, shard: usize) -> ConnId {
        let who = Who::Client {
            client: self.client,
            session: SESSION,
            volume: VOLUME,
            pid: 1,
            credentials: Credentials::default(),
        };
        cluster.connect(self.end, shard, who)
    }

    fn send(&self, cluster: &mut Cluster, conn: ConnId, slot: u16, op: &Op) {
        let partition = match op {
            Op::Lock { ino, .. } | Op::CancelWait { ino, .. } => ino.partition(),
            Op::Open { at, .. } => at.base.partition(),
            other => panic!("{other:?} is not asked for here"),
        };
        let request = Request {
            ops: vec![Entry {
                partition,
                epoch: cluster.ring().epoch(partition),
                op: op.clone(),
            }],
        };
        let body = codec::encode(&request).expect("a request encodes");
        let header = Header {
            client: self.client,
            slot,
            sequence: Sequence(1),
            deadline_ms: u32::MAX,
            ..Header::new(Kind::Request)
        };
        cluster.send(conn, header, &body, &[]);
        cluster.pass(10 * MS);
    }

    /// The connections over which replies have come, and these.
    fn replies(&self, cluster: &mut Cluster) -> Vec<(ConnId, OpReply)> {
        let arrivals = cluster.take_inbox(self.end).into_iter();
        let replies = arrivals.filter_map(|arrival| match arrival {
            Arrival::Frame(conn, frame) if frame.header.kind == Kind::Reply => {
                let mut reply: Reply = codec::decode(&frame.body).expect("a reply parses");
                Some((conn, reply.replies.remove(0)))
            }
            _ => None,
        });
        replies.collect()
    }
}

/// A file that `holder` has locked, and the request of a raw client that waits for it.
fn locked_file(cluster: &mut Cluster, holder: &mut Client, raw: &Raw) -> (InodeId, Op) {
    let root = holder.root(cluster);
    let ino = open(holder, cluster, root, "f");
    let lock = |owner, wait| Op::Lock {
        ino,
        range: record_lock(owner, LockType::Write),
        wait: bool::then_some(wait, 0),
    };
    let held = holder.call(cluster, lock(owner(holder), false));
    assert_eq!(held.reply, OpReply::Done);
    let raw = LockOwner::Process {
        client: raw.client,
        session: SESSION,
    };
    (ino, lock(raw, true))
}

fn unlock(cluster: &mut Cluster, holder: &mut Client, ino: InodeId) {
    let op = Op::Lock {
        ino,
        range: record_lock(owner(holder), LockType::Unlock),
        wait: None,
    };
    assert_eq!(holder.call(cluster, op).reply, OpReply::Done);
    cluster.pass(10 * MS);
}

#[test]
fn a_late_copy_takes_the_reply_to_nobody() {
    let mut cluster = cluster(1);
    let mut holder = Client::new(&mut cluster, 11, 0);
    let raw = Raw::new(&mut cluster);
    let (given_up, in_use) = (raw.connect(&mut cluster, 0), raw.connect(&mut cluster, 0));
    let (ino, wait) = locked_file(&mut cluster, &mut holder, &raw);
    raw.send(&mut cluster, in_use, 0, &wait);
    raw.send(&mut cluster, given_up, 0, &wait);
    unlock(&mut cluster, &mut holder, ino);
    assert_eq!(raw.replies(&mut cluster), [(in_use, OpReply::Done)]);
}

#[test]
fn an_open_whose_reply_was_lost_in_a_restart_keeps_its_file() {
    let mut cluster = cluster(1);
    let mut other = Client::new(&mut cluster, 11, 0);
    let root = other.root(&cluster);
    make_dir(&mut other, &mut cluster, root, "d");
    let raw = Raw::new(&mut cluster);
    let op = Op::Open {
        at: at(root, "f"),
        flags: O_RDWR_CREAT,
        mode: 0o644,
        open: OpenId(1),
        read_bytes: 0,
    };
    let conn = raw.connect(&mut cluster, 0);
    raw.send(&mut cluster, conn, 0, &op);
    cluster.kill(0);
    cluster.start(0);
    cluster.take_inbox(raw.end);
    let conn = raw.connect(&mut cluster, 0);
    raw.send(&mut cluster, conn, 0, &op);
    let opened = raw.replies(&mut cluster);
    let [(_, OpReply::Opened { attr, .. })] = opened.as_slice() else {
        panic!("{opened:?}");
    };
    let unlinked = other.call(&mut cluster, Op::Unlink { at: at(root, "f") });
    assert_eq!(unlinked.reply, OpReply::Done);
    cluster.pass(15 * SECOND_NS);
    let look = Op::GetAttr {
        at: at(attr.ino, ""),
        follow: false,
    };
    assert_eq!(other.call(&mut cluster, look).attr().nlink, 0);
}

#[test]
fn a_wait_that_was_taken_back_is_not_granted_to_a_late_copy() {
    let mut cluster = cluster(1);
    let mut holder = Client::new(&mut cluster, 11, 0);
    let raw = Raw::new(&mut cluster);
    let conn = raw.connect(&mut cluster, 0);
    let (ino, wait) = locked_file(&mut cluster, &mut holder, &raw);
    raw.send(&mut cluster, conn, 0, &wait);
    raw.send(&mut cluster, conn, 1, &Op::CancelWait { ino, slot: 0 });
    unlock(&mut cluster, &mut holder, ino);
    raw.send(&mut cluster, conn, 0, &wait);
    let interrupted = OpReply::Errno(Errno::EINTR);
    let replies = raw
        .replies(&mut cluster)
        .into_iter()
        .map(|(_, reply)| reply);
    let interrupts = replies.filter(|reply| *reply == interrupted).count();
    assert_eq!(interrupts, 2, "the copy is told the same");
    let op = Op::TestLock {
        ino,
        range: record_lock(owner(&holder), LockType::Write),
    };
    assert_eq!(holder.call(&mut cluster, op).reply, OpReply::LockHeld(None));
}

#[test]
fn a_shard_is_heard_over_its_last_connection_only() {
    let mut cluster = cluster(1);
    let end = cluster.fresh_end();
    let who = || Who::Shard {
        shard: ShardId(9),
        incarnation: Incarnation(1),
    };
    let earlier = cluster.connect(end, 0, who());
    cluster.pass(MS);
    let later = cluster.connect(end, 0, who());
    cluster.pass(MS);
    let core = cluster.core(0).expect("it is up");
    assert!(!core.knows_connection(earlier) && core.knows_connection(later));
}

#[test]
fn the_locks_of_an_ended_client_do_not_return_with_a_loss_of_power() {
    let mut cluster = cluster(3);
    let mut keeper = Client::new(&mut cluster, 11, 0);
    let root = keeper.root(&cluster);
    for shard in 0..3 {
        let (dir, _) = make_dir_on(&mut keeper, &mut cluster, root, ("d", shard));
        let mut holder = Client::new(&mut cluster, 20 + shard as u128, 0);
        let ino = open(&mut holder, &mut cluster, dir, "f");
        let op = Op::Lock {
            ino,
            range: record_lock(owner(&holder), LockType::Write),
            wait: None,
        };
        assert_eq!(holder.call(&mut cluster, op).reply, OpReply::Done);
        cluster.pass(2 * SECOND_NS);
        holder.die(&mut cluster);
        let client = holder.id;
        let home = hash::client_home(client, cluster.ring().partitions());
        keeper.begin_at(&mut cluster, home, Op::EndClient { client }, &[]);
        assert_eq!(keeper.finish(&mut cluster).reply, OpReply::Done);
        cluster.pass(20 * MS);
        for index in 0..3 {
            cluster.power_cut(index);
        }
        for index in 0..3 {
            cluster.start(index);
        }
        cluster.pass(5 * SECOND_NS);
        let op = Op::TestLock {
            ino,
            range: record_lock(owner(&keeper), LockType::Write),
        };
        assert_eq!(keeper.call(&mut cluster, op).reply, OpReply::LockHeld(None));
    }
}

#[test]
fn what_an_always_durable_volume_acknowledges_is_there_in_every_chunk() {
    for seed in 0..12 {
        let mut cluster = Cluster::new(Settings {
            durability: Durability::Always,
            shards: 3,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let mut client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        let ino = open(&mut client, &mut cluster, root, "f");
        append(&mut client, &mut cluster, ino, &vec![9; 250_000]);
        for index in 0..3 {
            cluster.power_cut(index);
        }
        for index in 0..3 {
            cluster.start(index);
        }
        let op = Op::GetAttr {
            at: at(ino, ""),
            follow: false,
        };
        let attr = client.call(&mut cluster, op).attr();
        assert_eq!(attr.size_bytes, 250_000);
        for span in attr.layout.split(0, attr.size_bytes) {
            let op = Op::Read {
                ino,
                chunk: span.chunk,
                offset_bytes: span.offset_bytes,
                len_bytes: span.len_bytes,
                atime: true,
                generation: attr.generation,
            };
            let partitions = cluster.ring().partitions();
            let partition = attr.layout.partition_of(ino, span.chunk, partitions);
            client.begin_at(&mut cluster, partition, op, &[]);
            let read = client.finish(&mut cluster);
            let whole = vec![9; span.len_bytes as usize];
            assert!(read.payload == whole, "chunk {}, seed {seed}", span.chunk);
        }
    }
}

#[test]
fn nothing_moves_into_a_removed_directory_whose_parents_are_gone_as_well() {
    let mut cluster = cluster(1);
    let mut client = Client::new(&mut cluster, 11, 0);
    let root = client.root(&cluster);
    let upper = make_dir(&mut client, &mut cluster, root, "upper");
    let lower = make_dir(&mut client, &mut cluster, upper, "lower");
    make_dir(&mut client, &mut cluster, root, "moved");
    let opened = Op::Open {
        at: at(lower, ""),
        flags: 0,
        mode: 0,
        open: OpenId(5),
        read_bytes: 0,
    };
    assert_eq!(client.call(&mut cluster, opened).errno(), None);
    for at in [at(upper, "lower"), at(root, "upper")] {
        let removed = client.call(&mut cluster, Op::RemoveDir { at });
        assert_eq!(removed.reply, OpReply::Done);
    }
    let op = Op::Rename {
        from: at(root, "moved"),
        to: at(lower, "there"),
        flags: 0,
    };
    assert_eq!(client.call(&mut cluster, op).errno(), Some(Errno::ENOENT));
}
