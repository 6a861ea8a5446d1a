//! Whose calls are answered here: those of a process under the supervisor, one after the other.
//!
//! A descriptor of the program is *borrowed*: taken out of its table by pidfd_getfd(2) and put under
//! the same number in ours, so that the library's files find it where the program says it is. The low
//! numbers here are kept free for that (`reserve`), our own descriptors lie above [`OWN_FROM`].
//!
//! What must stay true: what was borrowed is given back when the call is over, and before anybody
//! asks whether a description has a holder left.
//!
//! # Safety
//! The kernel calls get numbers, or structures of ours that outlive them.

use crate::fds::{self, Open};
use crate::interpose::Ctx;
use crate::interpose::image::Executed;
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::patch::call::Call;
use crate::route::{Answer, Bypass, done, theirs};
use crate::sync::{Mutex, RawMutex};
use crate::sys::{self, check};
use crate::{drive, notify, proc, settings};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use sealfs_protocol::Errno;

/// The calls are another process's.
pub const FOREIGN: bool = true;
/// Numbers below this one are kept free for what is borrowed.
const RESERVED: u32 = 1024;
/// Our own descriptors begin here, if the limit allows.
pub const OWN_FROM: u32 = 60_000;
/// Room that is left for them where the limit is lower.
const OWN_ROOM: u64 = 300;

static PID: AtomicU32 = AtomicU32::new(0);
static PIDFD: AtomicI32 = AtomicI32::new(-1);
static TID: AtomicU32 = AtomicU32::new(0);
static CALL: AtomicU64 = AtomicU64::new(0);
/// Stands in the reserved numbers.
static NOTHING: AtomicI32 = AtomicI32::new(-1);
static BORROWED: Mutex<Vec<u32>> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, Vec::new());

fn call(nr: i64, args: [usize; 4]) -> Result<usize, Errno> {
    let [a, b, c, d] = args;
    // SAFETY: numbers, or addresses of values that the callers keep.
    check(unsafe { sys::syscall4(nr as usize, a, b, c, d) }).map_err(Errno)
}

/// Raises the limit of descriptors, so that our own lie beyond those of most programs.
pub fn make_room() -> Result<(), Errno> {
    let (_, hard) = kernel::limit(libc::RLIMIT_NOFILE)?;
    let wanted = libc::rlimit64 {
        rlim_cur: hard.min(u64::from(OWN_FROM) + OWN_ROOM),
        rlim_max: hard,
    };
    let at = (&raw const wanted) as usize;
    call(
        libc::SYS_prlimit64,
        [0, libc::RLIMIT_NOFILE as usize, at, 0],
    )
    .map(|_| ())
}

/// Fills the low numbers, of which none may be open: from here on nothing of ours lands there.
pub fn reserve() -> Result<(), Errno> {
    let flags = libc::O_RDWR | libc::O_CLOEXEC;
    let nothing = kernel::open_at(AT_FDCWD, &CPath::new(b"/dev/null"), flags, 0)?;
    let kept = own(nothing)?;
    NOTHING.store(kept as i32, Relaxed);
    for number in 0..RESERVED.min(own_from() / 2) {
        put(kept, number)?;
    }
    Ok(())
}

fn own_from() -> u32 {
    let soft = kernel::limit(libc::RLIMIT_NOFILE).map_or(u64::from(RESERVED), |(soft, _)| soft);
    u64::from(OWN_FROM).min(soft.saturating_sub(OWN_ROOM)) as u32
}

/// Moves a descriptor of ours out of the way; its new number.
pub fn own(fd: u32) -> Result<u32, Errno> {
    let high = kernel::duplicate_above(fd, own_from())?;
    kernel::close(fd);
    Ok(high)
}

fn put(fd: u32, number: u32) -> Result<(), Errno> {
    let flags = libc::O_CLOEXEC as usize;
    call(libc::SYS_dup3, [fd as usize, number as usize, flags, 0]).map(|_| ())
}

/// From here on the calls of this process are answered.
pub fn set_process(pid: u32, pidfd: i32) {
    PID.store(pid, Relaxed);
    PIDFD.store(pidfd, Relaxed);
}

