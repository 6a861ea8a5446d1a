//! `dev status`: which daemons run, where, and since when they answer.

use super::daemon::Daemon;
use super::plan::State;
use crate::cli::{DEGRADED, Fail, print, print_json};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;

#[derive(Serialize)]
struct DevStatus {
    state: String,
    mount: String,
    volume: String,
    daemons: Vec<DaemonStatus>,
}

#[derive(Serialize)]
struct DaemonStatus {
    name: String,
    pid: Option<i32>,
    /// Where it listens, or would listen again.
    url: Option<String>,
}

pub fn run(state: Option<&Path>, json: bool) -> Result<u8, Fail> {
    let (state, plan) = State::open(&State::locate(state)?)?;
    let daemons = plan.names().into_iter().map(|name| {
        let daemon = Daemon::new(&state.dir, &name);
        DaemonStatus {
            pid: daemon.process().map(|p| p.pid),
            url: daemon.url(),
            name,
        }
    });
    let status = DevStatus {
        state: state.dir.display().to_string(),
        mount: plan.mount,
        volume: plan.volume,
        daemons: daemons.collect(),
    };
    if json {
        print_json(&status)?;
    } else {
        print(&table(&status))?;
    }
    let all_run = status.daemons.iter().all(|d| d.pid.is_some());
    Ok(if all_run { 0 } else { DEGRADED })
}

fn table(status: &DevStatus) -> String {
    let mut text = format!(
        "volume {} below {}, state in {}\n\n{:<12} {:>8}  URL\n",
        status.volume, status.mount, status.state, "DAEMON", "PID"
    );
    for daemon in &status.daemons {
        let pid = daemon
            .pid
            .map_or("stopped".to_owned(), |pid| pid.to_string());
        let url = daemon.url.as_deref().unwrap_or("-");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<12} {pid:>8}  {url}", daemon.name);
    }
    text
}
