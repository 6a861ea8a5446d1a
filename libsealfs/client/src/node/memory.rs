//! The arena file byte by byte: one header, then three tables that grow in place.
//!
//! ```text
//! 0          Header (48 KiB)
//! 64 KiB     ProcessMemory × up to 65,536    who is registered        (64 bytes each)
//! 8 MiB      MappedMemory  × up to 16,384    inodes mapped shared     (64 bytes each)
//! 16 MiB     SlotMemory    × up to 262,144   open file descriptions   (512 bytes each)
//! ```
//!
//! The file is sparse; a table is used only as far as `fallocate` has backed it (`capacity`), so a
//! full tmpfs is an error number and never SIGBUS. Every word is an atomic, of the same size on
//! every target. Integers are in the byte order of the machine: the file never leaves it.
#![allow(unsafe_code, reason = "the arena is shared memory")]
//!
//! # Safety
//! All shared memory is reached through references to atomics (or arrays of them), for which any
//! bit pattern is a value and concurrent writes are no data race. References never reach past the
//! mapping: indices are checked against the maximum of their table, which the mapping covers.

use super::runtime::{NodeError, Runtime};
use super::sys::{self, Fd, Result};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use rustix::fs::OFlags;
use rustix::mm::{MapFlags, ProtFlags};
use sealfs_protocol::Errno;

pub const MAGIC: u64 = u64::from_le_bytes(*b"sealfsA1");
/// Raised when a process of the version before could misread the file.
pub const VERSION: u32 = 6;
pub const ARENA_FILE: &[u8] = b"arena";

pub const PROCESSES_MAX: u32 = 1 << 16;
pub const MAPPED_MAX: u32 = 1 << 14;
pub const SLOTS_MAX: u32 = 1 << 18;
/// Clusters that one user's processes on one node may use during a node session: whoever tries things
/// out starts and removes many. Their index is a byte elsewhere.
pub const MANAGERS_MAX: usize = 240;
/// Places that the inodes which programs watch are counted at.
pub const WATCH_PLACES: usize = 2048;
/// Longest URL of a manager, in bytes.
pub const MANAGER_URL_MAX_BYTES: usize = 120;

/// What of the file has memory from the beginning.
pub const HEADER_BYTES: usize = 48 << 10;
const PROCESSES_AT: usize = 64 << 10;
const MAPPED_AT: usize = 8 << 20;
const SLOTS_AT: usize = 16 << 20;
pub const MAPPING_BYTES: usize = SLOTS_AT + SLOTS_MAX as usize * size_of::<SlotMemory>();

/// Life of the arena, which is that of the node session: one file, one session.
pub const STATE_LIVE: u32 = 1;
/// The keeper looks whether anybody is left.
pub const STATE_ENDING: u32 = 2;
/// The file is being removed; attach anew.
pub const STATE_ENDED: u32 = 3;

/// The tables, as indices of `Header::capacity`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    Processes = 0,
    Mapped = 1,
    Slots = 2,
}

impl Table {
    /// (offset in the file, bytes of an entry, most entries, entries of the first step)
    const fn shape(self) -> (usize, usize, u32, u32) {
        match self {
            Table::Processes => (PROCESSES_AT, size_of::<ProcessMemory>(), PROCESSES_MAX, 256),
            Table::Mapped => (MAPPED_AT, size_of::<MappedMemory>(), MAPPED_MAX, 64),
            Table::Slots => (SLOTS_AT, size_of::<SlotMemory>(), SLOTS_MAX, 256),
        }
    }
}

#[repr(C)]
pub struct Header {
    /// [`MAGIC`], written last.
    pub magic: AtomicU64,
    pub version: AtomicU32,
    pub state: AtomicU32,
    /// Changed by the keeper alone, between two odd and even values of `session_version`.
    pub session: [AtomicU64; 2],
    pub session_version: AtomicU32,
    /// Raised by the keeper for every callback; processes compare it at each cached use.
    pub callback: AtomicU32,
    /// Inodes mapped shared on this node; 0 spares everybody the look into the table.
    pub mapped_count: AtomicU32,
    /// Entries of each [`Table`] that have memory.
    pub capacity: [AtomicU32; 3],
    /// Entries of each [`Table`] that were ever used; the rest need not be looked at.
    pub used: [AtomicU32; 3],
    pub keeper_pid: AtomicU32,
    pub slot_hint: AtomicU32,
    pub keeper_start: AtomicU64,
    /// [`sys::boot_ms`] when the keeper last said that it is at work.
    pub renewed_ms: AtomicU64,
    pub next_open: AtomicU64,
    pub next_cwd: AtomicU64,
    /// Inodes with a shadow ([`super::watched`]); 0 spares everybody all further looks.
    pub watched: AtomicU32,
    /// Shadows and links to entries in them, by place.
    pub watch_places: [AtomicU32; WATCH_PLACES],
    pub managers: [ManagerMemory; MANAGERS_MAX],
}

