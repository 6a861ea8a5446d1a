//! After a restart: orphans wait until every session that lives has told what it has open; after the
//! loss of a tail of the log, nobody gets a lock that a live session may still go by, and none that was
//! given back returns. A file that is executed is kept from writers the same way.

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

#[test]
fn an_orphan_waits_for_every_live_session_however_long_that_takes() {
    for shards in [1, 3] {
        let mut field = Field::new(shards, 1);
        field.unlink();
        field.restart(false);
        field.live_on(40);
        assert!(field.exists(), "{shards}: its keeper was cut off, not dead");
        assert!(field.is_awaited());
        assert_eq!(field.reassert(None), OpReply::Done);
        field.all_told();
        assert!(!field.is_awaited());
        field.live_on(20);
        assert!(field.exists(), "it is open");
        field.close();
        field.cluster.pass(SECOND);
        assert!(!field.exists());
    }
}

#[test]
fn an_orphan_goes_when_the_last_awaited_session_has_ended_or_told_of_others() {
    for tells in [false, true] {
        let mut field = Field::new(3, 1);
        field.unlink();
        field.restart(false);
        field.live_on(15);
        assert!(field.exists());
        if tells {
            field.all_told();
            field.cluster.pass(SECOND);
        } else {
            field.cluster.pass(14 * SECOND);
        }
        assert!(!field.exists(), "tells: {tells}");
    }
}

#[test]
fn an_orphan_waits_though_ends_of_an_earlier_life_are_carried_out_at_the_start() {
    for shards in [1, 3] {
        let mut field = Field::new(shards, 1);
        // One whose home is the shard that is restarted: it takes the end up again.
        let partitions = field.cluster.ring().partitions();
        let here = |s: SessionId| field.cluster.owner(hash::session_home(s, partitions));
        let session = (100..1_000)
            .map(SessionId)
            .find(|s| here(*s) == field.shard);
        let session = session.expect("numbers do not end");
        let home = hash::session_home(session, partitions);
        assert_eq!(field.tell(home, Op::EndSession { session }), OpReply::Done);
        field.unlink();
        field.restart(false);
        field.cluster.pass(SECOND);
        assert!(field.exists(), "{shards}");
    }
}

#[test]
fn an_orphan_waits_for_a_home_that_is_down() {
    let mut field = Field::new(3, 1);
    field.unlink();
    let home = field.cluster.owner(field.home);
    field.cluster.kill(home);
    field.restart(false);
    field.cluster.pass(30 * SECOND);
    assert!(field.exists(), "nobody knows whether the session lives");
    field.cluster.start(home);
    field.live_on(15);
    assert!(field.exists(), "it does");
    field.cluster.pass(15 * SECOND);
    assert!(!field.exists());
}

#[test]
fn a_lock_is_nobody_elses_after_a_power_cut_until_its_holder_has_closed_the_file() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..40 {
        let mut field = Field::new(1 + seed as u32 % 2 * 2, seed);
        let mark = field.holder_locks(LockType::Write);
        field.restart(true);
        field.rival_begins(false);
        assert_eq!(
            field.rival_after(20),
            None,
            "{seed}: the holder has not told yet"
        );
        match field.reassert(Some(mark)) {
            OpReply::Done => kept += 1,
            OpReply::Errno(Errno::EIO) => lost += 1,
            other => panic!("{other:?}"),
        }
        field.all_told();
        let refused = Some(OpReply::Errno(Errno::EAGAIN));
        assert_eq!(field.rival_after(5), refused, "{seed}");
        field.rival_begins(true);
        assert_eq!(field.rival_after(5), None, "{seed}");
        field.close();
        assert_eq!(field.rival_after(5), Some(OpReply::Done), "{seed}");
    }
    assert!(kept > 0 && lost > 0, "{kept} locks kept, {lost} lost");
}

#[test]
fn a_lock_that_was_flushed_is_kept_over_a_power_cut_and_works_on() {
    let mut field = Field::new(3, 1);
    let mark = field.holder_locks(LockType::Write);
    field.sync();
    field.restart(true);
    assert_eq!(field.reassert(Some(mark)), OpReply::Done);
    field.all_told();
    field.rival_begins(true);
    assert_eq!(field.rival_after(5), None);
    field.holder_locks(LockType::Unlock);
    assert_eq!(field.rival_after(5), Some(OpReply::Done));
}

#[test]
fn a_lock_that_was_given_back_does_not_return_with_a_power_cut() {
    for seed in 0..20 {
        let mut field = Field::new(1 + seed as u32 % 2 * 2, seed);
        field.holder_locks(LockType::Write);
        field.sync();
        field.holder_locks(LockType::Unlock);
        field.close();
        field.restart(true);
        field.all_told();
        field.rival_begins(false);
        assert_eq!(field.rival_after(5), Some(OpReply::Done), "{seed}");
    }
}

#[test]
fn a_wait_for_a_lock_outlives_the_grace_and_ends_with_the_holders_lease() {
    let mut field = Field::new(3, 1);
    field.holder_locks(LockType::Write);
    field.restart(true);
    field.rival_begins(true);
    assert_eq!(field.rival_after(5), None);
    let mut got = None;
    for _ in 0..2_000 {
        field.cluster.pass(SECOND / 100);
        got = got.or(field.rival.poll(&mut field.cluster));
    }
    assert_eq!(got.map(|o| o.reply), Some(OpReply::Done));
}

#[test]
fn locks_rest_on_in_the_next_life_if_a_server_is_killed_before_all_have_told() {
    let mut field = Field::new(3, 1);
    let mark = field.holder_locks(LockType::Write);
    field.restart(true);
    field.cluster.pass(SECOND);
    field.restart(false);
    field.rival_begins(false);
    assert_eq!(field.rival_after(15), None);
    field.reassert(Some(mark));
    field.all_told();
    assert_eq!(field.rival_after(5), Some(OpReply::Errno(Errno::EAGAIN)));
    // And not in the one after that.
    field.restart(false);
    field.rival_begins(false);
    assert!(field.rival_after(2).is_some());
}

#[test]
fn a_file_that_is_executed_is_kept_from_writers_over_a_kill_though_nobody_has_told_yet() {
    for shards in [1, 3] {
        let mut field = Field::new(shards, 1);
        assert!(field.is_writable());
        field.executes();
        assert!(!field.is_writable());
        field.restart(false);
        assert!(!field.is_writable(), "{shards}");
        field.restart(false);
        field.executes();
        field.all_told();
        assert!(!field.is_writable());
        field.close();
        assert!(field.is_writable());
    }
}

#[test]
fn a_file_is_executed_no_more_if_its_session_tells_so_after_a_kill() {
    let mut field = Field::new(3, 1);
    field.executes();
    field.restart(false);
    // The close could not be said.
    field.all_told();
    field.cluster.pass(SECOND);
    assert!(field.is_writable());
}

#[test]
fn writers_wait_after_a_power_cut_until_everybody_has_told_what_is_executed() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut field = Field::new(1 + seed as u32 % 2 * 2, seed);
        field.executes();
        field.restart(true);
        field.rival_begins_to_write();
        if let Some(answer) = field.rival_after(5) {
            assert_eq!(answer, OpReply::Errno(Errno::ETXTBSY), "{seed}");
            continue;
        }
        lost += 1;
        field.executes();
        field.all_told();
        let busy = Some(OpReply::Errno(Errno::ETXTBSY));
        assert_eq!(field.rival_after(2), busy, "{seed}");
    }
    assert!(lost > 0);
}
