//! The index in LMDB, on a kernel file system.
//!
//! Commits are synchronous (never `MDB_NOSYNC`, never `MDB_WRITEMAP`); the map is reserved once,
//! sparse, and never resized. The shard's thread holds one read snapshot and renews it after each
//! commit. A lock file keeps a second server out: LMDB itself would let it in.
//!
//! # Safety
//! LMDB maps its file: opening is unsafe because somebody could change the file below the map. The
//! directory is ours alone while we hold its lock file, and nothing of ours writes to it but LMDB.
#![allow(unsafe_code, reason = "LMDB maps its file")]

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, RoTxn, WithoutTls};

use super::db::Db;
use super::resident::Resident;
use crate::env::{Kv, KvOp, KvWriter};
use crate::store::{OpenError, device};

/// Reserved address space, in bytes; the file grows as it is filled.
const MAP_BYTES: usize = 1 << 40;
/// Readers: the shard's snapshot, the commit thread, tools.
const READERS: u32 = 16;
const DATA_FILE: &str = "data.mdb";
const LOCK_FILE: &str = "sealfs.lock";

type Databases = [Database<'static, Bytes, Bytes>; Db::ALL.len()];

pub struct LmdbKv {
    // Dropped before the environment and the lock.
    snapshot: RoTxn<'static, WithoutTls>,
    databases: Databases,
    env: Env<WithoutTls>,
    resident: Arc<Resident>,
    _lock: File,
}

impl LmdbKv {
    /// Opens the index in `dir`, which is made if it is not there, for this process alone.
    pub fn open(dir: &Path) -> Result<LmdbKv, OpenError> {
        let name = dir.display().to_string();
        let failed = |source| OpenError::Io {
            name: name.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK_FILE))
            .map_err(failed)?;
        if !device::lock(&lock).map_err(failed)? {
            return Err(OpenError::InUse { name });
        }
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options
            .map_size(MAP_BYTES)
            .max_dbs(Db::ALL.len() as u32)
            .max_readers(READERS);
        // SAFETY: the lock file keeps other servers out; see the header.
        let env = unsafe { options.open(dir) }.map_err(|e| failed(to_io(e)))?;
        let open = || -> heed::Result<_> {
            // Readers of a life that was killed would hold its pages for ever.
            env.clear_stale_readers()?;
            let txn = env.write_txn()?;
            let databases = env.create_databases_and_commit(txn, |opener, txn| {
                let mut all = Vec::with_capacity(Db::ALL.len());
                for db in Db::ALL {
                    all.push(opener.create_database::<Bytes, Bytes>(txn, Some(db.name()))?);
                }
                let all = <[_; Db::ALL.len()]>::try_from(all);
                let all = all.map_err(|_| heed::Error::Mdb(heed::MdbError::DbsFull))?;
                heed::Result::Ok(CommitOrAbort::<_, ()>::Commit(all))
            })?;
            let databases = databases.unwrap_commit();
            Ok((databases, env.clone().static_read_txn()?))
        };
        let (databases, snapshot) = open().map_err(|e| failed(to_io(e)))?;
        let resident = Resident::begin(&dir.join(DATA_FILE), file_bytes(&env), MAP_BYTES);
        Ok(LmdbKv {
            snapshot,
            databases,
            env,
            resident,
            _lock: lock,
        })
    }
}

/// The length of the index's file, in bytes; 0 if that cannot be known.
fn file_bytes(env: &Env<WithoutTls>) -> usize {
    let bytes = env.real_disk_size().unwrap_or(0);
    usize::try_from(bytes).unwrap_or(0)
}

/// How far the pages of the index reach in it, in bytes.
fn used_bytes(env: &Env<WithoutTls>) -> usize {
    let page_bytes = env.unnamed_database_stat().page_size as usize;
    (env.info().last_page_number + 1) * page_bytes
}

