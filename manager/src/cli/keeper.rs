//! The user's keeper on this node: started early so that tools know its pid, ended when idle.
//!
//! Programs start it by themselves when they need it and it ends by itself when nobody does, so
//! nothing here is needed for correctness, and nothing here fails a verb.

use super::node::NodePlace;
use super::process::ProcessRecord;
use super::programs;
use sealfs_client::node::keeper_link::{self, KeeperCommand};
use sealfs_client::node::{Arena, processes};
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a keeper may take to start or end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to give back what programs that have ended left open.
const SWEEP_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

/// Starts the keeper unless it runs; its pid.
pub fn start(manager: &str) -> Option<i32> {
    let place = NodePlace::find().ok()?;
    let program = programs::beside("sealfs-keeper").ok()?;
    let program = CString::new(program.as_os_str().as_bytes()).ok()?;
    let variables: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| name.as_bytes().starts_with(b"SEALFS_"))
        .filter_map(|(name, value)| {
            CString::new([name.into_vec(), b"=".into(), value.into_vec()].concat()).ok()
        })
        .collect();
    let environment: Vec<_> = variables.iter().map(CString::as_c_str).collect();
    let (arena, me) = processes::join(&place.runtime, manager).ok()?;
    let command = KeeperCommand {
        program: &program,
        environment: &environment,
    };
    let announced = keeper_link::announce(&place.runtime, &me, Some(command));
    // This command has nothing at the servers that would have to end with it.
    arena.set_ended(me.index);
    announced.ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(keeper) = keeper_link::keeper(&arena) {
            return Some(keeper.pid.cast_signed());
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(PAUSE);
    }
}

/// The pid of the keeper, if it runs.
pub fn pid() -> Option<i32> {
    let place = NodePlace::find().ok()?;
    keeper_link::keeper(&existing_arena(&place)?).map(|k| k.pid.cast_signed())
}

/// Ends a keeper that no program needs.
pub fn end_if_idle() {
    let Ok(place) = NodePlace::find() else {
        return;
    };
    let Some(arena) = existing_arena(&place) else {
        return;
    };
    let Some(keeper) = keeper_link::keeper(&arena) else {
        return;
    };
    let deadline = Instant::now() + SWEEP_PATIENCE;
    let is_needed = || arena.processes().any(|p| p.process.is_alive());
    // What programs left behind it gives back first.
    while !is_needed() && arena.slots_in_use() > 0 && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
    if is_needed() || arena.slots_in_use() > 0 {
        return;
    }
    if let Ok(record) = ProcessRecord::of(keeper.pid.cast_signed(), Path::new("sealfs-keeper")) {
        record.signal(rustix::process::Signal::TERM);
        record.wait(PATIENCE);
    }
}

/// The arena of the node; attaching would make one where there is none.
fn existing_arena(place: &NodePlace) -> Option<Arena> {
    let is_there = Path::new(&place.path()).join("arena").exists();
    is_there
        .then(|| Arena::attach(&place.runtime).ok())
        .flatten()
}
