//! `dev run`: a program on a cluster that lasts as long as it has to.

use super::plan::{State, UpOptions};
use super::{down, up};
use crate::cli::environment::Environment;
use crate::cli::launch::launch;
use crate::cli::signals::Caught;
use crate::cli::{Fail, keeper};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct Run {
    #[command(flatten)]
    options: UpOptions,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub fn run(args: Run) -> Result<u8, Fail> {
    let (dir, temporary) = place(&args.options)?;
    let mut caught = Caught::install()?;
    let up = up::up(&dir, &args.options, &mut caught)?;
    keeper::start(&up.manager);
    super::write_pids(&up.state, &up.plan)?;
    let (plan, started) = (up.plan, up.started);
    let volume = super::lasting_volume(&up.manager, &plan.volume);
    let environment = Environment::new(&up.manager, &volume, &plan.mount);
    // Other verbs (kill, start, status) may work on the state while the program runs.
    drop(up.state);
    let outcome = environment.and_then(|e| launch(&args.command, &e, &plan.mount, caught));
    if !started.is_empty() {
        let (state, plan) = State::open(&dir)?;
        let stopped = down::stop(&state, &plan);
        if temporary {
            down::wipe(&state, &plan)?;
        }
        stopped?;
    }
    outcome
}

/// The state to use, and whether it is to vanish afterwards.
fn place(options: &UpOptions) -> Result<(PathBuf, bool), Fail> {
    let usual = State::locate(options.state.as_deref());
    if options.state.is_some() {
        return Ok((usual?, false));
    }
    if let Ok(dir) = usual
        && State::exists(&dir)
    {
        return Ok((dir, false));
    }
    let name = format!("sealfs-dev-{}", std::process::id());
    let dir = State::locate(Some(&std::env::temp_dir().join(name)))?;
    Ok((dir, true))
}
