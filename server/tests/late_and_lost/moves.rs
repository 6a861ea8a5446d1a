//! Directories that are moved and removed while shards do not hear each other, or die.

use super::*;

#[test]
fn two_directories_of_one_shard_do_not_move_below_each_other() {
    let mut cluster = cluster(2);
    let mut first = Client::new(&mut cluster, 11, 0);
    let mut second = Client::new(&mut cluster, 12, 0);
    let root = first.root(&cluster);
    let shard = cluster.owner(root.partition());
    let mut make = |dir, prefix| make_dir_on(&mut first, &mut cluster, dir, (prefix, shard));
    let ((a, _), (b, _)) = (make(root, "a"), make(root, "b"));
    let ((x, x_name), (y, y_name)) = (make(a, "x"), make(b, "y"));
    let (below_x, _) = make(x, "w");
    // Both are about to take place and wait for the other shard to hear of it.
    cluster.net().part(Place::Shard(0), Place::Shard(1));
    first.begin(&mut cluster, rename((a, &x_name), (y, "x")), &[]);
    second.begin(&mut cluster, rename((b, &y_name), (below_x, "y")), &[]);
    cluster.pass(50 * MS);
    cluster.net().heal();
    let outcomes = [first.finish(&mut cluster), second.finish(&mut cluster)];
    let refused = outcomes.iter().filter(|o| o.errno() == Some(Errno::EINVAL));
    assert_eq!(refused.count(), 1, "{outcomes:?}");
    is_sound(&mut cluster);
}

/// Moves a directory from one shard to another, whose entry of a third is concerned, while `fell`
/// makes a shard go down after so many steps; whether the move was over before.
fn move_while(steps: u32, victim: usize, fell: fn(&mut Cluster, usize)) -> bool {
    let mut cluster = cluster(3);
    let mut mover = Client::new(&mut cluster, 11, 0);
    let mut other = Client::new(&mut cluster, 12, 0);
    let root = mover.root(&cluster);
    let (from, _) = make_dir_on(&mut mover, &mut cluster, root, ("d0-", 0));
    let (to, _) = make_dir_on(&mut mover, &mut cluster, root, ("d1-", 1));
    let (moved, name) = make_dir_on(&mut mover, &mut cluster, from, ("d1-", 1));
    cluster.pass(2 * SECOND_NS);
    mover.begin(&mut cluster, rename((from, &name), (to, "moved")), &[]);
    let mut early = None;
    for _ in 0..steps {
        cluster.advance();
        early = early.or_else(|| mover.poll(&mut cluster));
    }
    fell(&mut cluster, victim);
    cluster.start(victim);
    let made = open(&mut other, &mut cluster, to, "made");
    close(&mut other, &mut cluster, made);
    let over = early.is_some();
    let outcome = early.unwrap_or_else(|| mover.finish(&mut cluster));
    assert_eq!(outcome.reply, OpReply::Done, "step {steps}, shard {victim}");
    is_sound(&mut cluster);
    let op = Op::GetAttr {
        at: at(to, "moved"),
        follow: false,
    };
    assert_eq!(other.call(&mut cluster, op).attr().ino, moved);
    over
}

#[test]
fn a_shard_may_die_at_any_moment_of_a_move() {
    for fell in [Cluster::kill, Cluster::power_cut] {
        for victim in 0..3 {
            let over = (0..400).find(|steps| move_while(*steps, victim, fell));
            assert!(over.is_some_and(|steps| steps > 10), "{over:?}");
        }
    }
}

#[test]
fn nothing_moves_into_a_removed_directory_whose_parents_are_gone_as_well() {
    let mut cluster = cluster(1);
    let mut client = Client::new(&mut cluster, 11, 0);
    let root = client.root(&cluster);
    let upper = make_dir(&mut client, &mut cluster, root, "upper");
    let lower = make_dir(&mut client, &mut cluster, upper, "lower");
    make_dir(&mut client, &mut cluster, root, "moved");
    let opened = Op::Open {
        at: at(lower, ""),
        flags: 0,
        mode: 0,
        open: OpenId(5),
        read_bytes: 0,
    };
    assert_eq!(client.call(&mut cluster, opened).errno(), None);
    for at in [at(upper, "lower"), at(root, "upper")] {
        let removed = client.call(&mut cluster, Op::RemoveDir { at });
        assert_eq!(removed.reply, OpReply::Done);
    }
    let op = Op::Rename {
        from: at(root, "moved"),
        to: at(lower, "there"),
        flags: 0,
    };
    assert_eq!(client.call(&mut cluster, op).errno(), Some(Errno::ENOENT));
}
