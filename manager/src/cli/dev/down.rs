//! `dev down`: servers first, then the manager; with `--wipe` their files as well.

use super::daemon::Daemon;
use super::plan::{Plan, State};
use crate::cli::{Fail, keeper};
use std::fs;
use std::io::ErrorKind;

/// Stops all daemons.
pub fn stop(state: &State, plan: &Plan) -> Result<(), Fail> {
    // It may have something to tell the servers.
    keeper::end_if_idle();
    let daemons: Vec<Daemon> = plan
        .names()
        .iter()
        .map(|n| Daemon::new(&state.dir, n))
        .collect();
    let processes: Vec<_> = daemons.iter().skip(1).filter_map(Daemon::process).collect();
    for process in &processes {
        // All end at the same time; `stop` below waits for each.
        process.signal(rustix::process::Signal::TERM);
    }
    for daemon in daemons.iter().rev() {
        daemon.stop()?;
    }
    super::write_pids(state, plan)
}

/// Removes what `up` made, and nothing else.
pub fn wipe(state: &State, plan: &Plan) -> Result<(), Fail> {
    let mut names: Vec<String> = ["srv.pids", "cli.pids", "run", "log"]
        .map(str::to_owned)
        .into();
    for daemon in plan.names() {
        names.push(format!("{daemon}.toml"));
        names.push(daemon);
    }
    // The plan goes last but the lock: until then a second attempt knows what there is to wipe.
    names.extend(["dev.json", "lock"].map(str::to_owned));
    for name in names {
        let path = state.dir.join(&name);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|m| m.is_dir());
        let removed = if is_dir {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(format!("{}: {e}", path.display()).into());
            }
            _ => {}
        }
    }
    match fs::remove_dir(&state.dir) {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(format!("{}: {e}", state.dir.display()).into())
        }
        _ => Ok(()),
    }
}
