//! A change over several shards that ends between two of its steps, refused or with its coordinator, leaves
//! nothing locked for longer than its end takes to be told.

use sealfs_protocol::message::{Op, OpReply, Refusal};
use sealfs_protocol::{InodeId, OpenId, hash};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Place, Settings};

const MS: u64 = 1_000_000;

fn cluster() -> Cluster {
    Cluster::new(Settings {
        shards: 3,
        partitions: 48,
        seed: 5,
        ..Settings::default()
    })
}

/// A new directory whose inode lies on a shard.
fn make_dir_on(client: &mut Client, cluster: &mut Cluster, dir: InodeId, shard: usize) -> InodeId {
    let partitions = cluster.ring().partitions();
    let fits = |name: &String| {
        let partition = hash::directory_partition(dir, name.as_bytes(), partitions);
        cluster.owner(partition) == shard
    };
    let name = (0..10_000).map(|i| format!("d{i}-{}", dir.0)).find(fits);
    let at = at(dir, &name.expect("some name fits"));
    let made = client.call(cluster, Op::MakeDir { at, mode: 0o755 });
    made.attr().ino
}

fn make_file(client: &mut Client, cluster: &mut Cluster, dir: InodeId, name: &str) {
    let op = Op::Open {
        at: at(dir, name),
        flags: 0o102,
        mode: 0o644,
        open: OpenId(1),
        read_bytes: 0,
    };
    client.call(cluster, op).attr();
}

fn rename(from: (InodeId, &str), to: (InodeId, &str)) -> Op {
    Op::Rename {
        from: at(from.0, from.1),
        to: at(to.0, to.1),
        flags: 0,
    }
}

#[test]
fn a_rename_refused_for_a_stale_cache_unlocks_what_it_has_read_elsewhere() {
    let mut cluster = cluster();
    let mut mover = Client::new(&mut cluster, 11, 0);
    let mut other = Client::new(&mut cluster, 12, 0);
    let root = mover.root(&cluster);
    let keeps_version = cluster.owner(root.partition());
    let (here, there) = ((keeps_version + 1) % 3, (keeps_version + 2) % 3);
    let from = make_dir_on(&mut mover, &mut cluster, root, here);
    let to = make_dir_on(&mut mover, &mut cluster, root, there);
    let busy = make_dir_on(&mut mover, &mut cluster, root, keeps_version);
    make_file(&mut mover, &mut cluster, from, "file");
    make_file(&mut mover, &mut cluster, to, "victim");
    let moved = Op::MakeDir {
        at: at(busy, "moved"),
        mode: 0o755,
    };
    other.call(&mut cluster, moved);
    cluster.pass(1_000 * MS);

    // It waits for what the other shard has locked for it; meanwhile a directory is moved.
    let seen = mover.version();
    assert_ne!(seen.0, 0, "no version");
    mover.use_version(seen);
    cluster.net().part(Place::Shard(here), Place::Shard(there));
    mover.begin(&mut cluster, rename((from, "file"), (to, "victim")), &[]);
    cluster.pass(20 * MS);
    let outcome = other.call(&mut cluster, rename((busy, "moved"), (root, "moved")));
    assert_eq!(outcome.errno(), None);
    cluster.net().heal();
    let refused = mover.finish(&mut cluster);
    let stale = matches!(
        refused.reply,
        OpReply::Refused(Refusal::StaleVersion { .. })
    );
    assert!(stale, "{refused:?}");

    removes_soon(&mut other, &mut cluster, (to, "victim"));
}

fn removes_soon(client: &mut Client, cluster: &mut Cluster, (dir, name): (InodeId, &str)) {
    let before = cluster.now().mono_ns;
    let removed = client.call(cluster, Op::Unlink { at: at(dir, name) });
    assert_eq!(removed.errno(), None);
    let took_ms = (cluster.now().mono_ns - before) / MS;
    assert!(took_ms < 500, "{took_ms} ms for a name that nobody uses");
}

#[test]
fn a_coordinator_that_comes_back_is_asked_at_once_for_what_it_has_left_undecided() {
    let mut cluster = cluster();
    let mut mover = Client::new(&mut cluster, 11, 0);
    let mut other = Client::new(&mut cluster, 12, 0);
    let root = mover.root(&cluster);
    let keeps_version = cluster.owner(root.partition());
    let (here, there) = ((keeps_version + 1) % 3, (keeps_version + 2) % 3);
    let from = make_dir_on(&mut mover, &mut cluster, root, here);
    let to = make_dir_on(&mut mover, &mut cluster, root, there);
    make_file(&mut mover, &mut cluster, to, "near");
    let moved = Op::MakeDir {
        at: at(from, "moved"),
        mode: 0o755,
    };
    mover.call(&mut cluster, moved);
    cluster.pass(3_000 * MS);

    // Prepared everywhere, it waits for the version to be raised, which its coordinator cannot ask for.
    cluster
        .net()
        .part(Place::Shard(here), Place::Shard(keeps_version));
    mover.begin(&mut cluster, rename((from, "moved"), (to, "moved")), &[]);
    cluster.pass(50 * MS);
    cluster.kill(here);
    cluster.net().heal();
    cluster.start(here);
    removes_soon(&mut other, &mut cluster, (to, "near"));
}
