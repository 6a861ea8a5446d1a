//! RLIMIT_FSIZE: how far a process may make a file grow (getrlimit(2)).
//!
//! What must stay true: a write that starts below the limit is cut there; one that starts at it
//! gets SIGXFSZ and EFBIG, as from the kernel.

use super::Ctx;
use super::user::Spans;
use crate::route::{Answer, Bypass, Outcome, theirs};
use crate::subject;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use sealfs_protocol::Errno;

const UNKNOWN: u64 = u64::MAX - 1;
/// The soft limit; `u64::MAX` is none.
static LIMIT: AtomicU64 = AtomicU64::new(UNKNOWN);

fn limit() -> u64 {
    let known = LIMIT.load(Relaxed);
    if known != UNKNOWN && !subject::FOREIGN {
        return known;
    }
    let soft = subject::limit(libc::RLIMIT_FSIZE).map_or(u64::MAX, |(soft, _)| soft);
    LIMIT.store(soft, Relaxed);
    soft
}

pub fn is_set() -> bool {
    limit() != u64::MAX
}

/// Cuts a write at `offset` to what the limit allows.
pub fn apply(offset: u64, spans: &mut Spans) -> Result<(), Errno> {
    let left = left_at(offset)?;
    spans.cut(usize::try_from(left).unwrap_or(usize::MAX));
    Ok(())
}

/// How many bytes may be written at `offset`.
pub fn left_at(offset: u64) -> Result<u64, Errno> {
    let limit = limit().min(sealfs_protocol::limits::FILE_SIZE_MAX_BYTES);
    if offset >= limit {
        return Err(refuse());
    }
    Ok(limit - offset)
}

/// Whether a file may be given this size.
pub fn check_size(size: u64) -> Result<(), Errno> {
    if size > limit() {
        Err(refuse())
    } else {
        Ok(())
    }
}

fn refuse() -> Errno {
    if is_set() {
        subject::raise(libc::SIGXFSZ);
    }
    Errno::EFBIG
}

/// setrlimit(resource, limit)
pub fn setrlimit(ctx: &mut Ctx<'_>) -> Answer {
    if ctx.arg(0) != libc::RLIMIT_FSIZE as usize {
        return theirs(Bypass::KernelsPart);
    }
    Ok(changed(ctx))
}

/// prlimit64(pid, resource, new, old)
pub fn prlimit(ctx: &mut Ctx<'_>) -> Answer {
    if ctx.arg(1) != libc::RLIMIT_FSIZE as usize || ctx.arg(2) == 0 {
        return theirs(Bypass::KernelsPart);
    }
    Ok(changed(ctx))
}

/// The kernel sets the limit; the next write asks for it.
fn changed(ctx: &mut Ctx<'_>) -> Outcome {
    let said = ctx.native();
    LIMIT.store(UNKNOWN, Relaxed);
    Outcome::Asked(Bypass::KernelsPart, said)
}
