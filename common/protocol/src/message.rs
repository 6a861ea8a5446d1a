//! Requests of clients; their replies stand in [`crate::reply`].
//!
//! A [`Request`] carries several operations where that saves round trips; each names the partition
//! that it belongs to, and the reply has one [`OpReply`] for each, in order. Data to write stands in
//! the frame's payload, operation after operation; data read comes back the same way.
//!
//! Paths: [`At`] starts at an inode and names the rest of a path. The server walks as far as it
//! owns the way, checks search permission at each directory, and answers [`OpReply::Walked`] where
//! it must stop: at a partition of another shard, a symbolic link, or `..` of the volume's root.

use crate::attr::{Layout, SetAttr};
use crate::errno::Errno;
use crate::ids::*;
pub use crate::lock::*;
pub use crate::reply::*;
use crate::ring::Ring;
use rkyv::{Archive, Deserialize, Serialize};

/// Who a thread acts as; every metadata operation is checked against it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// First frame of every connection to a server.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Hello {
    pub cluster: ClusterId,
    pub who: Who,
    /// Known ring version of the sender.
    pub ring_version: RingVersion,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Who {
    /// A process. Registers the client and its session with this shard; credential 0 is `credentials`.
    Client {
        client: ClientId,
        session: SessionId,
        volume: VolumeId,
        pid: u32,
        credentials: Credentials,
    },
    /// A keeper: speaks for its node session (renewal, ends of clients, reasserted opens).
    Keeper { session: SessionId, uid: u32 },
    /// Another shard.
    Shard {
        shard: ShardId,
        incarnation: Incarnation,
    },
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct HelloReply {
    pub shard: ShardId,
    pub incarnation: Incarnation,
    /// The server's ring if it is newer than the sender's.
    pub ring: Option<Ring>,
    /// Whether the server held state of this client before (a reconnect).
    pub known: bool,
}

/// Refusal of a frame; the connection closes after it unless `again` is set.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct FrameError {
    pub errno: Errno,
    pub text: String,
    pub again: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Request {
    pub ops: Vec<Entry>,
}

/// An operation and where it belongs.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Entry {
    pub partition: PartitionId,
    pub epoch: Epoch,
    pub op: Op,
}

/// A starting inode and the rest of a path below it: components separated by `/`, no leading `/`,
/// perhaps a trailing one (the result must be a directory). Empty: the inode itself.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct At {
    pub base: InodeId,
    pub path: Vec<u8>,
}

/// A flag of [`Op::Open`] beside the kernel's O_*: the file is opened to be executed. Permission to
/// execute is needed in place of that to read, and nobody opens it for writing meanwhile.
pub const O_EXEC: u32 = 0o40;

/// Bytes of one chunk that [`Op::Copy`] takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Source {
    pub ino: InodeId,
    /// Where the chunk lives.
    pub partition: PartitionId,
    pub chunk: u64,
    pub offset_bytes: u32,
    pub generation: TruncateGeneration,
    /// In chunk 0, the access time moves by relatime.
    pub atime: bool,
}

