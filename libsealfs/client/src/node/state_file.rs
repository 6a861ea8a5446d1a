//! The published state of a cluster, as last seen on this node: a file in the runtime directory.
//!
//! The keeper refreshes it; a process that had to ask the manager itself writes it too. Starting
//! processes read it and need no trip to the manager, whether it runs or not. It is replaced as a
//! whole by rename, so a reader sees one version or another.

use super::runtime::{NodePath, Runtime};
use super::sys::{self, Result};
use rustix::fs::OFlags;
use sealfs_protocol::manager::ClusterState;
use sealfs_protocol::{Errno, codec};

const MAGIC: &[u8; 8] = b"sealfsS1";
/// Magic, then crc32c of what follows the crc (4 bytes) and length of the URL (4 bytes).
const HEAD_BYTES: usize = 16;
/// Longest state believed, in bytes.
const STATE_MAX_BYTES: usize = 16 << 20;

fn path_of(runtime: &Runtime, url: &str, suffix: &[u8]) -> NodePath {
    let mut path = runtime.join(b"state-");
    path.push_number(u64::from(codec::crc32c(url.as_bytes())))
        .push(suffix);
    path
}

/// The last state written for this manager, if there is one that can be believed.
pub fn read(runtime: &Runtime, url: &str) -> Option<ClusterState> {
    let path = path_of(runtime, url, b"");
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = sys::open(path.as_c_str(), flags, 0).ok()?;
    let size = usize::try_from(sys::fstat(file.raw()).ok()?.st_size).ok()?;
    if !(HEAD_BYTES..=STATE_MAX_BYTES).contains(&size) {
        return None;
    }
    let mut bytes = vec![0u8; size];
    if sys::read_all(file.raw(), &mut bytes).ok()? != size {
        return None;
    }
    parse(&bytes, url)
}

fn parse(bytes: &[u8], url: &str) -> Option<ClusterState> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if &head[..8] != MAGIC || word(8) != codec::crc32c(rest) {
        return None;
    }
    let (named, body) = rest.split_at_checked(word(12) as usize)?;
    if named != url.as_bytes() {
        return None;
    }
    let state: ClusterState = codec::decode(body).ok()?;
    state.ring.is_consistent().then_some(state)
}

/// Replaces the file, unless it already holds this version or a newer one of the same cluster.
pub fn write(runtime: &Runtime, url: &str, state: &ClusterState) -> Result<()> {
    let newer =
        |old: &ClusterState| old.ring.cluster == state.ring.cluster && old.version >= state.version;
    if read(runtime, url).as_ref().is_some_and(newer) {
        return Ok(());
    }
    let body = codec::encode(state).map_err(|_| Errno::EIO)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + url.len() + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&(url.len() as u32).to_le_bytes());
    bytes.extend_from_slice(url.as_bytes());
    bytes.extend_from_slice(&body);
    let crc = codec::crc32c(&bytes[HEAD_BYTES..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());

    let mut suffix = NodePath::default();
    suffix.push(b".").push_number(u64::from(
        rustix::process::getpid().as_raw_nonzero().get() as u32
    ));
    let fresh = path_of(runtime, url, suffix.as_bytes());
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = sys::open(fresh.as_c_str(), flags, 0o600)?;
    let written = sys::write_all(file.raw(), &bytes)
        .and_then(|()| sys::rename(fresh.as_c_str(), path_of(runtime, url, b"").as_c_str()));
    if written.is_err() {
        let _ = sys::unlink(fresh.as_c_str());
    }
    written
}
