//! What can go wrong in a shard's storage, and the errno each case gives a program.

use sealfs_protocol::errno::Errno;
use sealfs_protocol::ids::InodeId;

/// A failure while serving.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "checksum mismatch in file {ino}, chunk {chunk}, byte {offset_bytes}: \
         {device} at byte {device_offset_bytes}"
    )]
    Corrupt {
        ino: InodeId,
        chunk: u64,
        offset_bytes: u32,
        device: String,
        device_offset_bytes: u64,
    },
    #[error("no space left in the store")]
    Full,
    /// It takes no more than it frees; what others have freed will do, after the next flush.
    #[error("no block is free until the next flush")]
    Awaited,
    /// The log or the overlay has no room: ask `has_room` first, and wait for a commit.
    #[error("the log is full until the next commit")]
    LogFull,
    /// A flush, a log write or a commit failed. None is ever tried again.
    #[error("the store is read-only since {0}")]
    ReadOnly(String),
    #[error("{what}: {source}")]
    Io {
        what: String,
        source: std::io::Error,
    },
    /// Bytes of the store that do not parse.
    #[error("damaged {0}")]
    Invalid(&'static str),
    /// A range that no chunk can have.
    #[error("a chunk has at most {} bytes", super::CHUNK_MAX_BYTES)]
    TooLarge,
}

impl StoreError {
    pub fn errno(&self) -> Errno {
        match self {
            StoreError::Corrupt { .. } | StoreError::Io { .. } | StoreError::Invalid(_) => {
                Errno::EIO
            }
            StoreError::Full => Errno::ENOSPC,
            StoreError::LogFull | StoreError::Awaited => Errno::EAGAIN,
            StoreError::ReadOnly(_) => Errno::EROFS,
            StoreError::TooLarge => Errno::EFBIG,
        }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StoreError {
        let what = what.into();
        move |source| StoreError::Io { what, source }
    }
}

/// Why a store was not opened. Each is one line that names the thing and the remedy; nothing was
/// written when it is returned.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{name}: {size_bytes} bytes are too few for a store; give it at least {least_bytes}")]
    TooSmall {
        name: String,
        size_bytes: u64,
        least_bytes: u64,
    },
    #[error(
        "{name}: holds {what}; wipe it first (wipefs -a) if that is not needed, \
         or name another device"
    )]
    Foreign { name: String, what: &'static str },
    #[error(
        "{name}: belongs to {what} {theirs}, not to {ours}; name the right device, \
         or wipe it to lose what it holds"
    )]
    OtherStore {
        name: String,
        what: &'static str,
        theirs: String,
        ours: String,
    },
    #[error("{name}: is in use by another process; stop the other server, or name another store")]
    InUse { name: String },
    #[error("{name}: is mounted or in use; unmount it, or name another device")]
    Mounted { name: String },
    #[error("{name}: its format is version {version}, this server knows {known}; use its server")]
    Version {
        name: String,
        version: u32,
        known: u32,
    },
    #[error("{name}: {what}; restore the part that is missing, or wipe the store to begin anew")]
    Incomplete { name: String, what: &'static str },
    #[error("{name}: {what}; restore the store from a copy, or wipe it to begin anew")]
    Damaged { name: String, what: &'static str },
    #[error("{name}: {source}; see that it exists, is writable and has the space")]
    Io {
        name: String,
        source: std::io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(name: impl Into<String>) -> impl FnOnce(std::io::Error) -> OpenError {
        let name = name.into();
        move |source| OpenError::Io { name, source }
    }
}
