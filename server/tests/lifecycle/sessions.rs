//! What goes with a session, and that one that has ended does not come back.

use super::*;

#[test]
fn an_orphan_goes_with_the_session_that_has_it_open() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(settings(shards));
        let mut holder = Client::new(&mut cluster, 1, 0);
        let mut other = Client::new(&mut cluster, 2, 0);
        let ino = open(&mut holder, &mut cluster, "f", OpenId(5));
        write_wide(&mut holder, &mut cluster, ino, 300_000);
        unlink(&mut other, &mut cluster, "f");
        cluster.pass(20 * SECOND_NS);
        assert!(exists(&mut other, &mut cluster, ino));
        let session = holder.session;
        let home = hash::session_home(session, cluster.ring().partitions());
        other.begin_at(&mut cluster, home, Op::EndSession { session }, &[]);
        assert_eq!(other.finish(&mut cluster).reply, OpReply::Done);
        cluster.pass(20 * SECOND_NS);
        assert!(!exists(&mut other, &mut cluster, ino));
        assert_eq!(used_bytes(&cluster), 0, "its chunks are gone too");
        let refused = cluster_hello(&mut cluster, session);
        assert!(refused, "an ended session cannot come back");
    }
}

/// Whether a new client of a session is refused.
fn cluster_hello(cluster: &mut Cluster, session: SessionId) -> bool {
    let end = cluster.fresh_end();
    let who = Who::Client {
        client: ClientId(77),
        session,
        volume: VOLUME,
        pid: 1,
        credentials: Credentials::default(),
    };
    cluster.connect(end, 0, who);
    cluster.pass(SECOND_NS);
    let is_error = |a: &Arrival| matches!(a, Arrival::Frame(_, f) if f.header.kind == Kind::Error);
    cluster.take_inbox(end).iter().any(is_error)
}

#[test]
fn a_session_that_is_not_renewed_ends() {
    let mut cluster = Cluster::new(settings(1));
    let mut holder = Client::new(&mut cluster, 1, 0);
    let mut other = Client::new(&mut cluster, 2, 0);
    let ino = open(&mut holder, &mut cluster, "f", OpenId(5));
    unlink(&mut other, &mut cluster, "f");
    let session = holder.session;
    let home = hash::session_home(session, cluster.ring().partitions());
    for _ in 0..4 {
        holder.begin_at(&mut cluster, home, Op::Renew { session }, &[]);
        assert_eq!(holder.finish(&mut cluster).reply, OpReply::Done);
        cluster.pass(5 * SECOND_NS);
    }
    assert!(exists(&mut other, &mut cluster, ino));
    cluster.pass(12 * SECOND_NS);
    assert!(!exists(&mut other, &mut cluster, ino));
}

#[test]
fn an_orphan_waits_for_reassertion_after_a_restart() {
    let mut cluster = Cluster::new(settings(1));
    let mut holder = Client::new(&mut cluster, 1, 0);
    let kept = open(&mut holder, &mut cluster, "kept", OpenId(5));
    let lost = open(&mut holder, &mut cluster, "lost", OpenId(6));
    unlink(&mut holder, &mut cluster, "kept");
    unlink(&mut holder, &mut cluster, "lost");
    cluster.kill(0);
    cluster.start(0);
    let reasserted = holder.call(
        &mut cluster,
        Op::Reassert {
            ino: kept,
            open: OpenId(5),
            executes: false,
            locked: None,
        },
    );
    assert_eq!(reasserted.reply, OpReply::Done);
    assert!(exists(&mut holder, &mut cluster, lost));
    cluster.pass(12 * SECOND_NS);
    assert!(exists(&mut holder, &mut cluster, kept));
    assert!(!exists(&mut holder, &mut cluster, lost));
}

fn end_session(cluster: &mut Cluster, by: &mut Client, session: SessionId) {
    let home = hash::session_home(session, cluster.ring().partitions());
    by.begin_at(cluster, home, Op::EndSession { session }, &[]);
    assert_eq!(by.finish(cluster).reply, OpReply::Done);
}

fn restart_all(cluster: &mut Cluster) {
    for shard in 0..cluster.shards() {
        cluster.kill(shard);
        cluster.start(shard);
    }
}

#[test]
fn a_session_that_has_ended_does_not_come_back_after_restarts() {
    for shards in [1, 3] {
        let mut cluster = Cluster::new(settings(shards));
        let mut paused = Client::new(&mut cluster, 1, 0);
        let mut other = Client::new(&mut cluster, 2, 0);
        open(&mut paused, &mut cluster, "f", OpenId(5));
        end_session(&mut cluster, &mut other, paused.session);
        cluster.pass(5 * SECOND_NS);
        restart_all(&mut cluster);
        let ino = open(&mut other, &mut cluster, "f", OpenId(1));
        let op = Op::GetAttr {
            at: at(ino, ""),
            follow: false,
        };
        paused.begin(&mut cluster, op, &[]);
        for _ in 0..100 {
            cluster.pass(SECOND_NS / 10);
            assert!(paused.poll(&mut cluster).is_none(), "{shards} shards");
        }
    }
}

#[test]
fn record_locks_of_a_session_go_with_it_though_their_server_was_restarted() {
    let mut cluster = Cluster::new(settings(3));
    let mut holder = Client::new(&mut cluster, 1, 0);
    let mut other = Client::new(&mut cluster, 2, 0);
    let lock = |client: &Client| LockRange {
        space: LockSpace::Record,
        owner: LockOwner::Process {
            client: client.id,
            session: client.session,
        },
        kind: LockType::Write,
        start: 0,
        last: 9,
        pid: 1,
    };
    let inos: Vec<InodeId> = (0..8)
        .map(|n| open(&mut holder, &mut cluster, &format!("f{n}"), OpenId(n)))
        .collect();
    for ino in &inos {
        let range = lock(&holder);
        let op = Op::Lock {
            ino: *ino,
            range,
            wait: None,
        };
        assert_eq!(holder.call(&mut cluster, op).reply, OpReply::Done);
    }
    restart_all(&mut cluster);
    end_session(&mut cluster, &mut other, holder.session);
    cluster.pass(SECOND_NS);
    for ino in inos {
        let range = lock(&other);
        let held = other.call(&mut cluster, Op::TestLock { ino, range });
        assert_eq!(held.reply, OpReply::LockHeld(None));
    }
}
