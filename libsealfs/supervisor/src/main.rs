//! `sealfs-supervisor`: runs a program that a preloaded library cannot reach (static, Go, musl), and
//! answers for the mount in its place (docs/decisions/0009-supervisor.md).
//!
//! The story: the process that is to become the program starts a *supervisor*, puts a seccomp filter
//! on itself whose listener the supervisor gets, and executes the program (`launch`, `filter`). Calls
//! that may name the mount stop there and arrive at the supervisor (`router`), which gives each
//! process a *twin* (`twin`): a process that runs the library's own dispatcher for that one process's
//! calls. The program's memory is reached by process_vm_readv(2) (`guard`), its descriptors are
//! borrowed and handed over (`subject`), and what only the program itself can do (change its
//! directory, execute, map) it is made to do by ptrace(2) (`drive`).
//!
//! What must stay true: whatever a twin does not answer, the kernel does, with the program's own
//! arguments; nothing here holds a descriptor of the program longer than a call takes.
//!
//! # Safety
//! The files say for themselves what they hand to the kernel.
#![cfg_attr(not(test), no_main)]
#![allow(
    unsafe_code,
    reason = "the border between a program's raw pointers and safe code"
)]
#![allow(
    dead_code,
    reason = "the library uses the rest of the files that both are built from"
)]

mod drive;
mod filter;
mod guard;
mod launch;
mod notify;
mod patch;
mod pending;
mod proc;
mod restart;
mod router;
mod subject;
mod tasks;
mod twin;
mod waits;

#[path = "../../src/connected.rs"]
mod connected;
#[path = "../../src/credentials.rs"]
mod credentials;
#[path = "../../src/cwd.rs"]
mod cwd;
#[path = "../../src/descriptors.rs"]
mod descriptors;
#[path = "../../src/environment.rs"]
mod environment;
#[path = "../../src/exec.rs"]
mod exec;
#[path = "../../src/fds.rs"]
mod fds;
#[path = "../../src/fdtable.rs"]
mod fdtable;
#[path = "../../src/interpose/mod.rs"]
mod interpose;
#[path = "../../src/kernel.rs"]
mod kernel;
#[path = "../../src/log.rs"]
mod log;
#[path = "../../src/observe.rs"]
mod observe;
#[path = "../../src/path.rs"]
mod path;
#[path = "../../src/process.rs"]
mod process;
#[path = "../../src/route.rs"]
mod route;
#[path = "../../src/settings.rs"]
mod settings;
#[path = "../../src/sync.rs"]
mod sync;
#[path = "../../src/sys.rs"]
mod sys;
#[path = "../../src/trace.rs"]
mod trace;
#[path = "../../src/values.rs"]
mod values;
#[path = "../../src/vfork.rs"]
mod vfork;

/// The environment, as the library's files know it.
mod start {
    pub use crate::environment::StartEnv;
}

/// Called by libc.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    launch::main()
}
