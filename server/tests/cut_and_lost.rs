//! Bytes of a file on other shards, and a power cut of the shard that has the file itself: what it
//! has not flushed is lost, but never what was synced before.

use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{InodeId, OpenId, PartitionId};
use sealfs_server::core::Core;
use sealfs_server::meta::Limits;
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Settings};

const O_RDWR_CREAT: u32 = 0o102;
const SECOND_NS: u64 = 1_000_000_000;
const OPEN: OpenId = OpenId(1);
/// Over six chunks of 64 KiB.
const FILE_BYTES: usize = 400_000;

struct Fs {
    cluster: Cluster,
    client: Client,
    root: InodeId,
    file: InodeId,
}

impl Fs {
    /// With a file of several chunks that is synced everywhere; nothing is flushed by itself soon.
    fn with_synced_file() -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards: 3,
            limits: Limits {
                flush_after_ns: 100 * SECOND_NS,
                commit_after_ns: 100 * SECOND_NS,
                ..Limits::default()
            },
            ..Settings::default()
        });
        let mut client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        let made = client.call(
            &mut cluster,
            Op::Open {
                at: at(root, "file"),
                flags: O_RDWR_CREAT,
                mode: 0o644,
                open: OPEN,
                read_bytes: 0,
            },
        );
        let file = made.attr().ino;
        let append = Op::Append {
            ino: file,
            len_bytes: FILE_BYTES as u32,
            open: OPEN,
        };
        let written = client.call_with(&mut cluster, append, &vec![7; FILE_BYTES]);
        assert!(matches!(written.reply, OpReply::Written { .. }));
        let closed = client.call(
            &mut cluster,
            Op::Close {
                ino: file,
                open: OPEN,
            },
        );
        assert_eq!(closed.reply, OpReply::Done);
        let mut fs = Fs {
            cluster,
            client,
            root,
            file,
        };
        fs.sync();
        fs
    }

    fn sync(&mut self) {
        for shard in 0..self.cluster.shards() {
            let mut partitions = (0..self.cluster.ring().partitions()).map(PartitionId);
            let owned = partitions.find(|p| self.cluster.owner(*p) == shard);
            let owned = owned.expect("each owns some");
            let cluster = &mut self.cluster;
            self.client.begin_at(cluster, owned, Op::SyncFs, &[]);
            assert_eq!(self.client.finish(cluster).errno(), None);
        }
    }

    /// The shard that has the file's inode loses power and starts again.
    fn owner_loses_power(&mut self) {
        let owner = self.cluster.owner(self.file.partition());
        self.cluster.power_cut(owner);
        self.cluster.pass(SECOND_NS);
        self.cluster.start(owner);
        self.cluster.pass(SECOND_NS);
    }

    fn stat(&mut self) -> Attr {
        let op = Op::GetAttr {
            at: at(self.root, "file"),
            follow: false,
        };
        self.client.call(&mut self.cluster, op).attr()
    }

    fn read(&mut self, attr: &Attr) -> Vec<u8> {
        self.client.read_all(&mut self.cluster, attr)
    }
}

#[test]
fn a_truncation_that_other_shards_have_carried_out_is_not_lost_by_the_owner() {
    let mut fs = Fs::with_synced_file();
    let set = SetAttr {
        size_bytes: Some(10),
        ..SetAttr::default()
    };
    let op = Op::SetAttr {
        at: at(fs.file, ""),
        follow: false,
        set,
    };
    assert_eq!(fs.client.call(&mut fs.cluster, op).attr().size_bytes, 10);
    fs.owner_loses_power();
    let attr = fs.stat();
    assert_eq!(attr.size_bytes, 10);
    assert_eq!(fs.read(&attr), [7; 10]);
}

#[test]
fn a_file_whose_removal_is_lost_has_all_its_bytes() {
    let mut fs = Fs::with_synced_file();
    let op = Op::Unlink {
        at: at(fs.root, "file"),
    };
    assert_eq!(fs.client.call(&mut fs.cluster, op).reply, OpReply::Done);
    fs.cluster.pass(5 * SECOND_NS);
    fs.owner_loses_power();
    let attr = fs.stat();
    assert_eq!(attr.size_bytes, FILE_BYTES as u64);
    assert!(fs.read(&attr).iter().all(|byte| *byte == 7));
}

#[test]
fn a_removal_that_lasts_takes_the_bytes_everywhere() {
    let mut fs = Fs::with_synced_file();
    let op = Op::Unlink {
        at: at(fs.root, "file"),
    };
    assert_eq!(fs.client.call(&mut fs.cluster, op).reply, OpReply::Done);
    fs.sync();
    fs.cluster.pass(SECOND_NS);
    let used: u64 = (0..fs.cluster.shards())
        .filter_map(|shard| fs.cluster.core(shard))
        .flat_map(Core::volume_uses)
        .map(|share| share.used.inodes)
        .sum();
    assert_eq!(used, 1, "the root alone is left");
}