/// URL of a manager; entries are added in order, under the file's lock, and never change. `len` 0: free.
#[repr(C)]
pub struct ManagerMemory {
    pub len: AtomicU64,
    pub url: [AtomicU64; MANAGER_URL_MAX_BYTES / 8],
}

/// Stores bytes in words; what does not fit is cut.
pub fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, part) in words.iter().zip(bytes.chunks(8)) {
        let mut padded = [0u8; 8];
        padded[..part.len()].copy_from_slice(part);
        word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
}

/// Copies bytes out of words, as many as there are.
pub fn load_bytes(words: &[AtomicU64], len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(words.len() * 8);
    for word in words {
        bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[repr(C, align(64))]
pub struct ProcessMemory {
    /// state (8 bits) | manager (8) | - | pid (32)
    pub word: AtomicU64,
    pub start: AtomicU64,
    pub client: [AtomicU64; 2],
    /// Program images since the client was minted: 1, and one more for each exec.
    pub images: AtomicU32,
    /// Writes under way whose bytes may lie behind the end of a file.
    pub extending: AtomicU32,
    /// Files of which an exec of the process closed a descriptor: the keeper has still to drop its record locks there.
    pub leaving: AtomicU32,
    /// Not 0: an exec of the process may have left it record locks.
    pub keeps_locks: AtomicU32,
}

#[repr(C, align(64))]
pub struct MappedMemory {
    /// state (8 bits) | manager (8) | - | generation (32)
    pub word: AtomicU64,
    pub volume: AtomicU64,
    pub ino: AtomicU64,
    pub size_bytes: AtomicU64,
}

/// What a description wrote on one shard, and in which incarnation of it.
#[repr(C)]
pub struct WrittenMemory {
    /// Shard + 1; 0: free.
    pub shard: AtomicU64,
    pub incarnation: AtomicU64,
}

/// Shards whose incarnation a description remembers.
pub const WRITTEN_MAX: usize = 8;

/// In a slot's `place`: what the description stood for at the servers is gone, its session or locks.
pub(super) const PLACE_LOST: u32 = 1 << 31;
/// In a slot's `place`: the keeper holds descriptors of shadows for it.
pub(super) const PLACE_HELD: u32 = 1 << 30;
/// In a slot's `place`: these descriptors are all that is left of the shadows.
pub(super) const PLACE_DETACHED: u32 = 1 << 29;

#[repr(C, align(64))]
pub struct SlotMemory {
    /// See [`super::slot::Word`].
    pub word: AtomicU64,
    pub open: AtomicU64,
    pub ino: AtomicU64,
    pub cluster: [AtomicU64; 2],
    pub volume: AtomicU32,
    /// mount index (8 bits) | manager (8) | `PLACE_*`
    pub place: AtomicU32,
    /// O_* as F_GETFL answers.
    pub flags: AtomicU32,
    /// 0, or process index (20 bits) | generation (11) | waiters (1). A futex.
    pub offset_lock: AtomicU32,
    pub offset: AtomicU64,
    /// File type, as the S_IFMT bits of `st_mode`.
    pub kind: AtomicU32,
    /// The placeholder directory exists and carries its number (survives generations).
    pub prepared: AtomicU32,
    pub written: [WrittenMemory; WRITTEN_MAX],
    /// 0, or incarnation (20 bits) | log entry (44): when a lock was last changed through it.
    pub locked: AtomicU64,
    /// The directory and name that it was opened by; `name_len` 0 where not known.
    pub parent: AtomicU64,
    pub name_len: AtomicU64,
    pub name: [AtomicU64; 32],
}

const _: () = assert!(size_of::<Header>() <= HEADER_BYTES && HEADER_BYTES <= PROCESSES_AT);
const _: () = assert!(size_of::<ProcessMemory>() == 64 && MANAGERS_MAX <= 256);
const _: () = assert!(size_of::<MappedMemory>() == 64 && size_of::<SlotMemory>() == 512);
const _: () = assert!(PROCESSES_AT + PROCESSES_MAX as usize * 64 <= MAPPED_AT);
const _: () = assert!(MAPPED_AT + MAPPED_MAX as usize * 64 <= SLOTS_AT);

/// The arena file, mapped; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    base: *mut Header,
    /// Inode number of the file on its tmpfs: growth makes sure that the path still means it.
    inode: u64,
}

// SAFETY: the pointer is to shared memory that is only used through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` is a mapping of this length made by `map`, and nobody borrows from it now.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), MAPPING_BYTES) };
    }
}

