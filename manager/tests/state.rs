//! The manager's decisions, request by request, without clock, disk or network.

use sealfs_manager::state::{Applied, Durable, PeerId, Registry};
use sealfs_protocol::attr::Layout;
use sealfs_protocol::manager::{
    ClusterState, Durability, ManagerReply, ManagerRequest, SERVER_SILENT_MS, Usage, Volume,
    VolumeChange, VolumeUse,
};
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{ClusterId, Incarnation, ShardId, VolumeId};

const CLUSTER: ClusterId = ClusterId(0xc1);

/// A registry whose changes are installed at once, and a clock to turn by hand.
struct World {
    registry: Registry,
    now_ms: u64,
}

impl World {
    fn founded() -> World {
        World {
            registry: Registry::new(Durable::founded(CLUSTER, 4096)),
            now_ms: 0,
        }
    }

    fn with_servers(n: u64) -> World {
        let mut world = World::founded();
        for i in 0..n {
            world.say(i, fresh(i));
        }
        world
    }

    fn say(&mut self, peer: u64, request: ManagerRequest) -> ManagerReply {
        let Applied { reply, next } = self.registry.apply(request, PeerId(peer), self.now_ms);
        if let Some(next) = next {
            self.registry.install(next);
        }
        reply
    }

    fn refusal(&mut self, peer: u64, request: ManagerRequest) -> String {
        let before = self.registry.durable().clone();
        match self.say(peer, request) {
            ManagerReply::Refused(why) => {
                assert_eq!(
                    *self.registry.durable(),
                    before,
                    "a refusal changes nothing"
                );
                assert!(!why.contains('\n'));
                why
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    fn state(&mut self) -> ClusterState {
        match self.say(99, ManagerRequest::State { known: 0 }) {
            ManagerReply::State(Some(state)) => state,
            other => panic!("{other:?}"),
        }
    }
}

/// The first heartbeat of server `i` on an empty store.
fn fresh(i: u64) -> ManagerRequest {
    beat(&format!("server-{i}"), 100 + u128::from(i), None, 5000 + i)
}

fn beat(name: &str, store: u128, shard: Option<u32>, port: u64) -> ManagerRequest {
    ManagerRequest::Heartbeat {
        cluster: shard.map(|_| CLUSTER),
        name: name.into(),
        store,
        shard: shard.map(ShardId),
        addresses: vec![format!("tcp://127.0.0.1:{port}")],
        weight: 1,
        incarnation: Incarnation(1),
        usage: Usage::default(),
        volumes: Vec::new(),
        known: 0,
    }
}

fn create(name: &str) -> ManagerRequest {
    ManagerRequest::CreateVolume {
        volume: Volume {
            id: VolumeId(0),
            name: name.into(),
            durability: Durability::Fsync,
            layout: Layout::default(),
            root_uid: 0,
            root_gid: 0,
            root_mode: 0o755,
            quota_bytes: 0,
            quota_inodes: 0,
            read_only: false,
        },
    }
}

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

#[test]
fn volumes_get_ids_that_are_never_used_again() {
    let mut world = World::with_servers(1);
    world.say(9, create("a"));
    let delete = ManagerRequest::DeleteVolume {
        name: "a".into(),
        force: true,
    };
    assert_eq!(world.say(9, delete), ManagerReply::Done);
    let ManagerReply::Volume(again) = world.say(9, create("a")) else {
        panic!()
    };
    assert_eq!(again.id, VolumeId(2));
    assert_eq!(world.state().deleted, [VolumeId(1)]);
}

#[test]
fn a_volume_gets_the_default_layout_unless_it_asks_for_another() {
    let mut world = World::with_servers(1);
    let ManagerReply::Volume(volume) = world.say(9, create("a")) else {
        panic!()
    };
    assert_eq!(volume.layout, Layout::DEFAULT);
}

#[test]
fn volumes_that_cannot_be_are_refused() {
    let mut world = World::founded();
    let why = world.refusal(9, create("early"));
    assert!(why.contains("no server yet"), "{why}");
    world.say(0, fresh(0));
    world.say(9, create("main"));
    assert!(world.refusal(9, create("main")).contains("exists already"));
    assert!(world.refusal(9, create("a b")).contains("volume name"));
    let mut odd = create("odd");
    if let ManagerRequest::CreateVolume { volume } = &mut odd {
        volume.layout.chunk_size_log2 = 30;
    }
    assert!(world.refusal(9, odd).contains("64 KiB to 64 MiB"));
}

fn delete(name: &str, force: bool) -> ManagerRequest {
    ManagerRequest::DeleteVolume {
        name: name.into(),
        force,
    }
}

fn change(name: &str, change: VolumeChange) -> ManagerRequest {
    ManagerRequest::ChangeVolume {
        name: name.into(),
        change,
    }
}

/// A heartbeat of server `i` that reports a share of the first volume.
fn reporting(i: u64, bytes: u64, clients: u32) -> ManagerRequest {
    let mut request = fresh(i);
    if let ManagerRequest::Heartbeat { volumes, .. } = &mut request {
        volumes.push(VolumeUse {
            volume: VolumeId(1),
            used: Totals { bytes, inodes: 1 },
            clients,
        });
    }
    request
}

#[test]
fn a_volume_in_use_is_deleted_only_by_force() {
    let mut world = World::with_servers(2);
    world.say(9, create("main"));
    world.say(1, reporting(1, 0, 3));
    let why = world.refusal(9, delete("main", false));
    assert!(
        why.contains("3 programs") && why.contains("--force"),
        "{why}"
    );
    world.say(1, reporting(1, 0, 0));
    assert_eq!(world.say(9, delete("main", false)), ManagerReply::Done);
    let why = world.refusal(9, delete("main", true));
    assert!(why.contains("does not exist"), "{why}");
}

#[test]
fn a_volume_that_a_silent_server_may_serve_is_deleted_only_by_force() {
    let mut world = World::with_servers(2);
    world.say(9, create("main"));
    world.now_ms += SERVER_SILENT_MS;
    world.say(0, fresh(0));
    let why = world.refusal(9, delete("main", false));
    assert!(why.contains("server-1 is silent"), "{why}");
    assert_eq!(world.say(9, delete("main", true)), ManagerReply::Done);
}

#[test]
fn a_volume_takes_what_the_servers_report_together() {
    let mut world = World::with_servers(2);
    world.say(9, create("main"));
    world.say(0, reporting(0, 4096, 2));
    world.say(1, reporting(1, 8192, 1));
    let ManagerReply::Volumes {
        volumes,
        silent,
        behind,
    } = world.say(9, ManagerRequest::Volumes)
    else {
        panic!()
    };
    let used = Totals {
        bytes: 12288,
        inodes: 2,
    };
    assert_eq!((volumes[0].used, volumes[0].clients), (used, 2));
    assert!(silent.is_empty());
    // Neither has said that it knows of the volume.
    assert_eq!(behind, ["server-0", "server-1"]);
}

#[test]
fn a_renamed_volume_keeps_its_id_and_is_still_meant_by_it() {
    let mut world = World::with_servers(1);
    world.say(9, create("main"));
    world.say(9, create("other"));
    let rename = |name: &str| VolumeChange {
        name: Some(name.into()),
        ..VolumeChange::default()
    };
    let why = world.refusal(9, change("main", rename("other")));
    assert!(why.contains("exists already"), "{why}");
    assert!(
        world
            .refusal(9, change("main", rename("a/b")))
            .contains("volume name")
    );
    world.say(9, change("main", rename("attic")));
    let state = world.state();
    let meant = |text: &str| state.volume_called(text).map(|v| v.id.0);
    assert_eq!(
        ["attic", "main#1", "main", "x#9", "x#y"].map(meant),
        [Some(1), Some(1), None, None, None]
    );
}

#[test]
fn a_change_that_changes_nothing_makes_no_new_state() {
    let mut world = World::with_servers(1);
    world.say(9, create("main"));
    let quota = VolumeChange {
        quota_bytes: Some(1 << 20),
        ..VolumeChange::default()
    };
    world.say(9, change("main", quota.clone()));
    let before = world.state();
    assert_eq!(before.volumes[0].quota_bytes, 1 << 20);
    world.say(9, change("main", quota));
    assert_eq!(world.state().version, before.version);
}
