//! Quotas: never more is used than they allow, and never less can be.

use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{Errno, InodeId, OpenId};
use sealfs_server::core::Core;
use sealfs_testkit::client::at;
use sealfs_testkit::cluster::VOLUME;
use sealfs_testkit::{Client, Cluster, Settings};

use crate::{O_CREAT, O_EXCL, O_RDWR};

/// Nobody else is this client.
const FILLER: u128 = 9;
const BLOCK_BYTES: u64 = 4096;
/// What is left to be used, in inodes and in blocks.
const INODES_LEFT: u64 = 3;
const BLOCKS_LEFT: u64 = 5;

/// What all shards that are up use.
fn used(cluster: &Cluster) -> Totals {
    let shards = (0..cluster.shards()).filter_map(|index| cluster.core(index));
    let uses = shards.flat_map(Core::volume_uses);
    let mine = uses.filter(|share| share.volume == VOLUME);
    mine.fold(Totals::default(), |sum, share| sum.plus(share.used))
}

/// The quota holds at every moment.
pub fn check_use(cluster: &Cluster, settings: &Settings) {
    let used = used(cluster);
    let within = used.bytes <= settings.quota_bytes && used.inodes <= settings.quota_inodes;
    assert!(within, "{used:?} is used");
}

/// Nothing is under way: what the quota leaves can be used to the last inode and block, wherever
/// they are wanted, and no more; what is freed can be used again.
pub fn try_edges(cluster: &mut Cluster) {
    let inodes = used(cluster).inodes + INODES_LEFT;
    cluster.publish(|state| {
        state.volumes[0].quota_inodes = inodes;
        state.volumes[0].quota_bytes = 0;
    });
    let mut client = Client::new(cluster, FILLER, 0);
    let root = client.root(cluster);
    let mut files = Vec::new();
    for number in 0..INODES_LEFT - 1 {
        let name = format!("last{number}");
        let made = open(cluster, &mut client, root, &name);
        files.push(made.expect("an inode is left"));
    }
    let dir = Op::MakeDir {
        at: at(root, "lastdir"),
        mode: 0o755,
    };
    assert_eq!(client.call(cluster, dir).errno(), None, "one more is left");
    let over = open(cluster, &mut client, root, "toomuch");
    assert_eq!(over, Err(Errno::EDQUOT), "all inodes are used");
    let before = used(cluster);
    let bytes = before.bytes + BLOCKS_LEFT * BLOCK_BYTES;
    cluster.publish(|state| state.volumes[0].quota_bytes = bytes);
    for turn in 0..2 {
        for block in 0..BLOCKS_LEFT {
            let ino = files[block as usize % files.len()];
            let errno = append(cluster, &mut client, ino);
            assert_eq!(errno, None, "block {block} in turn {turn}");
        }
        for ino in &files {
            let errno = append(cluster, &mut client, *ino);
            assert_eq!(errno, Some(Errno::EDQUOT), "all blocks are used");
        }
        let full = used(cluster);
        assert_eq!((full.inodes, full.bytes), (inodes, bytes));
        for ino in &files {
            let set = SetAttr {
                size_bytes: Some(0),
                ..SetAttr::default()
            };
            let (at, follow) = (at(*ino, ""), false);
            let cut = client.call(cluster, Op::SetAttr { at, follow, set });
            assert_eq!(cut.errno(), None, "what frees is not refused");
        }
        assert_eq!(used(cluster).bytes, before.bytes);
    }
}

fn open(
    cluster: &mut Cluster,
    client: &mut Client,
    dir: InodeId,
    name: &str,
) -> Result<InodeId, Errno> {
    let op = Op::Open {
        at: at(dir, name),
        flags: O_RDWR | O_CREAT | O_EXCL,
        mode: 0o644,
        open: client.fresh_open(),
        read_bytes: 0,
    };
    match client.call(cluster, op).reply {
        OpReply::Opened { attr, .. } => Ok(attr.ino),
        OpReply::Errno(errno) => Err(errno),
        other => panic!("open: {other:?}"),
    }
}

fn append(cluster: &mut Cluster, client: &mut Client, ino: InodeId) -> Option<Errno> {
    let op = Op::Append {
        ino,
        len_bytes: BLOCK_BYTES as u32,
        open: OpenId(1),
    };
    client
        .call_with(cluster, op, &[5; BLOCK_BYTES as usize])
        .errno()
}
