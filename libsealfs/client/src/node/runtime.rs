//! The runtime directory: where the processes of one user on one node meet.
//!
//! It is `sealfs-UID` in the first tmpfs of `/dev/shm`, `/run/user/UID` and `/tmp`; only an explicit
//! override names another, and thereby defines a node of its own. It must be a tmpfs because other
//! file systems cut the times in which placeholder directories carry their numbers, and because
//! the arena there may never be written back to a disk. Environment variables other than the
//! override are not asked: they differ between the processes of one user.
//!
//! What must stay true: the directory belongs to the user and nobody else may enter it.

use super::sys;
use core::sync::atomic::{AtomicI32, Ordering};
use rustix::fs::{AtFlags, OFlags};
use rustix::path::Arg;
use sealfs_protocol::Errno;

/// `f_type` of a tmpfs (statfs(2)).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// Longest path of the directory, in bytes: `sun_path` of a socket in it must have room.
pub const RUNTIME_PATH_MAX_BYTES: usize = 88;
/// Longest path below it, in bytes.
const PATH_MAX_BYTES: usize = RUNTIME_PATH_MAX_BYTES + 40;

/// An error number, and one line that names the thing and the remedy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeError {
    pub errno: Errno,
    pub text: String,
}

impl NodeError {
    pub fn new(errno: Errno, text: impl Into<String>) -> NodeError {
        NodeError {
            errno,
            text: text.into(),
        }
    }
}

impl core::fmt::Display for NodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: {}", self.text, self.errno.text())
    }
}

impl std::error::Error for NodeError {}

impl From<Errno> for NodeError {
    fn from(errno: Errno) -> NodeError {
        NodeError::new(errno, "node session")
    }
}

/// A path below the runtime directory, ended by NUL, on the stack.
pub struct NodePath {
    bytes: [u8; PATH_MAX_BYTES],
    len: usize,
}

impl Default for NodePath {
    fn default() -> NodePath {
        NodePath {
            bytes: [0; PATH_MAX_BYTES],
            len: 0,
        }
    }
}

impl NodePath {
    fn new(start: &[u8]) -> NodePath {
        let mut path = NodePath::default();
        path.push(start);
        path
    }

    /// Appends; what has no room is cut (names here are ours and short).
    pub fn push(&mut self, part: &[u8]) -> &mut NodePath {
        let take = part.len().min(PATH_MAX_BYTES - 1 - self.len);
        self.bytes[self.len..self.len + take].copy_from_slice(&part[..take]);
        self.len += take;
        self
    }

