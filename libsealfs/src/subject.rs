//! Whose calls are answered here: those of the process that the library is part of.
//!
//! `sealfs-supervisor` is built from the same sources with a file of its own in this one's place:
//! there the calls are those of another process, whose descriptors have to be borrowed and given
//! back, and which alone can move its working directory. What must stay true: both files have the
//! same functions, and everything that differs between one's own process and another's is asked here
//! or in `guard`.

use crate::fds::Open;
use crate::fdtable;
use crate::interpose::Ctx;
use crate::interpose::image::{self, Executed};
use crate::kernel;
use crate::patch::call::Call;
use crate::route::{Answer, done};
use crate::{settings, sync, sys};
use sealfs_protocol::Errno;

/// The calls are another process's.
pub const FOREIGN: bool = false;

/// Our own descriptors would begin here, were the program's borrowed.
pub const OWN_FROM: u32 = 0;

/// Its number.
pub fn pid() -> u32 {
    sync::pid() as u32
}

/// The kernel's number of the calling process; not that of the memory's owner in a vfork child.
pub fn real_pid() -> u32 {
    sys::getpid() as u32
}

/// The thread that made the call.
pub fn tid() -> u32 {
    sys::gettid() as u32
}

/// Descriptor `fd` is about to be looked at, under its own number.
pub fn borrow(_fd: usize) {}

/// What was borrowed goes back: nothing of it is held by us any more.
pub fn give_back() {}

/// The descriptors that may be ours.
pub fn held() -> impl Iterator<Item = usize> {
    fdtable::ours()
}

/// Whether the program may have one descriptor more; the kernel will say.
pub fn has_room() -> bool {
    true
}

/// Hands a descriptor that was made here to the program; its number there.
#[allow(
    clippy::unnecessary_wraps,
    reason = "another process may have no room for it"
)]
pub fn export(fd: u32) -> Result<u32, Errno> {
    Ok(fd)
}

/// Closes a descriptor of the program; what close(2) answers.
pub fn close(open: &Open) -> Answer {
    kernel::close(open.fd);
    done()
}

/// Makes the directory `fd` the working directory.
pub fn enter(fd: u32) -> Result<(), Errno> {
    kernel::fchdir(fd)
}

/// Bytes of ours where the kernel finds them when the program makes a call; the address.
pub fn lend(bytes: &[u8]) -> usize {
    bytes.as_ptr() as usize
}

/// Asks the kernel what it says to the call as it stands. `None`: it cannot be asked without being
/// believed, so the paths have to be walked first.
#[allow(clippy::unnecessary_wraps, reason = "another's kernel cannot be asked")]
pub fn ask(ctx: &Ctx<'_>) -> Option<isize> {
    Some(ctx.native())
}

/// Issues the program's call with the descriptor `fd`, which is ours, in argument `n`.
pub fn native_with(call: &Call, n: usize, fd: u32) -> isize {
    let mut call = *call;
    call.args[n] = fd as usize;
    crate::interpose::native(&call)
}

/// Executes another program in the program's place. Comes back only with an error.
pub fn execute(what: Executed<'_>, arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>) -> isize {
    image::issue(what, arguments, environment)
}

/// The program that is about to be executed is said to have this path: it learns that from its
/// environment.
pub fn executed_as(_path: Option<&[u8]>) {}

/// The path below the mount that the program was started by, if it was.
pub fn executable() -> Option<&'static [u8]> {
    settings::settings()?.executable.as_deref()
}

/// Issues a call with memory of ours, with the program's signal mask.
pub fn native_here(call: &Call) -> isize {
    crate::interpose::native(call)
}

/// A limit of the program: (soft, hard).
pub fn limit(resource: u32) -> Result<(u64, u64), Errno> {
    kernel::limit(resource)
}

pub fn raise(signal: i32) {
    kernel::raise(signal);
}

/// (real, effective, saved) user and group ids of the calling thread.
pub fn ids() -> ([u32; 3], [u32; 3]) {
    kernel::ids()
}

/// User and group by which its file accesses are judged.
pub fn file_ids() -> (u32, u32) {
    kernel::file_ids()
}

/// Its supplementary groups.
pub fn groups() -> Vec<u32> {
    kernel::groups()
}

/// Standard error, where something is said to whoever runs the program.
pub fn standard_error() -> usize {
    2
}
