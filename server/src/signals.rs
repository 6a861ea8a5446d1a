//! SIGTERM and SIGINT end the server in order: a thread waits for them and tells the shard.
//!
//! # Safety
//! The unsafe blocks block signals before any other thread exists and wait for them in one thread;
//! the sets are local and initialised by `sigemptyset`.
#![allow(unsafe_code, reason = "signal masks have no safe form in std")]

use std::io;
use std::mem::MaybeUninit;
use std::thread;

use crate::net::jobs::{Done, Inbox};

/// Called before other threads are started, so that they inherit the mask.
pub fn stop_on_term(inbox: Inbox) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set that the next calls take.
    let blocked = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGTERM);
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut())
    };
    if blocked != 0 {
        return Err(io::Error::from_raw_os_error(blocked));
    }
    // SAFETY: initialised above.
    let set = unsafe { set.assume_init() };
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut signal = 0;
            // SAFETY: both pointers are to live locals; sigwait blocks this thread only.
            if unsafe { libc::sigwait(&raw const set, &raw mut signal) } == 0 {
                log::info!("signal {signal}: ending");
            }
            inbox.put(Done::Stop);
        })?;
    Ok(())
}