    pub fn push_number(&mut self, mut n: u64) -> &mut NodePath {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                break;
            }
        }
        self.push(&digits[at..])
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn as_c_str(&self) -> &core::ffi::CStr {
        core::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// The directory, checked. Keeps no descriptor.
#[derive(Debug)]
pub struct Runtime {
    path: Vec<u8>,
    uid: u32,
    dev: u64,
    /// A descriptor of `slots/` that the owner of the process' internal descriptors lent us; -1.
    slots_fd: AtomicI32,
    /// Made by us as `sealfs-UID`, so the keeper may remove it when nobody is left.
    ours: bool,
}

impl Runtime {
    /// Finds or makes the directory. `chosen` is the value of `SEALFS_RUNTIME_DIR`, if set.
    pub fn open(chosen: Option<&[u8]>) -> Result<Runtime, NodeError> {
        let uid = rustix::process::geteuid().as_raw();
        if let Some(path) = chosen.filter(|p| !p.is_empty()) {
            return Runtime::open_at(path, false);
        }
        let mut name = NodePath::new(b"/sealfs-");
        name.push_number(u64::from(uid));
        let mut user = NodePath::new(b"/run/user/");
        user.push_number(u64::from(uid));
        for parent in [b"/dev/shm".as_slice(), user.as_bytes(), b"/tmp"] {
            if !is_tmpfs(parent) {
                continue;
            }
            let mut path = NodePath::new(parent);
            path.push(name.as_bytes());
            match Runtime::open_at(path.as_bytes(), true) {
                // A place that is full or read-only is no place; somebody else's directory is.
                Err(e) if matches!(e.errno, Errno::EROFS | Errno::ENOSPC | Errno::EACCES) => {}
                other => return other,
            }
        }
        Err(NodeError::new(
            Errno::EOPNOTSUPP,
            "no place for the arena: none of /dev/shm, /run/user/UID and /tmp is a tmpfs that can \
             be written; set SEALFS_RUNTIME_DIR to a directory on one",
        ))
    }

    /// The directory at `path`, which is `is_default` when nobody chose it: for the keeper, which
    /// is told both.
    pub fn open_at(path: &[u8], is_default: bool) -> Result<Runtime, NodeError> {
        let uid = rustix::process::geteuid().as_raw();
        let shown = String::from_utf8_lossy(path);
        let path = path.strip_suffix(b"/").unwrap_or(path);
        if path.first() != Some(&b'/') || path.len() > RUNTIME_PATH_MAX_BYTES {
            let text = format!(
                "runtime directory {shown} must be an absolute path of at most \
                 {RUNTIME_PATH_MAX_BYTES} bytes"
            );
            return Err(NodeError::new(Errno::EOPNOTSUPP, text));
        }
        match sys::mkdir(path, 0o700) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(NodeError::new(e, format!("cannot make {shown}"))),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let dir = sys::open(path, flags, 0)
            .map_err(|e| NodeError::new(e, format!("cannot open {shown}")))?;
        let st = sys::fstat(dir.raw())?;
        if st.st_uid != uid || st.st_mode & 0o077 != 0 {
            let text = format!(
                "runtime directory {shown} must belong to user {uid} with mode 0700; remove it or \
                 set SEALFS_RUNTIME_DIR"
            );
            return Err(NodeError::new(Errno::EPERM, text));
        }
        if !is_tmpfs(path) {
            let text = format!("runtime directory {shown} is not on a tmpfs");
            return Err(NodeError::new(Errno::EOPNOTSUPP, text));
        }
        let slots_fd = AtomicI32::new(-1);
        Ok(Runtime {
            path: path.to_vec(),
            uid,
            dev: st.st_dev,
            slots_fd,
            ours: is_default,
        })
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Device of the file system that it lies on; every descriptor of ours has it as `st_dev`.
    pub fn dev(&self) -> u64 {
        self.dev
    }

    /// Whether the directory was chosen by us, and may go when nobody is left.
    pub fn is_default(&self) -> bool {
        self.ours
    }

    /// The path of a file in the directory.
    pub fn join(&self, name: &[u8]) -> NodePath {
        let mut path = NodePath::new(&self.path);
        path.push(b"/").push(name);
        path
    }

    /// Lends an open descriptor of `slots/` (see [`Runtime::open_slots`]), which spares each open
    /// the walk from the root (0.3 µs); -1 takes it back. The lender keeps it open meanwhile.
    pub fn lend_slots_fd(&self, fd: i32) {
        self.slots_fd.store(fd, Ordering::Relaxed);
    }

    pub(super) fn slots_fd(&self) -> i32 {
        self.slots_fd.load(Ordering::Relaxed)
    }

    /// A descriptor of the placeholder directories' parent, for [`Runtime::lend_slots_fd`]; the
    /// caller owns the number.
    pub fn open_slots(&self) -> sys::Result<i32> {
        let path = self.join(super::placeholder::SLOTS_DIR);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        sys::open(path.as_c_str(), flags, 0).map(sys::Fd::into_raw)
    }

    /// Whether the directory is still there under its path, as it was when it was opened.
    pub fn is_reachable(&self) -> bool {
        sys::stat_at(sys::CWD, self.path.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|st| st.st_uid == self.uid && st.st_dev == self.dev)
    }
}

fn is_tmpfs(path: impl Arg) -> bool {
    rustix::fs::statfs(path).is_ok_and(|s| s.f_type as u64 == TMPFS_MAGIC)
}
