//! Verbs about a cluster as a whole: `status`, `server list`.

use super::dev;
use super::units::show_size;
use super::volume::{VolumeFacts, volume_table};
use super::{DEGRADED, Fail, print, print_json};
use crate::config::LISTEN_DEFAULT;
use clap::{Args, Subcommand};
use sealfs_protocol::manager::{
    ClusterState, ManagerReply, ManagerRequest, ServerStatus, VolumeStatus,
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

/// The volumes, the servers that are silent, and those that work by an older state.
pub struct Volumes {
    pub volumes: Vec<VolumeStatus>,
    pub silent: Vec<String>,
    pub behind: Vec<String>,
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

    pub fn volumes(&self) -> Result<Volumes, Fail> {
        match self.ask(&ManagerRequest::Volumes)? {
            ManagerReply::Volumes {
                volumes,
                silent,
                behind,
            } => Ok(Volumes {
                volumes,
                silent,
                behind,
            }),
            _ => Err("the manager did not list its volumes: is it of another version?".into()),
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
    pub manager: ManagerArg,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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

pub fn status(args: StatusArgs) -> Result<u8, Fail> {
    let state = args.manager.state()?;
    let servers = args.manager.servers()?;
    let volumes = args.manager.volumes()?.volumes;
    let facts = ClusterFacts {
        manager: args.manager.url()?.to_string(),
        cluster: state.ring.cluster.to_string(),
        ring_version: state.ring.version.0,
        partitions: state.ring.partitions(),
        healthy: health_code(&servers) == 0,
        servers: servers.iter().map(ServerFacts::from).collect(),
        volumes: volumes.iter().map(VolumeFacts::from).collect(),
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
            volume_table(&volumes)
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