impl Mapping {
    /// Maps the file, which must have its header page.
    pub fn map(file: &Fd, inode: u64) -> Result<Mapping> {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap(
                core::ptr::null_mut(),
                MAPPING_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                sys::borrow(file.raw()),
                0,
            )
        };
        base.map(|base| Mapping {
            base: base.cast(),
            inode,
        })
        .map_err(sys::errno)
    }

    pub fn inode(&self) -> u64 {
        self.inode
    }

    pub fn header(&self) -> &Header {
        // SAFETY: page-aligned, backed since creation, atomics only.
        unsafe { &*self.base }
    }

    /// The entry, or `None` beyond what is backed.
    fn entry<T>(&self, table: Table, index: u32) -> Option<&T> {
        let (at, bytes, most, _) = table.shape();
        debug_assert!(bytes == size_of::<T>());
        if index >= self.capacity(table) || index >= most {
            return None;
        }
        // SAFETY: within the mapping (index < most), aligned (offsets and sizes are multiples of
        // 64), backed (index < capacity), atomics only.
        Some(unsafe { &*self.base.byte_add(at + index as usize * bytes).cast::<T>() })
    }

    pub fn process(&self, index: u32) -> Option<&ProcessMemory> {
        self.entry(Table::Processes, index)
    }

    pub fn mapped(&self, index: u32) -> Option<&MappedMemory> {
        self.entry(Table::Mapped, index)
    }

    pub fn slot(&self, index: u32) -> Option<&SlotMemory> {
        self.entry(Table::Slots, index)
    }

    pub fn capacity(&self, table: Table) -> u32 {
        self.header().capacity[table as usize]
            .load(Ordering::Acquire)
            .min(table.shape().2)
    }

    /// Entries that were ever used.
    pub fn used(&self, table: Table) -> u32 {
        self.header().used[table as usize]
            .load(Ordering::Acquire)
            .min(self.capacity(table))
    }

    pub fn note_used(&self, table: Table, index: u32) {
        self.header().used[table as usize].fetch_max(index + 1, Ordering::AcqRel);
    }

    /// Gives memory to more entries of a table than `have`. ENFILE when the table or the tmpfs is
    /// full.
    pub fn grow(&self, runtime: &Runtime, table: Table, have: u32) -> Result<()> {
        let (_, _, most, first) = table.shape();
        if have >= most {
            return Err(Errno::ENFILE);
        }
        if self.capacity(table) > have {
            return Ok(());
        }
        let path = runtime.join(ARENA_FILE);
        let file = sys::open(
            path.as_c_str(),
            OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            0,
        )?;
        if sys::fstat(file.raw())?.st_ino != self.inode {
            return Err(Errno::ESTALE);
        }
        allocate(&file, table, have.saturating_mul(2).clamp(first, most))?;
        let want = have.saturating_mul(2).clamp(first, most);
        self.header().capacity[table as usize].fetch_max(want, Ordering::AcqRel);
        Ok(())
    }

    /// Gives memory to the first entries of the tables that everybody needs, and fills the header.
    /// Called once, under the file's lock.
    pub fn initialise(&self, file: &Fd) -> core::result::Result<(), NodeError> {
        let header = self.header();
        for table in [Table::Processes, Table::Slots] {
            let first = table.shape().3;
            allocate(file, table, first)
                .map_err(|e| NodeError::new(e, "no room for the arena in the runtime directory"))?;
            header.capacity[table as usize].store(first, Ordering::Relaxed);
        }
        let session = sys::random_u128()?;
        header.session[0].store(session as u64, Ordering::Relaxed);
        header.session[1].store((session >> 64) as u64, Ordering::Relaxed);
        header.next_open.store(1, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.state.store(STATE_LIVE, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(())
    }
}

/// Backs the first `entries` of a table.
fn allocate(file: &Fd, table: Table, entries: u32) -> Result<()> {
    let (at, bytes, ..) = table.shape();
    match sys::allocate(file.raw(), at as u64, u64::from(entries) * bytes as u64) {
        Err(Errno::ENOSPC | Errno::EFBIG | Errno::EDQUOT) => Err(Errno::ENFILE),
        other => other,
    }
}
