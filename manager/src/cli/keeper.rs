//! The user's keeper on this node: started early so that tools know its pid, ended when idle.
//!
//! Programs start it by themselves when they need it and it ends by itself when nobody does, so
//! nothing here is needed for correctness, and nothing here fails a verb.

use super::node::NodePlace;
use super::process::ProcessRecord;
use super::{Fail, programs};
use clap::Args;
use sealfs_client::node::keeper_link::{self, KeeperCommand};
use sealfs_client::node::{Arena, NodeError, processes};
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a keeper may take to start or end.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take to give back what programs that have ended left open.
const SWEEP_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Args, Debug)]
pub struct StartKeeper {
    manager: String,
}

/// Starts the keeper unless it runs. By a process of its own, since it registers, and the keeper
/// stays for as long as anybody who has registered lives.
pub fn start(manager: &str) {
    if let Ok(own) = std::env::current_exe() {
        // See above: nothing depends on it.
        let _ = Command::new(own).args(["__keeper", manager]).status();
    }
}

/// The verb behind [`start`].
pub fn run(args: &StartKeeper) -> Result<u8, Fail> {
    let place = NodePlace::find()?;
    let program = programs::beside("sealfs-keeper")?;
    let text = |bytes: Vec<u8>| CString::new(bytes).map_err(|e| Fail::from(e.to_string()));
    let program = text(program.into_os_string().into_vec())?;
    let variables = std::env::vars_os()
        .filter(|(name, _)| name.as_bytes().starts_with(b"SEALFS_"))
        .map(|(name, value)| text([name.into_vec(), b"=".into(), value.into_vec()].concat()))
        .collect::<Result<Vec<CString>, Fail>>()?;
    let environment: Vec<_> = variables.iter().map(CString::as_c_str).collect();
    let fail = |e: NodeError| Fail::from(e.to_string());
    let (arena, me) = processes::join(&place.runtime, &args.manager).map_err(fail)?;
    let command = KeeperCommand {
        program: &program,
        environment: &environment,
    };
    let announced = keeper_link::announce(&place.runtime, &me, Some(command));
    // This process has nothing at the servers that would have to end with it.
    arena.set_ended(me.index);
    announced.map_err(fail)?;
    let deadline = Instant::now() + PATIENCE;
    while keeper_link::keeper(&arena).is_none() {
        if Instant::now() > deadline {
            return Err("the keeper does not start".into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(0)
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
    // Programs that have ended leave traces which it takes away first.
    while arena.processes().next().is_some() || arena.slots_in_use() > 0 {
        let is_used = arena.processes().any(|p| p.process.is_alive());
        if is_used || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(PAUSE);
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
