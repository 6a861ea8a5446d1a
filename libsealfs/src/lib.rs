//! libsealfs: what stands between an unmodified program and the kernel.
//!
//! A program preloaded with this library makes its system calls as ever. `patch` sees those made
//! inside libc and ld.so, `interpose::table` those made through the PLT when patching cannot be
//! had; both end in `interpose::dispatch`, which decides: the kernel's, or ours.
//!
//! What must stay true: nothing in here runs on libc (its calls would come back to us, its locks
//! and its malloc are not safe in handlers and forked children), no thread of ours exists in the
//! program, and without `SEALFS_MOUNT` not one system call is made.
#![allow(
    unsafe_code,
    reason = "this crate is the border between a program's raw pointers and safe code"
)]

mod alloc;
mod connected;
mod credentials;
mod cwd;
mod descriptors;
mod environment;
mod exec;
mod fds;
mod fdtable;
mod guard;
mod interpose;
mod kernel;
mod log;
mod observe;
mod patch;
mod path;
mod pending;
mod process;
mod route;
mod settings;
mod start;
mod subject;
mod sync;
mod sys;
#[path = "interpose/table.rs"]
mod table;
mod trace;
mod values;
mod vfork;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu")))]
compile_error!("libsealfs is written for x86-64 Linux with glibc");

#[global_allocator]
static ALLOCATOR: alloc::Allocator = alloc::Allocator;
