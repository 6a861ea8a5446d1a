//! Every limit of the protocol, named, with its unit.

/// Longest name of a directory entry, in bytes (`NAME_MAX`).
pub const NAME_MAX_BYTES: usize = 255;
/// Longest path a program can hand over, with its final NUL, in bytes (`PATH_MAX`).
pub const PATH_MAX_BYTES: usize = 4096;
/// Longest target of a symbolic link, in bytes (one less than `PATH_MAX`).
pub const SYMLINK_MAX_BYTES: usize = 4095;
/// Most symbolic links followed in one path walk before ELOOP (`MAXSYMLINKS` of Linux).
pub const SYMLINKS_MAX: u32 = 40;
/// Longest body of a frame, in bytes.
pub const BODY_MAX_BYTES: u32 = 1 << 20;
/// Longest payload of a frame, in bytes.
pub const PAYLOAD_MAX_BYTES: u32 = 8 << 20;
/// Most data that one read or write operation carries, in bytes.
pub const IO_MAX_BYTES: u32 = 1 << 20;
/// Longest name and value of an extended attribute, in bytes (`XATTR_NAME_MAX`, `XATTR_SIZE_MAX`).
pub const XATTR_NAME_MAX_BYTES: usize = 255;
pub const XATTR_VALUE_MAX_BYTES: usize = 65536;
/// Request slots of one client (NFSv4.1, RFC 8881 section 2.10.6).
pub const REQUEST_SLOTS: u16 = 64;
/// Requests that a connection may have under way unless the server grants fewer.
pub const CREDITS: u16 = 64;
/// Most groups of one credential set (`NGROUPS_MAX`).
pub const GROUPS_MAX: usize = 65536;
/// Partitions of a cluster unless it was made with another number.
pub const PARTITIONS_DEFAULT: u16 = 4096;
/// Most partitions of a cluster: 15 bits of an inode number.
pub const PARTITIONS_MAX: u16 = 32767;
/// Chunk size of a volume unless it was created with another, as a power of two (1 MiB).
pub const CHUNK_SIZE_LOG2_DEFAULT: u8 = 20;
/// Chunk sizes that a volume or directory may ask for: 64 KiB to 64 MiB, as powers of two.
pub const CHUNK_SIZE_LOG2: std::ops::RangeInclusive<u8> = 16..=26;
/// Places of a file's chunks unless the volume says otherwise.
pub const WIDTH_DEFAULT: u8 = 16;
pub const WIDTH_MAX: u8 = 64;
/// Largest file: the largest `off_t`, in bytes.
pub const FILE_SIZE_MAX_BYTES: u64 = i64::MAX as u64;
/// Deadline of one file-system call, in ms, unless the environment sets another.
pub const CALL_DEADLINE_MS: u32 = 30_000;
/// A node session that has not renewed for this long has ended, in ms.
pub const SESSION_LEASE_MS: u32 = 10_000;
/// First inode sequence that is handed out; those below are roots, numbered by volume.
pub const SEQUENCE_FIRST: u64 = 1 << 20;
