//! Starts the keeper so that the program never notices.
//!
//! A child with exit signal 0 is invisible to `wait`, `waitpid` and SIGCHLD; it becomes leader of a
//! new session, makes the grandchild that becomes the keeper, and ends at once, so that the keeper
//! belongs to init. Both children borrow the caller's memory until exec (`CLONE_VM | CLONE_VFORK`):
//! nothing is copied, which for a large program would take milliseconds. All signals are blocked
//! meanwhile and stay so across exec; the keeper unblocks them.
#![allow(unsafe_code, reason = "clone(2) with a stack of its own")]
//!
//! # Safety
//! Between clone and exec a child runs only [`intermediate`] and [`keeper`] on its own stack: no
//! allocation, no thread-local, no lock; nothing but system calls on memory that the caller, which
//! the kernel suspends until then, keeps alive.

use super::sys;
use core::ffi::{CStr, c_char};
use rustix::fs::{Mode, OFlags};
use sealfs_protocol::Errno;

const STACK_BYTES: usize = 32 << 10;
const CLONE_VM: usize = 0x100;
const CLONE_VFORK: usize = 0x4000;
/// wait4(2): children whose exit signal is not SIGCHLD.
const WCLONE: usize = 0x8000_0000;
const SIG_SETMASK: usize = 2;
/// Number of the lock's descriptor in the keeper.
pub const LOCK_FD: i32 = 3;

/// What the children read, and where they leave why it failed.
struct Plan<'a> {
    program: &'a CStr,
    argv: &'a [*const c_char],
    envp: &'a [*const c_char],
    lock: i32,
    second_stack: *mut u8,
    errno: i32,
}

/// Runs `program` detached with `lock` as [`LOCK_FD`] and nothing else open. Returns when it runs.
pub fn detached(
    program: &CStr,
    arguments: &[&CStr],
    environment: &[&CStr],
    lock: i32,
) -> sys::Result<()> {
    let pointers = |list: &[&CStr]| -> Vec<*const c_char> {
        list.iter()
            .map(|s| s.as_ptr())
            .chain([core::ptr::null()])
            .collect()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let stacks = Stacks::new()?;
    let mut plan = Plan {
        program,
        argv: &argv,
        envp: &envp,
        lock,
        second_stack: stacks.top(2),
        errno: 0,
    };
    let all = u64::MAX;
    let mut before = 0u64;
    // SAFETY: two masks of the kernel's size; the call changes only the second.
    unsafe {
        let (new, old) = (&raw const all as usize, &raw mut before as usize);
        raw::syscall(raw::RT_SIGPROCMASK, [SIG_SETMASK, new, old, 8]);
    }
    // SAFETY: `plan` and both stacks outlive the child, for which we wait.
    let child = unsafe { raw::clone(stacks.top(1), intermediate, (&raw mut plan).cast()) };
    let outcome = if child > 0 {
        // SAFETY: waits for the child just made; no status is asked for.
        unsafe { raw::syscall(raw::WAIT4, [child as usize, 0, WCLONE, 0]) };
        plan.errno
    } else {
        -child as i32
    };
    // SAFETY: restores the mask read above.
    unsafe {
        raw::syscall(
            raw::RT_SIGPROCMASK,
            [SIG_SETMASK, &raw const before as usize, 0, 8],
        );
    }
    if outcome == 0 {
        Ok(())
    } else {
        Err(Errno(outcome))
    }
}

/// First child: leaves the program's session, makes the second, ends.
unsafe extern "C" fn intermediate(plan: *mut Plan<'static>) -> ! {
    let _ = rustix::process::setsid();
    // SAFETY: the caller is suspended and keeps its plan alive; nobody else uses it now.
    let plan = unsafe { &mut *plan };
    // SAFETY: the second stack is free, and this child is suspended until the second execs.
    let child = unsafe { raw::clone(plan.second_stack, keeper, &raw mut *plan) };
    if child < 0 {
        plan.errno = -child as i32;
    }
    raw::exit()
}

/// Second child: drops every descriptor but the lock, and becomes the keeper.
unsafe extern "C" fn keeper(plan: *mut Plan<'static>) -> ! {
    // SAFETY: as in `intermediate`.
    let plan = unsafe { &mut *plan };
    let path = plan.program.as_ptr() as usize;
    let (argv, envp) = (plan.argv.as_ptr() as usize, plan.envp.as_ptr() as usize);
    // SAFETY: plain system calls on this child's own descriptor table; strings end with NUL and
    // both vectors with a null pointer.
    plan.errno = unsafe {
        // Without effect (EINVAL) when it has that number already.
        raw::syscall(raw::DUP3, [plan.lock as usize, LOCK_FD as usize, 0, 0]);
        let _ = rustix::io::fcntl_setfd(sys::borrow(LOCK_FD), rustix::io::FdFlags::empty());
        raw::syscall(
            raw::CLOSE_RANGE,
            [LOCK_FD as usize + 1, u32::MAX as usize, 0, 0],
        );
        if let Ok(null) = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty()) {
            let null = rustix::fd::IntoRawFd::into_raw_fd(null) as usize;
            for standard in 0..3 {
                raw::syscall(raw::DUP3, [null, standard, 0, 0]);
            }
            if null > LOCK_FD as usize {
                raw::syscall(raw::CLOSE, [null, 0, 0, 0]);
            }
        }
        let _ = rustix::process::chdir(c"/");
        -raw::syscall(raw::EXECVE, [path, argv, envp, 0]) as i32
    };
    raw::exit()
}

