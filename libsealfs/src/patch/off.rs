//! A mount that was asked for and cannot be had: a call that names a path below it fails with
//! `ENOTSUP`, so that no program takes an empty place for its files.
//!
//! # Safety
//! Nothing here is unsafe.

use super::call::{Call, Route};
use super::class;
use crate::{guard, table};

/// Longer paths are the kernel's to refuse.
const PATH_BYTES: usize = 4096;

/// `ENOTSUP` for a path below the mount, the kernel for everything else.
pub fn answer(call: &Call) -> Route {
    let paths = table::path_arguments(call.nr);
    let named = (0..call.args.len())
        .filter(|argument| paths >> argument & 1 == 1)
        .any(|argument| below_mount(call.args[argument] as *const u8));
    if named {
        Route::Done(-libc::ENOTSUP as isize)
    } else {
        Route::Native
    }
}

fn below_mount(path: *const u8) -> bool {
    let mut room = [0; PATH_BYTES];
    let Ok(path) = guard::strncpy_from_user(&mut room, path) else {
        return false;
    };
    let mut components = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty());
    let mut mount = class::mount()
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty());
    path.first() == Some(&b'/') && mount.all(|part| components.next() == Some(part))
}