/// The call that is answered now, and the thread that made it.
pub fn set_call(tid: u32, id: u64) {
    TID.store(tid, Relaxed);
    CALL.store(id, Relaxed);
}

/// Its number.
pub fn pid() -> u32 {
    PID.load(Relaxed)
}

pub fn real_pid() -> u32 {
    pid()
}

/// The thread that made the call.
pub fn tid() -> u32 {
    TID.load(Relaxed)
}

pub fn call_id() -> u64 {
    CALL.load(Relaxed)
}

/// Descriptor `fd` is about to be looked at, under its own number.
pub fn borrow(fd: usize) {
    let Ok(number) = u32::try_from(fd) else {
        return;
    };
    let mut borrowed = BORROWED.lock();
    let is_free = number < RESERVED || kernel::open_flags(number).is_err();
    if number >= own_from() || borrowed.contains(&number) || !is_free {
        return;
    }
    let pidfd = PIDFD.load(Relaxed) as usize;
    let Ok(got) = call(libc::SYS_pidfd_getfd, [pidfd, fd, 0, 0]) else {
        // What is not open there is not open here.
        kernel::close(number);
        borrowed.push(number);
        return;
    };
    let got = got as u32;
    if got != number {
        let placed = put(got, number);
        kernel::close(got);
        if placed.is_err() {
            return;
        }
    }
    borrowed.push(number);
}

/// What was borrowed goes back: nothing of it is held by us any more.
pub fn give_back() {
    drive::settle();
    let borrowed = core::mem::take(&mut *BORROWED.lock());
    for number in borrowed {
        let reserved = number < RESERVED.min(own_from() / 2);
        if !reserved || put(NOTHING.load(Relaxed) as u32, number).is_err() {
            kernel::close(number);
        }
    }
}

/// The descriptors that may be ours.
pub fn held() -> impl Iterator<Item = usize> {
    let open = proc::descriptors(pid());
    let is_placeholder =
        |fd: &u32| proc::descriptor_mode(pid(), *fd) == Some(fds::PLACEHOLDER_MODE);
    open.into_iter()
        .filter(is_placeholder)
        .map(|fd| fd as usize)
}

/// Whether the program may have one descriptor more. Made known before a file is opened, as in the
/// kernel: afterwards it would be too late to leave no trace.
pub fn has_room() -> bool {
    let Ok((soft, _)) = limit(libc::RLIMIT_NOFILE) else {
        return true;
    };
    let last = u32::try_from(soft.saturating_sub(1)).unwrap_or(u32::MAX);
    proc::descriptor_mode(pid(), last).is_none() || (proc::descriptors(pid()).len() as u64) < soft
}

/// Hands a descriptor that was made here to the program; its number there.
pub fn export(fd: u32) -> Result<u32, Errno> {
    let number = lend_descriptor(fd);
    kernel::close(fd);
    number
}

fn lend_descriptor(fd: u32) -> Result<u32, Errno> {
    let cloexec = kernel::fcntl(fd, libc::F_GETFD, 0)? & libc::FD_CLOEXEC as usize != 0;
    notify::add_fd(call_id(), fd, cloexec)
}

/// Closes a descriptor of the program. Where it may not be the last one of its description, that
/// has to have happened before anybody asks.
pub fn close(open: &Open) -> Answer {
    if !open.slot.is_shared() {
        return theirs(Bypass::KernelsPart);
    }
    close_there(open.fd as usize);
    done()
}

fn close_there(number: usize) {
    drive::native(&Call {
        nr: libc::SYS_close as usize,
        args: [number, 0, 0, 0, 0, 0],
    });
}

/// Has the program make a call with a descriptor of ours, which it is lent for that.
fn with_descriptor(fd: u32, make: impl FnOnce(usize) -> isize) -> isize {
    let number = match lend_descriptor(fd) {
        Ok(number) => number as usize,
        Err(errno) => return -errno.0 as isize,
    };
    let said = make(number);
    close_there(number);
    said
}

