//! What an embedded cluster consists of: options, their defaults, and the state directory.
//!
//! ```text
//! STATE/dev.json            the plan below; its presence makes STATE one of ours
//! STATE/lock                held while a verb changes something
//! STATE/manager.toml, server-0.toml …   the daemons' configuration
//! STATE/manager/, server-0/ …           their data
//! STATE/run/NAME.json, NAME.url         who runs, and where it listens or did last
//! STATE/run/NAME.ready                  made by a daemon when it serves
//! STATE/log/NAME.log
//! STATE/srv.pids, cli.pids  pids of manager and servers, and of the keeper, blank-separated
//! ```

use crate::cli::units::parse_size;
use crate::cli::{Fail, mount};
use crate::names::check_name;
use clap::{Args, ValueEnum};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags};
use sealfs_protocol::manager::Durability;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most servers of one embedded cluster.
const SERVERS_MAX: u16 = 64;
/// Size of a server's store unless said otherwise, if the disk is large enough, in bytes.
const STORE_DEFAULT_BYTES: u64 = 4 << 30;
/// Smallest store worth preallocating, in bytes.
const STORE_SMALLEST_BYTES: u64 = 256 << 20;
/// How long a verb waits for another one on the same state.
const LOCK_PATIENCE: Duration = Duration::from_secs(15);

/// When an acknowledged change survives what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityArg {
    /// Scratch: fsync does nothing
    Memory,
    /// What is acknowledged survives kill -9, what is fsynced survives a power cut
    Fsync,
    /// Every reply waits for the disk
    Always,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Durability {
        match arg {
            DurabilityArg::Memory => Durability::Memory,
            DurabilityArg::Fsync => Durability::Fsync,
            DurabilityArg::Always => Durability::Always,
        }
    }
}

#[derive(Args, Debug, Default)]
pub struct UpOptions {
    /// Servers to start [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(SERVERS_MAX)))]
    pub servers: Option<u16>,
    /// Path below which programs see the volume [default: /sealfs]
    #[arg(long, value_name = "PATH")]
    pub mount: Option<String>,
    /// Name of the volume [default: main]
    #[arg(long, value_name = "NAME")]
    pub volume: Option<String>,
    /// Keep everything in this directory [default: ~/.local/state/sealfs/dev]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Store data in a file of the state directory, or on these block devices, one a server
    #[arg(long, value_name = "file|/dev/…", value_delimiter = ',')]
    pub store: Option<Vec<String>>,
    /// Size of each server's store, as in 512M or 4GiB [default: 4GiB, less on a small disk]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub size: Option<u64>,
    /// What an acknowledged change survives [default: fsync]
    #[arg(long, value_enum)]
    pub durability: Option<DurabilityArg>,
    /// Size of the pieces a file is cut into, 64K to 64M [default: 1M]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub chunk_size: Option<u64>,
}

/// The options as they stand once chosen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub servers: u16,
    pub mount: String,
    pub volume: String,
    /// Block devices, one a server; empty for files.
    pub devices: Vec<PathBuf>,
    pub size_bytes: u64,
    pub durability: DurabilityArg,
    pub chunk_size_bytes: u64,
}

impl Plan {
    /// A plan for a new cluster in `state`, every value checked.
    pub fn new(options: &UpOptions, state: &Path) -> Result<Plan, Fail> {
        let servers = options.servers.unwrap_or(1);
        let volume = options.volume.clone().unwrap_or_else(|| "main".into());
        check_name("volume", &volume)?;
        let chunk_size_bytes = options.chunk_size.unwrap_or(1 << 20);
        if !chunk_size_bytes.is_power_of_two()
            || !sealfs_protocol::limits::CHUNK_SIZE_LOG2
                .contains(&(chunk_size_bytes.trailing_zeros() as u8))
        {
            return Err("--chunk-size: use a power of two from 64K to 64M".into());
        }
        Ok(Plan {
            servers,
            mount: options
                .mount
                .clone()
                .unwrap_or_else(|| "/sealfs".into())
                .trim_end_matches('/')
                .to_owned(),
            volume,
            devices: devices(options, servers)?,
            size_bytes: options.size.unwrap_or_else(|| fitting_size(state, servers)),
            durability: options.durability.unwrap_or(DurabilityArg::Fsync),
            chunk_size_bytes,
        })
    }

    /// What must hold at each start.
    pub fn check(&self) -> Result<(), Fail> {
        mount::check(&self.mount).map(|_| ())
    }

    /// Refuses options that contradict a plan made earlier; those left out agree with it.
    pub fn check_agrees(&self, options: &UpOptions, state: &Path) -> Result<(), Fail> {
        let asked = Plan {
            servers: options.servers.unwrap_or(self.servers),
            mount: options
                .mount
                .as_deref()
                .unwrap_or(&self.mount)
                .trim_end_matches('/')
                .to_owned(),
            volume: options
                .volume
                .clone()
                .unwrap_or_else(|| self.volume.clone()),
            devices: match &options.store {
                None => self.devices.clone(),
                Some(_) => devices(options, self.servers)?,
            },
            size_bytes: options.size.unwrap_or(self.size_bytes),
            durability: options.durability.unwrap_or(self.durability),
            chunk_size_bytes: options.chunk_size.unwrap_or(self.chunk_size_bytes),
        };
        if asked == *self {
            return Ok(());
        }
        Err(format!(
            "state {}: made with other options ({}): leave them out, choose another --state, or \
             start afresh after `sealfs dev down --wipe`",
            state.display(),
            self.describe()
        )
        .into())
    }