/// Two stacks, unmapped when dropped.
struct Stacks(*mut u8);

impl Stacks {
    fn new() -> sys::Result<Stacks> {
        use rustix::mm::{MapFlags, ProtFlags};
        let (rw, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: fresh memory at an address of the kernel's choice.
        let base = unsafe {
            rustix::mm::mmap_anonymous(core::ptr::null_mut(), 2 * STACK_BYTES, rw, private)
        };
        base.map(|b| Stacks(b.cast())).map_err(sys::errno)
    }

    /// The top of the first or second stack (they grow down).
    fn top(&self, number: usize) -> *mut u8 {
        self.0.wrapping_add(number * STACK_BYTES)
    }
}

impl Drop for Stacks {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`; both children have left their stacks.
        let _ = unsafe { rustix::mm::munmap(self.0.cast(), 2 * STACK_BYTES) };
    }
}

#[cfg(target_arch = "x86_64")]
mod raw {
    //! System calls that rustix does not offer, by number.
    use core::arch::asm;

    pub const CLOSE: usize = 3;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const DUP3: usize = 292;
    pub const CLOSE_RANGE: usize = 436;
    const CLONE: usize = 56;
    const EXIT: usize = 60;

    /// # Safety
    /// The arguments must be valid for the call.
    pub unsafe fn syscall(number: usize, args: [usize; 4]) -> isize {
        let result;
        // SAFETY: the kernel keeps every register but rax, rcx and r11.
        unsafe {
            asm!("syscall", inlateout("rax") number => result, in("rdi") args[0],
                in("rsi") args[1], in("rdx") args[2], in("r10") args[3],
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    /// A child that shares memory and runs `entry(argument)` on `stack`; the caller sleeps until it
    /// ends or execs. Its end raises no signal.
    ///
    /// # Safety
    /// `stack` is the top of free memory, aligned to 16; `argument` is what `entry` expects.
    pub unsafe fn clone(
        stack: *mut u8,
        entry: unsafe extern "C" fn(*mut super::Plan<'static>) -> !,
        argument: *mut super::Plan<'static>,
    ) -> isize {
        let result;
        // SAFETY: the child leaves this frame at once and never returns to it.
        unsafe {
            asm!("syscall", "test rax, rax", "jnz 2f", "xor ebp, ebp", "mov rdi, r12",
                "call r13", "ud2", "2:",
                inlateout("rax") CLONE => result,
                in("rdi") super::CLONE_VM | super::CLONE_VFORK, in("rsi") stack,
                in("rdx") 0usize, in("r10") 0usize, in("r8") 0usize,
                in("r12") argument, in("r13") entry,
                lateout("rcx") _, lateout("r11") _);
        }
        result
    }

    pub fn exit() -> ! {
        // SAFETY: ends the calling child.
        unsafe { asm!("syscall", in("rax") EXIT, in("rdi") 0usize, options(noreturn)) }
    }
}

#[cfg(target_arch = "aarch64")]
mod raw {
    //! System calls that rustix does not offer, by number.
    use core::arch::asm;

    pub const CLOSE: usize = 57;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const DUP3: usize = 24;
    pub const CLOSE_RANGE: usize = 436;
    const CLONE: usize = 220;
    const EXIT: usize = 93;

    /// # Safety
    /// The arguments must be valid for the call.
    pub unsafe fn syscall(number: usize, args: [usize; 4]) -> isize {
        let result;
        // SAFETY: the kernel keeps every register but x0.
        unsafe {
            asm!("svc 0", in("x8") number, inlateout("x0") args[0] => result, in("x1") args[1],
                in("x2") args[2], in("x3") args[3], options(nostack));
        }
        result
    }

    /// A child that shares memory and runs `entry(argument)` on `stack`; the caller sleeps until it
    /// ends or execs. Its end raises no signal.
    ///
    /// # Safety
    /// `stack` is the top of free memory, aligned to 16; `argument` is what `entry` expects.
    pub unsafe fn clone(
        stack: *mut u8,
        entry: unsafe extern "C" fn(*mut super::Plan<'static>) -> !,
        argument: *mut super::Plan<'static>,
    ) -> isize {
        let result;
        // SAFETY: the child leaves this frame at once and never returns to it.
        unsafe {
            asm!("svc 0", "cbnz x0, 2f", "mov x29, xzr", "mov x0, x20", "blr x21", "brk 1", "2:",
                in("x8") CLONE, inlateout("x0") super::CLONE_VM | super::CLONE_VFORK => result,
                in("x1") stack, in("x2") 0usize, in("x3") 0usize, in("x4") 0usize,
                in("x20") argument, in("x21") entry);
        }
        result
    }

    pub fn exit() -> ! {
        // SAFETY: ends the calling child.
        unsafe { asm!("svc 0", in("x8") EXIT, in("x0") 0usize, options(noreturn)) }
    }
}
