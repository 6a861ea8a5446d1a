//! Calls made visible: counted for `sealfs profile` (`SEALFS_PROFILE`), written down one by one
//! (`SEALFS_TRACE`, by `trace`).
//!
//! The dispatcher says what became of each call. Counting wants those as well that are plainly the kernel's:
//! the ways in then send them here too (`class::see_everything`).
//!
//! What must stay true: with neither in use a dispatched call costs one load, any other call nothing;
//! whatever goes wrong here is no matter to the program; under seccomp nothing is asked of the kernel, so
//! that calls are counted there without their time.
//!
//! # Safety
//! Nothing here is unsafe but the look at what the constructor leaked.

use crate::interpose::name_of;
use crate::log::{Level, say};
use crate::patch::call::Call;
use crate::patch::class::Class;
use crate::route::{Bypass, Outcome};
use crate::start::StartEnv;
use crate::{process, trace};
use core::sync::atomic::{
    AtomicBool, AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};
use rustix::time::{ClockId, clock_gettime};
use sealfs_client::node::profile::{Did, Profile, Why};
use sealfs_protocol::Errno;

const PROFILE: &[u8] = b"SEALFS_PROFILE";
const TRACE: &[u8] = b"SEALFS_TRACE";

static ON: AtomicBool = AtomicBool::new(false);
static COUNTERS: AtomicPtr<Profile> = AtomicPtr::new(core::ptr::null_mut());

/// Takes from the environment what is wanted. Called once, before any call is intercepted.
pub fn start(env: &StartEnv) {
    let set = |name: &[u8]| env.get(name).filter(|value| !value.is_empty());
    if let Some(path) = set(PROFILE) {
        match Profile::join(path) {
            Ok(counters) => {
                COUNTERS.store(Box::into_raw(Box::new(counters)), Release);
                ON.store(true, Relaxed);
            }
            // The command has ended and told what it had: nobody waits for more.
            Err(errno @ Errno::ENOENT) => not_counted(Level::Info, path, errno),
            Err(errno) => not_counted(Level::Error, path, errno),
        }
    }
    if let Some(path) = set(TRACE) {
        match trace::start(path, env.get(b"SEALFS_MOUNT").unwrap_or_default()) {
            Ok(()) => ON.store(true, Relaxed),
            Err(why) => say(
                Level::Error,
                format_args!("SEALFS_TRACE={}: {why}", String::from_utf8_lossy(path)),
            ),
        }
    }
}

fn not_counted(level: Level, path: &[u8], errno: Errno) {
    say(
        level,
        format_args!(
            "SEALFS_PROFILE={}: {}: this program is not counted; start it by `sealfs profile`",
            String::from_utf8_lossy(path),
            errno.text()
        ),
    );
}

/// Whether anybody wants to know of calls.
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

/// Whether calls are counted, also those that are plainly the kernel's.
pub fn counts() -> bool {
    counters().is_some()
}

fn counters() -> Option<&'static Profile> {
    // SAFETY: set once from a leaked box, never freed.
    unsafe { COUNTERS.load(Acquire).as_ref() }
}

/// A call whose end is to be told: [`begin`] and [`end`] stand around it.
pub struct Begun {
    pub call: Call,
    pub class: Class,
    /// When it began, in ns of CLOCK_MONOTONIC, where that may be asked.
    pub at_ns: Option<u64>,
    requests: u64,
}

/// What became of a call of ours.
pub struct Ended {
    pub took_ns: u64,
    pub value: isize,
    pub bytes: Option<u64>,
    pub requests: u64,
}

pub fn begin(call: &Call, class: Class) -> Begun {
    if is_exec(call.nr)
        && let Some(counters) = counters()
    {
        // It does not come back: whatever it executes, that part is the kernel's.
        counters.note(call.nr, name_of(call.nr), Did::Kernel(Why::Part), 0);
    }
    Begun {
        call: *call,
        class,
        at_ns: now_ns(),
        requests: requests(),
    }
}

/// A path call that was counted as the kernel's, which then found nothing there, has come to another end.
pub fn end_after_kernel(begun: &Begun, outcome: Outcome) {
    if let Some(counters) = counters() {
        counters.take_back(begun.call.nr, Why::Path);
    }
    end(begun, outcome);
}

pub fn end(begun: &Begun, outcome: Outcome) {
    if is_exec(begun.call.nr) || names_no_file(&begun.call) {
        return;
    }
    let at = begun.at_ns.zip(now_ns());
    let took_ns = at.map(|(from, to)| to.saturating_sub(from));
    let requests = requests().saturating_sub(begun.requests);
    let number = begun.call.nr;
    let did = match outcome {
        Outcome::Ours(value) => Did::Ours {
            ns: took_ns,
            failed: is_error(value),
            bytes: bytes_moved(number, value).unwrap_or(0),
        },
        Outcome::Theirs(why) | Outcome::Asked(why, _) => Did::Kernel(match why {
            Bypass::NotBelowMount => Why::Path,
            Bypass::NativeDescriptor => Why::Descriptor,
            Bypass::KernelsPart => Why::Part,
        }),
    };
    if let Some(counters) = counters() {
        counters.note(number, name_of(number), did, requests);
    }
    if let (Outcome::Ours(value), Some(took_ns)) = (outcome, took_ns) {
        let bytes = bytes_moved(number, value);
        trace::write(
            begun,
            &Ended {
                took_ns,
                value,
                bytes,
                requests,
            },
        );
    }
}

fn is_exec(number: usize) -> bool {
    matches!(number as i64, libc::SYS_execve | libc::SYS_execveat)
}

/// Memory from the kernel is asked for by the same call as that of files.
fn names_no_file(call: &Call) -> bool {
    call.nr == libc::SYS_mmap as usize && call.args[3] as i32 & libc::MAP_ANONYMOUS != 0
}

fn now_ns() -> Option<u64> {
    if process::is_sandboxed() {
        return None;
    }
    let now = clock_gettime(ClockId::Monotonic);
    Some(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

/// What this process has asked of servers so far.
fn requests() -> u64 {
    process::known_client().map_or(0, sealfs_client::Client::requests)
}

pub fn is_error(value: isize) -> bool {
    (-4095..0).contains(&value)
}

/// The bytes that a call has moved, if that is what it does.
fn bytes_moved(number: usize, value: isize) -> Option<u64> {
    let moves = matches!(
        number as i64,
        libc::SYS_read
            | libc::SYS_write
            | libc::SYS_pread64
            | libc::SYS_pwrite64
            | libc::SYS_readv
            | libc::SYS_writev
            | libc::SYS_preadv
            | libc::SYS_pwritev
            | libc::SYS_preadv2
            | libc::SYS_pwritev2
            | libc::SYS_sendfile
            | libc::SYS_splice
            | libc::SYS_copy_file_range
    );
    u64::try_from(value).ok().filter(|_| moves)
}
