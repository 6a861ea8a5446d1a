//! The step between the command and a daemon: a new session, no descriptor of the caller, then exec.
//!
//! The command starts itself as `sealfs __detach PROGRAM ARGS…`, with log files as standard output
//! and error. What must stay true: a lock or pipe that the caller's shell holds open is not kept
//! alive by a daemon.
//!
//! # Safety
//! Descriptors are closed by number right before exec, when nothing in this process uses them.

#![allow(
    unsafe_code,
    reason = "inherited descriptors have no owner that could close them"
)]

use super::Fail;
use clap::Args;
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
        // SAFETY: nothing here uses an inherited descriptor, and the one of the listing above is
        // closed already; exec follows.
        unsafe { rustix::io::close(number) };
    }
    let program = &args.command[0];
    let error = Command::new(program).args(&args.command[1..]).exec();
    Err(format!("{}: {error}", program.display()).into())
}
