//! The step between the command and a daemon: a new session, no descriptor of the caller, then exec.
//!
//! The command starts itself as `sealfs __detach PROGRAM ARGS…`, with log files as standard output
//! and error. What must stay true: a lock or pipe that the caller's shell holds open is not kept
//! alive by a daemon.
//!
//! # Safety
//! Descriptors are marked to be closed by exec, by number; none is closed under its owner.

#![allow(unsafe_code, reason = "inherited descriptors are known by number only")]

use super::Fail;
use clap::Args;
use rustix::fd::BorrowedFd;
use rustix::io::FdFlags;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[derive(Args, Debug)]
pub struct Detach {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Returns only when the program cannot be started.
pub fn run(args: Detach) -> Result<u8, Fail> {
    // Fails only for a process that leads its group already, which then is as detached as can be.
    let _ = rustix::process::setsid();
    let numbers: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .map_err(|e| format!("/proc/self/fd: {e}"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|n| *n > 2)
        .collect();
    for number in numbers {
        // SAFETY: the number is used for this call only; one that was closed since the listing
        // gives EBADF.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
    let program = &args.command[0];
    let error = Command::new(program).args(&args.command[1..]).exec();
    Err(format!("{}: {error}", program.display()).into())
}
