//! `sealfs volume`: creating, listing, changing and deleting volumes.
//!
//! What must stay true: what is deleted, renamed or resized is named in full; nothing asks back, so
//! that scripts can use it.

use super::cluster::{ManagerArg, StatusArgs, Volumes};
use super::dev::DurabilityArg;
use super::units::{parse_size, show_size};
use super::{DEGRADED, Fail, print, print_json};
use clap::{Args, Subcommand};
use sealfs_protocol::VolumeId;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::limits::CHUNK_SIZE_LOG2;
use sealfs_protocol::manager::{Durability, ManagerRequest, Volume, VolumeChange, VolumeStatus};
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How long a deletion waits for programs that have just ended to be seen gone, and every change
/// for the servers to work by it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs volume create home --quota 10G
  sealfs volume list
  sealfs volume resize home --quota 20G
  sealfs volume set home --read-only
  sealfs volume rename home archive
  sealfs volume delete archive")]
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
  sealfs volume create home --quota 10G --inodes 1000000 --mode 1777
  sealfs volume create scratch --durability memory --chunk-size 4M --width 8")]
    Create(CreateArgs),
    /// Show the volumes and what they take
    #[command(after_help = "\
Examples:
  sealfs volume list
  sealfs volume list --json

Exit code 3: a server is silent, so that its share is missing or old.")]
    List(StatusArgs),
    /// Change the quota of a volume
    #[command(after_help = "\
Examples:
  sealfs volume resize home --quota 20G
  sealfs volume resize home --inodes 2000000
  sealfs volume resize home --quota none --inodes none

A quota below what the volume takes lets nothing grow until enough was removed.")]
    Resize(ResizeArgs),
    /// Give a volume another name; programs that use it go on
    #[command(after_help = "Examples:\n  sealfs volume rename home archive")]
    Rename {
        old: String,
        new: String,
        #[command(flatten)]
        manager: ManagerArg,
    },
    /// Make a volume read-only or writable again, at once and for everybody
    #[command(after_help = "\
Examples:
  sealfs volume set archive --read-only
  sealfs volume set archive --read-write")]
    Set(SetArgs),
    /// Delete a volume and all its files; refused while programs use it
    #[command(after_help = "\
Examples:
  sealfs volume delete home
  sealfs volume delete home --force    also if programs use it: they get ESTALE or ENOENT")]
    Delete {
        name: String,
        /// Take it from programs that use it
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        manager: ManagerArg,
    },
}

#[derive(Args, Debug)]
struct CreateArgs {
    name: String,
    /// Most that its files may take [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = parse_quota_bytes)]
    quota: Option<u64>,
    /// Most files and directories in it [default: no limit]
    #[arg(long, value_name = "N", value_parser = parse_quota_inodes)]
    inodes: Option<u64>,
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
    #[arg(long, value_name = "OCTAL", default_value = "755", value_parser = parse_mode)]
    mode: u32,
    /// Refuse every change
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    manager: ManagerArg,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = true, args = ["quota", "inodes"])]
struct ResizeArgs {
    name: String,
    /// Most that its files may take, or "none"
    #[arg(long, value_name = "BYTES", value_parser = parse_quota_bytes)]
    quota: Option<u64>,
    /// Most files and directories in it, or "none"
    #[arg(long, value_name = "N", value_parser = parse_quota_inodes)]
    inodes: Option<u64>,
    #[command(flatten)]
    manager: ManagerArg,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false, args = ["read_only", "read_write"])]
struct SetArgs {
    name: String,
    /// Refuse every change with EROFS
    #[arg(long)]
    read_only: bool,
    /// Allow changes again
    #[arg(long)]
    read_write: bool,
    #[command(flatten)]
    manager: ManagerArg,
}

/// A chunk size as a power of two.
pub fn parse_chunk_size(text: &str) -> Result<u8, String> {
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

/// A quota; 0 on the wire for none.
fn parse_quota_bytes(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(0),
        text => parse_size(text).and_then(not_zero),
    }
}

fn parse_quota_inodes(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(0),
        text => text
            .parse()
            .map_err(|_| "use a number, or none".to_owned())
            .and_then(not_zero),
    }
}

fn not_zero(quota: u64) -> Result<u64, String> {
    if quota == 0 {
        return Err("nothing fits into 0: say none for no limit".into());
    }
    Ok(quota)
}

