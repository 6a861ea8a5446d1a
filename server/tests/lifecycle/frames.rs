//! Bytes from outside that are no request cost their connection, and nothing else.

use super::*;

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
