//! How a simulated cluster is made.

use std::cell::Cell;

use crate::crash::CrashDevice;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::manager::{Durability, Volume};
use sealfs_protocol::{ClusterId, VolumeId};
use sealfs_server::core::{Fault, World};
use sealfs_server::meta::{Limits, MemoryKv};

pub const CLUSTER: ClusterId = ClusterId(0x5ea1);
pub const VOLUME: VolumeId = VolumeId(7);

/// The simulated world.
pub struct SimWorld;

thread_local! {
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

impl World for SimWorld {
    type Kv = MemoryKv;
    type Device = CrashDevice;

    fn plants(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }
}

/// Runs `f` while the shards of this thread make a mistake.
pub fn with_fault<T>(fault: Fault, f: impl FnOnce() -> T) -> T {
    struct Unplant;
    impl Drop for Unplant {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }
    let _unplant = Unplant;
    PLANTED.set(Some(fault));
    f()
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub shards: u32,
    pub partitions: u16,
    pub seed: u64,
    pub durability: Durability,
    pub device_bytes: usize,
    /// Longest time that a frame takes, in ns.
    pub delay_max_ns: u64,
    /// Some frames take much longer.
    pub slow_frames: bool,
    /// Longest time that a flush or commit takes, in ns.
    pub disk_max_ns: u64,
    /// Several frames may make one batch, whose log entries are written together.
    pub batches: bool,
    /// How far the wall clocks are off, in ns.
    pub skew_max_ns: u64,
    pub limits: Limits,
    /// Directories are split when they have so many names; `None`: when a server would.
    pub split_entries: Option<u64>,
    pub quota_bytes: u64,
    pub quota_inodes: u64,
    /// Prints what happens.
    pub trace: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            shards: 1,
            partitions: 64,
            seed: 1,
            durability: Durability::Fsync,
            device_bytes: 64 << 20,
            delay_max_ns: 200_000,
            slow_frames: false,
            disk_max_ns: 200_000,
            batches: false,
            skew_max_ns: 0,
            limits: Limits::default(),
            split_entries: None,
            quota_bytes: 0,
            quota_inodes: 0,
            trace: false,
        }
    }
}

pub(crate) fn volume(settings: &Settings) -> Volume {
    Volume {
        id: VOLUME,
        name: "sim".into(),
        durability: settings.durability,
        layout: Layout {
            chunk_size_log2: 16,
            width: 4,
        },
        root_uid: 0,
        root_gid: 0,
        root_mode: 0o755,
        quota_bytes: settings.quota_bytes,
        quota_inodes: settings.quota_inodes,
        read_only: false,
    }
}
