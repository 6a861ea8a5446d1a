//! `dev down`: servers first, then the manager; with `--wipe` their files as well.

use super::daemon::Daemon;
use super::plan::{Plan, State};
use crate::cli::{Fail, keeper};
use rustix::fs::OFlags;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// How a store's superblocks begin, where they are, and where its regions begin, in bytes
/// (docs/on-disk-format.md).
const MAGIC: &[u8] = b"SEALFSB\n";
const SUPERBLOCKS_AT: [usize; 2] = [0, 64 << 10];
const HEAD_BYTES: usize = 1 << 20;

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

/// Removes what `up` made, and nothing else. Only for a cluster that was up: its devices are its own.
pub fn wipe(state: &State, plan: &Plan) -> Result<(), Fail> {
    for device in &plan.devices {
        wipe_device(device).map_err(|e| format!("{}: {e}", device.display()))?;
    }
    remove_files(state, plan)
}

/// Removes the state directory's contents. Devices are left as they are: the store on one may
/// belong to another cluster, which is why this one did not come up.
pub fn remove_files(state: &State, plan: &Plan) -> Result<(), Fail> {
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

/// Makes a device blank if it holds a store of ours: the area before the store's regions, with both
/// superblocks.
fn wipe_device(device: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::EXCL.bits().cast_signed())
        .open(device)?;
    let mut head = vec![0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0)?;
    let is_ours = SUPERBLOCKS_AT
        .iter()
        .any(|at| head[*at..].starts_with(MAGIC));
    if is_ours {
        file.write_all_at(&vec![0; HEAD_BYTES], 0)?;
        file.sync_all()?;
    }
    Ok(())
}
