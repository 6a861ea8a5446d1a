//! The index's pages in the server's page table, before somebody waits for them.
//!
//! The index is a map of a file. A page of it that was never touched costs a fault, and one that was not
//! read yet a seek, each in the middle of somebody's request; the shard's thread waits, and everybody
//! with it. So a thread of its own maps what is there when the server starts, in the order of the
//! file, and each commit maps what it has added.
//!
//! A descent meets pages that nothing has touched lately, and half of what one costs is finding where it
//! is. The kernel maps 2 MiB at once where its cache holds them as one piece (Linux 6.16 with ext4, XFS). It
//! makes such pieces when it reads, not when a page is written; so the file is made longer than it is, and
//! the hole mapped, before LMDB writes there.
//!
//! What must stay true: it is help and no more; whatever fails leaves the index as slow as it would
//! be. An index that outgrows half of the memory that is free is left to the kernel: there one page that
//! is missing must not bring 2 MiB.
//!
//! # Safety
//! madvise(2) with these advices changes no byte of any map.
#![allow(unsafe_code, reason = "madvise of LMDB's map")]

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Mapped in one system call, which other faults wait for, and as one piece, in bytes.
const STEP_BYTES: usize = 2 << 20;
/// A shorter index stays as long as it is.
const AHEAD_FROM_BYTES: usize = 16 << 20;
/// The file is longer than the index by this part of it, and at most by so many bytes.
const AHEAD_PART: usize = 8;
const AHEAD_MAX_BYTES: usize = 64 << 20;

/// The map of one index.
pub(super) struct Resident {
    address: usize,
    map_bytes: usize,
    /// To make it longer.
    file: Option<File>,
    /// What is mapped, from the beginning on, in bytes.
    mapped_bytes: AtomicUsize,
}

impl Resident {
    /// Finds the map of `path`, a file of `file_bytes` of which `map_bytes` of addresses are taken, and
    /// begins to bring it in.
    pub fn begin(path: &Path, file_bytes: usize, map_bytes: usize) -> Arc<Resident> {
        let fits = file_bytes < available_bytes() / 2;
        let address = if fits { map_of(path) } else { None };
        let resident = Arc::new(Resident {
            address: address.unwrap_or(0),
            map_bytes,
            file: File::options().write(true).open(path).ok(),
            mapped_bytes: AtomicUsize::new(file_bytes),
        });
        if address.is_some() {
            resident.advise(0, map_bytes, libc::MADV_HUGEPAGE);
            let (map, name) = (Arc::clone(&resident), "index-warm".to_owned());
            let warm = move || map.populate(0, file_bytes);
            if let Err(e) = std::thread::Builder::new().name(name).spawn(warm) {
                log::warn!("the index is not read ahead: {e}");
            }
        }
        resident
    }

    /// A commit has made the index so long.
    pub fn grown(&self, used_bytes: usize) {
        let mapped = self.mapped_bytes.load(Ordering::Relaxed);
        let ahead = if used_bytes < AHEAD_FROM_BYTES {
            0
        } else {
            (used_bytes / AHEAD_PART).min(AHEAD_MAX_BYTES)
        };
        if self.address == 0 || used_bytes + ahead / 2 <= mapped {
            return;
        }
        let mut until = used_bytes;
        if ahead > 0 {
            until = (used_bytes + ahead).next_multiple_of(STEP_BYTES);
            if until > available_bytes() / 2 {
                self.mapped_bytes.store(usize::MAX, Ordering::Relaxed);
                return self.advise(0, self.map_bytes, libc::MADV_NOHUGEPAGE);
            }
            if self.lengthen(until).is_err() {
                until = used_bytes;
            }
        }
        self.mapped_bytes.store(until, Ordering::Relaxed);
        self.populate(mapped, until);
    }

    /// Makes the file so long, never shorter.
    fn lengthen(&self, bytes: usize) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if file.metadata()?.len() < bytes as u64 {
            file.set_len(bytes as u64)?;
        }
        Ok(())
    }

    fn populate(&self, from: usize, until: usize) {
        let mut at = from;
        while at < until {
            let end = until.min((at + 1).next_multiple_of(STEP_BYTES));
            self.advise(at, end - at, libc::MADV_POPULATE_READ);
            at = end;
        }
    }

    /// Refused by kernels that do not know the advice.
    fn advise(&self, from: usize, len: usize, advice: i32) {
        // SAFETY: a part of the map while the environment is open. The thread that reads ahead may outlive
        // it: then there is nothing here (ENOMEM), or another map, of which pages are read in vain.
        let _ = unsafe { libc::madvise((self.address + from) as *mut libc::c_void, len, advice) };
    }
}

/// Where this process has mapped a file from its beginning on (proc_pid_maps(5)). By its name: on an
/// overlay the number is not always that of stat(2).
fn map_of(file: &Path) -> Option<usize> {
    let name = fs::canonicalize(file).ok()?;
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let range = fields.next()?;
        let is_start = fields.nth(1)?.bytes().all(|b| b == b'0');
        let start = usize::from_str_radix(range.split('-').next()?, 16).ok()?;
        (is_start && line.ends_with(name.to_str()?)).then_some(start)
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

    fn fill(kv: &LmdbKv, keys: std::ops::Range<u32>) {
        let keys: Vec<[u8; 4]> = keys.map(u32::to_be_bytes).collect();
        let value = [7; 1500];
        let ops = keys.iter().map(|key| KvOp {
            db: Db::Ino,
            key,
            value: Some(&value),
        });
        kv.writer().commit(ops).unwrap();
    }

    #[test]
    fn what_an_index_holds_is_mapped_when_it_is_opened_and_when_it_grows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data.mdb");
        let file_kib = || fs::metadata(&file).unwrap().len() as usize >> 10;
        let mut kv = LmdbKv::open(dir.path()).unwrap();
        fill(&kv, 0..2000);
        assert!(file_kib() > 2000 && mapped_kib(&file) > file_kib() * 9 / 10);
        fill(&kv, 2000..12_000);
        let long_kib = file_kib();
        assert!(long_kib > 20 << 10 && long_kib.is_multiple_of(STEP_BYTES >> 10));
        assert!(mapped_kib(&file) > long_kib * 9 / 10);
        // What is written there then is what is read.
        fill(&kv, 12_000..12_500);
        assert_eq!(file_kib(), long_kib);
        kv.refresh().unwrap();
        for key in 0..12_500u32 {
            let value = kv.get(Db::Ino, &key.to_be_bytes()).unwrap().unwrap();
            assert_eq!(value, [7; 1500]);
        }
        drop(kv);
        let _kv = LmdbKv::open(dir.path()).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while mapped_kib(&file) < long_kib * 9 / 10 {
            assert!(
                std::time::Instant::now() < deadline,
                "{}",
                mapped_kib(&file)
            );
            std::thread::yield_now();
        }
    }
}
