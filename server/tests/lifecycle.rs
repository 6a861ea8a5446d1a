//! What begins and ends: sessions, orphans, deleted volumes, restarts, durability, bad frames.

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

#[test]
fn a_truncation_reaches_every_layout_slot_before_it_is_answered() {
    let mut cluster = Cluster::new(settings(3));
    let mut client = Client::new(&mut cluster, 1, 0);
    let ino = open(&mut client, &mut cluster, "f", OpenId(1));
    write_wide(&mut client, &mut cluster, ino, 400_000);
    let resize = |client: &mut Client, cluster: &mut Cluster, size| {
        let op = Op::SetAttr {
            at: at(ino, ""),
            follow: true,
            set: SetAttr {
                size_bytes: Some(size),
                by_handle: true,
                ..SetAttr::default()
            },
        };
        client.call(cluster, op).attr()
    };
    let old = client
        .call(
            &mut cluster,
            Op::GetAttr {
                at: at(ino, ""),
                follow: false,
            },
        )
        .attr();
    assert_eq!(old.blocks_512, 400_000u64.div_ceil(4096) * 8);
    resize(&mut client, &mut cluster, 100_000);
    let late = Op::Write {
        ino,
        chunk: 3,
        offset_bytes: 0,
        len_bytes: 3,
        generation: old.generation,
        open: OpenId(1),
    };
    let partition = old.layout.partition_of(ino, 3, cluster.ring().partitions());
    client.begin_at(&mut cluster, partition, late, b"old");
    let refused = client.finish(&mut cluster).reply;
    let stale = matches!(refused, OpReply::Refused(Refusal::StaleGeneration { .. }));
    assert!(stale, "{refused:?}");
    let grown = resize(&mut client, &mut cluster, 400_000);
    for span in grown.layout.split(100_000, 300_000) {
        let op = Op::Read {
            ino,
            chunk: span.chunk,
            offset_bytes: span.offset_bytes,
            len_bytes: span.len_bytes,
            atime: true,
            generation: grown.generation,
        };
        let partition = grown
            .layout
            .partition_of(ino, span.chunk, cluster.ring().partitions());
        client.begin_at(&mut cluster, partition, op, &[]);
        let read = client.finish(&mut cluster);
        assert!(matches!(read.reply, OpReply::Read { .. }), "{read:?}");
        assert!(read.payload.iter().all(|b| *b == 0));
    }
}

#[test]
fn a_truncation_is_finished_after_a_kill_in_its_middle() {
    for seed in 0..12 {
        let mut cluster = Cluster::new(Settings {
            seed,
            ..settings(3)
        });
        let mut client = Client::new(&mut cluster, 1, 0);
        let ino = open(&mut client, &mut cluster, "f", OpenId(1));
        write_wide(&mut client, &mut cluster, ino, 400_000);
        let op = Op::SetAttr {
            at: at(ino, ""),
            follow: true,
            set: SetAttr {
                size_bytes: Some(5),
                ..SetAttr::default()
            },
        };
        client.begin(&mut cluster, op, &[]);
        for _ in 0..seed {
            cluster.advance();
        }
        let owner = cluster.owner(ino.partition());
        cluster.kill(owner);
        cluster.start(owner);
        assert_eq!(client.finish(&mut cluster).attr().size_bytes, 5);
        cluster.pass(20 * SECOND_NS);
        assert_eq!(used_bytes(&cluster), 4096, "only the first block is left");
    }
}

#[test]
fn a_deleted_volume_gives_its_space_back() {
    let mut cluster = Cluster::new(settings(3));
    let mut client = Client::new(&mut cluster, 1, 0);
    let root = client.root(&cluster);
    for i in 0..30 {
        let dir = client.call(
            &mut cluster,
            Op::MakeDir {
                at: at(root, &format!("d{i}")),
                mode: 0o755,
            },
        );
        let op = Op::Open {
            at: at(dir.attr().ino, "f"),
            flags: O_RDWR_CREAT,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        };
        let ino = client.call(&mut cluster, op).attr().ino;
        write_wide(&mut client, &mut cluster, ino, 200_000);
    }
    assert!(used_bytes(&cluster) > 5_000_000);
    cluster.publish(|state| {
        state.volumes.clear();
        state.deleted.push(VOLUME);
    });
    cluster.pass(60 * SECOND_NS);
    assert_eq!(used_bytes(&cluster), 0);
    assert!(!exists(&mut client, &mut cluster, root));
}

