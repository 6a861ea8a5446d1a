//! How the environment configured this process: the mount, the cluster, where we were loaded from.
//!
//! What must stay true: settings are made once, by the constructor, and never change; without a
//! usable mount prefix there are none, and nothing is ours.
//!
//! # Safety
//! The settings are a leaked box.

use crate::kernel::{self, CPath};
use crate::log::{Level, say};
use crate::start::StartEnv;
use crate::{environment, exec, path};
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};
use sealfs_protocol::limits::CALL_DEADLINE_MS;
use std::ffi::CString;

/// What the environment said.
pub struct Settings {
    pub mount: Vec<u8>,
    /// (device, inode) of the directories above the mount point that exist.
    pub ancestors: Vec<(u64, u64)>,
    pub manager: String,
    pub volume: String,
    pub runtime: Option<Vec<u8>>,
    pub deadline_ms: u32,
    /// The path below the mount that this program was started by.
    pub executable: Option<Vec<u8>>,
    /// Our own path, as `LD_PRELOAD` names it.
    pub library: Vec<u8>,
    /// The keeper's program.
    pub keeper: Option<CString>,
    /// The settings once more, as the keeper gets them.
    pub environment: Vec<CString>,
    /// Every setting of ours as `NAME=value`, for programs that are executed.
    pub own: Vec<Vec<u8>>,
}

static SETTINGS: AtomicPtr<Settings> = AtomicPtr::new(core::ptr::null_mut());

/// Takes the settings from the environment; whether there is a usable mount prefix.
pub fn start(env: &StartEnv) -> bool {
    let text = |name: &[u8]| {
        env.get(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    };
    let Some(mount) = env.get(b"SEALFS_MOUNT").and_then(path::normal_mount) else {
        say(
            Level::Error,
            format_args!("SEALFS_MOUNT must be an absolute path below /"),
        );
        return false;
    };
    let own = environment::settings_of(env);
    let settings = Settings {
        ancestors: ancestors_of(&mount),
        mount,
        manager: text(b"SEALFS_MANAGER"),
        volume: text(b"SEALFS_VOLUME"),
        runtime: env.get(b"SEALFS_RUNTIME_DIR").map(<[u8]>::to_vec),
        deadline_ms: text(b"SEALFS_DEADLINE_MS")
            .parse()
            .unwrap_or(CALL_DEADLINE_MS),
        executable: env.get(exec::EXECUTABLE).map(<[u8]>::to_vec),
        library: env
            .get(exec::PRELOAD)
            .and_then(own_path)
            .unwrap_or_default(),
        keeper: env
            .get(b"SEALFS_KEEPER")
            .and_then(|path| CString::new(path).ok()),
        environment: own
            .iter()
            .filter_map(|entry| CString::new(entry.clone()).ok())
            .collect(),
        own,
    };
    environment::hide_injected(env);
    SETTINGS.store(Box::into_raw(Box::new(settings)), Release);
    true
}

/// The one of the preloaded libraries that is us.
fn own_path(preloaded: &[u8]) -> Option<Vec<u8>> {
    let mut paths = preloaded.split(|b| *b == b':' || *b == b' ');
    paths
        .find(|path| path.ends_with(b"/libsealfs.so"))
        .map(<[u8]>::to_vec)
}

/// An environment for a program that is about to be executed, with what keeps us loaded.
pub fn complete_environment(given: Vec<Vec<u8>>, executable: Option<&[u8]>) -> exec::Environment {
    match settings() {
        Some(s) if !s.library.is_empty() => exec::complete(given, &s.own, &s.library, executable),
        _ => exec::Environment {
            entries: given,
            changed: false,
        },
    }
}

/// The directories above the mount point, as the kernel knows them.
fn ancestors_of(mount: &[u8]) -> Vec<(u64, u64)> {
    let ends = mount
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(at, _)| at.max(1));
    ends.filter_map(|end| {
        let stat = kernel::stat_at(kernel::AT_FDCWD, &CPath::new(&mount[..end]), 0).ok()?;
        Some((stat.st_dev, stat.st_ino))
    })
    .collect()
}

/// The settings, if there are any.
pub fn settings() -> Option<&'static Settings> {
    // SAFETY: set once from a leaked box, never freed.
    unsafe { SETTINGS.load(Acquire).as_ref() }
}

/// The mount prefix; empty (and thus matching nothing) while the library is idle.
pub fn mount() -> &'static [u8] {
    settings().map_or(b"", |s| &s.mount)
}

/// The volume's name.
pub fn volume_name() -> &'static str {
    settings().map_or("", |s| &s.volume)
}

/// How long one call may take, in ms.
pub fn deadline_ms() -> u32 {
    settings().map_or(CALL_DEADLINE_MS, |s| s.deadline_ms)
}

/// Whether these are the attributes of a directory above the mount point.
pub fn is_ancestor(stat: &libc::stat) -> bool {
    settings().is_some_and(|s| s.ancestors.contains(&(stat.st_dev, stat.st_ino)))
}

/// The parent of the mount point, by (device, inode).
pub fn mount_parent() -> Option<(u64, u64)> {
    settings()?.ancestors.last().copied()
}
