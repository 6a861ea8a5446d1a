//! The environment that this image was started with: our settings in it, and what the exec before
//! put into it for our sake, which the program must not see.
//!
//! # Safety
//! The array and its strings are the process's own and are changed before anybody else runs.

use crate::exec::{self, INJECTED, PRELOAD};
use crate::sys;
use core::ffi::{CStr, c_char};

/// The environment as the process was started with.
pub struct StartEnv {
    pub envp: *const *const c_char,
}

impl StartEnv {
    /// The value of the variable `name`, if it is set.
    pub fn get(&self, name: &[u8]) -> Option<&'static [u8]> {
        let mut entry = self.envp;
        if entry.is_null() {
            return None;
        }
        loop {
            // SAFETY: the array ends with a null, which ends the loop.
            let text = unsafe { *entry };
            if text.is_null() {
                return None;
            }
            // SAFETY: a non-null entry is a C string of the process's own environment.
            let text = unsafe { CStr::from_ptr(text) }.to_bytes();
            if text.len() > name.len() && text[name.len()] == b'=' && text.starts_with(name) {
                return Some(&text[name.len() + 1..]);
            }
            // SAFETY: the entry was not the last one.
            entry = unsafe { entry.add(1) };
        }
    }
}

/// Entries of the auxiliary vector are pairs of words.
type Auxiliary = [usize; 2];

impl StartEnv {
    /// An entry of the auxiliary vector, which the kernel puts behind the environment.
    fn auxiliary(&self, kind: u64) -> Option<usize> {
        let mut end = self.envp;
        if end.is_null() {
            return None;
        }
        // SAFETY: the environment ends with a null, and the auxiliary vector with a zero kind.
        unsafe {
            while !(*end).is_null() {
                end = end.add(1);
            }
            let mut entry = end.add(1).cast::<Auxiliary>();
            while (*entry)[0] != libc::AT_NULL as usize {
                if (*entry)[0] == kind as usize {
                    return Some((*entry)[1]);
                }
                entry = entry.add(1);
            }
        }
        None
    }

    /// The effective user.
    pub fn user(&self) -> u32 {
        // SAFETY: geteuid takes nothing.
        let ask = || unsafe { sys::syscall3(libc::SYS_geteuid as usize, 0, 0, 0) as usize };
        self.auxiliary(libc::AT_EUID).unwrap_or_else(ask) as u32
    }

    /// Whether the process runs with more rights than its caller's: its environment is not to be
    /// believed then.
    pub fn privileged(&self) -> bool {
        self.auxiliary(libc::AT_SECURE)
            .is_some_and(|secure| secure != 0)
    }
}

/// The names that a program under the library has to keep.
const NAMES: [&[u8]; 11] = [
    b"SEALFS_MOUNT",
    b"SEALFS_MANAGER",
    b"SEALFS_VOLUME",
    b"SEALFS_SITES",
    b"SEALFS_RUNTIME_DIR",
    b"SEALFS_KEEPER",
    b"SEALFS_DEADLINE_MS",
    b"SEALFS_LOG",
    b"SEALFS_PARTIAL",
    b"SEALFS_PROFILE",
    b"SEALFS_TRACE",
];

/// Every setting of ours, as `NAME=value`.
pub fn settings_of(env: &StartEnv) -> Vec<Vec<u8>> {
    let ours = |entry: &&[u8]| {
        NAMES
            .iter()
            .any(|name| exec::value_of(entry, name).is_some())
    };
    entries_of(env).filter(ours).map(<[u8]>::to_vec).collect()
}

/// Every entry, as `NAME=value`.
pub fn entries_of(env: &StartEnv) -> impl Iterator<Item = &'static [u8]> + use<> {
    entries(env).map(|(_, text)| text)
}

/// Each entry: its place in the array, and its text.
fn entries(env: &StartEnv) -> impl Iterator<Item = (*mut *mut c_char, &'static [u8])> + use<> {
    let mut at = env.envp as *mut *mut c_char;
    core::iter::from_fn(move || {
        if at.is_null() {
            return None;
        }
        // SAFETY: the array ends with a null, which ends the iteration.
        let text = unsafe { *at };
        if text.is_null() {
            return None;
        }
        let place = at;
        // SAFETY: the entry was not the last one, and is a C string.
        let text = unsafe {
            at = at.add(1);
            CStr::from_ptr(text).to_bytes()
        };
        Some((place, text))
    })
}

/// Takes out what was injected: whole variables, and our path at the end of another's LD_PRELOAD.
pub fn hide_injected(env: &StartEnv) {
    let Some(list) = env.get(INJECTED).map(<[u8]>::to_vec) else {
        return;
    };
    let hidden = |text: &[u8]| {
        let name = text.split(|b| *b == b'=').next().unwrap_or(text);
        name == INJECTED || list.split(|b| *b == b',').any(|injected| injected == name)
    };
    let appended = list
        .split(|b| *b == b',')
        .any(|name| name.strip_prefix(b"+") == Some(PRELOAD));
    let mut to = env.envp as *mut *mut c_char;
    let mut kept = Vec::new();
    for (place, text) in entries(env) {
        // SAFETY: the place was just read.
        let pointer = unsafe { *place };
        if appended
            && text.starts_with(b"LD_PRELOAD=")
            && let Some(cut) = text.iter().rposition(|b| *b == b':')
        {
            // SAFETY: within the string, which nobody else reads yet.
            unsafe { *pointer.add(cut) = 0 };
        }
        if !hidden(text) {
            kept.push(pointer);
        }
    }
    kept.push(core::ptr::null_mut());
    for pointer in kept {
        // SAFETY: no more pointers than the array had.
        unsafe {
            *to = pointer;
            to = to.add(1);
        }
    }
}
