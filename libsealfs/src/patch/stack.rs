//! Private stacks: a call that may be ours runs on 128 KiB of our own, since the caller may stand
//! on the last kilobytes of a small signal stack.
//!
//! Each thread keeps one spare; the rest lie in a pool without a lock (`entry.s` takes and gives).
//! A stack is *abandoned* when its call never came back: a handler that interrupted a waiting call
//! jumped away, or a vfork child ran exec in the middle of one. Abandoned stacks of this thread are
//! found when a fresh one had to be mapped, and go to the pool.
//!
//! What must stay true: stack memory is never unmapped (the pool reads links of stacks that others
//! may just have taken), and a stack is reclaimed only when its call certainly cannot go on.
//!
//! # Safety
//! Control blocks live at the top of their stacks, forever; the fields are atomics or belong to the
//! thread that has the stack.

use super::class::SECCOMPED;
use crate::sys;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed},
};

/// The control block and, in it, the vector registers of the interrupted code.
pub const CONTROL_BYTES: usize = 4096;
const GUARD_BYTES: usize = 4096;
/// 64 KiB for ourselves, and as much for a handler of the program that interrupts a waiting call.
const USABLE_BYTES: usize = 128 * 1024;
pub const TOTAL_BYTES: usize = GUARD_BYTES + USABLE_BYTES + CONTROL_BYTES;
/// How many stacks lie ready when a program puts itself under seccomp: no more can be mapped then.
const SECCOMP_SPARES: usize = 64;

/// Head of the pool: a control block and a tag, exchanged together.
#[repr(C, align(16))]
pub struct Pool(UnsafeCell<[u64; 2]>);

// SAFETY: only exchanged atomically, by `entry.s`.
unsafe impl Sync for Pool {}

pub static POOL: Pool = Pool(UnsafeCell::new([0, 0]));
/// Every stack there is, newest first.
pub static ALL: AtomicPtr<Control> = AtomicPtr::new(core::ptr::null_mut());
/// Raised when a thread may share its thread pointer with another that runs at the same time
/// (`clone` with memory but without its own TLS): whose stack it is cannot be told any more.
pub static OWNERS_UNCLEAR: AtomicBool = AtomicBool::new(false);
/// Raised when the program uses signal stacks that the kernel forgets while they are in use.
pub static SIGNAL_STACK_HIDDEN: AtomicBool = AtomicBool::new(false);

/// The first words of a control block. `entry.s` knows the offsets.
#[repr(C)]
pub struct Control {
    next: AtomicUsize,
    /// The frame of the call on its caller's stack.
    frame: AtomicUsize,
    /// The thread pointer of the thread that has the stack.
    owner: AtomicUsize,
    in_use: AtomicUsize,
    older: AtomicPtr<Control>,
    /// Set by `entry.s` when the stack was just mapped.
    fresh: AtomicUsize,
    /// Nonzero while the caller blocks the signals that faults raise.
    faults_kill: AtomicUsize,
}

const _: () = {
    assert!(core::mem::offset_of!(Control, next) == 0);
    assert!(core::mem::offset_of!(Control, frame) == 8);
    assert!(core::mem::offset_of!(Control, owner) == 16);
    assert!(core::mem::offset_of!(Control, in_use) == 24);
    assert!(core::mem::offset_of!(Control, older) == 32);
    assert!(core::mem::offset_of!(Control, fresh) == 40);
};

/// What `entry.s` keeps right below the stored call.
#[repr(C)]
pub struct Frame {
    after_kernel: AtomicUsize,
    result: AtomicUsize,
    control: AtomicUsize,
    pub blocked: AtomicUsize,
    pub caller_mask: AtomicU64,
}

unsafe extern "C" {
    fn sealfs_stack_give();
}

/// The control block of the stack this code runs on; `None` outside of a call.
fn running() -> Option<&'static Control> {
    let control: *const Control;
    // SAFETY: the thread's second word names the stack that `entry` switched to, or nothing.
    unsafe {
        asm!(
            "mov {word}, qword ptr [rip + sealfs_thread@GOTTPOFF]",
            "mov {word}, qword ptr fs:[{word} + 8]",
            word = out(reg) control,
            options(nostack, readonly, preserves_flags)
        );
        control.as_ref()
    }
}

fn current() -> &'static Control {
    match running() {
        Some(control) => control,
        None => unreachable!("asked for the call's stack outside of a call"),
    }
}

/// The frame of the call that is being dispatched.
pub fn frame() -> &'static Frame {
    let call = current().frame.load(Relaxed);
    // SAFETY: the frame lies right below the call, on the caller's stack, until the call returns.
    unsafe { &*((call - size_of::<Frame>()) as *const Frame) }
}

