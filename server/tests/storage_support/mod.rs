//! Devices that lose power or fail, and shortcuts to open a store on them.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use sealfs_protocol::ids::{ClusterId, Epoch, InodeId, PartitionId, ShardId, TxnId};
use sealfs_protocol::ids::{TruncateGeneration, VolumeId};
use sealfs_server::env::{BlockDevice, Kv};
use sealfs_server::meta::db::key;
use sealfs_server::meta::{Key, Limits, Meta, OpenError, Options};
use sealfs_server::store::{ChunkName, MemoryDevice, StoreError, WriteAs};

const SECTOR_BYTES: usize = 512;

pub const PARTITION: PartitionId = PartitionId(7);
pub const EPOCH: Epoch = Epoch(1);
pub const NO_TXN: TxnId = TxnId(0);

/// A small generator of numbers, so that a seed is a run (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A device whose unflushed writes a power cut keeps, loses, tears and reorders, sector by sector.
pub struct CrashDevice {
    name: String,
    state: Mutex<CrashState>,
    fail_flush: AtomicBool,
    writes_left: AtomicUsize,
    torn_after: AtomicUsize,
}

struct CrashState {
    current: Vec<u8>,
    /// Older contents of sectors written since the last flush, oldest first.
    unflushed: BTreeMap<usize, Vec<[u8; SECTOR_BYTES]>>,
}

impl CrashDevice {
    pub fn new(name: &str, size_bytes: usize) -> Arc<CrashDevice> {
        CrashDevice::from_bytes(name, vec![0; size_bytes])
    }

    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Arc<CrashDevice> {
        Arc::new(CrashDevice {
            name: name.to_owned(),
            state: Mutex::new(CrashState {
                current: bytes,
                unflushed: BTreeMap::new(),
            }),
            fail_flush: AtomicBool::new(false),
            writes_left: AtomicUsize::new(usize::MAX),
            torn_after: AtomicUsize::new(usize::MAX),
        })
    }

    /// What a killed process leaves: everything written.
    pub fn after_kill(&self) -> Arc<CrashDevice> {
        let state = self.state.lock();
        Arc::new(CrashDevice {
            name: self.name.clone(),
            state: Mutex::new(CrashState {
                current: state.current.clone(),
                unflushed: state.unflushed.clone(),
            }),
            fail_flush: AtomicBool::new(false),
            writes_left: AtomicUsize::new(usize::MAX),
            torn_after: AtomicUsize::new(usize::MAX),
        })
    }

    /// What a power cut leaves: of each sector any of its contents since the last flush.
    pub fn after_power_cut(&self, random: &mut Random) -> Arc<CrashDevice> {
        let state = self.state.lock();
        let mut bytes = state.current.clone();
        // Sometimes everything is lost or kept, which a mix of sectors hardly ever is.
        let mode = random.below(4);
        for (&sector, versions) in &state.unflushed {
            let choice = match mode {
                0 => 0,
                1 => versions.len(),
                _ => random.below(versions.len() as u64 + 1) as usize,
            };
            if let Some(old) = versions.get(choice) {
                bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES].copy_from_slice(old);
            }
        }
        CrashDevice::from_bytes(&self.name, bytes)
    }

    pub fn fail_flushes(&self) {
        self.fail_flush.store(true, Ordering::Relaxed);
    }

    /// Every write after the next `writes` fails.
    pub fn fail_writes_after(&self, writes: usize) {
        self.writes_left.store(writes, Ordering::Relaxed);
    }

    /// The next write stops after `bytes` bytes, as when the process is killed in it.
    pub fn tear_next_write(&self, bytes: usize) {
        self.torn_after.store(bytes, Ordering::Relaxed);
    }

    pub fn contents(&self) -> Vec<u8> {
        self.state.lock().current.clone()
    }
}

impl BlockDevice for CrashDevice {
    fn size_bytes(&self) -> u64 {
        self.state.lock().current.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock();
        let from = offset as usize;
        let range = state.current.get(from..from + buf.len());
        buf.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let left = self.writes_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.writes_left.store(left - 1, Ordering::Relaxed);
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        let torn_after = self.torn_after.swap(usize::MAX, Ordering::Relaxed);
        bytes.truncate(torn_after);
        let state = &mut *self.state.lock();
        let (from, until) = (offset as usize, offset as usize + bytes.len());
        if until > state.current.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for sector in from / SECTOR_BYTES..until.div_ceil(SECTOR_BYTES) {
            let mut old = [0; SECTOR_BYTES];
            old.copy_from_slice(&state.current[sector * SECTOR_BYTES..][..SECTOR_BYTES]);
            state.unflushed.entry(sector).or_default().push(old);
        }
        state.current[from..until].copy_from_slice(&bytes);
        if torn_after < usize::MAX {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.fail_flush.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.state.lock().unflushed.clear();
        Ok(())
    }

    /// Whoever still needed the bytes will notice.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let garbage = vec![0xdd; len as usize];
        self.write_at(&[IoSlice::new(&garbage)], offset)
    }

    fn wants_discard(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        &self.name
    }
}

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
