//! Volumes: made, changed, renamed, deleted, and what the servers report of them.

use super::*;

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
