//! The constructor, first of all constructors, and what it learned from the environment.
//!
//! What must stay true: without `SEALFS_MOUNT` it reads the environment it was handed and returns.
//! libc's `environ` is still null then, so the constructor's own third argument is used.
//!
//! # Safety
//! ld.so hands over `argc`, `argv` and `envp` of the process; both are null-terminated arrays of C
//! strings that live as long as the process does (a program may overwrite them after `main` began).

use core::ffi::{CStr, c_char, c_int};

/// The environment and arguments as the process was started with.
#[derive(Clone, Copy)]
pub struct StartEnv {
    pub argc: c_int,
    pub argv: *const *const c_char,
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

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = constructor;

extern "C" fn constructor(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    let env = StartEnv { argc, argv, envp };
    if env.get(b"SEALFS_MOUNT").is_none_or(<[u8]>::is_empty) {
        return;
    }
    if let Some(level) = env.get(b"SEALFS_LOG") {
        crate::log::set_level(level);
    }
    crate::interpose::process_start(&env);
}
