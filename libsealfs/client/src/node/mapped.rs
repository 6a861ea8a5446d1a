//! Which inodes are mapped shared by a process of this node.
//!
//! The bytes of such a file live in a memfd of the keeper while any mapping exists, and whoever
//! reads or writes the file on this node has to go through it, or mappings and `read` would
//! disagree. Each read and write therefore asks [`Arena::mapped`]; as long as nothing is mapped
//! that is one load of one word.
//!
//! Only the keeper writes the table.

use super::arena::{Arena, ManagerIndex};
use super::memory::{MappedMemory, Table};
use super::runtime::Runtime;
use super::sys::{self, Result};
use core::sync::atomic::Ordering;
use sealfs_protocol::{Errno, InodeId, VolumeId};

const LIVE: u64 = 1;

/// A mapped inode: place in the table, and which of those that were there. A cached descriptor of
/// its memfd is good as long as [`Arena::mapped`] returns the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MappedId {
    pub index: u32,
    pub generation: u32,
}

/// A file of some cluster, as the table names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileKey {
    pub manager: ManagerIndex,
    pub volume: VolumeId,
    pub ino: InodeId,
}

impl Arena {
    /// Whether the file is mapped shared on this node now.
    #[inline]
    pub fn mapped(&self, key: FileKey) -> Option<MappedId> {
        if self.map.header().mapped_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.find_mapped(key)
    }

    fn find_mapped(&self, key: FileKey) -> Option<MappedId> {
        (0..self.map.used(Table::Mapped)).find_map(|index| {
            let entry = self.map.mapped(index)?;
            let word = entry.word.load(Ordering::Acquire);
            let is_it = word & 0xff == LIVE && key_of(entry, word) == key;
            is_it.then_some(MappedId {
                index,
                generation: (word >> 32) as u32,
            })
        })
    }

    /// How many files are mapped.
    pub fn mapped_files(&self) -> u32 {
        self.map.header().mapped_count.load(Ordering::SeqCst)
    }

    /// Size of the memfd's file, in bytes, as the keeper last set it.
    pub fn mapped_size(&self, id: MappedId) -> Option<u64> {
        let entry = self.map.mapped(id.index)?;
        let word = entry.word.load(Ordering::Acquire);
        (word & 0xff == LIVE && (word >> 32) as u32 == id.generation)
            .then(|| entry.size_bytes.load(Ordering::Relaxed))
    }

    /// Keeper: the file is mapped from now on.
    pub fn add_mapped(&self, runtime: &Runtime, key: FileKey, size: u64) -> Result<MappedId> {
        loop {
            let have = self.map.capacity(Table::Mapped);
            for index in 0..have {
                let entry = self.map.mapped(index).ok_or(Errno::EIO)?;
                let old = entry.word.load(Ordering::Acquire);
                if old & 0xff == LIVE {
                    continue;
                }
                let generation = ((old >> 32) as u32).wrapping_add(1);
                entry
                    .volume
                    .store(u64::from(key.volume.0), Ordering::Relaxed);
                entry.ino.store(key.ino.0, Ordering::Relaxed);
                entry.size_bytes.store(size, Ordering::Relaxed);
                let word = LIVE | u64::from(key.manager.0) << 8 | u64::from(generation) << 32;
                entry.word.store(word, Ordering::SeqCst);
                self.map.note_used(Table::Mapped, index);
                self.map
                    .header()
                    .mapped_count
                    .fetch_add(1, Ordering::SeqCst);
                return Ok(MappedId { index, generation });
            }
            self.map.grow(runtime, Table::Mapped, have)?;
        }
    }

    /// Keeper: the file has another size.
    pub fn resize_mapped(&self, id: MappedId, size: u64) {
        if let Some(entry) = self.map.mapped(id.index) {
            entry.size_bytes.store(size, Ordering::Release);
        }
    }

    /// Keeper: nobody maps the file any more, and its bytes are written back.
    pub fn remove_mapped(&self, id: MappedId) {
        if let Some(entry) = self.map.mapped(id.index) {
            let old = entry.word.load(Ordering::Acquire);
            if old & 0xff == LIVE && (old >> 32) as u32 == id.generation {
                entry.word.store(old & !0xff, Ordering::SeqCst);
                self.map
                    .header()
                    .mapped_count
                    .fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// Keeper, at its start: what a keeper before it left is gone with its memory.
    pub fn clear_mapped(&self) {
        for index in 0..self.map.used(Table::Mapped) {
            if let Some(entry) = self.map.mapped(index) {
                let old = entry.word.load(Ordering::Acquire);
                entry.word.store(old & !0xff, Ordering::SeqCst);
            }
        }
        self.map.header().mapped_count.store(0, Ordering::SeqCst);
    }
}

fn key_of(entry: &MappedMemory, word: u64) -> FileKey {
    FileKey {
        manager: ManagerIndex((word >> 8) as u8),
        volume: VolumeId(entry.volume.load(Ordering::Relaxed) as u32),
        ino: InodeId(entry.ino.load(Ordering::Relaxed)),
    }
}

/// Bytes compared at a time.
const OVERLAY_BYTES: usize = 4096;

/// Puts into `bytes`, which the servers gave for `offset`, what mappings have changed since: where the
/// memory of a mapped file differs from its pristine copy, the memory is newer.
pub fn overlay(bytes_fd: i32, pristine_fd: i32, offset: u64, bytes: &mut [u8]) -> Result<()> {
    let mut at = offset;
    for part in bytes.chunks_mut(OVERLAY_BYTES) {
        let (mut now, mut before) = ([0u8; OVERLAY_BYTES], [0u8; OVERLAY_BYTES]);
        let have = sys::read_at(bytes_fd, at, &mut now[..part.len()])?;
        let _ = sys::read_at(pristine_fd, at, &mut before[..part.len()])?;
        for (i, byte) in part.iter_mut().enumerate().take(have) {
            if now[i] != before[i] {
                *byte = now[i];
            }
        }
        at += part.len() as u64;
    }
    Ok(())
}

/// A write(2) to a mapped file, before the same bytes go to the servers: memory first, pristine copy
/// second, so that a write-back that runs meanwhile can at worst write them once more.
pub fn write_through(bytes_fd: i32, pristine_fd: i32, offset: u64, bytes: &[u8]) -> Result<()> {
    sys::write_at(bytes_fd, offset, bytes)?;
    sys::write_at(pristine_fd, offset, bytes)
}
