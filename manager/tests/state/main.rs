//! The manager's decisions, request by request, without clock, disk or network: here the world that
//! the tests turn, beside it what they are about.

mod members;
mod volumes;

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
