//! Every C function that we export, and how a call through one becomes a system call.
//!
//! With patched sites these symbols are one jump each to the next definition: the sites see the
//! call. They do work only where sites cannot be patched: then the call goes the same way as one
//! from a site (`SEALFS_PARTIAL=1`), or, when its path names the mount, fails with `ENOTSUP`.
//! Functions that are not plain system calls (stdio, `realpath`, `getcwd`, `exec*` that search PATH,
//! `posix_spawn`, `dlopen`, `syscall`) are not exported: what they do inside libc is seen at the
//! sites, and cannot be seen without them. The one exception is `opendir`, which is only marked
//! (`interpose::opendir`).
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

// By family, in the order of the files beside this one.
interpose! {
    // open
    open = SYS_open, same, [0];
    open64 = SYS_open, same, [0];
    openat = SYS_openat, same, [1];
    openat64 = SYS_openat, same, [1];
    creat = SYS_creat, same, [0];
    creat64 = SYS_creat, same, [0];
    close = SYS_close, same, [];
    close_range = SYS_close_range, same, [];
    // rw
    read = SYS_read, same, [];
    write = SYS_write, same, [];
    pread = SYS_pread64, same, [];
    pread64 = SYS_pread64, same, [];
    pwrite = SYS_pwrite64, same, [];
    pwrite64 = SYS_pwrite64, same, [];
    readv = SYS_readv, same, [];
    writev = SYS_writev, same, [];
    preadv = SYS_preadv, same, [];
    preadv64 = SYS_preadv, same, [];
    pwritev = SYS_pwritev, same, [];
    pwritev64 = SYS_pwritev, same, [];
    preadv2 = SYS_preadv2, flags6, [];
    preadv64v2 = SYS_preadv2, flags6, [];
    pwritev2 = SYS_pwritev2, flags6, [];
    pwritev64v2 = SYS_pwritev2, flags6, [];
    lseek = SYS_lseek, same, [];
    lseek64 = SYS_lseek, same, [];
    ftruncate = SYS_ftruncate, same, [];
    ftruncate64 = SYS_ftruncate, same, [];
    truncate = SYS_truncate, same, [0];
    truncate64 = SYS_truncate, same, [0];
    fallocate = SYS_fallocate, same, [];
    fallocate64 = SYS_fallocate, same, [];
    fsync = SYS_fsync, same, [];
    fdatasync = SYS_fdatasync, same, [];
    syncfs = SYS_syncfs, same, [];
    sendfile = SYS_sendfile, same, [];
    sendfile64 = SYS_sendfile, same, [];
    copy_file_range = SYS_copy_file_range, same, [];
    splice = SYS_splice, same, [];
    // stat
    stat = SYS_stat, same, [0];
    stat64 = SYS_stat, same, [0];
    lstat = SYS_lstat, same, [0];
    lstat64 = SYS_lstat, same, [0];
    fstat = SYS_fstat, same, [];
    fstat64 = SYS_fstat, same, [];
    fstatat = SYS_newfstatat, same, [1];
    fstatat64 = SYS_newfstatat, same, [1];
    statx = SYS_statx, same, [1];
    __xstat = SYS_stat, shifted, [0];
    __xstat64 = SYS_stat, shifted, [0];
    __lxstat = SYS_lstat, shifted, [0];
    __lxstat64 = SYS_lstat, shifted, [0];
    __fxstat = SYS_fstat, shifted, [];
    __fxstat64 = SYS_fstat, shifted, [];
    __fxstatat = SYS_newfstatat, shifted, [1];
    __fxstatat64 = SYS_newfstatat, shifted, [1];
    access = SYS_access, same, [0];
    faccessat = SYS_faccessat2, same, [1];
    statfs = SYS_statfs, same, [0];
    statfs64 = SYS_statfs, same, [0];
    fstatfs = SYS_fstatfs, same, [];
    fstatfs64 = SYS_fstatfs, same, [];
    // dir and name
    getdents64 = SYS_getdents64, same, [];
    mkdir = SYS_mkdir, same, [0];
    mkdirat = SYS_mkdirat, same, [1];
    rmdir = SYS_rmdir, same, [0];
    unlink = SYS_unlink, same, [0];
    unlinkat = SYS_unlinkat, same, [1];
    rename = SYS_rename, same, [0, 1];
    renameat = SYS_renameat, same, [1, 3];
    renameat2 = SYS_renameat2, same, [1, 3];
    link = SYS_link, same, [0, 1];
    linkat = SYS_linkat, same, [1, 3];
    symlink = SYS_symlink, same, [1];
    symlinkat = SYS_symlinkat, same, [2];
    readlink = SYS_readlink, same, [0];
    readlinkat = SYS_readlinkat, same, [1];
    mknod = SYS_mknod, same, [0];
    mknodat = SYS_mknodat, same, [1];
    chdir = SYS_chdir, same, [0];
    fchdir = SYS_fchdir, same, [];
    chroot = SYS_chroot, same, [0];
    // attr
    chmod = SYS_chmod, same, [0];
    fchmod = SYS_fchmod, same, [];
    fchmodat = SYS_fchmodat, same, [1];
    chown = SYS_chown, same, [0];
    lchown = SYS_lchown, same, [0];
    fchown = SYS_fchown, same, [];
    fchownat = SYS_fchownat, same, [1];
    utime = SYS_utime, same, [0];
    utimes = SYS_utimes, same, [0];
    futimesat = SYS_futimesat, same, [1];
    utimensat = SYS_utimensat, same, [1];
    getxattr = SYS_getxattr, same, [0];
    lgetxattr = SYS_lgetxattr, same, [0];
    fgetxattr = SYS_fgetxattr, same, [];
    setxattr = SYS_setxattr, same, [0];
    lsetxattr = SYS_lsetxattr, same, [0];
    fsetxattr = SYS_fsetxattr, same, [];
    listxattr = SYS_listxattr, same, [0];
    llistxattr = SYS_llistxattr, same, [0];
    flistxattr = SYS_flistxattr, same, [];
    removexattr = SYS_removexattr, same, [0];
    lremovexattr = SYS_lremovexattr, same, [0];
    fremovexattr = SYS_fremovexattr, same, [];
    // fd, map, process, poll
    dup = SYS_dup, same, [];
    dup2 = SYS_dup2, same, [];
    dup3 = SYS_dup3, same, [];
    fcntl = SYS_fcntl, same, [];
    fcntl64 = SYS_fcntl, same, [];
    flock = SYS_flock, same, [];
    ioctl = SYS_ioctl, same, [];
    mmap = SYS_mmap, same, [];
    mmap64 = SYS_mmap, same, [];
    munmap = SYS_munmap, same, [];
    msync = SYS_msync, same, [];
    execve = SYS_execve, same, [0];
    inotify_add_watch = SYS_inotify_add_watch, same, [1];
}

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
