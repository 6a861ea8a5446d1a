//! What a write leaves behind the end of a file reads as zeros, whatever was sent there before and
//! never published: by somebody who was refused, who died, or whose size was lost with a machine.

use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::message::{Op, OpReply, Refusal};
use sealfs_protocol::{Errno, InodeId, OpenId, PartitionId, TruncateGeneration};
use sealfs_server::meta::Limits;
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Settings};

const O_RDWR_CREAT: u32 = 0o102;
const SECOND_NS: u64 = 1_000_000_000;
const OPEN: OpenId = OpenId(1);
const CHUNK: u64 = 1 << 16;
/// Behind the second of six chunks, so that there is something to be left in a gap.
const STRAY: u64 = 2 * CHUNK;
const END: u64 = 6 * CHUNK;

struct Fs {
    cluster: Cluster,
    client: Client,
    ino: InodeId,
}

impl Fs {
    /// With an empty file; nothing is flushed by itself soon.
    fn new(shards: u32) -> Fs {
        let mut cluster = Cluster::new(Settings {
            shards,
            limits: Limits {
                flush_after_ns: 100 * SECOND_NS,
                commit_after_ns: 100 * SECOND_NS,
                ..Limits::default()
            },
            ..Settings::default()
        });
        let mut client = Client::new(&mut cluster, 11, 0);
        let op = Op::Open {
            at: at(client.root(&cluster), "file"),
            flags: O_RDWR_CREAT,
            mode: 0o644,
            open: OPEN,
            read_bytes: 0,
        };
        let ino = client.call(&mut cluster, op).attr().ino;
        client.keep_open(ino, OPEN);
        let mut fs = Fs {
            cluster,
            client,
            ino,
        };
        fs.sync();
        fs
    }

    fn call(&mut self, op: Op) -> OpReply {
        self.client.call(&mut self.cluster, op).reply
    }

    fn sync(&mut self) {
        for shard in 0..self.cluster.shards() {
            let mut partitions = (0..self.cluster.ring().partitions()).map(PartitionId);
            let owned = partitions.find(|p| self.cluster.owner(*p) == shard);
            let owned = owned.expect("each owns some");
            self.client
                .begin_at(&mut self.cluster, owned, Op::SyncFs, &[]);
            assert_eq!(self.client.finish(&mut self.cluster).errno(), None);
        }
    }

    fn stat(&mut self) -> Attr {
        let op = Op::GetAttr {
            at: at(self.ino, ""),
            follow: false,
        };
        self.client.call(&mut self.cluster, op).attr()
    }

    fn publish(&mut self, from: u64, size: u64, generation: TruncateGeneration) -> OpReply {
        self.call(Op::Publish {
            ino: self.ino,
            from_bytes: from,
            size_at_least_bytes: size,
            wide: true,
            generation,
            open: OPEN,
        })
    }

    /// Sends `len` bytes to their chunks; who has room.
    fn send(&mut self, offset: u64, len: u64, attr: &Attr) -> Vec<OpReply> {
        let partitions = self.cluster.ring().partitions();
        let mut replies = Vec::new();
        for span in attr.layout.split(offset, len) {
            let op = Op::Write {
                ino: self.ino,
                chunk: span.chunk,
                offset_bytes: span.offset_bytes,
                len_bytes: span.len_bytes,
                generation: attr.generation,
                open: OPEN,
            };
            let partition = attr.layout.partition_of(self.ino, span.chunk, partitions);
            let bytes = vec![7; span.len_bytes as usize];
            self.client
                .begin_at(&mut self.cluster, partition, op, &bytes);
            replies.push(self.client.finish(&mut self.cluster).reply);
        }
        replies
    }

    /// Bytes are sent behind the end, and nobody publishes them.
    fn leave_some(&mut self) {
        let attr = self.stat();
        self.publish(0, 0, attr.generation);
        let replies = self.send(STRAY, 2 * CHUNK, &attr);
        let landed = |r: &OpReply| matches!(r, OpReply::Written { .. });
        assert!(replies.iter().all(landed), "{replies:?}");
    }

    /// A write of one byte there, as clients make it; how often its size was refused.
    fn write_behind(&mut self) -> u32 {
        for refused in 0..3 {
            let attr = self.stat();
            self.publish(0, 0, attr.generation);
            self.send(END, 1, &attr);
            match self.publish(END, END + 1, attr.generation) {
                OpReply::Written { .. } => return refused,
                OpReply::Refused(Refusal::StaleGeneration { attr: Some(_) }) => {}
                other => panic!("{other:?}"),
            }
        }
        panic!("it is refused again and again");
    }

    fn grow(&mut self, size: u64) {
        let set = SetAttr {
            size_bytes: Some(size),
            ..SetAttr::default()
        };
        let (at, follow) = (at(self.ino, ""), false);
        let grown = self.call(Op::SetAttr { at, follow, set });
        assert!(matches!(grown, OpReply::Attr(_)), "{grown:?}");
    }

    /// How many bytes of the file are not zeros.
    fn filled(&mut self) -> usize {
        let attr = self.stat();
        let bytes = self.client.read_all(&mut self.cluster, &attr);
        bytes.iter().filter(|byte| **byte != 0).count()
    }

    fn owner(&self) -> usize {
        self.cluster.owner(self.ino.partition())
    }

