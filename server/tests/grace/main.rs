//! After a restart: orphans wait until every session that lives has told what it has open; after the
//! loss of a tail of the log, nobody gets a lock that a live session may still go by, and none that was
//! given back returns. A file that is executed is kept from writers the same way. Here is the field on
//! which that is played; the tests stand beside it, by what they are about.

mod executed;
mod locks;
mod orphans;

use sealfs_protocol::message::{LockMark, LockOwner, LockRange, LockSpace, LockType, Op, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId, PartitionId, SessionId, hash};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Settings};

const O_RDWR: u32 = 0o2;
const O_RDWR_CREAT: u32 = 0o102;
const SECOND: u64 = 1_000_000_000;
const OPEN: OpenId = OpenId(5);

/// A holder whose keeper renews its lease, a rival, and a file on another shard than the home of the
/// holder's session, if there is one.
struct Field {
    cluster: Cluster,
    holder: Client,
    keeper: Client,
    rival: Client,
    dir: InodeId,
    file: InodeId,
    shard: usize,
    home: PartitionId,
}

impl Field {
    fn new(shards: u32, seed: u64) -> Field {
        let mut cluster = Cluster::new(Settings {
            shards,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let mut holder = Client::new(&mut cluster, 1, 0);
        let mut keeper = Client::new(&mut cluster, 3, 0);
        keeper.session = holder.session;
        let rival = Client::new(&mut cluster, 2, 0);
        let home = hash::session_home(holder.session, cluster.ring().partitions());
        let (dir, file) = file_off(&mut cluster, &mut holder, home);
        let shard = cluster.owner(file.partition());
        let mut field = Field {
            cluster,
            holder,
            keeper,
            rival,
            dir,
            file,
            shard,
            home,
        };
        field.renew();
        field.sync();
        field
    }

    fn renew(&mut self) {
        let session = self.holder.session;
        assert_eq!(self.tell(self.home, Op::Renew { session }), OpReply::Done);
    }

    fn tell(&mut self, partition: PartitionId, op: Op) -> OpReply {
        self.keeper.begin_at(&mut self.cluster, partition, op, &[]);
        self.keeper.finish(&mut self.cluster).reply
    }

    /// Time passes, and the keeper renews the lease.
    fn live_on(&mut self, seconds: u64) {
        for _ in 0..seconds.div_ceil(3) {
            self.renew();
            self.cluster.pass(3 * SECOND);
        }
    }

    fn sync(&mut self) {
        let partition = self.file.partition();
        assert_eq!(self.tell(partition, Op::SyncFs), OpReply::Done);
    }

    fn restart(&mut self, power: bool) {
        if power {
            self.cluster.power_cut(self.shard);
        } else {
            self.cluster.kill(self.shard);
        }
        self.cluster.start(self.shard);
    }

    fn is_awaited(&mut self) -> bool {
        let session = self.holder.session;
        let reply = self.tell(self.file.partition(), Op::IsAwaited { session });
        reply == OpReply::Errno(Errno::EAGAIN)
    }

    /// What the server says of the locks of the holder's description.
    fn reassert(&mut self, locked: Option<LockMark>) -> OpReply {
        self.stand(false, locked)
    }

    fn executes(&mut self) {
        assert_eq!(self.stand(true, None), OpReply::Done);
    }

    fn stand(&mut self, executes: bool, locked: Option<LockMark>) -> OpReply {
        let op = Op::Reassert {
            ino: self.file,
            open: OPEN,
            executes,
            locked,
        };
        self.tell(self.file.partition(), op)
    }

    fn rival_begins_to_write(&mut self) {
        let op = Op::Open {
            at: at(self.dir, "f"),
            flags: O_RDWR,
            mode: 0,
            open: OpenId(9),
            read_bytes: 0,
        };
        self.rival.begin(&mut self.cluster, op, &[]);
    }

    /// Whether the rival, who asks now, may write the file.
    fn is_writable(&mut self) -> bool {
        self.rival_begins_to_write();
        match self.rival_after(1) {
            Some(OpReply::Opened { .. }) => true,
            Some(OpReply::Errno(Errno::ETXTBSY)) => false,
            other => panic!("{other:?}"),
        }
    }

    fn all_told(&mut self) {
        let session = self.holder.session;
        let told = self.tell(self.file.partition(), Op::Reasserted { session });
        assert_eq!(told, OpReply::Done);
    }

    fn flock(client: &Client, kind: LockType) -> LockRange {
        LockRange {
            space: LockSpace::Flock,
            owner: LockOwner::Description {
                session: client.session,
                open: OPEN,
            },
            kind,
            start: 0,
            last: u64::MAX,
            pid: 1,
        }
    }

    fn holder_locks(&mut self, kind: LockType) -> LockMark {
        let op = Op::Lock {
            ino: self.file,
            range: Field::flock(&self.holder, kind),
            wait: None,
        };
        let done = self.holder.call(&mut self.cluster, op);
        assert_eq!(done.reply, OpReply::Done);
        self.holder.mark()
    }

    fn rival_begins(&mut self, wait: bool) {
        let op = Op::Lock {
            ino: self.file,
            range: Field::flock(&self.rival, LockType::Write),
            wait: wait.then_some(0),
        };
        self.rival.begin(&mut self.cluster, op, &[]);
    }

    /// What has come of the rival's call after a while in which the holder lives on.
    fn rival_after(&mut self, seconds: u64) -> Option<OpReply> {
        for _ in 0..seconds {
            self.renew();
            let until = self.cluster.now().mono_ns + SECOND;
            while self.cluster.now().mono_ns < until {
                if let Some(outcome) = self.rival.poll(&mut self.cluster) {
                    return Some(outcome.reply);
                }
                self.cluster.advance();
            }
        }
        None
    }

    fn close(&mut self) {
        let op = Op::Close {
            ino: self.file,
            open: OPEN,
        };
        assert_eq!(self.tell(self.file.partition(), op), OpReply::Done);
    }

    fn unlink(&mut self) {
        let op = Op::Unlink {
            at: at(self.dir, "f"),
        };
        let done = self.holder.call(&mut self.cluster, op);
        assert_eq!(done.reply, OpReply::Done);
    }

    fn exists(&mut self) -> bool {
        let op = Op::GetAttr {
            at: at(self.file, ""),
            follow: false,
        };
        match self.rival.call(&mut self.cluster, op).reply {
            OpReply::Attr(_) => true,
            OpReply::Errno(Errno::ESTALE) => false,
            other => panic!("{other:?}"),
        }
    }
}

/// A directory on a shard that does not own `home`, and the file f in it, open.
fn file_off(cluster: &mut Cluster, client: &mut Client, home: PartitionId) -> (InodeId, InodeId) {
    let root = client.root(cluster);
    for n in 0.. {
        let op = Op::MakeDir {
            at: at(root, &format!("d{n}")),
            mode: 0o755,
        };
        let dir = client.call(cluster, op).attr().ino;
        if cluster.shards() == 1 || cluster.owner(dir.partition()) != cluster.owner(home) {
            let op = Op::Open {
                at: at(dir, "f"),
                flags: O_RDWR_CREAT,
                mode: 0o644,
                open: OPEN,
                read_bytes: 0,
            };
            return (dir, client.call(cluster, op).attr().ino);
        }
    }
    unreachable!("names do not end")
}
