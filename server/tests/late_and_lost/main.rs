//! Late copies, lost tails and crowded moments: what the simulator found, or reading beside it, each
//! told by itself.

mod copies;
mod losses;
mod moves;

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
