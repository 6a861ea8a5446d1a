//! When what was answered is durable, and who is told if it was not.

use super::*;

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
