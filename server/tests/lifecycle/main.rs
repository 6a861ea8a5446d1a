//! What begins and ends: sessions, orphans, deleted volumes, restarts, durability, bad frames. Here is
//! what the tests have in common; they stand beside it, by what they are about.

mod durability;
mod frames;
mod sessions;
mod truncation;
mod volumes;

use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::Durability;
use sealfs_protocol::message::{
    Credentials, LockOwner, LockRange, LockSpace, LockType, Op, OpReply, Refusal, Who,
};
use sealfs_protocol::{
    ClientId, Errno, Incarnation, InodeId, OpenId, PartitionId, SessionId, hash,
};
use sealfs_testkit::client::at;
use sealfs_testkit::cluster::{Arrival, VOLUME};
use sealfs_testkit::{Client, Cluster, Random, Settings};

const O_RDWR_CREAT: u32 = 0o102;
const SECOND_NS: u64 = 1_000_000_000;

fn settings(shards: u32) -> Settings {
    Settings {
        shards,
        partitions: 48,
        seed: 3,
        ..Settings::default()
    }
}

fn open(client: &mut Client, cluster: &mut Cluster, name: &str, open: OpenId) -> InodeId {
    let op = Op::Open {
        at: at(client.root(cluster), name),
        flags: O_RDWR_CREAT,
        mode: 0o644,
        open,
        read_bytes: 0,
    };
    client.call(cluster, op).attr().ino
}

fn exists(client: &mut Client, cluster: &mut Cluster, ino: InodeId) -> bool {
    let op = Op::GetAttr {
        at: at(ino, ""),
        follow: false,
    };
    match client.call(cluster, op).reply {
        OpReply::Attr(_) => true,
        OpReply::Errno(Errno::ESTALE) => false,
        other => panic!("{other:?}"),
    }
}

fn unlink(client: &mut Client, cluster: &mut Cluster, name: &str) {
    let op = Op::Unlink {
        at: at(client.root(cluster), name),
    };
    assert_eq!(client.call(cluster, op).reply, OpReply::Done);
}

/// A file of several chunks, written as a client does.
fn write_wide(client: &mut Client, cluster: &mut Cluster, ino: InodeId, len: u32) {
    let bytes: Vec<u8> = (0..len).map(|i| (i / 1000) as u8).collect();
    let op = Op::Append {
        ino,
        len_bytes: len,
        open: OpenId(1),
    };
    let done = client.call_with(cluster, op, &bytes);
    assert!(matches!(done.reply, OpReply::Written { .. }), "{done:?}");
}

fn used_bytes(cluster: &Cluster) -> u64 {
    let shards = 0..cluster.shards();
    let used = shards.filter_map(|i| cluster.core(i).map(|c| c.usage().used_bytes));
    used.sum()
}