/// Tells, for the call that is being dispatched, whether a fault in `guard` would kill.
pub fn set_faults_kill(kill: bool) {
    current().faults_kill.store(usize::from(kill), Relaxed);
    if !kill {
        set_suspect(0);
    }
}

/// Whether a fault in `guard` would kill the program instead of being caught.
pub fn faults_kill() -> bool {
    running().is_some_and(|control| control.faults_kill.load(Relaxed) != 0)
}

/// Raised (1) when a handler of the program is entered for a fault: paths are then not looked at
/// before the thread's mask is known.
pub fn set_suspect(suspect: usize) {
    // SAFETY: the thread's third word.
    unsafe {
        asm!(
            "mov {word}, qword ptr [rip + sealfs_thread@GOTTPOFF]",
            "mov qword ptr fs:[{word} + 16], {suspect}",
            word = out(reg) _,
            suspect = in(reg) suspect,
            options(nostack, preserves_flags)
        );
    }
}

/// Puts a stack into the pool.
fn give(control: &Control) {
    // SAFETY: the routine takes the block in rax and changes what is listed.
    unsafe {
        asm!(
            "call {give}",
            give = sym sealfs_stack_give,
            inout("rax") core::ptr::from_ref(control) => _,
            out("rcx") _, out("rdx") _, out("r8") _,
        );
    }
}

fn stacks() -> impl Iterator<Item = &'static Control> {
    let mut next = ALL.load(Acquire).cast_const();
    core::iter::from_fn(move || {
        // SAFETY: blocks in the list are never unmapped; the last one links to null.
        let control = unsafe { next.as_ref() }?;
        next = control.older.load(Acquire);
        Some(control)
    })
}

/// Looks for abandoned stacks when the current one had to be mapped. Called at every dispatch, on
/// the private stack.
pub fn tidy() {
    let now = current();
    if now.fresh.load(Relaxed) == 0 {
        return;
    }
    now.fresh.store(0, Relaxed);
    let mine = |control: &&'static Control| {
        !core::ptr::eq(*control, now)
            && control.in_use.load(Relaxed) != 0
            && control.owner.load(Relaxed) == now.owner.load(Relaxed)
    };
    if !stacks().any(|control| mine(&control)) || !others_cannot_go_on(now) {
        return;
    }
    for control in stacks().filter(mine) {
        control.in_use.store(0, Relaxed);
        give(control);
    }
}

/// True when the caller stands on an ordinary stack: then no other call of this thread can be
/// waiting below it, for a handler inside such a call would run on its private stack or on a
/// signal stack.
fn others_cannot_go_on(now: &Control) -> bool {
    if OWNERS_UNCLEAR.load(Relaxed) || SIGNAL_STACK_HIDDEN.load(Relaxed) || SECCOMPED.load(Relaxed)
    {
        return false;
    }
    let caller = now.frame.load(Relaxed);
    let on_private = |control: &Control| {
        let top = core::ptr::from_ref(control) as usize;
        (top - USABLE_BYTES..top).contains(&caller)
    };
    !stacks().any(on_private) && !on_signal_stack(caller)
}

fn on_signal_stack(caller: usize) -> bool {
    let mut stack = core::mem::MaybeUninit::<libc::stack_t>::zeroed();
    // SAFETY: the kernel fills the structure; zero is a valid one.
    let stack = unsafe {
        let _ = sys::syscall3(
            libc::SYS_sigaltstack as usize,
            0,
            stack.as_mut_ptr() as usize,
            0,
        );
        stack.assume_init()
    };
    let begin = stack.ss_sp as usize;
    (begin..begin.saturating_add(stack.ss_size)).contains(&caller)
}

/// Makes stacks ready for a process that will not be allowed to map any.
pub fn prepare_for_seccomp() {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE) as usize;
    for _ in 0..SECCOMP_SPARES {
        // SAFETY: fresh memory; its lowest page becomes the guard, its top the control block.
        unsafe {
            let begin = sys::syscall6(
                libc::SYS_mmap as usize,
                0,
                TOTAL_BYTES,
                protection,
                flags,
                !0,
                0,
            );
            let Ok(begin) = sys::check(begin) else { return };
            let _ = sys::syscall3(libc::SYS_mprotect as usize, begin, GUARD_BYTES, 0);
            let control = &*((begin + TOTAL_BYTES - CONTROL_BYTES) as *const Control);
            let mut newest = ALL.load(Acquire);
            loop {
                control.older.store(newest, Relaxed);
                let own = core::ptr::from_ref(control).cast_mut();
                match ALL.compare_exchange(newest, own, Acquire, Acquire) {
                    Ok(_) => break,
                    Err(other) => newest = other,
                }
            }
            give(control);
        }
    }
}
