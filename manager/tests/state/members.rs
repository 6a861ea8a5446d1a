//! Who belongs to the cluster: servers that come, come back, move, fall silent, or must not come.

use super::*;

#[test]
fn a_fresh_store_is_given_a_cluster_a_shard_and_the_ring() {
    let mut world = World::founded();
    let ManagerReply::Welcome {
        cluster,
        shard,
        state,
    } = world.say(0, fresh(0))
    else {
        panic!("not welcome");
    };
    let ring = state.unwrap().ring;
    assert_eq!((cluster, shard), (CLUSTER, ShardId(1)));
    assert_eq!(ring.owners, vec![0; 4096]);
}

#[test]
fn partitions_are_balanced_within_two_percent() {
    let ring = World::with_servers(7).state().ring;
    for i in 0..7u16 {
        let share = ring.owners.iter().filter(|o| **o == i).count();
        assert!((share * 7).abs_diff(4096) * 50 < 4096, "{share}");
    }
}

#[test]
fn a_heartbeat_that_says_nothing_new_changes_nothing() {
    let mut world = World::with_servers(2);
    let before = world.registry.durable().clone();
    world.say(0, beat("server-0", 100, Some(1), 5000));
    assert_eq!(*world.registry.durable(), before);
}

#[test]
fn the_state_is_sent_only_to_those_who_do_not_have_it() {
    let mut world = World::with_servers(1);
    let known = world.state().version;
    assert_eq!(
        world.say(9, ManagerRequest::State { known }),
        ManagerReply::State(None)
    );
}

#[test]
fn a_store_that_lost_its_shard_number_before_keeping_it_gets_the_same_again() {
    let mut world = World::with_servers(1);
    let reply = world.say(7, beat("server-0", 100, None, 5000));
    assert!(matches!(
        reply,
        ManagerReply::Welcome {
            shard: ShardId(1),
            ..
        }
    ));
}

#[test]
fn a_new_address_raises_the_ring_version_and_moves_nothing() {
    let mut world = World::with_servers(3);
    world.say(9, create("main"));
    let before = world.state().ring;
    world.now_ms = SERVER_SILENT_MS;
    world.say(8, beat("server-1", 101, Some(2), 6000));
    let after = world.state().ring;
    assert_eq!(after.version.0, before.version.0 + 1);
    assert_eq!((after.owners, after.epochs), (before.owners, before.epochs));
    assert_eq!(after.shards[1].addresses, ["tcp://127.0.0.1:6000"]);
}

#[test]
fn a_store_of_another_cluster_is_refused() {
    let mut world = World::with_servers(1);
    let ManagerRequest::Heartbeat { name, store, .. } = fresh(1) else {
        panic!()
    };
    let mut request = beat(&name, store, Some(1), 1);
    if let ManagerRequest::Heartbeat { cluster, .. } = &mut request {
        *cluster = Some(ClusterId(0xbad));
    }
    let why = world.refusal(1, request);
    assert!(
        why.contains("server-1") && why.contains("cluster bad"),
        "{why}"
    );
}

#[test]
fn a_second_server_on_a_store_in_use_is_refused() {
    let mut world = World::with_servers(1);
    let why = world.refusal(5, beat("server-0", 100, Some(1), 7777));
    assert!(why.contains("stop that server first"), "{why}");
}

#[test]
fn a_restarted_server_comes_back_at_another_port_once_its_connection_is_gone() {
    let mut world = World::with_servers(1);
    world.say(0, beat("server-0", 100, Some(1), 5000));
    world.registry.disconnected(PeerId(0));
    let reply = world.say(5, beat("server-0", 100, Some(1), 7777));
    assert!(matches!(reply, ManagerReply::Welcome { .. }));
}

#[test]
fn a_server_that_connects_anew_for_each_heartbeat_is_alive_until_it_has_been_silent() {
    let mut world = World::with_servers(1);
    world.registry.disconnected(PeerId(0));
    world.refusal(5, beat("server-0", 100, Some(1), 7777));
    world.now_ms = SERVER_SILENT_MS;
    let reply = world.say(5, beat("server-0", 100, Some(1), 7777));
    assert!(matches!(reply, ManagerReply::Welcome { .. }));
}

#[test]
fn a_second_server_of_the_same_name_is_refused() {
    let mut world = World::with_servers(1);
    let why = world.refusal(5, beat("server-0", 555, None, 7777));
    assert!(why.contains("give the new one another name"), "{why}");
}

#[test]
fn an_emptied_store_is_not_taken_for_the_one_that_held_files() {
    let mut world = World::with_servers(1);
    world.say(9, create("main"));
    world.now_ms = SERVER_SILENT_MS;
    let why = world.refusal(5, beat("server-0", 555, None, 5000));
    assert!(why.contains("its store is empty"), "{why}");
}

#[test]
fn no_server_joins_once_there_is_a_volume() {
    let mut world = World::with_servers(2);
    world.say(9, create("main"));
    let why = world.refusal(2, fresh(2));
    assert!(why.contains("before the first volume"), "{why}");
}

#[test]
fn a_silent_server_stays_in_the_ring_and_is_shown_unhealthy() {
    let mut world = World::with_servers(2);
    let ring = world.state().ring;
    world.now_ms = SERVER_SILENT_MS + 1;
    world.say(0, beat("server-0", 100, Some(1), 5000));
    let ManagerReply::Servers(servers, _) = world.say(9, ManagerRequest::Servers) else {
        panic!()
    };
    let health: Vec<bool> = servers.iter().map(|s| s.healthy).collect();
    assert_eq!(health, [true, false]);
    assert_eq!(world.state().ring, ring);
}
