//! What `sealfs profile` counts: memory that its command's processes share with it, one record for each
//! system call, counted up by whoever makes the call.
//!
//! ```text
//! 0       Header (64 bytes)
//! 64      Record × 512, by the number of the call (4,864 bytes each)
//! ```
//!
//! The file is made by the command, with all its memory, and mapped by each covered process when it
//! starts; forked children have it from their parents. Integers are in the byte order of the machine: the
//! file never leaves it.
//!
//! What must stay true: counting is one atomic addition each, takes no lock and calls nobody, so that it is
//! safe in a signal handler, in a forked child and in one that shares its parent's memory; a process that
//! is killed has counted what it did.
#![allow(unsafe_code, reason = "the counters are shared memory")]
//!
//! # Safety
//! The file has the size of [`Memory`] when it is mapped, and is never unmapped. All of it are atomics, for
//! which any bit pattern is a value.

use super::histogram::{self, BUCKETS};
use super::memory::{load_bytes, store_bytes};
use super::runtime::{NodeError, NodePath, Runtime};
use super::sys::{self, Result};
use core::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use rustix::fs::OFlags;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::path::Arg;
use sealfs_protocol::Errno;

/// Another one when the layout changes: a library of another version then refuses the file.
const MAGIC: u64 = u64::from_le_bytes(*b"sealfsP1");
/// Numbers of system calls that have a record.
const NUMBERS: usize = 512;
/// Longest name of a system call that is kept, in bytes.
const NAME_BYTES: usize = 24;
/// The file's name in the runtime directory: this and the number of the command's process.
pub const FILE_NAME: &[u8] = b"profile-";

#[repr(C, align(64))]
struct Header {
    /// [`MAGIC`], written last.
    magic: AtomicU64,
    /// Program images that have mapped the file.
    images: AtomicU64,
}

#[repr(C, align(64))]
struct Record {
    name: [AtomicU64; NAME_BYTES / 8],
    ours: AtomicU64,
    failed: AtomicU64,
    theirs: [AtomicU64; 3],
    bytes: AtomicU64,
    requests: AtomicU64,
    /// Sum over the calls of ours, in ns.
    total_ns: AtomicU64,
    /// Calls of ours, by [`histogram::bucket_of`].
    times: [AtomicU64; BUCKETS],
}

#[repr(C)]
struct Memory {
    header: Header,
    records: [Record; NUMBERS],
}

/// Why a call was the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Its path does not lead into the mount.
    Path = 0,
    /// Its descriptor is none of the mount.
    Descriptor = 1,
    /// The library only looks, or does its part.
    Part = 2,
}

/// Who did a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// The library. `ns` is unknown where the clock may not be asked.
    Ours {
        ns: Option<u64>,
        failed: bool,
        bytes: u64,
    },
    Kernel(Why),
}

/// All that was counted of one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    pub name: String,
    pub ours: u64,
    /// Of ours, those that gave an error.
    pub failed: u64,
    /// The kernel's, by [`Why`].
    pub theirs: [u64; 3],
    pub bytes: u64,
    /// Requests that went to servers meanwhile.
    pub requests: u64,
    pub total_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
}

impl Totals {
    pub fn calls(&self) -> u64 {
        self.ours + self.theirs.iter().sum::<u64>()
    }
}

/// The counters, mapped.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    memory: &'static Memory,
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Memory")
    }
}

fn add(to: &AtomicU64, amount: u64) {
    to.fetch_add(amount, Relaxed);
}

impl Profile {
    /// Makes the file for the process `pid`, with all its memory, so that nobody can run into a full tmpfs
    /// afterwards.
    pub fn create(runtime: &Runtime, pid: u32) -> core::result::Result<Profile, NodeError> {
        let path = Profile::path(runtime, pid);
        let shown = String::from_utf8_lossy(path.as_bytes()).into_owned();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = sys::open(path.as_c_str(), flags | OFlags::NOFOLLOW, 0o600)
            .map_err(|e| NodeError::new(e, format!("cannot make {shown}")))?;
        let mapped = sys::allocate(file.raw(), 0, size_of::<Memory>() as u64)
            .and_then(|()| map(file.raw()))
            .map_err(|e| NodeError::new(e, format!("no room for the counters in {shown}")));
        if mapped.is_err() {
            let _ = sys::unlink(path.as_c_str());
        }
        let memory = mapped?;
        memory.header.magic.store(MAGIC, Release);
        Ok(Profile { memory })
    }

