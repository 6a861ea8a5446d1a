//! The manager's durable state: one LMDB environment in `state_dir`, written whole on each change.
//!
//! What must stay true: [`Store::save`] returns only when the state is on the disk (LMDB's normal
//! synchronous commit), and what cannot be understood is refused, never overwritten. Changes are
//! rare (a member joins, a volume is made) and the state is some ten kilobytes, so one value under
//! one key is the whole format: a version tag (u32, little-endian), then the rkyv bytes.
//!
//! # Safety
//! LMDB maps its file; heed asks that nobody else changes the file meanwhile. An exclusive lock on
//! `state_dir/lock` keeps a second manager out.

#![allow(unsafe_code, reason = "opening an LMDB environment maps a file")]

use crate::state::Durable;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use sealfs_protocol::ClusterId;
use std::fs;
use std::path::{Path, PathBuf};

/// Raised when an older manager could misread the state.
const FORMAT: u32 = 1;
const KEY: &[u8] = b"cluster";
/// Address space reserved for the environment; LMDB's file grows as it is filled, in bytes.
const MAP_BYTES: usize = 64 << 20;

/// Why a state directory cannot be used: one line that names it and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("state_dir {}: {error}: name a directory that this user may write", dir.display())]
    Io { dir: PathBuf, error: std::io::Error },
    #[error("state_dir {}: another manager runs on it: stop that one first", .0.display())]
    Locked(PathBuf),
    #[error("state_dir {} holds other files: name an empty directory", .0.display())]
    Foreign(PathBuf),
    #[error("state_dir {}: its state has format {found}, this manager knows {FORMAT}: use the newer sealfs-manager", dir.display())]
    Format { dir: PathBuf, found: u32 },
    #[error("state_dir {}: its state is damaged: restore it from a copy", .0.display())]
    Damaged(PathBuf),
    #[error("state_dir {}: the cluster was made with {made} partitions, not {asked}: leave `partitions` out", dir.display())]
    Partitions { dir: PathBuf, made: u16, asked: u16 },
    #[error("state_dir {}: {error}", dir.display())]
    Lmdb { dir: PathBuf, error: heed::Error },
}

/// The open environment.
pub struct Store {
    env: Env,
    db: Database<'static, Bytes, Bytes>,
    dir: PathBuf,
    /// Held for its lock.
    _lock: OwnedFd,
}

impl Store {
    /// Opens the state in `dir`; an absent or empty directory becomes a new cluster with
    /// `partitions` (or the default). A number that contradicts an existing cluster is refused.
    pub fn open(dir: &Path, partitions: Option<u16>) -> Result<(Store, Durable), StoreError> {
        let io = |error| StoreError::Io {
            dir: dir.into(),
            error,
        };
        fs::create_dir_all(dir).map_err(io)?;
        let is_new = !dir.join("data.mdb").exists();
        let is_ours = |name: &std::ffi::OsStr| name == "lock" || name == "lock.mdb";
        if is_new {
            for entry in fs::read_dir(dir).map_err(io)? {
                if !is_ours(&entry.map_err(io)?.file_name()) {
                    return Err(StoreError::Foreign(dir.into()));
                }
            }
        }
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = rustix::fs::open(
            dir.join("lock").as_os_str().as_encoded_bytes(),
            flags,
            Mode::from(0o600),
        )
        .map_err(|e| io(from_errno(e)))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| StoreError::Locked(dir.into()))?;
        let lmdb = |error| StoreError::Lmdb {
            dir: dir.into(),
            error,
        };
        // SAFETY: the exclusive lock taken above keeps other managers from this environment, and
        // this process opens it once.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).open(dir) }.map_err(lmdb)?;
        let txn = env.write_txn().map_err(lmdb)?;
        let db = env
            .create_databases_and_commit(txn, |databases, txn| {
                let db = databases.create_database(txn, None)?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(db))
            })
            .map_err(lmdb)?
            .commit()
            .ok_or_else(|| StoreError::Damaged(dir.into()))?;
        let store = Store {
            env,
            db,
            dir: dir.into(),
            _lock: lock,
        };
        let durable = store.load_or_found(partitions)?;
        Ok((store, durable))
    }

    fn load_or_found(&self, partitions: Option<u16>) -> Result<Durable, StoreError> {
        let dir = &self.dir;
        let Some(durable) = self.load()? else {
            let count = partitions.unwrap_or(sealfs_protocol::limits::PARTITIONS_DEFAULT);
            let durable = Durable::founded(random_cluster(dir)?, count);
            self.save(&durable)?;
            return Ok(durable);
        };
        let made = durable.ring.partitions();
        match partitions {
            Some(asked) if asked != made => Err(StoreError::Partitions {
                dir: dir.clone(),
                made,
                asked,
            }),
            _ => Ok(durable),
        }
    }

    fn load(&self) -> Result<Option<Durable>, StoreError> {
        let dir = || self.dir.clone();
        let lmdb = |error| StoreError::Lmdb { dir: dir(), error };
        let txn = self.env.read_txn().map_err(lmdb)?;
        let Some(bytes) = self.db.get(&txn, KEY).map_err(lmdb)? else {
            let is_empty = self.db.is_empty(&txn).map_err(lmdb)?;
            return if is_empty {
                Ok(None)
            } else {
                Err(StoreError::Foreign(dir()))
            };
        };
        let (tag, body) = bytes
            .split_first_chunk()
            .ok_or_else(|| StoreError::Damaged(dir()))?;
        let found = u32::from_le_bytes(*tag);
        if found != FORMAT {
            return Err(StoreError::Format { dir: dir(), found });
        }
        let durable: Durable =
            sealfs_protocol::codec::decode(body).map_err(|_| StoreError::Damaged(dir()))?;
        if !durable.ring.is_consistent() {
            return Err(StoreError::Damaged(dir()));
        }
        Ok(Some(durable))
    }

    /// Replaces the state; durable when it returns.
    pub fn save(&self, durable: &Durable) -> Result<(), StoreError> {
        let lmdb = |error| StoreError::Lmdb {
            dir: self.dir.clone(),
            error,
        };
        let body = sealfs_protocol::codec::encode(durable)
            .map_err(|_| StoreError::Damaged(self.dir.clone()))?;
        let mut value = FORMAT.to_le_bytes().to_vec();
        value.extend_from_slice(&body);
        let mut txn = self.env.write_txn().map_err(lmdb)?;
        self.db.put(&mut txn, KEY, &value).map_err(lmdb)?;
        txn.commit().map_err(lmdb)
    }
}

fn random_cluster(dir: &Path) -> Result<ClusterId, StoreError> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(|e| {
        StoreError::Io {
            dir: dir.into(),
            error: from_errno(e),
        }
    })?;
    Ok(ClusterId(u128::from_le_bytes(bytes)))
}

fn from_errno(e: rustix::io::Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(e.raw_os_error())
}
