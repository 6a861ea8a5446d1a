//! A volume whose directories change, and one that is deleted.

use super::*;

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