/// One operation. `at` of the path operations follows a final symbolic link only where said.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum Op {
    // ---- names -------------------------------------------------------------------------------
    /// stat(2) and statx(2), and plain path walks. → `Attr`
    GetAttr {
        at: At,
        follow: bool,
    },
    /// access(2), faccessat(2): `mode` of R_OK|W_OK|X_OK against the header's credential. → `Attr`
    Access {
        at: At,
        follow: bool,
        mode: u32,
    },
    /// open(2), creat(2): `flags` as the kernel's O_* bits; `mode` with the umask taken off.
    /// Also [`O_EXEC`]. Registers `open` for the connection's session. O_TMPFILE makes a nameless file in `at`.
    /// With `read_bytes` > 0 as many bytes of the file, or of a directory's records, may come along
    /// as payload; a directory whose access time would move sends none. → `Opened`
    Open {
        at: At,
        flags: u32,
        mode: u32,
        open: OpenId,
        read_bytes: u32,
    },
    /// → `Attr` of the new directory
    MakeDir {
        at: At,
        mode: u32,
    },
    /// mknod(2) for FIFOs, sockets, devices and regular files; `mode` with the type. → `Attr`
    MakeNode {
        at: At,
        mode: u32,
        rdev: u64,
    },
    /// → `Attr`
    Symlink {
        at: At,
        target: Vec<u8>,
    },
    /// unlink(2). → `Done`
    Unlink {
        at: At,
    },
    /// rmdir(2). → `Done`
    RemoveDir {
        at: At,
    },
    /// rename(2), renameat2(2): both parents are resolved already; `flags` as RENAME_*. Belongs to
    /// the partition of `from.base`; both paths are single names. → `Done`
    Rename {
        from: At,
        to: At,
        flags: u32,
    },
    /// link(2): `ino` gets a further name `to` (a single name). With `from_open` also a nameless
    /// file of an open description. Belongs to the partition of `to.base`. → `Attr`
    Link {
        ino: InodeId,
        to: At,
        from_open: Option<OpenId>,
    },
    /// → `Bytes`
    ReadLink {
        at: At,
    },
    /// chmod, chown, utimensat, truncate and their f- forms. → `Attr`
    SetAttr {
        at: At,
        follow: bool,
        set: SetAttr,
    },
    /// getxattr(2). → `Bytes`; ENODATA, EOPNOTSUPP
    GetXattr {
        at: At,
        follow: bool,
        name: Vec<u8>,
    },
    /// setxattr(2); `flags` as XATTR_CREATE, XATTR_REPLACE. → `Done`
    SetXattr {
        at: At,
        follow: bool,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: u32,
    },
    /// listxattr(2). → `Bytes`: names, each ended by NUL
    ListXattr {
        at: At,
        follow: bool,
    },
    RemoveXattr {
        at: At,
        follow: bool,
        name: Vec<u8>,
    },
    /// A page of a directory from `position` on (0: the start), at most `limit_bytes` of records
    /// in the form of [`crate::dirent`]. → `Entries`, payload
    ReadDir {
        dir: InodeId,
        position: u64,
        limit_bytes: u32,
        with_attributes: bool,
    },
    /// The records that came with an open of this directory were read: its access time moves, by
    /// relatime. → `Done`
    Accessed {
        ino: InodeId,
    },
    /// The path of a directory by its parents, as far as this shard owns them. → `Ancestors`
    GetPath {
        dir: InodeId,
    },
    /// statfs(2). → `Statfs` of this shard's share of the volume
    Statfs,

    // ---- data --------------------------------------------------------------------------------
    /// Bytes of one chunk; shorter than asked where the chunk ends. `atime`: in chunk 0, the access
    /// time moves by relatime. → `Read`, payload
    Read {
        ino: InodeId,
        chunk: u64,
        offset_bytes: u32,
        len_bytes: u32,
        atime: bool,
        generation: TruncateGeneration,
    },
    /// `len_bytes` of the payload into one chunk. Chunk 0 is hosted with the inode: then size,
    /// mtime and setuid bits are updated in the same step. → `Written`
    Write {
        ino: InodeId,
        chunk: u64,
        offset_bytes: u32,
        len_bytes: u32,
        generation: TruncateGeneration,
        open: OpenId,
    },
    /// copy_file_range(2): as `Write`, but the bytes are those of another chunk, which the server
    /// reads or asks the chunk's owner for. What the chunk does not have is zeros: the caller knows
    /// that the source is that long under its generation. → `Written`
    Copy {
        ino: InodeId,
        chunk: u64,
        offset_bytes: u32,
        len_bytes: u32,
        generation: TruncateGeneration,
        open: OpenId,
        source: Source,
    },
    /// O_APPEND: the inode's owner places the payload at the end of the file. → `Written`
    Append {
        ino: InodeId,
        len_bytes: u32,
        open: OpenId,
    },
    /// After (or, with `wide` alone, before) writes beyond chunk 0: raises the size, sets mtime.
    /// What was written begins at `from_bytes`; behind the end it leaves a gap. → `Written` with the
    /// size as it is now; `StaleGeneration` also if the gap was cut first, and with it what was written
    Publish {
        ino: InodeId,
        from_bytes: u64,
        size_at_least_bytes: u64,
        wide: bool,
        generation: TruncateGeneration,
        open: OpenId,
    },
    /// Bytes may lie behind the end of a file that nobody publishes any more: they are cut, under a new
    /// truncate generation, before a gap shows them. → `Done`
    Doubt {
        ino: InodeId,
    },
    /// fallocate(2) on one file; `mode` as FALLOC_FL_*. → `Attr`
    Allocate {
        ino: InodeId,
        mode: u32,
        offset: u64,
        len: u64,
        open: OpenId,
    },
    /// lseek(2) SEEK_DATA (`data`) and SEEK_HOLE in `from..until` of the file, as far as its chunks
    /// lie in the addressed partition. → `Sought`
    Seek {
        ino: InodeId,
        from: u64,
        until: u64,
        data: bool,
        layout: Layout,
        generation: TruncateGeneration,
    },
    /// fsync(2), on the owner and, for wide files, on each layout slot's partition. EIO if this
    /// shard's incarnation is past `written_in` (0: this description wrote nothing here). → `Done`
    Fsync {
        ino: InodeId,
        data_only: bool,
        written_in: Incarnation,
    },
    /// syncfs(2): everything of the volume on this shard. → `Done`
    SyncFs,

    // ---- opens, locks, sessions -----------------------------------------------------------------
    /// The last descriptor of a description is gone: its open, OFD and flock locks end. → `Done`
    Close {
        ino: InodeId,
        open: OpenId,
    },
    /// After a reconnect to a restarted server: the description still exists. EIO: it is known
    /// again, but the shard may have lost locks that were taken or given back through it; nobody
    /// gets a lock on the file before it is closed. → `Done`
    Reassert {
        ino: InodeId,
        open: OpenId,
        /// As by an open with [`O_EXEC`].
        executes: bool,
        /// When a lock was last changed through it.
        locked: Option<LockMark>,
    },
    /// Keeper: whether this shard has restarted and waits for what is open in the session. EAGAIN:
    /// it does. → `Done`
    IsAwaited {
        session: SessionId,
    },
    /// Keeper: everything that is open in the session has been reasserted. → `Done`
    Reasserted {
        session: SessionId,
    },
    /// fcntl(2) F_SETLK/F_SETLKW, OFD and flock(2). With `wait` the reply comes when the lock is
    /// there; [`Op::CancelWait`] takes the wait back. It says for how long the caller has waited
    /// already, in ms: 0 unless it is asked once more, so that a wait that a restarted server has
    /// forgotten keeps its place among others. → `Done`; EAGAIN, EDEADLK, EINTR
    Lock {
        ino: InodeId,
        range: LockRange,
        wait: Option<u32>,
    },
    /// F_GETLK. → `LockHeld`
    TestLock {
        ino: InodeId,
        range: LockRange,
    },
    /// Ends the wait of this client's slot with EINTR, if it still waits. → `Done`
    CancelWait {
        ino: InodeId,
        slot: u16,
    },
    /// Registers a credential set under `index` on this connection. → `Done`
    Credential {
        index: u16,
        credentials: Credentials,
    },
    /// Keeper: the session lives. Belongs to the session's home. → `Done`
    Renew {
        session: SessionId,
    },
    /// Keeper or the process itself: the client has ended. Belongs to the client's home. → `Done`
    EndClient {
        client: ClientId,
    },
    /// Keeper: the session has ended. Belongs to the session's home. → `Done`
    EndSession {
        session: SessionId,
    },
}
