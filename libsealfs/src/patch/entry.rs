//! Where a stub comes in when the call is not provably native: in assembly, because the caller's
//! registers, vector registers included, must come out as they went in.
//!
//! The story: the stub has stepped over the red zone and calls `sealfs_entry` with, in rcx, the
//! address behind the `syscall`. The call's registers are stored as a [`Call`] on the caller's
//! stack. Classes that can be judged without Rust are judged here (paths are glanced at, and scanned for
//! the mount's name if that does not do; a path that cannot name it is given to the kernel at once). What remains blocks
//! asynchronous signals, takes a private stack, saves the vector registers there and calls
//! [`enter`]; the mask is restored after the caller's stack is back. A path that the dispatcher takes for
//! the kernel's is tried there from the caller's stack, as one that plainly is.
//!
//! What must stay true:
//! - at most 1 KiB of the caller's stack is used (here: 300 bytes);
//! - nothing is held when signals are let in again, so a handler may `siglongjmp` away;
//! - unwinders find, at every instruction, the frame of the function that made the call: the
//!   canonical frame address is the caller's stack pointer, the return address lies behind its
//!   `syscall`. Cancellation and backtraces go through as if we were not there.
//!
//! # Safety
//! `enter` gets pointers to the frame below it, which outlives it.

use super::{class, hooks, signals, stack};
use crate::guard;
use crate::interpose;
use crate::patch::call::{Call, Route};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

unsafe extern "C" {
    /// For the stubs only: not callable from Rust.
    pub fn sealfs_entry();
    fn sealfs_glance_begin();
    fn sealfs_glance_end();
    fn sealfs_scan_begin();
    fn sealfs_scan_end();
}

/// The state components that XSAVE keeps, or 0 where FXSAVE must do.
static SAVED: AtomicU32 = AtomicU32::new(0);

/// SSE, AVX, opmask, the upper halves of ZMM0-15, ZMM16-31. (x87, tiles and keys are not touched by
/// anything that is called from here.)
const SAVED_WANTED: u32 = 0b1110_0110;

/// Finds out how vector registers are saved on this processor.
pub fn start() {
    const OSXSAVE: u32 = 1 << 27;
    let leaf = core::arch::x86_64::__cpuid(1);
    if leaf.ecx & OSXSAVE == 0 {
        return;
    }
    let low: u32;
    // SAFETY: OSXSAVE says that xgetbv may be used.
    unsafe {
        core::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") _,
            options(nomem, nostack, preserves_flags));
    }
    SAVED.store(low & SAVED_WANTED, Relaxed);
}

/// The kernel's `struct open_how`.
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Asks for a path without following a symbolic link anywhere on it.
static WITHOUT_LINKS: OpenHow = OpenHow {
    flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
    mode: 0,
    resolve: libc::RESOLVE_NO_SYMLINKS,
};

/// Where to go on when a look at a path faulted at `at`: the glance leaves it to the scan, and the scan
/// to the kernel, which says `EFAULT`.
pub fn fixup(at: usize) -> Option<usize> {
    let looks: [(unsafe extern "C" fn(), unsafe extern "C" fn()); 2] = [
        (sealfs_glance_begin, sealfs_glance_end),
        (sealfs_scan_begin, sealfs_scan_end),
    ];
    let looks = looks.map(|(begin, end)| begin as *const () as usize..end as *const () as usize);
    looks
        .iter()
        .find(|look| look.contains(&at))
        .map(|look| look.end)
}

/// What `enter` hands back in rax and rdx.
#[repr(C)]
struct Answer {
    value: isize,
    done: usize,
}

const PLAIN: usize = 0;

/// The way from assembly to the dispatcher, on the private stack.
extern "C" fn enter(call: &mut Call, after_kernel: usize, result: isize) -> Answer {
    let decide = || {
        stack::tidy();
        stack::set_faults_kill(signals::caller_blocks_faults());
        if after_kernel != PLAIN {
            return Route::Done(interpose::dispatch_after_kernel(call, result));
        }
        hooks::dispatch(call)
    };
    // A panic of ours is an I/O error of the call, and never unwinds into the program.
    let route = std::panic::catch_unwind(core::panic::AssertUnwindSafe(decide))
        .unwrap_or(Route::Done(-libc::EIO as isize));
    match route {
        Route::Native => Answer { value: 0, done: 0 },
        Route::Done(value) => Answer { value, done: 1 },
        Route::Try => Answer { value: 0, done: 2 },
    }
}

global_asm!(
    include_str!("entry.s"),
    enter = sym enter,
    number_class = sym class::NUMBER_CLASS,
    fd_class = sym class::FD_CLASS,
    touched = sym class::TOUCHED,
    cwd_special = sym class::CWD_SPECIAL,
    seccomped = sym class::SECCOMPED,
    mount_name = sym class::MOUNT_NAME,
    mount_name_bytes = sym class::MOUNT_NAME_BYTES,
    glance = sym class::GLANCE,
    catching = sym guard::CATCHING,
    saved = sym SAVED,
    blocked = sym signals::BLOCKED,
    how = sym WITHOUT_LINKS,
    pool = sym stack::POOL,
    all = sym stack::ALL,
    total = const stack::TOTAL_BYTES,
    control = const stack::CONTROL_BYTES,
);
