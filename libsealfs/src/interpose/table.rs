//! Every C function that we export, and how a call through one becomes a system call.
//!
//! With patched sites these symbols are one jump each to the next definition: the sites see the
//! call. They do work only where sites cannot be patched: then the call goes the same way as one
//! from a site (`SEALFS_PARTIAL=1`), or, when its path names the mount, fails with `ENOTSUP`.
//! Functions that are not plain system calls (stdio, `opendir`, `realpath`, `getcwd`, `exec*` that
//! search PATH, `posix_spawn`, `dlopen`, `syscall`) are not exported: what they do inside libc is
//! seen at the sites, and cannot be seen without them.
//!
//! What must stay true: real addresses are looked up by the constructor, all of them in one pass (a
//! look-up at the first call could deadlock in a handler or a forked child); before that a call is
//! the raw system call. Optional arguments are fixed ones, as the C ABI of x86-64 allows.
//!
//! # Safety
//! The symbols have the C signatures of the functions they stand for, by passing every argument
//! register on untouched.

use crate::patch::{self, Mode};
use core::arch::{global_asm, naked_asm};
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering::Relaxed};

/// Raised once the constructor has decided; before that, calls are raw system calls.
static STARTED: AtomicU8 = AtomicU8::new(0);

/// Makes the exported symbols, their hooks and the tables. A line is
/// `name = system call, shape, [arguments that are paths];`, where the shape tells how the C
/// arguments lie: `same` as the kernel's, `shifted` by a version number in front, `flags6` with the
/// fifth C argument as the kernel's sixth.
macro_rules! interpose {
    ($($name:ident = $number:ident, $shape:ident, [$($path:literal),*];)*) => {
        #[allow(non_camel_case_types, reason = "these are the C names")]
        #[allow(clippy::upper_case_acronyms, reason = "these are the C names")]
        enum Symbol { $($name),* }

        /// What a program's call to one of our symbols reaches: a jump to wherever it leads now.
        mod exported {
            $(
                #[unsafe(no_mangle)]
                #[unsafe(naked)]
                pub unsafe extern "C" fn $name() {
                    core::arch::naked_asm!(
                        "jmp qword ptr [rip + {targets} + {at}]",
                        targets = sym super::TARGETS,
                        at = const super::Symbol::$name as usize * 8,
                    )
                }
            )*
        }

        /// Where they lead while sites are not patched.
        mod hook {
            use super::*;
            $(
                #[unsafe(naked)]
                pub unsafe extern "C" fn $name() {
                    naked_asm!(
                        "mov eax, {number}",
                        "lea r11, [rip + {real} + {at}]",
                        "jmp {shape}",
                        number = const libc::$number,
                        real = sym REAL,
                        at = const Symbol::$name as usize * 8,
                        shape = sym shape::$shape,
                    )
                }
            )*
        }

        const SYMBOLS: usize = [$(stringify!($name)),*].len();
        static TARGETS: [AtomicPtr<()>; SYMBOLS] =
            [$(AtomicPtr::new(hook::$name as *mut ())),*];
        static REAL: [AtomicPtr<()>; SYMBOLS] =
            [const { AtomicPtr::new(core::ptr::null_mut()) }; SYMBOLS];
        static NAMES: [&str; SYMBOLS] = [$(concat!(stringify!($name), "\0")),*];
        /// System call number, and one bit for each argument that is a path.
        static PATHS: [(i64, u8); SYMBOLS] = [$((libc::$number, 0 $(| 1 << $path)*)),*];
    };
}

include!("symbols.rs");

/// Names of the ways into `sealfs_symbol`, for `sym`.
mod shape {
    unsafe extern "C" {
        #[link_name = "sealfs_symbol_same"]
        pub fn same();
        #[link_name = "sealfs_symbol_shifted"]
        pub fn shifted();
        #[link_name = "sealfs_symbol_flags6"]
        pub fn flags6();
    }
}

global_asm!(
    include_str!("symbol.s"),
    started = sym STARTED,
    entry = sym patch::sealfs_entry,
    errno = sym libc::__errno_location,
);

/// Looks up what we stand before, and lets every symbol lead there when sites are patched or the
/// library has nothing to do.
pub fn start() {
    let direct = matches!(patch::mode(), Mode::Inert | Mode::Full);
    for ((name, real), target) in NAMES.iter().zip(&REAL).zip(&TARGETS) {
        // SAFETY: the name ends with a NUL; ld.so is not busy in a constructor.
        let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) };
        real.store(next.cast(), Relaxed);
        if direct && !next.is_null() {
            target.store(next.cast(), Relaxed);
        }
    }
    STARTED.store(1, Relaxed);
}

/// The arguments of a call that are paths, one bit each.
pub fn path_arguments(number: usize) -> u8 {
    PATHS
        .iter()
        .find(|(known, _)| *known as usize == number)
        .map_or(0, |(_, paths)| *paths)
}
