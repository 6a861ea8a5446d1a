//! Requests that arrive twice, late, or over a connection that was given up.

use super::*;

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
