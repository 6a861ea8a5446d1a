//! An inode as a shard keeps it: attributes, and what it holds besides.
//!
//! What must stay true: everything that stat(2) tells of a file, but for the space of its layout
//! slots, is here. How it lies in the index is `inode_bytes.rs`'s.

use super::Directory;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::attr::{Attr, Layout, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Time};
use sealfs_protocol::usage::Charge;
use sealfs_protocol::{InodeId, TruncateGeneration, VolumeId};

/// Most bytes of a file or symbolic link that live inside the inode record: with the rest of the
/// record they stay below LMDB's node limit of about 2 KiB (longer link targets do not, and may).
pub const INLINE_MAX_BYTES: usize = 1800;

/// What every directory reports as its size and space, as ext4 does for a small one.
const DIRECTORY_SIZE_BYTES: u64 = 4096;
const BLOCKS_PER_4K: u64 = 8;

/// `ino`: a file of any type.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct InodeRecord {
    pub volume: VolumeId,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u64,
    pub size_bytes: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub layout: Layout,
    pub generation: TruncateGeneration,
    /// Bytes beyond chunk 0 may exist on the layout slots.
    pub wide: bool,
    /// The size of a truncation that is not yet installed on every layout slot.
    pub pending: Option<u64>,
    /// It leaves blocks that were never written: the file grows over what is reserved for it.
    pub pending_spares: bool,
    /// Blocks may be reserved past the end, by fallocate(2).
    pub reserves: bool,
    /// Extended attributes exist.
    pub has_xattrs: bool,
    /// Made by O_TMPFILE without O_EXCL and never named: link(2) may give it a first name.
    pub linkable: bool,
    pub body: Body,
}

/// What an inode holds besides its attributes.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Body {
    /// The bytes of chunk 0, as far as they were written; the rest of the chunk is zeros.
    Inline(Vec<u8>),
    /// Chunk 0 is a chunk record and takes this space.
    Chunks {
        first_blocks_512: u32,
    },
    Symlink(Vec<u8>),
    Directory(Directory),
    /// FIFOs, sockets, devices.
    Node,
}

impl InodeRecord {
    pub fn kind(&self) -> u32 {
        self.mode & S_IFMT
    }
    pub fn is_dir(&self) -> bool {
        self.kind() == S_IFDIR
    }
    pub fn is_regular(&self) -> bool {
        self.kind() == S_IFREG
    }
    pub fn is_symlink(&self) -> bool {
        self.kind() == S_IFLNK
    }

    pub fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(d) => Some(d),
            _ => None,
        }
    }

    pub fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.body {
            Body::Directory(d) => Some(d),
            _ => None,
        }
    }

    /// Space that the record itself accounts for: all of a file's but its layout slots'.
    pub fn own_blocks_512(&self) -> u64 {
        match &self.body {
            Body::Inline(bytes) if bytes.is_empty() => 0,
            Body::Inline(_) | Body::Directory(_) => BLOCKS_PER_4K,
            Body::Chunks { first_blocks_512 } => u64::from(*first_blocks_512),
            Body::Symlink(_) | Body::Node => 0,
        }
    }

    /// What the record itself takes of its volume: chunks charge their own space.
    pub fn charge(&self) -> Charge {
        let bytes = match &self.body {
            Body::Chunks { .. } => 0,
            _ => self.own_blocks_512() as i64 * 512,
        };
        Charge {
            volume: self.volume,
            bytes,
            inodes: 1,
        }
    }

    /// What stat(2) tells; `slot_blocks_512` is the space of the layout slots.
    pub fn attr(&self, ino: InodeId, slot_blocks_512: u64) -> Attr {
        Attr {
            ino,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size_bytes: if self.is_dir() {
                DIRECTORY_SIZE_BYTES
            } else {
                self.size_bytes
            },
            blocks_512: self.own_blocks_512() + slot_blocks_512,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            btime: self.btime,
            layout: self.layout,
            generation: self.generation,
            wide: self.wide,
        }
    }
}