#[test]
fn a_changed_directory_voids_what_clients_have_cached() {
    let mut cluster = Cluster::new(settings(3));
    let mut client = Client::new(&mut cluster, 1, 0);
    let root = client.root(&cluster);
    cluster.pass(SECOND_NS);
    let make = |client: &mut Client, cluster: &mut Cluster, name: &str| {
        let op = Op::MakeDir {
            at: at(root, name),
            mode: 0o755,
        };
        client.call(cluster, op).attr().ino
    };
    let (a, b) = (
        make(&mut client, &mut cluster, "a"),
        make(&mut client, &mut cluster, "b"),
    );
    let before = client.version();
    assert!(before.0 > 0, "a version to cache under");
    let moved = client.call(
        &mut cluster,
        Op::Rename {
            from: at(root, "a"),
            to: at(b, "a"),
            flags: 0,
        },
    );
    assert_eq!(moved.reply, OpReply::Done);
    client.use_version(before);
    let op = Op::GetAttr {
        at: at(a, ""),
        follow: false,
    };
    let refused = client.call(&mut cluster, op).reply;
    let OpReply::Refused(Refusal::StaleVersion {
        directories: Some(directories),
        version,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert!(version > before && directories.contains(&a));
}

#[test]
fn durability_decides_when_a_reply_leaves() {
    for (durability, flushed) in [
        (Durability::Memory, false),
        (Durability::Fsync, false),
        (Durability::Always, true),
    ] {
        let mut cluster = Cluster::new(Settings {
            durability,
            ..settings(1)
        });
        let mut client = Client::new(&mut cluster, 1, 0);
        cluster.pass(3 * SECOND_NS);
        open(&mut client, &mut cluster, "f", OpenId(1));
        let clean = cluster
            .core(0)
            .is_some_and(sealfs_server::core::Core::is_flushed);
        assert_eq!(clean, flushed, "{durability:?}");
    }
}

#[test]
fn fsync_flushes_and_tells_of_a_lost_tail_once_written() {
    let mut cluster = Cluster::new(settings(1));
    let mut client = Client::new(&mut cluster, 1, 0);
    let ino = open(&mut client, &mut cluster, "f", OpenId(1));
    let fsync = |written_in| Op::Fsync {
        ino,
        data_only: false,
        written_in: Incarnation(written_in),
    };
    assert_eq!(client.call(&mut cluster, fsync(1)).reply, OpReply::Done);
    assert!(
        cluster
            .core(0)
            .is_some_and(sealfs_server::core::Core::is_flushed)
    );
    cluster.power_cut(0);
    cluster.start(0);
    let lost = client.call(&mut cluster, fsync(1));
    assert_eq!(lost.errno(), Some(Errno::EIO));
    assert_eq!(client.call(&mut cluster, fsync(2)).reply, OpReply::Done);
    assert!(
        exists(&mut client, &mut cluster, ino),
        "what was synced is there"
    );
}

#[test]
fn frames_of_noise_cost_their_connection_and_nothing_else() {
    let mut cluster = Cluster::new(settings(1));
    let mut client = Client::new(&mut cluster, 1, 0);
    let ino = open(&mut client, &mut cluster, "f", OpenId(1));
    let mut random = Random::new(9);
    for round in 0..400 {
        let end = cluster.fresh_end();
        let who = match round % 3 {
            0 => Who::Keeper {
                session: SessionId(4),
                uid: 0,
            },
            1 => Who::Shard {
                shard: sealfs_protocol::ShardId(2),
                incarnation: Incarnation(1),
            },
            _ => Who::Client {
                client: ClientId(0),
                session: SessionId(4),
                volume: VOLUME,
                pid: 1,
                credentials: Credentials::default(),
            },
        };
        let conn = cluster.connect(end, 0, who);
        let kind = [Kind::Request, Kind::PeerRequest, Kind::Hello, Kind::Reply];
        let kind = kind[random.below(4) as usize];
        let len = random.below(200) as usize;
        let body: Vec<u8> = (0..len).map(|_| random.number() as u8).collect();
        cluster.send(conn, Header::new(kind), &body, &[]);
        cluster.pass(1_000_000);
    }
    assert!(
        cluster
            .core(0)
            .is_some_and(|c| c.counters().malformed > 100)
    );
    assert!(exists(&mut client, &mut cluster, ino));
}

#[test]
fn flipped_bits_in_real_requests_never_panic() {
    let mut cluster = Cluster::new(settings(1));
    let mut client = Client::new(&mut cluster, 1, 0);
    let ino = open(&mut client, &mut cluster, "f", OpenId(1));
    let request = sealfs_protocol::message::Request {
        ops: vec![sealfs_protocol::message::Entry {
            partition: PartitionId(ino.partition().0),
            epoch: cluster.ring().epoch(ino.partition()),
            op: Op::Rename {
                from: at(client.root(&cluster), "f"),
                to: at(client.root(&cluster), "g"),
                flags: 0,
            },
        }],
    };
    let body = sealfs_protocol::codec::encode(&request).expect("a request encodes");
    for bit in 0..body.len() * 8 {
        let mut bad = body.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let end = cluster.fresh_end();
        let who = Who::Client {
            client: ClientId(50),
            session: SessionId(4),
            volume: VOLUME,
            pid: 1,
            credentials: Credentials::default(),
        };
        let conn = cluster.connect(end, 0, who);
        let header = Header {
            client: ClientId(50),
            sequence: sealfs_protocol::Sequence(1 + bit as u64),
            ..Header::new(Kind::Request)
        };
        cluster.send(conn, header, &bad, &[]);
        cluster.pass(300_000);
    }
    assert!(exists(&mut client, &mut cluster, ino));
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
