//! System calls without libc. Everything in the library that needs the kernel comes through here
//! or through rustix's `linux_raw` back end, never through a symbol that a program or we
//! ourselves may have interposed.
//!
//! # Safety
//! A raw system call does what its number says with the memory its arguments name; callers vouch
//! for those arguments as the kernel's manual asks.

use core::arch::asm;

/// Issues system call `nr` and returns the kernel's word: a value, or `-errno`.
///
/// # Safety
/// The arguments must be valid for that call.
#[inline]
pub unsafe fn syscall6(
    nr: usize,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> isize {
    let result: isize;
    // SAFETY: the kernel clobbers rcx and r11 only; the caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") nr as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    result
}

/// As [`syscall6`], with three arguments.
///
/// # Safety
/// The arguments must be valid for that call.
#[inline]
pub unsafe fn syscall3(nr: usize, a: usize, b: usize, c: usize) -> isize {
    // SAFETY: the caller vouches for the arguments.
    unsafe { syscall6(nr, a, b, c, 0, 0, 0) }
}

/// As [`syscall6`], with four arguments.
///
/// # Safety
/// The arguments must be valid for that call.
#[inline]
pub unsafe fn syscall4(nr: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    // SAFETY: the caller vouches for the arguments.
    unsafe { syscall6(nr, a, b, c, d, 0, 0) }
}

/// The kernel's number of the calling process.
pub fn getpid() -> i32 {
    // SAFETY: no arguments.
    unsafe { syscall3(libc::SYS_getpid as usize, 0, 0, 0) as i32 }
}

/// The kernel's number of the calling thread.
pub fn gettid() -> i32 {
    // SAFETY: no arguments.
    unsafe { syscall3(libc::SYS_gettid as usize, 0, 0, 0) as i32 }
}

/// Turns the kernel's word into a `Result`: errors are the errno, positive.
pub fn check(result: isize) -> Result<usize, i32> {
    if (-4095..0).contains(&result) {
        Err(-result as i32)
    } else {
        Ok(result as usize)
    }
}
