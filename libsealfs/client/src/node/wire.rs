//! What processes and the keeper say to each other over its socket.
//!
//! One connection, one packet (two at an execve(2) that fails), at most one answer (SOCK_SEQPACKET
//! keeps packets whole). Numbers
//! from the other side are checked where they are used: both sides run as the same user, but a
//! program may have been killed or may have scribbled over its memory.

use super::mapped::FileKey;
use super::shadow::Touch;
use rkyv::{Archive, Deserialize, Serialize};
use sealfs_protocol::{Errno, InodeId, OpenId, VolumeId};

/// Socket of the keeper in the runtime directory.
pub const SOCKET_FILE: &[u8] = b"keeper.sock";
/// Longest packet, in bytes.
pub const PACKET_MAX_BYTES: usize = 4096;
/// Most descriptors in an answer.
pub const DESCRIPTORS_MAX: usize = 2;
/// Most descriptions in one `Leaving`.
pub const LEAVING_MAX: usize = 256;
/// Most files in one `Leaving`.
pub const LEAVING_FILES_MAX: usize = 64;

/// A file of some cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Archive, Serialize, Deserialize)]
pub struct FileName {
    /// Place of the manager's URL in the arena.
    pub manager: u8,
    pub volume: VolumeId,
    pub ino: InodeId,
}

impl From<FileKey> for FileName {
    fn from(key: FileKey) -> FileName {
        FileName {
            manager: key.manager.0,
            volume: key.volume,
            ino: key.ino,
        }
    }
}

/// Which bytes an executable had: its image is made once per version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Archive, Serialize, Deserialize)]
pub struct ImageVersion {
    pub size_bytes: u64,
    /// mtime and ctime, in ns since 1970.
    pub mtime_ns: i128,
    pub ctime_ns: i128,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum KeeperRequest {
    /// A process stands in the arena's table, anew or after exec. No answer.
    Registered { process: u32 },
    /// The file of this open description is about to be mapped shared; also for whoever needs the
    /// bytes of a file that is mapped. → `Mapped`, two descriptors: the bytes, and the pristine
    /// copy of those that the servers have. ENOMEM beyond the stated limit.
    Map { file: FileName, open: OpenId },
    /// Mappings may have gone: look. No answer.
    Unmapped { file: FileName },
    /// msync, fsync: changed bytes go to the servers. → `Done`
    WriteBack { file: FileName },
    /// The file has another size by the caller's truncate. → `Done`
    Resized { file: FileName, size_bytes: u64 },
    /// The bytes of an executable as a sealed memfd called `name`, about to be executed by the
    /// caller, which has the file open to execute it: until that is over nobody writes the file.
    /// → `Image`, one descriptor
    Image {
        file: FileName,
        open: OpenId,
        version: ImageVersion,
        name: Vec<u8>,
    },
    /// The caller is about to execute a program: these descriptions, as (slot, generation), lose a
    /// descriptor by it, and the process its record locks on `files`. The kernel closes the connection
    /// along with them; what nobody holds then is taken over, and the locks are dropped. No answer.
    Leaving {
        process: u32,
        /// The image that says so; 0: the process is not registered, and holds no record locks.
        image: u32,
        slots: Vec<(u32, u32)>,
        files: Vec<FileName>,
    },
    /// On the same connection: execve(2) has failed. No answer.
    Stayed,
    /// Two descriptors at most come along, of shadows of what this description, (slot, generation),
    /// stands for: they are to be held until it is closed. → `Done`
    Hold { slot: (u32, u32) },
    /// This is done to its inode, of whose shadows nothing is left but what is held. → `Done`
    Touched { slot: (u32, u32), touch: Touch },
    /// The description is closed. → `Done`, when its descriptors are
    Release { slot: (u32, u32) },
    /// Programs may have ended: their files can be written from now on. → `Done`
    Ended,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum KeeperReply {
    Done,
    Failed(Errno),
    /// Place in the arena's table of mapped inodes.
    Mapped {
        index: u32,
        generation: u32,
        size_bytes: u64,
    },
    Image,
}
