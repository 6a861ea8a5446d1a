//! The keeper as a process: signals, limits, log, and the lock that makes it the only one.
#![allow(unsafe_code, reason = "signal masks and signalfd(2) are not in rustix")]
//!
//! # Safety
//! libc's signal calls get sets that live on this stack; the descriptor of `signalfd` is owned by
//! what is returned.

use crate::options::Options;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::{Runtime, keeper_link};

pub const LOG_FILE: &[u8] = b"keeper.log";
pub const PID_FILE: &[u8] = b"keeper.pid";

/// The runtime directory and the lock on it. Fails when another keeper has it.
pub fn take_place(options: &Options) -> Result<(Runtime, Fd), String> {
    let runtime = match &options.directory {
        Some(path) => Runtime::open_at(path, options.is_default),
        None => Runtime::open(
            std::env::var_os("SEALFS_RUNTIME_DIR")
                .as_deref()
                .map(as_bytes),
        ),
    }
    .map_err(|e| e.to_string())?;
    let lock = match options.lock_fd {
        Some(fd) => Some(Fd::new(fd)),
        None => keeper_link::lock_keeper(&runtime).map_err(|e| format!("keeper.lock: {e}"))?,
    };
    let lock = lock.ok_or_else(|| {
        format!(
            "a keeper runs already in {}",
            String::from_utf8_lossy(runtime.path())
        )
    })?;
    let _ = rustix::io::fcntl_setfd(sys::borrow(lock.raw()), rustix::io::FdFlags::CLOEXEC);
    Ok((runtime, lock))
}

fn as_bytes(value: &std::ffi::OsStr) -> &[u8] {
    value.as_encoded_bytes()
}

/// Logs to a file in the runtime directory at `SEALFS_LOG` (default: warn).
pub fn start_log(runtime: &Runtime) {
    let level = std::env::var("SEALFS_LOG")
        .ok()
        .and_then(|l| l.parse().ok());
    let level = level.unwrap_or(log::LevelFilter::Warn);
    let path = runtime.join(LOG_FILE);
    let Ok(path) = std::str::from_utf8(path.as_bytes()) else {
        return;
    };
    let Ok(file) = fern::log_file(path) else {
        return;
    };
    let format =
        |out: fern::FormatCallback<'_>, text: &std::fmt::Arguments<'_>, r: &log::Record<'_>| {
            out.finish(format_args!("{} {} {text}", sys::boot_ms(), r.level()));
        };
    let _ = fern::Dispatch::new()
        .level(level)
        .format(format)
        .chain(file)
        .apply();
}

/// Everybody of the user may end up with a pidfd here: takes as many descriptors as allowed.
pub fn raise_limits() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, all);
}

/// SIGTERM, SIGINT and SIGHUP, to be read instead of delivered. The starter left all blocked; what
/// it ignored is at its default again.
pub fn signals() -> Result<Fd, String> {
    // SAFETY: both sets are initialised by sigemptyset before use.
    let fd = unsafe {
        let mut wanted = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut wanted);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
            libc::signal(signal, libc::SIG_DFL);
            libc::sigaddset(&raw mut wanted, signal);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const wanted, std::ptr::null_mut());
        libc::signalfd(
            -1,
            &raw const wanted,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )
    };
    if fd < 0 {
        Err("signalfd: no descriptor".into())
    } else {
        Ok(Fd::new(fd))
    }
}

/// Says where the keeper is: `keeper.pid` in the runtime directory and, below `sealfs dev`, one line
/// more in `cli.pids` of its state directory.
pub fn publish_pid(runtime: &Runtime) -> Result<(), String> {
    let pid = std::process::id();
    let path = runtime.join(PID_FILE);
    let path = std::str::from_utf8(path.as_bytes()).map_err(|e| e.to_string())?;
    std::fs::write(path, format!("{pid}\n")).map_err(|e| format!("{path}: {e}"))?;
    if let Some(state) = std::env::var_os("SEALFS_STATE") {
        let list = std::path::Path::new(&state).join("cli.pids");
        let added = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&list);
        let added = added
            .and_then(|mut f| std::io::Write::write_all(&mut f, format!("\n{pid}\n").as_bytes()));
        if let Err(e) = added {
            log::warn!("{}: {e}", list.display());
        }
    }
    Ok(())
}
