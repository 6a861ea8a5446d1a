//! SIGSEGV and SIGBUS are handled by us, so that a bad pointer met by `guard` is `EFAULT`; the
//! program sees its own dispositions only.
//!
//! The kernel holds the program's action with our handler in the place of the program's, all else
//! (mask, flags, restorer, signal stack) as the program set it. A fault that is not the guard's
//! goes on in the program's handler with the registers and the stack as the kernel delivered them,
//! or, by default, kills the process at the faulting instruction. A program that *ignores* one of
//! the signals gets just that, and `guard` lets the kernel copy instead.
//!
//! What must stay true: what the program reads back is what it wrote; a vfork child, which has its
//! own dispositions but our memory, changes nothing of its parent's.
//!
//! # Safety
//! The handler runs inside a fault: it touches atomics and the frame that the kernel handed it.

use super::call::{Call, Route};
use super::{class::SECCOMPED, entry, stack};
use crate::{guard, sync, sys};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESETHAND: u64 = 0x8000_0000;
/// The flags that the kernel keeps; it drops the others.
const SA_KNOWN: u64 = 0xdc00_0807;
const MASK_BYTES: usize = 8;
const UNBLOCKABLE: u64 = 1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1);

/// The program's disposition of one signal.
struct Virtual {
    handler: AtomicUsize,
    flags: AtomicU64,
    restorer: AtomicUsize,
    mask: AtomicU64,
}

impl Virtual {
    const fn new() -> Self {
        Self {
            handler: AtomicUsize::new(libc::SIG_DFL),
            flags: AtomicU64::new(0),
            restorer: AtomicUsize::new(0),
            mask: AtomicU64::new(0),
        }
    }

    fn get(&self) -> Action {
        Action {
            handler: self.handler.load(SeqCst),
            flags: self.flags.load(SeqCst),
            restorer: self.restorer.load(SeqCst),
            mask: self.mask.load(SeqCst),
        }
    }

    fn set(&self, action: &Action) {
        self.flags.store(action.flags & SA_KNOWN, SeqCst);
        self.restorer.store(action.restorer, SeqCst);
        self.mask.store(action.mask & !UNBLOCKABLE, SeqCst);
        self.handler.store(action.handler, SeqCst);
    }
}

static SEGV: Virtual = Virtual::new();
static BUS: Virtual = Virtual::new();
/// Held while a disposition changes; handlers never take it.
static CHANGING: sync::Mutex<()> = sync::Mutex::new(());

fn slot(signal: usize) -> &'static Virtual {
    if signal == libc::SIGSEGV as usize {
        &SEGV
    } else {
        &BUS
    }
}

unsafe extern "C" {
    fn sealfs_fault();
    fn sealfs_fault_return();
}

global_asm!(
    ".text",
    ".p2align 4",
    ".hidden sealfs_fault",
    ".globl sealfs_fault",
    ".type sealfs_fault,@function",
    // (rdi signal, rsi siginfo, rdx context), on the frame that the kernel made
    "sealfs_fault:",
    ".cfi_startproc",
    "push rdi",
    ".cfi_adjust_cfa_offset 8",
    "push rsi",
    ".cfi_adjust_cfa_offset 8",
    "push rdx",
    ".cfi_adjust_cfa_offset 8",
    "call {fault}",
    "pop rdx",
    ".cfi_adjust_cfa_offset -8",
    "pop rsi",
    ".cfi_adjust_cfa_offset -8",
    "pop rdi",
    ".cfi_adjust_cfa_offset -8",
    "test rax, rax",
    "jnz 2f",
    "ret",
    "2:",
    "jmp rax",
    ".cfi_endproc",
    ".size sealfs_fault, . - sealfs_fault",
    // Unwinders know this trampoline by its bytes.
    ".p2align 4",
    ".hidden sealfs_fault_return",
    ".globl sealfs_fault_return",
    ".type sealfs_fault_return,@function",
    "sealfs_fault_return:",
    ".byte 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05",
    ".size sealfs_fault_return, . - sealfs_fault_return",
    fault = sym fault,
);

/// Decides a fault: 0 to return from the handler, or the program's handler to go on in.
extern "C" fn fault(
    signal: i32,
    info: *mut libc::siginfo_t,
    context: *mut libc::ucontext_t,
) -> usize {
    // SAFETY: the kernel hands both to a handler with SA_SIGINFO.
    let (code, at) = unsafe {
        (
            (*info).si_code,
            &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize],
        )
    };
    let raised_here = code > 0;
    if raised_here
        && let Some(way_out) = guard::fixup(*at as usize).or_else(|| entry::fixup(*at as usize))
    {
        *at = way_out as i64;
        return 0;
    }
    let own = slot(signal as usize);
    let handler = own.handler.load(SeqCst);
    if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
        die(signal, raised_here, info);
        return 0;
    }
    if own.flags.load(SeqCst) & SA_RESETHAND != 0 {
        own.handler.store(libc::SIG_DFL, SeqCst);
    }
    stack::set_suspect(1);
    handler
}

