//! A truncation is complete on all shards before it is answered, and in the end whatever is killed.

use super::*;

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