    fn restart_owner(&mut self, fell: fn(&mut Cluster, usize)) {
        let owner = self.owner();
        fell(&mut self.cluster, owner);
        self.cluster.pass(SECOND_NS);
        self.cluster.start(owner);
        self.cluster.pass(SECOND_NS);
    }

    fn limit(&mut self, bytes: u64) {
        self.cluster
            .publish(|state| state.volumes[0].quota_bytes = bytes);
        self.cluster.pass(SECOND_NS);
    }
}

#[test]
fn a_gap_behind_an_append_that_was_refused_halfway_is_zeros() {
    for room in 1..6 {
        let mut fs = Fs::new(3);
        fs.limit(room * CHUNK);
        let append = Op::Append {
            ino: fs.ino,
            len_bytes: END as u32,
            open: OPEN,
        };
        let bytes = vec![7; END as usize];
        let refused = fs.client.call_with(&mut fs.cluster, append, &bytes);
        assert_eq!(refused.errno(), Some(Errno::EDQUOT));
        fs.limit(0);
        fs.write_behind();
        assert_eq!(fs.filled(), 1);
    }
}

#[test]
fn a_gap_behind_what_a_client_says_it_has_left_is_zeros() {
    let mut fs = Fs::new(3);
    fs.leave_some();
    let ino = fs.ino;
    assert_eq!(fs.call(Op::Doubt { ino }), OpReply::Done);
    assert_eq!(fs.write_behind(), 1);
    assert_eq!(fs.filled(), 1);
}

#[test]
fn a_write_that_was_sent_before_others_were_cut_is_refused_and_not_lost() {
    let mut fs = Fs::new(3);
    fs.leave_some();
    let attr = fs.stat();
    fs.send(END, 1, &attr);
    let ino = fs.ino;
    assert_eq!(fs.call(Op::Doubt { ino }), OpReply::Done);
    let late = fs.publish(END, END + 1, attr.generation);
    let stale = matches!(late, OpReply::Refused(Refusal::StaleGeneration { .. }));
    assert!(stale, "{late:?}");
    assert_eq!((fs.write_behind(), fs.filled()), (0, 1));
}

#[test]
fn a_gap_behind_what_an_ended_session_has_left_is_zeros() {
    let mut fs = Fs::new(3);
    fs.leave_some();
    let session = fs.client.session;
    fs.client.die(&mut fs.cluster);
    fs.client = Client::new(&mut fs.cluster, 12, 0);
    assert_eq!(fs.call(Op::EndSession { session }), OpReply::Done);
    fs.cluster.pass(SECOND_NS);
    assert_eq!(fs.write_behind(), 1);
    assert_eq!(fs.filled(), 1);
}

#[test]
fn a_gap_behind_a_size_that_the_owner_lost_is_zeros() {
    let mut fs = Fs::new(3);
    let attr = fs.stat();
    fs.publish(0, 0, attr.generation);
    fs.send(STRAY, 2 * CHUNK, &attr);
    fs.publish(STRAY, STRAY + 2 * CHUNK, attr.generation);
    fs.restart_owner(Cluster::power_cut);
    assert_eq!(fs.stat().size_bytes, 0);
    assert_eq!(fs.write_behind(), 1);
    assert_eq!(fs.filled(), 1);
    assert_eq!(fs.write_behind(), 0, "once in a life of its owner");
}

#[test]
fn a_file_that_grows_after_its_owner_lost_that_it_is_wide_grows_by_zeros() {
    let mut fs = Fs::new(3);
    fs.leave_some();
    fs.restart_owner(Cluster::power_cut);
    assert!(!fs.stat().wide);
    fs.grow(END);
    assert_eq!(fs.filled(), 0);
}

#[test]
fn a_gap_behind_what_was_left_while_the_owner_was_away_is_zeros() {
    let mut fs = Fs::new(3);
    fs.leave_some();
    fs.restart_owner(Cluster::kill);
    assert_eq!(fs.write_behind(), 1);
    assert_eq!(fs.filled(), 1);
}

#[test]
fn a_new_file_is_never_in_doubt() {
    let mut fs = Fs::new(3);
    let before = fs.stat().generation;
    assert_eq!((fs.write_behind(), fs.filled()), (0, 1));
    assert_eq!(fs.stat().generation, before);
}

/// Who could see the new generation before the chunks are cut would lose what it writes under it.
#[test]
fn what_is_written_while_a_truncation_is_under_way_stays() {
    let mut fs = Fs::new(3);
    let attr = fs.stat();
    fs.publish(0, 0, attr.generation);
    let mut other = Client::new(&mut fs.cluster, 12, 0);
    let set = SetAttr {
        size_bytes: Some(END),
        ..SetAttr::default()
    };
    let (place, follow) = (at(fs.ino, ""), false);
    let grow = Op::SetAttr {
        at: place,
        follow,
        set,
    };
    other.begin(&mut fs.cluster, grow, &[]);
    let mut grown = None;
    loop {
        grown = grown.or_else(|| other.poll(&mut fs.cluster));
        let attr = fs.stat();
        if attr.size_bytes == END {
            fs.send(END - 1, 1, &attr);
            break;
        }
        fs.cluster.advance();
    }
    let grown = grown.unwrap_or_else(|| other.finish(&mut fs.cluster));
    assert!(matches!(grown.reply, OpReply::Attr(_)), "{grown:?}");
    assert_eq!(fs.filled(), 1);
}