    fn describe(&self) -> String {
        let durability = self.durability.to_possible_value();
        format!(
            "--servers {} --mount {} --volume {} --size {} --durability {} --chunk-size {}",
            self.servers,
            self.mount,
            self.volume,
            self.size_bytes,
            durability.as_ref().map_or("?", |v| v.get_name()),
            self.chunk_size_bytes
        )
    }

    /// Names of all daemons, the manager first.
    pub fn names(&self) -> Vec<String> {
        let servers = (0..self.servers).map(|i| format!("server-{i}"));
        std::iter::once("manager".to_owned())
            .chain(servers)
            .collect()
    }
}

fn devices(options: &UpOptions, servers: u16) -> Result<Vec<PathBuf>, Fail> {
    let Some(stores) = options.store.as_deref().filter(|s| *s != ["file"]) else {
        return Ok(Vec::new());
    };
    if stores.iter().any(|s| !s.starts_with("/dev/")) {
        return Err("--store: say `file`, or block devices such as /dev/nvme0n1".into());
    }
    if stores.len() != usize::from(servers) {
        let text =
            format!("--store: {servers} servers need {servers} devices, separated by commas");
        return Err(text.into());
    }
    Ok(stores.iter().map(PathBuf::from).collect())
}

/// The default size, or a quarter of what the disk has left, shared by all servers.
fn fitting_size(state: &Path, servers: u16) -> u64 {
    let existing = state.ancestors().find(|dir| dir.is_dir());
    let free = existing
        .and_then(|dir| rustix::fs::statvfs(dir.as_os_str().as_encoded_bytes()).ok())
        .map_or(u64::MAX, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    let share = free / 4 / u64::from(servers);
    (share & !((1 << 20) - 1)).clamp(STORE_SMALLEST_BYTES, STORE_DEFAULT_BYTES)
}

/// `$XDG_STATE_HOME/sealfs/dev`, or the same below `~/.local/state`.
fn default_dir() -> Result<PathBuf, Fail> {
    let var = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")));
    let base = base.ok_or("no place for the state: set HOME, or name one with --state DIR")?;
    Ok(base.join("sealfs/dev"))
}

/// A state directory, held against other verbs while this value lives.
pub struct State {
    pub dir: PathBuf,
    _lock: OwnedFd,
}

impl State {
    /// The directory to use: absolute; the default one if none is named.
    pub fn locate(chosen: Option<&Path>) -> Result<PathBuf, Fail> {
        let dir = chosen.map_or_else(default_dir, |dir| Ok(dir.to_owned()))?;
        let dir = std::path::absolute(&dir).map_err(|e| format!("state {}: {e}", dir.display()))?;
        if dir
            .to_str()
            .is_none_or(|text| text.contains(['"', '\\', '\n']))
        {
            let text = format!(
                "state {}: use a path without quotes and backslashes",
                dir.display()
            );
            return Err(text.into());
        }
        Ok(dir)
    }

    pub fn exists(dir: &Path) -> bool {
        dir.join("dev.json").is_file()
    }

    /// Opens a state that an earlier `up` made.
    pub fn open(dir: &Path) -> Result<(State, Plan), Fail> {
        if !State::exists(dir) {
            let text = format!(
                "state {}: no cluster there: start one with `sealfs dev up`",
                dir.display()
            );
            return Err(text.into());
        }
        let state = State::lock(dir)?;
        let plan = state.plan()?;
        Ok((state, plan))
    }

    /// Makes a state for `plan`. The directory must be new or empty.
    pub fn create(dir: &Path, plan: &Plan) -> Result<State, Fail> {
        let io = |e: std::io::Error| format!("state {}: {e}", dir.display());
        let is_empty = match fs::read_dir(dir) {
            Ok(mut entries) => entries.all(|e| e.is_ok_and(|e| e.file_name() == "lock")),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        };
        if !is_empty {
            let text = format!(
                "state {}: holds other files: name a new or empty directory",
                dir.display()
            );
            return Err(text.into());
        }
        // The stores hold what the permissions of the volume's files protect.
        let mut private = DirBuilder::new();
        private
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io)?;
        let state = State::lock(dir)?;
        for name in ["run", "log"] {
            fs::create_dir_all(dir.join(name)).map_err(io)?;
        }
        let text = serde_json::to_string_pretty(plan).map_err(|e| e.to_string())?;
        fs::write(dir.join("dev.json"), text + "\n").map_err(io)?;
        Ok(state)
    }

    fn lock(dir: &Path) -> Result<State, Fail> {
        let path = dir.join("lock");
        let io = |e: rustix::io::Errno| format!("{}: {e}", path.display());
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = rustix::fs::open(
            path.as_os_str().as_encoded_bytes(),
            flags,
            Mode::from(0o600),
        )
        .map_err(io)?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() > deadline {
                let text = format!(
                    "state {}: another `sealfs dev` is at work on it: let it finish",
                    dir.display()
                );
                return Err(text.into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(State {
            dir: dir.into(),
            _lock: lock,
        })
    }

    fn plan(&self) -> Result<Plan, Fail> {
        let path = self.dir.join("dev.json");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| {
            format!(
                "{}: {e}: start afresh after removing the directory",
                path.display()
            )
            .into()
        })
    }

    /// Where the manager listens, or listened last.
    pub fn manager_url(&self) -> Result<String, Fail> {
        let path = self.dir.join("run/manager.url");
        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|_| {
                let dir = self.dir.display();
                format!(
                    "state {dir}: its manager never ran: start the cluster with `sealfs dev up`"
                )
                .into()
            })
    }
}
