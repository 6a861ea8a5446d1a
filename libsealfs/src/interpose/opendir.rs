//! opendir(3): one question for what the C library asks with three system calls.
//!
//! opendir opens a directory and asks for its attributes, and the first readdir(3) asks for the first
//! entries. While a program is in `opendir`, the open brings all three: the C library's own
//! fstat(2) is answered from it, and so is its first getdents(2), for as long as [`Kept::serves`]
//! says. POSIX (opendir, readdir) leaves open whether what is added or removed after opendir shows.
//!
//! What must stay true: nothing but opendir's own fstat is answered from here, and the first entries
//! only if this process has asked no server for anything since, and soon. Nothing is waited for: of
//! threads that open directories at the same time one gets the short way. No lock is held where a
//! signal handler may run.
//!
//! # Safety
//! The exported function has the C library's signature and hands its argument on untouched.

use crate::patch::{self, Mode};
use crate::process::ClientRef;
use crate::sync::{self, Mutex};
use core::arch::asm;
use core::ffi::{c_char, c_void};
use core::sync::atomic::{
    AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use lock_api::MutexGuard;
use sealfs_client::{At, FileRef, Instant, IoVecMut, Opened, Outcome, Page};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::{OpenId, dirent};

/// Bytes of records that an open asks for: with `.` and `..` what the C library asks for first.
const RECORDS_BYTES: usize =
    super::stat::DIRECTORY_BLOCK_BYTES as usize - dirent::record_bytes(1) - dirent::record_bytes(2);
/// For how long the first entries may be served, in ns: longer than from opendir(3) to readdir(3),
/// and too short for word to another process, a change by it, and word back through the kernel.
const SERVES_NS: u64 = 50_000;

/// The thread that is in `opendir`, by its thread pointer, and the name it passed; 0: none.
static THREAD: AtomicUsize = AtomicUsize::new(0);
static NAME: AtomicUsize = AtomicUsize::new(0);
/// The description that something is kept of; 0: nothing is.
static OPEN: AtomicU64 = AtomicU64::new(0);
static KEPT: Mutex<Kept> = Mutex::new(Kept::NOTHING);

/// What came with the last open in `opendir`. Plain bytes: a forked child may find it half written,
/// and does not look.
struct Kept {
    /// The process that it belongs to (`sync::generation`).
    generation: u32,
    attr: Option<Attr>,
    page: Option<Page>,
    /// Requests that this process had made by then.
    requests: u64,
    until: Instant,
    records: [u8; RECORDS_BYTES],
}

impl Kept {
    #[allow(clippy::large_stack_arrays, reason = "the initial bytes of a static")]
    const NOTHING: Kept = Kept {
        generation: 0,
        attr: None,
        page: None,
        requests: 0,
        until: Instant(0),
        records: [0; RECORDS_BYTES],
    };

    /// Whether the first entries may still be served.
    fn serves(&self, client: &ClientRef) -> bool {
        self.requests == client.requests() && client.now() <= self.until
    }
}

type Guard = MutexGuard<'static, sync::RawMutex, Kept>;

/// The next definition of `opendir`.
static REAL: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());
type Opendir = unsafe extern "C" fn(*const c_char) -> *mut c_void;

/// Looks up what we stand before.
pub fn start() {
    // SAFETY: a C string.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"opendir".as_ptr()) };
    REAL.store(next.cast(), Release);
}

/// opendir(3)
///
/// # Safety
/// As the C library's.
#[cfg_attr(not(supervisor), unsafe(no_mangle))]
pub unsafe extern "C" fn opendir(name: *const c_char) -> *mut c_void {
    if REAL.load(Acquire).is_null() {
        // Another constructor came first.
        start();
    }
    let real = REAL.load(Acquire);
    if real.is_null() {
        return core::ptr::null_mut();
    }
    // SAFETY: the symbol is the C library's function, which has this signature.
    let real: Opendir = unsafe { core::mem::transmute(real) };
    if patch::mode() != Mode::Full {
        // SAFETY: the caller's word.
        return unsafe { real(name) };
    }
    let thread = thread();
    NAME.store(name as usize, Relaxed);
    THREAD.store(thread, Release);
    // SAFETY: the caller's word.
    let directory = unsafe { real(name) };
    let _ = THREAD.compare_exchange(thread, 0, Relaxed, Relaxed);
    directory
}

/// The thread pointer of this thread: another one for each that runs.
fn thread() -> usize {
    let pointer: usize;
    // SAFETY: reads the first word of the thread's control block, which is its own address (x86-64
    // ABI, thread-local storage).
    unsafe {
        asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, readonly, preserves_flags));
    }
    pointer
}

fn is_calling() -> bool {
    let caller = THREAD.load(Acquire);
    caller != 0 && caller == thread()
}

/// Whether an open of the path at `name` is opendir's.
pub fn opens(name: usize, flags: i32) -> bool {
    flags & libc::O_DIRECTORY != 0 && is_calling() && name == NAME.load(Relaxed)
}

/// Opens a directory and keeps what comes along.
pub fn open(client: &ClientRef, at: At<'_>, flags: u32, open: OpenId) -> Outcome<Opened> {
    let Some(mut kept) = KEPT.try_lock() else {
        return client.open(at, flags, 0, open);
    };
    OPEN.store(0, Relaxed);
    let (opened, page) =
        client.open_directory(at, flags, open, IoVecMut::new(&mut kept.records))?;
    kept.generation = sync::generation();
    kept.attr = Some(opened.attr.clone());
    kept.page = page;
    kept.requests = client.requests();
    kept.until = Instant(client.now().0 + SERVES_NS);
    OPEN.store(open.0, Release);
    Ok(opened)
}

/// What is kept of this description, if it is this process's.
fn kept_of(file: FileRef) -> Option<Guard> {
    if OPEN.load(Acquire) != file.open.0 {
        return None;
    }
    let kept = KEPT.try_lock()?;
    let ours = kept.generation == sync::generation() && OPEN.load(Relaxed) == file.open.0;
    ours.then_some(kept)
}

/// The answer to opendir's fstat(2).
pub fn attributes(file: FileRef) -> Option<Attr> {
    if !is_calling() {
        return None;
    }
    kept_of(file)?.attr.take()
}

/// The first entries of a directory that was just opened, for the first time that they are read.
pub fn first_page<R>(
    client: &ClientRef,
    file: FileRef,
    read: impl FnOnce(&Page, &[u8]) -> Option<R>,
) -> Option<R> {
    let mut kept = kept_of(file)?;
    OPEN.store(0, Relaxed);
    let page = kept.page.take()?;
    if !kept.serves(client) {
        return None;
    }
    let answer = read(&page, kept.records.get(..page.len)?)?;
    if page.moves_atime {
        client.accessed(file.ino);
    }
    Some(answer)
}
