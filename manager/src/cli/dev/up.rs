//! `dev up`: from nothing, or from whatever part still runs, to a healthy cluster.
//!
//! What must stay true: when it fails, everything that this call started is stopped, and a state
//! that this call made is gone.

use super::daemon::Daemon;
use super::plan::{Plan, State, UpOptions};
use crate::cli::node::NodePlace;
use crate::cli::signals::Caught;
use crate::cli::{Fail, programs};
use sealfs_protocol::VolumeId;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::limits::WIDTH_DEFAULT;
use sealfs_protocol::manager::{ManagerReply, ManagerRequest, ServerStatus, Volume};
use sealfs_transport::{Url, rpc};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long servers may take to be known to the manager.
const HEALTH_PATIENCE: Duration = Duration::from_secs(20);
/// How long servers may take to find their manager again.
const RETURN_PATIENCE: Duration = Duration::from_secs(3);
/// Patience with one answer of the manager, in ms.
const ANSWER_MS: u32 = 5_000;
const PAUSE: Duration = Duration::from_millis(5);

/// A healthy cluster.
pub struct Up {
    pub state: State,
    pub plan: Plan,
    pub manager: String,
    /// Daemons that this call started; none if all ran.
    pub started: Vec<String>,
}

#[derive(Serialize)]
struct ManagerConfig<'a> {
    listen: &'a str,
    state_dir: PathBuf,
    ready_file: PathBuf,
}

#[derive(Serialize)]
struct ServerConfig<'a> {
    name: &'a str,
    listen: &'a str,
    manager: &'a str,
    meta_dir: PathBuf,
    data: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    ready_file: PathBuf,
}

/// Brings the cluster in `dir` up.
pub fn up(dir: &Path, options: &UpOptions, caught: &mut Caught) -> Result<Up, Fail> {
    for name in ["sealfs-manager", "sealfs-server"] {
        programs::beside(name)?;
    }
    NodePlace::find()?;
    let created = !State::exists(dir);
    let (state, plan) = if created {
        let plan = Plan::new(options, dir)?;
        plan.check()?;
        (State::create(dir, &plan)?, plan)
    } else {
        let (state, plan) = State::open(dir)?;
        plan.check_agrees(options, dir)?;
        plan.check()?;
        (state, plan)
    };
    let mut started = Vec::new();
    let outcome = start_missing(&state, &plan, &mut started, caught);
    match outcome {
        Ok(manager) => Ok(Up {
            state,
            plan,
            manager,
            started,
        }),
        Err(fail) => {
            for name in started.iter().rev() {
                // The first failure is the one to tell.
                let _ = Daemon::new(dir, name).stop();
            }
            if created {
                let _ = super::down::remove_files(&state, &plan);
            }
            Err(fail)
        }
    }
}

fn start_missing(
    state: &State,
    plan: &Plan,
    started: &mut Vec<String>,
    caught: &mut Caught,
) -> Result<String, Fail> {
    let manager = Daemon::new(&state.dir, "manager");
    if manager.process().is_none() {
        write_manager_config(&manager, &running_servers(state, plan))?;
        started.push(manager.name.clone());
        manager.start()?.wait(caught)?;
    }
    let url = state.manager_url()?;
    let servers = servers(state, plan);
    let began = Instant::now();
    let mut starting = Vec::new();
    for (i, server) in servers.iter().enumerate() {
        if server.process().is_none() {
            write_server_config(server, plan, i, &url)?;
            started.push(server.name.clone());
            starting.push(server.start()?);
        }
    }
    for server in &starting {
        server.wait(caught)?;
    }
    let fresh: Vec<&str> = started.iter().map(String::as_str).collect();
    wait_healthy(&url, &servers, &fresh, began, HEALTH_PATIENCE, caught)?;
    create_volume(&url, plan)?;
    if let ManagerReply::State(Some(known)) = ask(&url, &ManagerRequest::State { known: 0 })? {
        NodePlace::find()?.keep_state(&url, &known);
    }
    Ok(url)
}

/// Starts one daemon of a cluster and waits until it is healthy.
pub fn start_one(state: &State, plan: &Plan, name: &str, caught: &mut Caught) -> Result<(), Fail> {
    let daemon = Daemon::new(&state.dir, name);
    let began = Instant::now();
    match name.strip_prefix("server-").and_then(|i| i.parse().ok()) {
        None => {
            let servers = running_servers(state, plan);
            write_manager_config(&daemon, &servers)?;
            let url = daemon.start()?.wait(caught)?;
            // They come back by themselves; waiting only spares the caller to see them silent.
            let names: Vec<&str> = servers.iter().map(|s| s.name.as_str()).collect();
            let back = wait_healthy(&url, &servers, &names, began, RETURN_PATIENCE, caught);
            if back.is_err() {
                caught.check()?;
            }
        }
        Some(index) => {
            let url = state.manager_url()?;
            write_server_config(&daemon, plan, index, &url)?;
            daemon.start()?.wait(caught)?;
            if Daemon::new(&state.dir, "manager").process().is_some() {
                wait_healthy(&url, &[daemon], &[name], began, HEALTH_PATIENCE, caught)?;
            }
        }
    }
    Ok(())
}

