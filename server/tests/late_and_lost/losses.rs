//! What is acknowledged stays, and what has ended does not return, with a loss of power; bytes arrive
//! though their read has to wait.

use super::*;

#[test]
fn bytes_are_sent_once_when_their_read_has_to_wait() {
    let content = [7u8; 3_000];
    for steps in 0..60 {
        let mut cluster = cluster(2);
        let mut linker = Client::new(&mut cluster, 11, 0);
        let mut reader = Client::new(&mut cluster, 12, 0);
        let root = linker.root(&cluster);
        let (here, _) = make_dir_on(&mut linker, &mut cluster, root, ("d0-", 0));
        let (there, _) = make_dir_on(&mut linker, &mut cluster, root, ("d1-", 1));
        let ino = open(&mut linker, &mut cluster, here, "f");
        append(&mut linker, &mut cluster, ino, &content);
        let op = Op::Link {
            ino,
            to: at(there, "f"),
            from_open: None,
        };
        linker.begin(&mut cluster, op, &[]);
        for _ in 0..steps {
            cluster.advance();
        }
        let op = Op::Read {
            ino,
            chunk: 0,
            offset_bytes: 0,
            len_bytes: 4_096,
            atime: true,
            generation: TruncateGeneration(0),
        };
        let read = reader.call(&mut cluster, op);
        assert_eq!(read.payload, content, "after {steps} steps");
    }
}

#[test]
fn the_locks_of_an_ended_client_do_not_return_with_a_loss_of_power() {
    let mut cluster = cluster(3);
    let mut keeper = Client::new(&mut cluster, 11, 0);
    let root = keeper.root(&cluster);
    for shard in 0..3 {
        let (dir, _) = make_dir_on(&mut keeper, &mut cluster, root, ("d", shard));
        let mut holder = Client::new(&mut cluster, 20 + shard as u128, 0);
        let ino = open(&mut holder, &mut cluster, dir, "f");
        let op = Op::Lock {
            ino,
            range: record_lock(owner(&holder), LockType::Write),
            wait: None,
        };
        assert_eq!(holder.call(&mut cluster, op).reply, OpReply::Done);
        cluster.pass(2 * SECOND_NS);
        holder.die(&mut cluster);
        let client = holder.id;
        let home = hash::client_home(client, cluster.ring().partitions());
        keeper.begin_at(&mut cluster, home, Op::EndClient { client }, &[]);
        assert_eq!(keeper.finish(&mut cluster).reply, OpReply::Done);
        cluster.pass(20 * MS);
        for index in 0..3 {
            cluster.power_cut(index);
        }
        for index in 0..3 {
            cluster.start(index);
        }
        cluster.pass(5 * SECOND_NS);
        let op = Op::TestLock {
            ino,
            range: record_lock(owner(&keeper), LockType::Write),
        };
        assert_eq!(keeper.call(&mut cluster, op).reply, OpReply::LockHeld(None));
    }
}

#[test]
fn what_an_always_durable_volume_acknowledges_is_there_in_every_chunk() {
    for seed in 0..12 {
        let mut cluster = Cluster::new(Settings {
            durability: Durability::Always,
            shards: 3,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let mut client = Client::new(&mut cluster, 11, 0);
        let root = client.root(&cluster);
        let ino = open(&mut client, &mut cluster, root, "f");
        append(&mut client, &mut cluster, ino, &vec![9; 250_000]);
        for index in 0..3 {
            cluster.power_cut(index);
        }
        for index in 0..3 {
            cluster.start(index);
        }
        let op = Op::GetAttr {
            at: at(ino, ""),
            follow: false,
        };
        let attr = client.call(&mut cluster, op).attr();
        assert_eq!(attr.size_bytes, 250_000);
        for span in attr.layout.split(0, attr.size_bytes) {
            let op = Op::Read {
                ino,
                chunk: span.chunk,
                offset_bytes: span.offset_bytes,
                len_bytes: span.len_bytes,
                atime: true,
                generation: attr.generation,
            };
            let partitions = cluster.ring().partitions();
            let partition = attr.layout.partition_of(ino, span.chunk, partitions);
            client.begin_at(&mut cluster, partition, op, &[]);
            let read = client.finish(&mut cluster);
            let whole = vec![9; span.len_bytes as usize];
            assert!(read.payload == whole, "chunk {}, seed {seed}", span.chunk);
        }
    }
}