pub fn run(args: VolumeArgs) -> Result<u8, Fail> {
    match args.verb {
        VolumeVerb::Create(args) => create(args),
        VolumeVerb::List(args) => list(&args),
        VolumeVerb::Resize(args) => {
            let change = VolumeChange {
                quota_bytes: args.quota,
                quota_inodes: args.inodes,
                ..VolumeChange::default()
            };
            change_volume(&args.manager, args.name, change)
        }
        VolumeVerb::Rename { old, new, manager } => {
            let change = VolumeChange {
                name: Some(new),
                ..VolumeChange::default()
            };
            change_volume(&manager, old, change)
        }
        VolumeVerb::Set(args) => {
            let change = VolumeChange {
                read_only: Some(args.read_only),
                ..VolumeChange::default()
            };
            change_volume(&args.manager, args.name, change)
        }
        VolumeVerb::Delete {
            name,
            force,
            manager,
        } => delete(&manager, name, force),
    }
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
        quota_bytes: args.quota.unwrap_or(0),
        quota_inodes: args.inodes.unwrap_or(0),
        read_only: args.read_only,
    };
    args.manager.ask(&ManagerRequest::CreateVolume { volume })?;
    Ok(0)
}

fn change_volume(manager: &ManagerArg, name: String, change: VolumeChange) -> Result<u8, Fail> {
    manager.ask(&ManagerRequest::ChangeVolume { name, change })?;
    in_force(manager)
}

/// Returns when every server that is not silent works by the state as it is now.
fn in_force(manager: &ManagerArg) -> Result<u8, Fail> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let behind = manager.volumes()?.behind;
        let Some(server) = behind.first() else {
            return Ok(0);
        };
        if Instant::now() > deadline {
            eprintln!("sealfs: changed, but server {server} has not taken it up yet");
            return Ok(DEGRADED);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Programs that have just ended may still be counted as users for a moment.
fn delete(manager: &ManagerArg, name: String, force: bool) -> Result<u8, Fail> {
    let request = ManagerRequest::DeleteVolume {
        name: name.clone(),
        force,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(fail) = manager.ask(&request) else {
            return in_force(manager);
        };
        let volumes = manager.volumes()?.volumes;
        let mut volumes = volumes.iter();
        let in_use = volumes.any(|v| v.volume.name == name && v.clients > 0);
        if !in_use || Instant::now() > deadline {
            return Err(fail);
        }
        std::thread::sleep(PAUSE);
    }
}

fn list(args: &StatusArgs) -> Result<u8, Fail> {
    let Volumes {
        volumes, silent, ..
    } = args.manager.volumes()?;
    if args.json {
        print_json(&volumes.iter().map(VolumeFacts::from).collect::<Vec<_>>())?;
    } else {
        print(&volume_table(&volumes))?;
    }
    for server in &silent {
        eprintln!("sealfs: server {server} is silent: its share is missing or old");
    }
    Ok(if silent.is_empty() { 0 } else { DEGRADED })
}

#[derive(Serialize)]
pub struct VolumeFacts {
    name: String,
    id: u32,
    durability: &'static str,
    chunk_size_bytes: u64,
    width: u8,
    used_bytes: u64,
    inodes: u64,
    /// `null`: no limit.
    quota_bytes: Option<u64>,
    quota_inodes: Option<u64>,
    read_only: bool,
    clients: u32,
}

impl From<&VolumeStatus> for VolumeFacts {
    fn from(status: &VolumeStatus) -> VolumeFacts {
        let v = &status.volume;
        let limit = |quota: u64| (quota > 0).then_some(quota);
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
            used_bytes: status.used.bytes,
            inodes: status.used.inodes,
            quota_bytes: limit(v.quota_bytes),
            quota_inodes: limit(v.quota_inodes),
            read_only: v.read_only,
            clients: status.clients,
        }
    }
}

// Writing to a String cannot fail.
pub fn volume_table(volumes: &[VolumeStatus]) -> String {
    let head = [
        "VOLUME", "USED", "QUOTA", "INODES", "LIMIT", "CHUNK", "WIDTH",
    ];
    let [name, used, quota, inodes, limit, chunk, width] = head;
    let mut text = format!(
        "{name:<16} {used:>11} {quota:>11} {inodes:>10} {limit:>10} {chunk:>10} {width:>5} MODE\n"
    );
    for facts in volumes.iter().map(VolumeFacts::from) {
        let none = || "-".to_owned();
        let mode = if facts.read_only { "ro" } else { "rw" };
        let _ = writeln!(
            text,
            "{:<16} {:>11} {:>11} {:>10} {:>10} {:>10} {:>5} {mode},{}",
            facts.name,
            show_size(facts.used_bytes),
            facts.quota_bytes.map_or_else(none, show_size),
            facts.inodes,
            facts.quota_inodes.map_or_else(none, |n| n.to_string()),
            show_size(facts.chunk_size_bytes),
            facts.width,
            facts.durability,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_said_in_a_word_and_zero_is_refused() {
        assert_eq!(parse_quota_bytes("none"), Ok(0));
        assert_eq!(parse_quota_bytes("1G"), Ok(1 << 30));
        assert_eq!(parse_quota_inodes("12"), Ok(12));
        for bad in ["0", "-1", "x", ""] {
            assert!(parse_quota_inodes(bad).is_err(), "{bad}");
            assert!(parse_quota_bytes(bad).is_err(), "{bad}");
        }
    }
}