fn servers(state: &State, plan: &Plan) -> Vec<Daemon> {
    let names = (0..plan.servers).map(|i| format!("server-{i}"));
    names.map(|name| Daemon::new(&state.dir, &name)).collect()
}

fn running_servers(state: &State, plan: &Plan) -> Vec<Daemon> {
    let all = servers(state, plan).into_iter();
    all.filter(|server| server.process().is_some()).collect()
}

/// The address that a daemon had, if it is free, so that those who know it find it again.
fn listen_again(daemon: &Daemon) -> String {
    let last = daemon.url().and_then(|url| url.parse::<Url>().ok());
    match last.filter(|url| std::net::TcpListener::bind(url.address).is_ok()) {
        Some(url) => url.to_string(),
        None => "tcp://127.0.0.1:0".into(),
    }
}

/// Servers that run look for their manager where it was: then it comes back there or not at all.
fn write_manager_config(daemon: &Daemon, running: &[Daemon]) -> Result<(), Fail> {
    let listen = match daemon.url() {
        Some(url) if !running.is_empty() => url,
        _ => listen_again(daemon),
    };
    write_config(
        daemon,
        &ManagerConfig {
            listen: &listen,
            state_dir: daemon.data_dir(),
            ready_file: daemon.ready_path(),
        },
    )
}

fn write_server_config(daemon: &Daemon, plan: &Plan, i: usize, manager: &str) -> Result<(), Fail> {
    let dir = daemon.data_dir();
    fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let device = plan.devices.get(i);
    write_config(
        daemon,
        &ServerConfig {
            name: &daemon.name,
            listen: &listen_again(daemon),
            manager,
            meta_dir: dir.join("meta"),
            data: device.cloned().unwrap_or_else(|| dir.join("data")),
            size_bytes: device.is_none().then_some(plan.size_bytes),
            ready_file: daemon.ready_path(),
        },
    )
}

fn write_config(daemon: &Daemon, config: &impl Serialize) -> Result<(), Fail> {
    let path = daemon.config_path();
    let text = toml::to_string(config).map_err(|e| e.to_string())?;
    fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()).into())
}

/// Waits until the manager has heard of `servers`; of those in `fresh` since `began`.
fn wait_healthy(
    manager: &str,
    servers: &[Daemon],
    fresh: &[&str],
    began: Instant,
    patience: Duration,
    caught: &mut Caught,
) -> Result<(), Fail> {
    let deadline = began + patience;
    loop {
        let known = match ask(manager, &ManagerRequest::Servers)? {
            ManagerReply::Servers(known, _) => known,
            _ => Vec::new(),
        };
        let is_well = |server: &&Daemon| {
            let since = fresh.contains(&server.name.as_str()).then_some(began);
            known.iter().any(|status| is_healthy(status, server, since))
        };
        let Some(missing) = servers.iter().find(|s| !is_well(s)) else {
            return Ok(());
        };
        if missing.process().is_none() {
            return Err(
                format!("{}: ended after it had started: see its log", missing.name).into(),
            );
        }
        if Instant::now() > deadline {
            return Err(format!(
                "{}: does not report to the manager: see its log",
                missing.name
            )
            .into());
        }
        caught.check()?;
        std::thread::sleep(PAUSE);
    }
}

fn is_healthy(status: &ServerStatus, server: &Daemon, since: Option<Instant>) -> bool {
    let heard_ms = status.silent_ms.unwrap_or(u64::MAX);
    let is_recent = since.is_none_or(|began| u128::from(heard_ms) <= began.elapsed().as_millis());
    let is_here = server
        .url()
        .is_some_and(|url| status.addresses.contains(&url));
    status.name == server.name && status.healthy && is_recent && is_here
}

fn create_volume(manager: &str, plan: &Plan) -> Result<(), Fail> {
    let state = ask(manager, &ManagerRequest::State { known: 0 })?;
    if let ManagerReply::State(Some(state)) = state
        && state.volumes.iter().any(|v| v.name == plan.volume)
    {
        return Ok(());
    }
    let volume = Volume {
        id: VolumeId(0),
        name: plan.volume.clone(),
        durability: plan.durability.into(),
        layout: Layout {
            chunk_size_log2: plan.chunk_size_bytes.trailing_zeros() as u8,
            width: WIDTH_DEFAULT,
        },
        root_uid: rustix::process::getuid().as_raw(),
        root_gid: rustix::process::getgid().as_raw(),
        root_mode: 0o755,
        quota_bytes: 0,
        quota_inodes: 0,
        read_only: false,
    };
    match ask(manager, &ManagerRequest::CreateVolume { volume })? {
        ManagerReply::Refused(why) => Err(why.into()),
        _ => Ok(()),
    }
}

fn ask(manager: &str, request: &ManagerRequest) -> Result<ManagerReply, Fail> {
    let url: Url = manager
        .parse()
        .map_err(|e| format!("manager {manager}: {e}"))?;
    rpc::manager(&url, request, ANSWER_MS)
        .map_err(|e| format!("manager {manager}: {e}: see its log").into())
}
