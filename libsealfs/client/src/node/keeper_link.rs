//! The way from a process to the keeper.

use super::runtime::Runtime;
use super::sys;
use rustix::fs::{FlockOperation, OFlags};
use sealfs_protocol::Errno;

/// Locked by the keeper for as long as it lives.
pub const LOCK_FILE: &[u8] = b"keeper.lock";

/// Whether a keeper lives (or is being started).
pub fn is_running(runtime: &Runtime) -> bool {
    let path = runtime.join(LOCK_FILE);
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(file) = sys::open(path.as_c_str(), flags, 0) else {
        return false;
    };
    matches!(
        sys::flock(file.raw(), FlockOperation::NonBlockingLockShared),
        Err(Errno::EAGAIN)
    )
}
