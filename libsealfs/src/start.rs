//! The constructor, first of all constructors, and what it learned from the environment.
//!
//! What must stay true: without `SEALFS_MOUNT` it reads the environment it was handed and returns.
//! libc's `environ` is still null then, so the constructor's own third argument is used.
//!
//! # Safety
//! ld.so hands over `argc`, `argv` and `envp` of the process; both are null-terminated arrays of C
//! strings that live as long as the process does (a program may overwrite them after `main` began).

use crate::log::{self, Level};
use crate::patch::{self, Mode, class};
use crate::{interpose, sync, sys, table};
use core::ffi::{CStr, c_char, c_int};

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
    fn privileged(&self) -> bool {
        self.auxiliary(libc::AT_SECURE)
            .is_some_and(|secure| secure != 0)
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = constructor;

extern "C" fn constructor(_: c_int, _: *const *const c_char, envp: *const *const c_char) {
    let env = StartEnv { envp };
    let mount = env.get(b"SEALFS_MOUNT").filter(|mount| !mount.is_empty());
    if let Some(mount) = mount
        && !env.privileged()
    {
        start(&env, mount);
    }
    table::start();
}

fn start(env: &StartEnv, mount: &[u8]) {
    if let Some(level) = env.get(b"SEALFS_LOG") {
        log::set_level(level);
    }
    if !class::set_mount(mount) {
        log::say(
            Level::Error,
            format_args!("SEALFS_MOUNT is not an absolute path below /"),
        );
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        log::say(Level::Error, format_args!("bug: {panic}"));
    }));
    sync::start();
    // Asked now, because a child that shares our memory must not be the first to ask.
    sync::pid();
    if let Err(trouble) = patch::start(env) {
        let mode = match patch::mode() {
            Mode::Partial => "partly active (SEALFS_PARTIAL)",
            _ => "off",
        };
        log::say(
            Level::Error,
            format_args!("mount {mode}: {}", trouble.text()),
        );
    }
    if matches!(patch::mode(), Mode::Full | Mode::Partial) {
        interpose::process_start(env);
    }
    log::say(Level::Info, format_args!("mode {:?}", patch::mode()));
}
