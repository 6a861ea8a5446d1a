//! `sealfs run`: a program on a cluster that exists; and what its relatives need to know for that.

use super::Fail;
use super::cluster::ManagerArg;
use super::environment::Environment;
use super::launch::launch;
use super::mount;
use super::node::NodePlace;
use super::signals::Caught;
use clap::Args;
use sealfs_protocol::manager::ClusterState;
use std::ffi::OsString;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs run -- bash
  sealfs run --manager tcp://10.0.0.1:7420 --volume home -- make -C /sealfs/project
  sealfs run --mount /scratch -- python3 train.py /scratch/data

The exit code is the program's, or 128 + the signal that ended it. While the manager is away the
cluster as last known on this machine is used; if there is none the program is not started.")]
pub struct Run {
    #[command(flatten)]
    on: Where,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What a program is to see, and below which path.
#[derive(Args, Debug)]
pub struct Where {
    #[command(flatten)]
    manager: ManagerArg,
    /// Volume to show; may be left out if the cluster has one only
    #[arg(long, env = "SEALFS_VOLUME", value_name = "NAME")]
    volume: Option<String>,
    /// Path below which the program sees the volume
    #[arg(
        long,
        env = "SEALFS_MOUNT",
        value_name = "PATH",
        default_value = "/sealfs"
    )]
    mount: String,
}

impl Where {
    /// The environment of such a program, and the path of the mount.
    pub fn environment(self, place: &NodePlace) -> Result<(Environment, String), Fail> {
        let mount = mount::check(&self.mount)?;
        let url = self.manager.url()?.to_string();
        let state = match self.manager.state() {
            Ok(state) => {
                place.keep_state(&url, &state);
                state
            }
            Err(fail) => place.last_state(&url).ok_or(fail)?,
        };
        let volume = choose_volume(&state, self.volume)?;
        let environment = Environment::new(&url, &volume, &mount)?;
        Ok((environment, mount))
    }
}

pub fn run(args: Run) -> Result<u8, Fail> {
    let place = NodePlace::find()?;
    let (environment, mount) = args.on.environment(&place)?;
    launch(&args.command, &environment, &mount, Caught::install()?)
}

/// The volume asked for, or the only one, as programs are told of it.
pub fn choose_volume(state: &ClusterState, asked: Option<String>) -> Result<String, Fail> {
    let names: Vec<&str> = state.volumes.iter().map(|v| v.name.as_str()).collect();
    if let Some(volume) = asked.as_deref().and_then(|a| state.volume_called(a)) {
        return Ok(volume.lasting_name());
    }
    match (asked, state.volumes.as_slice()) {
        (Some(name), _) => Err(format!(
            "volume {name}: does not exist: create it with `sealfs volume create {name}`{}",
            if names.is_empty() {
                String::new()
            } else {
                format!(", or choose {}", names.join(", "))
            }
        )
        .into()),
        (None, [only]) => Ok(only.lasting_name()),
        (None, []) => {
            Err("the cluster has no volume: create one with `sealfs volume create main`".into())
        }
        (None, _) => Err(format!(
            "which volume? say --volume with one of {}",
            names.join(", ")
        )
        .into()),
    }
}
