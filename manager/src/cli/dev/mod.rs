//! `sealfs dev`: a manager and servers on this machine, from one command.

mod daemon;
mod down;
mod plan;
mod run;
mod status;
mod up;

use super::cluster::ManagerArg;
use super::environment::Environment;
use super::node::NodePlace;
use super::process::parse_signal;
use super::signals::Caught;
use super::{Fail, keeper, mount, print};
use clap::{Args, Subcommand};
use daemon::{Daemon, STOP_PATIENCE};
pub use plan::DurabilityArg;
use plan::{Plan, State, UpOptions};
use rustix::process::Signal;
use sealfs_protocol::manager::Volume;
use std::fs;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs dev run -- bash
  sealfs dev up --servers 3
  eval \"$(sealfs dev env)\"
  sealfs dev down --wipe")]
pub struct Dev {
    #[command(subcommand)]
    verb: DevVerb,
}

#[derive(Args, Debug)]
struct StateArg {
    /// State directory of the cluster [default: ~/.local/state/sealfs/dev]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum DevVerb {
    /// Start a manager and servers in the background, and create the volume
    #[command(after_help = "\
Examples:
  sealfs dev up
  sealfs dev up --servers 3 --mount /scratch --volume scratch --state /tmp/cluster
  sealfs dev up --store /dev/nvme0n1,/dev/nvme1n1 --servers 2
  sealfs dev up --durability memory --size 1GiB")]
    Up(UpOptions),
    /// Print the environment that makes a program see the mount
    #[command(after_help = "\
Examples:
  eval \"$(sealfs dev env)\"
  $(sealfs dev env --prefix) ls -l /sealfs
  $(sealfs dev env --prefix) env busybox ls /sealfs    # behind one more env: static, Go and musl programs")]
    Env {
        #[command(flatten)]
        state: StateArg,
        /// Print one line that starts with `env `, to put before a command
        #[arg(long)]
        prefix: bool,
    },
    /// Run a program that sees the mount, on a cluster that is started for it if none runs
    #[command(after_help = "\
Examples:
  sealfs dev run -- bash
  sealfs dev run --servers 3 -- make -C /sealfs/project
  sealfs dev run --state ./state -- ls -l /sealfs     keeps the files in ./state

Without --state the default cluster is used if there is one, else a temporary one that is gone
afterwards with all its files. The exit code is the program's, or 128 + the signal that ended it.")]
    Run(run::Run),
    /// Send a signal to a daemon (SIGKILL unless said otherwise) and wait for its end
    #[command(after_help = "\
Examples:
  sealfs dev kill server-0
  sealfs dev kill manager --signal TERM
  sealfs dev kill server-1 --signal STOP")]
    Kill {
        /// manager, server-0, server-1, …
        name: String,
        #[arg(long, value_name = "NAME", value_parser = parse_signal, default_value = "KILL")]
        signal: Signal,
        #[command(flatten)]
        state: StateArg,
    },
    /// Start a daemon that was stopped or killed, at the address it had
    #[command(after_help = "\
Examples:
  sealfs dev start server-0
  sealfs dev start manager --state ./state")]
    Start {
        /// manager, server-0, server-1, …
        name: String,
        #[command(flatten)]
        state: StateArg,
    },
    /// Stop all daemons; the files stay unless --wipe is given
    #[command(after_help = "\
Examples:
  sealfs dev down
  sealfs dev down --wipe --state ./state")]
    Down {
        /// Remove the cluster's files as well
        #[arg(long)]
        wipe: bool,
        #[command(flatten)]
        state: StateArg,
    },
    /// Show the daemons of the cluster (exit code 3 if one does not run)
    #[command(after_help = "\
Examples:
  sealfs dev status
  sealfs dev status --json")]
    Status {
        #[command(flatten)]
        state: StateArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(args: Dev) -> Result<u8, Fail> {
    match args.verb {
        DevVerb::Up(options) => up_verb(&options),
        DevVerb::Env { state, prefix } => env_verb(&state, prefix),
        DevVerb::Run(args) => run::run(args),
        DevVerb::Kill {
            name,
            signal,
            state,
        } => kill_verb(&state, &name, signal),
        DevVerb::Start { name, state } => start_verb(&state, &name),
        DevVerb::Down { wipe, state } => down_verb(&state, wipe),
        DevVerb::Status { state, json } => status::run(state.state.as_deref(), json),
    }
}

/// The manager of the default cluster, if it runs.
pub fn running_manager() -> Option<String> {
    let dir = State::locate(None).ok().filter(|dir| State::exists(dir))?;
    let manager = Daemon::new(&dir, "manager");
    manager.process().and_then(|_| manager.url())
}

fn up_verb(options: &UpOptions) -> Result<u8, Fail> {
    let dir = State::locate(options.state.as_deref())?;
    let mut caught = Caught::install()?;
    let up = up::up(&dir, options, &mut caught)?;
    keeper::start(&up.manager);
    write_pids(&up.state, &up.plan)?;
    let servers = match up.plan.servers {
        1 => "1 server".to_owned(),
        n => format!("{n} servers"),
    };
    let state = options
        .state
        .as_ref()
        .map_or(String::new(), |_| format!(" --state {}", dir.display()));
    let was = if up.started.is_empty() {
        "already up"
    } else {
        "up"
    };
    print(&format!(
        "manager ({}) and {servers} {was}, volume {} below {}, state in {}\n\n  \
         eval \"$(sealfs dev env{state})\"    programs of this shell see {}\n  \
         sealfs dev run{state} -- bash      a shell that sees it\n  \
         sealfs dev status{state}\n  \
         sealfs dev down{state}             stop; with --wipe remove the files as well\n",
        up.manager,
        up.plan.volume,
        up.plan.mount,
        dir.display(),
        up.plan.mount,
    ))?;
    Ok(0)
}

fn env_verb(state: &StateArg, prefix: bool) -> Result<u8, Fail> {
    let (state, plan) = State::open(&State::locate(state.state.as_deref())?)?;
    mount::check(&plan.mount)?;
    let manager = state.manager_url()?;
    let volume = lasting_volume(&manager, &plan.volume);
    let environment = Environment::new(&manager, &volume, &plan.mount)?;
    print(&if prefix {
        environment.prefix()
    } else {
        environment.exports()
    })?;
    Ok(0)
}

/// The volume as programs are told of it, by the manager or as last known on this node.
fn lasting_volume(manager: &str, name: &str) -> String {
    let arg = ManagerArg {
        manager: Some(manager.to_owned()),
    };
    let last = || NodePlace::find().ok()?.last_state(manager);
    let state = arg.state().ok().or_else(last);
    let volume = state.as_ref().and_then(|s| s.volume_called(name));
    volume.map_or_else(|| name.to_owned(), Volume::lasting_name)
}

/// The daemon called `name`, or who there is.
fn find(state: &State, plan: &Plan, name: &str) -> Result<Daemon, Fail> {
    if plan.names().iter().any(|known| known == name) {
        return Ok(Daemon::new(&state.dir, name));
    }
    Err(format!(
        "{name}: no such daemon: the cluster has {}",
        plan.names().join(", ")
    )
    .into())
}

fn kill_verb(state: &StateArg, name: &str, signal: Signal) -> Result<u8, Fail> {
    let (state, plan) = State::open(&State::locate(state.state.as_deref())?)?;
    let daemon = find(&state, &plan, name)?;
    let Some(process) = daemon.process() else {
        return Err(
            format!("{name}: does not run: start it with `sealfs dev start {name}`").into(),
        );
    };
    if !process.signal(signal) {
        return Err(format!("{name}: process {} cannot be signalled", process.pid).into());
    }
    let ends = [
        Signal::KILL,
        Signal::TERM,
        Signal::INT,
        Signal::QUIT,
        Signal::ABORT,
        Signal::SEGV,
    ];
    if ends.contains(&signal) && !process.wait(STOP_PATIENCE) {
        return Err(format!("{name}: process {} runs on after the signal", process.pid).into());
    }
    write_pids(&state, &plan)?;
    Ok(0)
}

fn start_verb(state: &StateArg, name: &str) -> Result<u8, Fail> {
    let (state, plan) = State::open(&State::locate(state.state.as_deref())?)?;
    let daemon = find(&state, &plan, name)?;
    if let Some(process) = daemon.process() {
        print(&format!("{name}: runs already (process {})\n", process.pid))?;
        return Ok(0);
    }
    let mut caught = Caught::install()?;
    if let Err(fail) = up::start_one(&state, &plan, name, &mut caught) {
        // The first failure is the one to tell.
        let _ = daemon.stop();
        return Err(fail);
    }
    write_pids(&state, &plan)?;
    Ok(0)
}

fn down_verb(state: &StateArg, wipe: bool) -> Result<u8, Fail> {
    let dir = State::locate(state.state.as_deref())?;
    if !State::exists(&dir) {
        print(&format!(
            "state {}: no cluster there, nothing to do\n",
            dir.display()
        ))?;
        return Ok(0);
    }
    let (state, plan) = State::open(&dir)?;
    down::stop(&state, &plan)?;
    if wipe {
        down::wipe(&state, &plan)?;
    }
    Ok(0)
}

/// Notes who runs, for tools that measure: `srv.pids` and `cli.pids`.
fn write_pids(state: &State, plan: &Plan) -> Result<(), Fail> {
    let names = plan.names();
    let processes = names
        .iter()
        .filter_map(|name| Daemon::new(&state.dir, name).process());
    let write = |name: &str, pids: Vec<String>| {
        let path = state.dir.join(name);
        fs::write(&path, pids.join(" ") + "\n").map_err(|e| format!("{}: {e}", path.display()))
    };
    write("srv.pids", processes.map(|p| p.pid.to_string()).collect())?;
    write(
        "cli.pids",
        keeper::pid().iter().map(i32::to_string).collect(),
    )?;
    Ok(())
}