fn to_io(error: heed::Error) -> io::Error {
    match error {
        heed::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl Kv for LmdbKv {
    type Writer = LmdbWriter;

    fn get(&self, db: Db, key: &[u8]) -> io::Result<Option<&[u8]>> {
        self.databases[db as usize]
            .get(&self.snapshot, key)
            .map_err(to_io)
    }

    fn scan(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        // LMDB takes no empty key, not even to begin from.
        let begin = match from {
            [] => Bound::Unbounded,
            from => Bound::Included(from),
        };
        let bounds = (begin, Bound::Excluded(until));
        let range = self.databases[db as usize]
            .range(&self.snapshot, &bounds)
            .map_err(to_io)?;
        for entry in range {
            let (key, value) = entry.map_err(to_io)?;
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn writer(&self) -> LmdbWriter {
        LmdbWriter {
            databases: self.databases,
            env: self.env.clone(),
            resident: Arc::clone(&self.resident),
        }
    }

    fn refresh(&mut self) -> io::Result<()> {
        self.snapshot = self.env.clone().static_read_txn().map_err(to_io)?;
        Ok(())
    }
}

pub struct LmdbWriter {
    databases: Databases,
    env: Env<WithoutTls>,
    resident: Arc<Resident>,
}

impl KvWriter for LmdbWriter {
    fn commit<'a>(&self, ops: impl Iterator<Item = KvOp<'a>>) -> io::Result<()> {
        let mut txn = self.env.write_txn().map_err(to_io)?;
        for op in ops {
            let database = &self.databases[op.db as usize];
            match op.value {
                Some(value) => database.put(&mut txn, op.key, value),
                None => database.delete(&mut txn, op.key).map(|_| ()),
            }
            .map_err(to_io)?;
        }
        txn.commit().map_err(to_io)?;
        self.resident.grown(used_bytes(&self.env));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::MemoryKv;
    use crate::meta::db::Key;

    fn all<K: Kv>(kv: &K, from: &[u8], until: &[u8]) -> Vec<(Key, Vec<u8>)> {
        let mut found = Vec::new();
        kv.scan(Db::Dent, from, until, |key, value| {
            found.push((Key::from_slice(key), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn lmdb_and_the_index_in_memory_answer_alike() {
        let dir = tempfile::tempdir().unwrap();
        let mut lmdb = LmdbKv::open(dir.path()).unwrap();
        let mut memory = MemoryKv::new();
        let keys: Vec<[u8; 2]> = (0..60u8).map(|i| [i / 7, i.wrapping_mul(37)]).collect();
        for round in 0..3u8 {
            let mut sorted = keys.clone();
            sorted.sort_unstable();
            let ops = sorted.iter().map(|key| KvOp {
                db: Db::Dent,
                key,
                value: (key[1] % 3 != round).then_some(&key[1..]),
            });
            lmdb.writer().commit(ops.clone()).unwrap();
            memory.writer().commit(ops).unwrap();
            assert_eq!(lmdb.get(Db::Ino, &keys[0]).unwrap(), None);
            lmdb.refresh().unwrap();
            memory.refresh().unwrap();
            for (from, until) in [
                (&[][..], &[9][..]),
                (&[2], &[4, 100]),
                (&[3], &[3]),
                (&[4], &[1]),
            ] {
                assert_eq!(all(&lmdb, from, until), all(&memory, from, until));
            }
            for key in &keys {
                let (a, b) = (lmdb.get(Db::Dent, key), memory.get(Db::Dent, key));
                assert_eq!(a.unwrap(), b.unwrap());
            }
        }
    }

    #[test]
    fn a_snapshot_stays_as_it_is_until_it_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let mut kv = LmdbKv::open(dir.path()).unwrap();
        let op = KvOp {
            db: Db::Ino,
            key: b"k",
            value: Some(b"v"),
        };
        kv.writer().commit([op].into_iter()).unwrap();
        assert_eq!(kv.get(Db::Ino, b"k").unwrap(), None);
        kv.refresh().unwrap();
        assert_eq!(kv.get(Db::Ino, b"k").unwrap(), Some(&b"v"[..]));
    }
}
