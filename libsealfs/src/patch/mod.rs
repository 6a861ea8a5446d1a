//! How calls get in: every `syscall` instruction of libc and ld.so jumps to a stub (`image` maps
//! them), the stub asks the number class and the descriptor map (`class`), and what is not
//! provably the kernel's enters through `entry` and ends in `interpose::dispatch`.
//!
//! What must stay true: a native call runs the program's own `syscall` instruction with every
//! register but rcx and r11 as it was, and uses no stack.

pub mod call;
pub mod class;
mod entry;
#[path = "../../sites/src/format.rs"]
#[allow(dead_code, reason = "the sites crate uses the other half of this file")]
mod format;
mod hooks;
mod image;
mod objects;
mod off;
#[cfg(feature = "selftest")]
mod selftest;
pub mod sigaction;
pub mod signals;
pub mod stack;

pub use entry::sealfs_entry;
pub use image::Trouble;

use crate::start::StartEnv;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Which ways in are open.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No mount was asked for: the library does nothing.
    Inert = 0,
    /// A mount was asked for and cannot be had: calls that name it fail with `ENOTSUP`.
    Off = 1,
    /// Only calls through exported symbols are seen (`SEALFS_PARTIAL=1`).
    Partial = 2,
    /// Every call of libc and ld.so is seen.
    Full = 3,
}

static MODE: AtomicU8 = AtomicU8::new(Mode::Inert as u8);

/// The mode of this process, decided by the constructor.
pub fn mode() -> Mode {
    match MODE.load(Relaxed) {
        0 => Mode::Inert,
        1 => Mode::Off,
        2 => Mode::Partial,
        _ => Mode::Full,
    }
}

/// Opens the ways in. `Err` says why sites could not be patched; the mode is set in any case.
pub fn start(env: &StartEnv) -> Result<(), Trouble> {
    entry::start();
    let patched = patch(env);
    let partial = env.get(b"SEALFS_PARTIAL") == Some(b"1");
    let mode = match patched {
        Ok(()) => Mode::Full,
        Err(_) if partial => Mode::Partial,
        Err(_) => Mode::Off,
    };
    MODE.store(mode as u8, Relaxed);
    if mode == Mode::Full {
        sigaction::start();
    }
    patched
}

fn patch(env: &StartEnv) -> Result<(), Trouble> {
    if !image::single_threaded() {
        return Err(Trouble::ThreadsExist);
    }
    let mut room = [0; PATH_BYTES];
    let cache = cache_dir(env, &mut room).ok_or(Trouble::NoCache)?;
    image::apply(cache, env.user())
}

const PATH_BYTES: usize = 1024;

/// Where images are looked for: where the CLI says, else where it keeps them by default.
fn cache_dir<'a>(env: &StartEnv, room: &'a mut [u8; PATH_BYTES]) -> Option<&'a CStr> {
    let set = |name: &[u8]| env.get(name).filter(|value| !value.is_empty());
    let (dir, below): (&[u8], &[u8]) = set(b"SEALFS_SITES")
        .map(|dir| (dir, b"".as_slice()))
        .or_else(|| set(b"SEALFS_CACHE").map(|dir| (dir, b"".as_slice())))
        .or_else(|| set(b"XDG_CACHE_HOME").map(|dir| (dir, b"/sealfs".as_slice())))
        .or_else(|| set(b"HOME").map(|dir| (dir, b"/.cache/sealfs".as_slice())))?;
    let used = dir.len() + below.len();
    // The last byte stays zero: the string's end.
    if used >= PATH_BYTES {
        return None;
    }
    room[..dir.len()].copy_from_slice(dir);
    room[dir.len()..used].copy_from_slice(below);
    CStr::from_bytes_until_nul(room).ok()
}
