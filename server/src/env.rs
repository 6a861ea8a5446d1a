//! What stands between a shard and the world, as traits that tests and the simulator substitute.
//!
//! The core is a deterministic state machine: it sees devices, the key–value index and time only
//! through these. Reads are synchronous; flushes and commits run as jobs that the runtime puts on
//! threads and the simulator runs when it likes, so nothing in here may hide a thread of its own.

use std::io::{self, IoSlice};
use std::ops::ControlFlow;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::meta::db::Db;

/// A device or a preallocated file of fixed size. A write is visible to every later read at once,
/// and durable only once a later `flush` has returned; until then a power cut may keep, lose, tear
/// or reorder it. All methods may be called from several threads.
pub trait BlockDevice: Send + Sync + 'static {
    fn size_bytes(&self) -> u64;
    /// Fills `buf` from `offset` on, or fails.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bufs`, one after the other, from `offset` on.
    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes every write that has returned durable. After a failure nothing is known about them:
    /// the caller must not try again (the kernel reports a lost write once).
    fn flush(&self) -> io::Result<()>;
    /// Says that the bytes are not needed any more. A hint: they may read back as anything.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()>;
    /// Whether the device gains by `discard`.
    fn wants_discard(&self) -> bool {
        false
    }
    /// What a message calls this device.
    fn name(&self) -> &str;
}

/// One change of the index: a value, or `None` to delete the key.
#[derive(Clone, Copy, Debug)]
pub struct KvOp<'a> {
    pub db: Db,
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// The sorted index of a shard. Reads see the snapshot taken by the last `refresh`.
pub trait Kv: Send + 'static {
    type Writer: KvWriter;

    fn get(&self, db: Db, key: &[u8]) -> io::Result<Option<&[u8]>>;

    /// Visits the keys in `from..until` in key order until the visitor breaks.
    fn scan(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()>;

    /// The half that commits, for another thread. There is one writer at a time.
    fn writer(&self) -> Self::Writer;

    /// Reads from now on see everything that is committed.
    fn refresh(&mut self) -> io::Result<()>;
}

pub trait KvWriter: Send + 'static {
    /// Applies all of `ops`, which come sorted by database and key, atomically and durably.
    fn commit<'a>(&self, ops: impl Iterator<Item = KvOp<'a>>) -> io::Result<()>;
}

/// Time. `now_ns` never goes back; `wall_ns` is what files are stamped with.
pub trait Clock {
    /// Monotonic, from an arbitrary start, in ns.
    fn now_ns(&self) -> u64;
    /// Since 1970, in ns.
    fn wall_ns(&self) -> i64;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn wall_ns(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i64,
            Err(before) => -(before.duration().as_nanos() as i64),
        }
    }
}
