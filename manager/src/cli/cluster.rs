//! Verbs about a cluster as a whole: `status`, `server list`, `volume create|list|delete`.

use super::dev::{self, DurabilityArg};
use super::units::{parse_size, show_size};
use super::{DEGRADED, Fail, print, print_json};
use crate::config::LISTEN_DEFAULT;
use crate::state::CHUNK_SIZE_LOG2;
use clap::{Args, Subcommand};
use sealfs_protocol::VolumeId;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::manager::{
    ClusterState, Durability, ManagerReply, ManagerRequest, ServerStatus, Volume,
};
use sealfs_transport::{Url, rpc};
use serde::Serialize;
use std::fmt::Write;

/// Patience with one answer of the manager, in ms.
const ANSWER_MS: u32 = 5_000;

/// Which cluster.
#[derive(Args, Debug, Clone)]
pub struct ManagerArg {
    /// Manager of the cluster [default: that of a running `sealfs dev up`, else tcp://127.0.0.1:7420]
    #[arg(long, env = "SEALFS_MANAGER", value_name = "URL")]
    pub manager: Option<String>,
}

impl ManagerArg {
    pub fn url(&self) -> Result<Url, Fail> {
        let usual = || dev::running_manager().unwrap_or_else(|| LISTEN_DEFAULT.into());
        let text = self.manager.clone().unwrap_or_else(usual);
        text.parse()
            .map_err(|e| format!("manager {text}: {e}").into())
    }

    pub fn ask(&self, request: &ManagerRequest) -> Result<ManagerReply, Fail> {
        let url = self.url()?;
        match rpc::manager(&url, request, ANSWER_MS) {
            Ok(ManagerReply::Refused(why)) => Err(why.into()),
            Ok(reply) => Ok(reply),
            Err(error) => Err(format!(
                "manager {url}: {error}: start it, or name another with --manager or SEALFS_MANAGER"
            )
            .into()),
        }
    }

    pub fn state(&self) -> Result<ClusterState, Fail> {
        match self.ask(&ManagerRequest::State { known: 0 })? {
            ManagerReply::State(Some(state)) => Ok(state),
            _ => Err("the manager did not tell its state: is it of another version?".into()),
        }
    }

