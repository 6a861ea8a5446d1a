//! Shortcuts to open a store on devices that lose power or fail.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

use std::sync::Arc;

use sealfs_protocol::ids::{ClusterId, Epoch, InodeId, PartitionId, ShardId, TxnId};
use sealfs_protocol::ids::{TruncateGeneration, VolumeId};
use sealfs_server::env::{BlockDevice, Kv};
use sealfs_server::meta::db::key;
use sealfs_server::meta::{Key, Limits, Meta, OpenError, Options};
use sealfs_server::store::{ChunkName, MemoryDevice, StoreError, WriteAs};

pub use sealfs_testkit::{CrashDevice, Random};

pub const PARTITION: PartitionId = PartitionId(7);
pub const EPOCH: Epoch = Epoch(1);
pub const NO_TXN: TxnId = TxnId(0);

pub fn options(boot_id: u128) -> Options {
    Options {
        cluster: ClusterId(0xc1),
        shard: ShardId(3),
        boot_id,
        uuid: 0xabcd,
        log_bytes: None,
        limits: Limits {
            commit_bytes: 64 << 10,
            overlay_max_bytes: 1 << 20,
            ..Limits::default()
        },
    }
}

pub fn open<K: Kv, D: BlockDevice>(kv: K, data: &Arc<D>) -> Result<Meta<K, D>, OpenError> {
    Meta::open(options(1), kv, Arc::clone(data), None)
}

pub fn memory(size_bytes: usize) -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new("disk", size_bytes))
}

pub fn how(volatile: bool) -> WriteAs {
    WriteAs {
        volume: VolumeId(1),
        generation: TruncateGeneration(0),
        mtime_ns: 1_700_000_000_000_000_000,
        volatile,
    }
}

pub fn chunk_name(ino: u64) -> ChunkName {
    ChunkName {
        ino: InodeId(ino),
        index: 0,
    }
}

pub fn chunk_key(ino: u64) -> Key {
    key::chunk(PARTITION, InodeId(ino), 0)
}

/// Flushes everything appended, and the barrier of that as well.
pub fn flush<K: Kv, D: BlockDevice>(meta: &mut Meta<K, D>) -> Result<(), StoreError> {
    for _ in 0..2 {
        if let Some(job) = meta.begin_flush()? {
            meta.finish_flush(job.run())?;
        }
    }
    Ok(())
}

/// Flushes and commits everything appended.
pub fn commit<K: Kv, D: BlockDevice>(meta: &mut Meta<K, D>) -> Result<(), StoreError> {
    for _ in 0..2 {
        if let Some(job) = meta.begin_commit()? {
            meta.finish_commit(job.run())?;
        }
        flush(meta)?;
    }
    Ok(())
}
