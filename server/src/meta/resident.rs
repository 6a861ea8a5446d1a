//! The index's pages in the server's page table, before somebody waits for them.
//!
//! The index is a map of a file. A page of it that was never touched costs a fault, and one that was not
//! read yet a seek, each in the middle of somebody's request; the shard's thread waits, and everybody
//! with it. So a thread of its own maps what is there when the server starts, in the order of the
//! file, and each commit maps what it has added. What must stay true: it is help and no more; whatever
//! fails leaves the index as slow as it would be.
//!
//! # Safety
//! madvise(2) with `MADV_POPULATE_READ` reads pages of a shared map of ours and changes nothing.
#![allow(unsafe_code, reason = "madvise of LMDB's map")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Mapped in one system call, which other faults wait for, in bytes.
const STEP_BYTES: usize = 2 << 20;
/// One commit maps no more, in bytes.
const GROWTH_MAX_BYTES: usize = 64 << 20;

/// The map of one index.
pub(super) struct Resident {
    address: usize,
    /// What is mapped, from the beginning on, in bytes.
    mapped_bytes: AtomicUsize,
}

impl Resident {
    /// Finds the map of `file`, which is `file_bytes` long, and begins to bring it in: unless that
    /// would take more than half of the memory that is free.
    pub fn begin(file: &Path, file_bytes: usize) -> Arc<Resident> {
        let resident = Arc::new(Resident {
            address: map_of(file).unwrap_or(0),
            mapped_bytes: AtomicUsize::new(file_bytes),
        });
        if resident.address != 0 && file_bytes < available_bytes() / 2 {
            let (map, name) = (Arc::clone(&resident), "index-warm".to_owned());
            let warm = move || map.populate(0, file_bytes);
            if let Err(e) = std::thread::Builder::new().name(name).spawn(warm) {
                log::warn!("the index is not read ahead: {e}");
            }
        }
        resident
    }

    /// A commit has made the file so long.
    pub fn grown(&self, file_bytes: usize) {
        let before = self.mapped_bytes.load(Ordering::Relaxed);
        if self.address == 0 || file_bytes <= before {
            return;
        }
        let until = file_bytes.min(before + GROWTH_MAX_BYTES);
        self.mapped_bytes.store(until, Ordering::Relaxed);
        self.populate(before, until);
    }

    fn populate(&self, from: usize, until: usize) {
        for at in (from..until).step_by(STEP_BYTES) {
            let len = STEP_BYTES.min(until - at);
            // SAFETY: a part of the map of the environment that whoever calls us holds.
            let failed = unsafe {
                libc::madvise(
                    (self.address + at) as *mut libc::c_void,
                    len,
                    libc::MADV_POPULATE_READ,
                )
            };
            // Before Linux 5.14 there is no such advice.
            if failed != 0 {
                return;
            }
        }
    }
}

/// Where this process has mapped a file from its beginning on (proc_pid_maps(5)).
fn map_of(file: &Path) -> Option<usize> {
    let inode = fs::metadata(file).ok()?.ino().to_string();
    let name = fs::canonicalize(file).ok()?;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let range = fields.next()?;
        let offset = fields.nth(1)?;
        let is_it = fields.nth(1) == Some(&inode) && line.ends_with(name.to_str()?);
        let is_start = offset.bytes().all(|b| b == b'0');
        let start = usize::from_str_radix(range.split('-').next()?, 16).ok()?;
        (is_it && is_start).then_some(start)
    })
}

/// Memory that programs can have without swapping (proc_meminfo(5)), in bytes; 0 if nobody knows.
fn available_bytes() -> usize {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.split_ascii_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Kv, KvOp, KvWriter};
    use crate::meta::LmdbKv;
    use crate::meta::db::Db;

    /// Kilobytes of the map of `file` that are in this process's page table (proc_pid_smaps(5)).
    fn mapped_kib(file: &Path) -> usize {
        let name = fs::canonicalize(file).unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps
            .lines()
            .skip_while(|l| !l.ends_with(name.to_str().unwrap()));
        let rss = lines.find_map(|l| l.strip_prefix("Rss:")).unwrap();
        rss.trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn what_an_index_holds_is_mapped_when_it_is_opened_and_when_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data.mdb");
        let kv = LmdbKv::open(dir.path()).unwrap();
        let keys: Vec<[u8; 4]> = (0..2000u32).map(u32::to_be_bytes).collect();
        let value = [7; 1500];
        let ops = keys.iter().map(|key| KvOp {
            db: Db::Ino,
            key,
            value: Some(&value),
        });
        kv.writer().commit(ops).unwrap();
        let file_kib = fs::metadata(&file).unwrap().len() as usize >> 10;
        assert!(file_kib > 2000 && mapped_kib(&file) > file_kib * 9 / 10);
        drop(kv);
        let _kv = LmdbKv::open(dir.path()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while mapped_kib(&file) < file_kib * 9 / 10 {
            assert!(
                std::time::Instant::now() < deadline,
                "{}",
                mapped_kib(&file)
            );
            std::thread::yield_now();
        }
    }
}
