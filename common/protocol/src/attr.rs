//! Attributes of an inode as stat(2) and statx(2) know them, and changes of them.

use crate::ids::{InodeId, TruncateGeneration};
use rkyv::{Archive, Deserialize, Serialize};

/// File type bits of `st_mode` (inode(7)).
pub const S_IFMT: u32 = 0o170_000;
pub const S_IFSOCK: u32 = 0o140_000;
pub const S_IFLNK: u32 = 0o120_000;
pub const S_IFREG: u32 = 0o100_000;
pub const S_IFBLK: u32 = 0o060_000;
pub const S_IFDIR: u32 = 0o040_000;
pub const S_IFCHR: u32 = 0o020_000;
pub const S_IFIFO: u32 = 0o010_000;

/// A point of wall-clock time: seconds since 1970 (may be negative), nanoseconds 0..10^9.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Archive, Serialize, Deserialize,
)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Time {
    pub fn from_ns(ns: i128) -> Time {
        Time {
            seconds: ns.div_euclid(1_000_000_000) as i64,
            nanoseconds: ns.rem_euclid(1_000_000_000) as u32,
        }
    }
}

/// How a file's bytes are cut and placed: chunk size as a power of two, and width in layout slots.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Layout {
    pub chunk_size_log2: u8,
    pub width: u8,
}

/// What stat(2) tells, and what a client needs besides to read and write.
#[derive(Clone, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Attr {
    pub ino: InodeId,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number of a device node, as `st_rdev`.
    pub rdev: u64,
    pub size_bytes: u64,
    /// Space used, in units of 512 bytes, as `st_blocks`.
    pub blocks_512: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub layout: Layout,
    pub generation: TruncateGeneration,
    /// Bytes beyond chunk 0 may exist: the layout slots have to be asked.
    pub wide: bool,
}

impl Attr {
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
    pub fn is_regular(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }
    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }
}

/// A time to set: utimensat(2) with `UTIME_NOW` or a value; leave unchanged is `None` around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum SetTime {
    Now,
    At(Time),
}

/// Attributes to change in one atomic step; `None` leaves a value as it is.
#[derive(Clone, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct SetAttr {
    /// Permission bits (07777), for chmod.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// New size, for truncate.
    pub size_bytes: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// Chunk size of files that will be made in this directory, and of directories made in it, as a
    /// power of two.
    pub chunk_size_log2: Option<u8>,
    /// chown(2) was called, be it with nothing to change: set-id bits go.
    pub is_chown: bool,
    /// The size comes from an open description that was opened for writing (ftruncate): the
    /// permission was checked at open.
    pub by_handle: bool,
}