    fn servers(&self) -> Result<Vec<ServerStatus>, Fail> {
        match self.ask(&ManagerRequest::Servers)? {
            ManagerReply::Servers(servers, _) => Ok(servers),
            _ => Err("the manager did not list its servers: is it of another version?".into()),
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs status
  sealfs status --manager tcp://10.0.0.1:7420 --json

Exit code 3: a server has not been heard of lately.")]
pub struct StatusArgs {
    #[command(flatten)]
    manager: ManagerArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs server list
  sealfs server list --json")]
pub struct ServerArgs {
    #[command(subcommand)]
    verb: ServerVerb,
}

#[derive(Subcommand, Debug)]
enum ServerVerb {
    /// Show the servers with their health and use
    #[command(after_help = "Examples:\n  sealfs server list\n  sealfs server list --json")]
    List(StatusArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs volume create home
  sealfs volume list
  sealfs volume delete home --force")]
pub struct VolumeArgs {
    #[command(subcommand)]
    verb: VolumeVerb,
}

#[derive(Subcommand, Debug)]
enum VolumeVerb {
    /// Create a volume; its root directory belongs to the caller
    #[command(after_help = "\
Examples:
  sealfs volume create home
  sealfs volume create scratch --durability memory --chunk-size 4M --width 8")]
    Create(CreateArgs),
    /// Show the volumes
    #[command(after_help = "Examples:\n  sealfs volume list\n  sealfs volume list --json")]
    List(StatusArgs),
    /// Delete a volume and all its files
    #[command(after_help = "Examples:\n  sealfs volume delete home --force")]
    Delete {
        name: String,
        /// Confirm that its files may go
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        manager: ManagerArg,
    },
}

#[derive(Args, Debug)]
struct CreateArgs {
    name: String,
    /// What an acknowledged change survives
    #[arg(long, value_enum, default_value = "fsync")]
    durability: DurabilityArg,
    /// Size of the pieces a file is cut into, 64K to 64M [default: 1M]
    #[arg(long, value_name = "BYTES", value_parser = parse_chunk_size)]
    chunk_size: Option<u8>,
    /// Places that a file's pieces are spread over, 1 to 64 [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    width: Option<u8>,
    /// Permissions of the root directory, in octal
    #[arg(long, value_name = "MODE", default_value = "755", value_parser = parse_mode)]
    mode: u32,
    #[command(flatten)]
    manager: ManagerArg,
}

/// A chunk size as a power of two.
fn parse_chunk_size(text: &str) -> Result<u8, String> {
    let bytes = parse_size(text)?;
    let log2 = bytes.trailing_zeros() as u8;
    if bytes.is_power_of_two() && CHUNK_SIZE_LOG2.contains(&log2) {
        return Ok(log2);
    }
    Err("use a power of two from 64K to 64M".into())
}

/// Permission bits in octal.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| "use octal digits, as in 755".into())
}

pub fn volume(args: VolumeArgs) -> Result<u8, Fail> {
    match args.verb {
        VolumeVerb::Create(args) => create(args),
        VolumeVerb::List(args) => list_volumes(&args),
        VolumeVerb::Delete {
            name,
            force,
            manager,
        } => {
            manager.ask(&ManagerRequest::DeleteVolume { name, force })?;
            Ok(0)
        }
    }
}

pub fn server(args: ServerArgs) -> Result<u8, Fail> {
    let ServerVerb::List(args) = args.verb;
    let servers = args.manager.servers()?;
    if args.json {
        print_json(&servers.iter().map(ServerFacts::from).collect::<Vec<_>>())?;
    } else {
        print(&server_table(&servers))?;
    }
    Ok(health_code(&servers))
}

fn create(args: CreateArgs) -> Result<u8, Fail> {
    let volume = Volume {
        id: VolumeId(0),
        name: args.name,
        durability: args.durability.into(),
        // Zero asks for the default.
        layout: Layout {
            chunk_size_log2: args.chunk_size.unwrap_or(0),
            width: args.width.unwrap_or(0),
        },
        root_uid: rustix::process::getuid().as_raw(),
        root_gid: rustix::process::getgid().as_raw(),
        root_mode: args.mode,
        quota_bytes: 0,
        quota_inodes: 0,
    };
    args.manager.ask(&ManagerRequest::CreateVolume { volume })?;
    Ok(0)
}

fn list_volumes(args: &StatusArgs) -> Result<u8, Fail> {
    let state = args.manager.state()?;
    if args.json {
        print_json(
            &state
                .volumes
                .iter()
                .map(VolumeFacts::from)
                .collect::<Vec<_>>(),
        )?;
    } else {
        print(&volume_table(&state.volumes))?;
    }
    Ok(0)
}

pub fn status(args: StatusArgs) -> Result<u8, Fail> {
    let state = args.manager.state()?;
    let servers = args.manager.servers()?;
    let facts = ClusterFacts {
        manager: args.manager.url()?.to_string(),
        cluster: state.ring.cluster.to_string(),
        ring_version: state.ring.version.0,
        partitions: state.ring.partitions(),
        healthy: health_code(&servers) == 0,
        servers: servers.iter().map(ServerFacts::from).collect(),
        volumes: state.volumes.iter().map(VolumeFacts::from).collect(),
    };
    if args.json {
        print_json(&facts)?;
    } else {
        print(&format!(
            "cluster {}, manager {}, ring version {}, {} partitions\n\n{}\n{}",
            facts.cluster,
            facts.manager,
            facts.ring_version,
            facts.partitions,
            server_table(&servers),
            volume_table(&state.volumes)
        ))?;
    }
    Ok(health_code(&servers))
}

/// A cluster without servers, or with one that is not heard of, is degraded.
fn health_code(servers: &[ServerStatus]) -> u8 {
    let good = !servers.is_empty() && servers.iter().all(|s| s.healthy);
    if good { 0 } else { DEGRADED }
}

#[derive(Serialize)]
struct ClusterFacts {
    manager: String,
    cluster: String,
    ring_version: u64,
    partitions: u16,
    healthy: bool,
    servers: Vec<ServerFacts>,
    volumes: Vec<VolumeFacts>,
}

#[derive(Serialize)]
struct ServerFacts {
    name: String,
    shard: u32,
    healthy: bool,
    silent_ms: Option<u64>,
    addresses: Vec<String>,
    size_bytes: u64,
    used_bytes: u64,
    inodes: u64,
}

impl From<&ServerStatus> for ServerFacts {
    fn from(s: &ServerStatus) -> ServerFacts {
        ServerFacts {
            name: s.name.clone(),
            shard: s.shard.0,
            healthy: s.healthy,
            silent_ms: s.silent_ms,
            addresses: s.addresses.clone(),
            size_bytes: s.usage.size_bytes,
            used_bytes: s.usage.used_bytes,
            inodes: s.usage.inodes,
        }
    }
}

#[derive(Serialize)]
struct VolumeFacts {
    name: String,
    id: u32,
    durability: &'static str,
    chunk_size_bytes: u64,
    width: u8,
}

impl From<&Volume> for VolumeFacts {
    fn from(v: &Volume) -> VolumeFacts {
        VolumeFacts {
            name: v.name.clone(),
            id: v.id.0,
            durability: match v.durability {
                Durability::Memory => "memory",
                Durability::Fsync => "fsync",
                Durability::Always => "always",
            },
            chunk_size_bytes: v.layout.chunk_size_bytes(),
            width: v.layout.width,
        }
    }
}

// Writing to a String cannot fail.
fn server_table(servers: &[ServerStatus]) -> String {
    let head = ["SERVER", "HEALTH", "HEARD", "USED", "SIZE", "INODES"];
    let [name, health, heard, used, size, inodes] = head;
    let mut text =
        format!("{name:<16} {health:<8} {heard:>10} {used:>11} {size:>11} {inodes:>10}  URL\n");
    for s in servers {
        let heard = match s.silent_ms {
            None => "never".into(),
            Some(ms) if ms < 10_000 => format!("{ms} ms ago"),
            Some(ms) => format!("{} s ago", ms / 1000),
        };
        let _ = writeln!(
            text,
            "{:<16} {:<8} {heard:>10} {:>11} {:>11} {:>10}  {}",
            s.name,
            if s.healthy { "good" } else { "SILENT" },
            show_size(s.usage.used_bytes),
            show_size(s.usage.size_bytes),
            s.usage.inodes,
            s.addresses.join(" ")
        );
    }
    text
}

fn volume_table(volumes: &[Volume]) -> String {
    let mut text = format!(
        "{:<16} {:<10} {:>10} {:>6}\n",
        "VOLUME", "DURABILITY", "CHUNK", "WIDTH"
    );
    for facts in volumes.iter().map(VolumeFacts::from) {
        let _ = writeln!(
            text,
            "{:<16} {:<10} {:>10} {:>6}",
            facts.name,
            facts.durability,
            show_size(facts.chunk_size_bytes),
            facts.width
        );
    }
    text
}