/// Makes the directory `fd` the working directory.
pub fn enter(fd: u32) -> Result<(), Errno> {
    let said = with_descriptor(fd, |number| {
        drive::native(&Call {
            nr: libc::SYS_fchdir as usize,
            args: [number, 0, 0, 0, 0, 0],
        })
    });
    check(said).map(|_| ()).map_err(Errno)
}

/// Bytes of ours where the kernel finds them when the program makes a call; the address.
pub fn lend(bytes: &[u8]) -> usize {
    drive::lend(bytes)
}

/// The kernel cannot be asked without being believed: what it would say is walked first.
pub fn ask(_ctx: &Ctx<'_>) -> Option<isize> {
    None
}

/// Issues the program's call with the descriptor `fd`, which is ours, in argument `n`.
pub fn native_with(call: &Call, n: usize, fd: u32) -> isize {
    with_descriptor(fd, |number| {
        let mut call = *call;
        call.args[n] = number;
        drive::native(&call)
    })
}

/// Executes another program in the program's place. Comes back only with an error.
pub fn execute(what: Executed<'_>, arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>) -> isize {
    match what {
        Executed::Path(_) => drive::execute(what, arguments, environment),
        Executed::Memory(memory) => with_descriptor(memory, |number| {
            drive::execute(Executed::Memory(number as u32), arguments, environment)
        }),
    }
}

/// The path below the mount of what the process is about to execute, or of what it executed last.
static EXECUTABLE: AtomicPtr<Vec<u8>> = AtomicPtr::new(core::ptr::null_mut());

/// The program that is about to be executed is said to have this path.
pub fn executed_as(path: Option<&[u8]>) {
    let kept = path.map_or(core::ptr::null_mut(), |path| {
        Box::into_raw(Box::new(path.to_vec()))
    });
    EXECUTABLE.store(kept, Relaxed);
}

/// The path below the mount that the program was started by, if the kernel runs it from memory.
pub fn executable() -> Option<&'static [u8]> {
    let link = std::fs::read_link(format!("/proc/{}/exe", pid())).ok()?;
    if !link
        .as_os_str()
        .as_encoded_bytes()
        .starts_with(b"/memfd:sealfs")
    {
        return None;
    }
    // SAFETY: null or a leaked box.
    match unsafe { EXECUTABLE.load(Relaxed).as_ref() } {
        Some(path) => Some(path),
        None => settings::settings()?.executable.as_deref(),
    }
}

/// Issues a call with memory of ours, here.
pub fn native_here(call: &Call) -> isize {
    let [a, b, c, d, e, f] = call.args;
    // SAFETY: the caller's addresses are of values that it keeps.
    unsafe { sys::syscall6(call.nr, a, b, c, d, e, f) }
}

/// A limit of the program: (soft, hard).
pub fn limit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let out = (&raw mut limit) as usize;
    let of = pid() as usize;
    call(libc::SYS_prlimit64, [of, resource as usize, 0, out])?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

pub fn raise(signal: i32) {
    let (pid, tid) = (pid() as usize, tid() as usize);
    let _ = call(libc::SYS_tgkill, [pid, tid, signal as usize, 0]);
}

/// (real, effective, saved) user and group ids of the calling thread.
pub fn ids() -> ([u32; 3], [u32; 3]) {
    let Some(status) = proc::Status::of(tid()) else {
        return ([u32::MAX; 3], [u32::MAX; 3]);
    };
    let three = |[real, effective, saved, _]: [u32; 4]| [real, effective, saved];
    (three(status.users()), three(status.file_groups()))
}

/// User and group by which its file accesses are judged.
pub fn file_ids() -> (u32, u32) {
    let nobody = (u32::MAX, u32::MAX);
    proc::Status::of(tid()).map_or(nobody, |s| (s.users()[3], s.file_groups()[3]))
}

/// Its supplementary groups.
pub fn groups() -> Vec<u32> {
    proc::Status::of(tid()).map_or(Vec::new(), |status| status.groups())
}

/// Standard error, where something is said to whoever runs the program.
pub fn standard_error() -> usize {
    const NUMBER: usize = 2;
    if pid() != 0 {
        borrow(NUMBER);
    }
    NUMBER
}