/// The default: the disposition goes back to the kernel's, and the signal comes again when the
/// handler returns, by the same instruction or, if somebody sent it, from the queue.
fn die(signal: i32, raised_here: bool, info: *const libc::siginfo_t) {
    let default = Action {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    guard::set_catching(false);
    let _ = install(signal as usize, &default);
    if !raised_here {
        let (process, thread) = (sys::getpid() as usize, sys::gettid() as usize);
        let number = libc::SYS_rt_tgsigqueueinfo as usize;
        // SAFETY: the kernel's own siginfo, handed back to it.
        let _ = unsafe { sys::syscall4(number, process, thread, signal as usize, info as usize) };
    }
}

fn install(signal: usize, action: &Action) -> isize {
    let action = core::ptr::from_ref(action) as usize;
    // SAFETY: the structure is the kernel's and complete.
    unsafe {
        sys::syscall4(
            libc::SYS_rt_sigaction as usize,
            signal,
            action,
            0,
            MASK_BYTES,
        )
    }
}

fn installed(signal: usize) -> Option<Action> {
    let mut action = Action {
        handler: 0,
        flags: 0,
        restorer: 0,
        mask: 0,
    };
    let to = (&raw mut action) as usize;
    // SAFETY: the kernel fills the structure.
    let asked =
        unsafe { sys::syscall4(libc::SYS_rt_sigaction as usize, signal, 0, to, MASK_BYTES) };
    (asked == 0).then_some(action)
}

/// The program's action as the kernel is to hold it.
fn in_our_hands(action: &Action) -> Action {
    let ours = sealfs_fault as *const () as usize;
    if action.handler == libc::SIG_DFL || action.flags & SA_RESTORER == 0 {
        let restorer = sealfs_fault_return as *const () as usize;
        let kept = if action.handler == libc::SIG_DFL {
            0
        } else {
            action.flags
        };
        let flags = (kept & !SA_RESETHAND) | SA_SIGINFO | SA_RESTORER;
        let mask = if action.handler == libc::SIG_DFL {
            0
        } else {
            action.mask
        };
        return Action {
            handler: ours,
            flags,
            restorer,
            mask,
        };
    }
    Action {
        handler: ours,
        flags: (action.flags & !SA_RESETHAND) | SA_SIGINFO,
        ..*action
    }
}

fn catches(signal: usize) -> bool {
    slot(signal).handler.load(SeqCst) != libc::SIG_IGN
}

/// Puts our handler in place. Called by the constructor once calls are intercepted.
pub fn start() {
    let mut both = true;
    for signal in [libc::SIGSEGV as usize, libc::SIGBUS as usize] {
        let Some(inherited) = installed(signal) else {
            return;
        };
        slot(signal).set(&inherited);
        both &= catches(signal) && install(signal, &in_our_hands(&inherited)) == 0;
    }
    guard::set_catching(both);
}

/// `rt_sigaction` for SIGSEGV or SIGBUS.
pub fn answer(call: &Call) -> Route {
    let [signal, wanted, old, mask_bytes, ..] = call.args;
    if mask_bytes != MASK_BYTES {
        return Route::Native;
    }
    let wanted = match (wanted != 0).then(|| guard::read_user(wanted as *const Action)) {
        Some(Err(guard::Efault)) => return Route::Done(-libc::EFAULT as isize),
        Some(Ok(action)) => Some(action),
        None => None,
    };
    // A sandboxed process is not to be surprised by a question; it is taken to be no vfork child.
    let own = SECCOMPED.load(SeqCst) || sys::getpid() == sync::pid();
    let (result, before) = if own {
        let _changing = CHANGING.lock();
        let before = slot(signal).get();
        (wanted.map_or(0, |action| change(signal, &action)), before)
    } else {
        change_in_vfork_child(signal, wanted.as_ref())
    };
    if result == 0 && old != 0 && guard::write_user(old as *mut Action, &before).is_err() {
        return Route::Done(-libc::EFAULT as isize);
    }
    Route::Done(result)
}

fn change(signal: usize, action: &Action) -> isize {
    let ignore = action.handler == libc::SIG_IGN;
    if ignore {
        guard::set_catching(false);
    }
    let before = slot(signal).get();
    // The program's handler must be known before a fault can ask for it.
    slot(signal).set(action);
    let result = install(
        signal,
        &if ignore {
            *action
        } else {
            in_our_hands(action)
        },
    );
    if result != 0 {
        slot(signal).set(&before);
    }
    let both = catches(libc::SIGSEGV as usize) && catches(libc::SIGBUS as usize);
    guard::set_catching(both);
    result
}

/// A child that shares our memory: the kernel alone knows its dispositions.
fn change_in_vfork_child(signal: usize, wanted: Option<&Action>) -> (isize, Action) {
    let inherited = slot(signal).get();
    let before = match installed(signal) {
        Some(action) if action.handler != sealfs_fault as *const () as usize => action,
        _ => inherited,
    };
    (wanted.map_or(0, |action| install(signal, action)), before)
}
