//! The constructor, first of all constructors, and what it learned from the environment.
//!
//! What must stay true: without `SEALFS_MOUNT` it reads the environment it was handed and returns.
//! libc's `environ` is still null then, so the constructor's own third argument is used.
//!
//! # Safety
//! ld.so hands over `argc`, `argv` and `envp` of the process; both are null-terminated arrays of C
//! strings that live as long as the process does (a program may overwrite them after `main` began).

pub use crate::environment::StartEnv;
use crate::log::{self, Level};
use crate::patch::{self, Mode, class};
use crate::{exec, interpose, observe, sync, table};
use core::ffi::{c_char, c_int};

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn(c_int, *const *const c_char, *const *const c_char) = constructor;

extern "C" fn constructor(_: c_int, _: *const *const c_char, envp: *const *const c_char) {
    let env = StartEnv { envp };
    let mount = env.get(b"SEALFS_MOUNT").filter(|mount| !mount.is_empty());
    // A supervisor is about to start, or answers for this process from outside.
    let supervised = env.get(exec::SUPERVISE).is_some() || env.get(exec::SUPERVISED).is_some();
    if let Some(mount) = mount
        && !env.privileged()
        && !supervised
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
    observe::start(env);
    if observe::counts() {
        class::see_everything();
    }
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