    /// The counters at `path`, for a program image that is to be counted. EINVAL if they are none.
    pub fn join(path: impl Arg) -> Result<Profile> {
        let file = sys::open(path, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, 0)?;
        if sys::fstat(file.raw())?.st_size < size_of::<Memory>() as i64 {
            return Err(Errno::EINVAL);
        }
        let memory = map(file.raw())?;
        if memory.header.magic.load(Acquire) != MAGIC {
            return Err(Errno::EINVAL);
        }
        add(&memory.header.images, 1);
        Ok(Profile { memory })
    }

    /// Where the counters of the process `pid` lie.
    pub fn path(runtime: &Runtime, pid: u32) -> NodePath {
        let mut path = runtime.join(FILE_NAME);
        path.push_number(u64::from(pid));
        path
    }

    /// Counts one call; `requests` went to servers meanwhile.
    pub fn note(&self, number: usize, name: &str, did: Did, requests: u64) {
        let Some(record) = self.memory.records.get(number) else {
            return;
        };
        if record.name[0].load(Relaxed) == 0 {
            store_bytes(&record.name, name.as_bytes());
        }
        if requests > 0 {
            add(&record.requests, requests);
        }
        match did {
            Did::Kernel(why) => add(&record.theirs[why as usize], 1),
            Did::Ours { ns, failed, bytes } => {
                add(&record.ours, 1);
                add(&record.failed, u64::from(failed));
                add(&record.bytes, bytes);
                if let Some(ns) = ns {
                    add(&record.total_ns, ns);
                    add(&record.times[histogram::bucket_of(ns)], 1);
                }
            }
        }
    }

    /// A call that was noted as the kernel's was not in the end.
    pub fn take_back(&self, number: usize, why: Why) {
        if let Some(record) = self.memory.records.get(number) {
            record.theirs[why as usize].fetch_sub(1, Relaxed);
        }
    }

    /// Program images that were counted.
    pub fn images(&self) -> u64 {
        self.memory.header.images.load(Relaxed)
    }

    /// The calls that were made, those that took longest in all first.
    pub fn totals(&self) -> Vec<Totals> {
        let mut all: Vec<Totals> = self.memory.records.iter().map(Record::totals).collect();
        all.retain(|totals| totals.calls() > 0);
        all.sort_by_key(|totals| core::cmp::Reverse((totals.total_ns, totals.calls())));
        all
    }
}

impl Record {
    fn totals(&self) -> Totals {
        let name = load_bytes(&self.name, NAME_BYTES);
        let name = name.split(|byte| *byte == 0).next().unwrap_or(&name);
        let times: Vec<u64> = self.times.iter().map(|count| count.load(Relaxed)).collect();
        Totals {
            name: String::from_utf8_lossy(name).into_owned(),
            ours: self.ours.load(Relaxed),
            failed: self.failed.load(Relaxed),
            theirs: self.theirs.each_ref().map(|count| count.load(Relaxed)),
            bytes: self.bytes.load(Relaxed),
            requests: self.requests.load(Relaxed),
            total_ns: self.total_ns.load(Relaxed),
            p50_ns: histogram::percentile(&times, 50),
            p99_ns: histogram::percentile(&times, 99),
        }
    }
}

fn map(fd: sys::RawFd) -> Result<&'static Memory> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let bytes = size_of::<Memory>();
    // SAFETY: a fresh mapping, which stays; the file has that size.
    unsafe {
        let none = core::ptr::null_mut();
        let at = rustix::mm::mmap(
            none,
            bytes,
            protection,
            MapFlags::SHARED,
            sys::borrow(fd),
            0,
        );
        Ok(&*at.map_err(sys::errno)?.cast::<Memory>())
    }
}
