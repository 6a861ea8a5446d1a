//! Configuration of a server: TOML file, environment, flags; the later wins.
//!
//! What must stay true: an unknown key or an unusable value is refused in one line before anything
//! is opened, bound or written.

use clap::Parser;
use sealfs_daemon::{config, listen};
use sealfs_transport::Url;
use serde::Deserialize;
use std::path::PathBuf;

/// Where a server listens unless told otherwise: any free port of this node.
pub const LISTEN_DEFAULT: &str = "tcp://127.0.0.1:0";
/// Size of the data file that is made when none is there and no size is given, in bytes.
pub const SIZE_DEFAULT_BYTES: u64 = 4 << 30;
/// Memory of one server unless configured, in MiB.
pub const MEMORY_DEFAULT_MIB: u64 = 256;

/// Serves one shard of a sealfs cluster: metadata, and data on a device or a preallocated file.
#[derive(Parser, Debug, Default)]
#[command(
    name = "sealfs-server",
    version,
    after_help = "\
Examples:
  sealfs-server --config /etc/sealfs/server.toml
  sealfs-server --name server-0 --manager tcp://127.0.0.1:7420 --meta-dir /var/lib/sealfs/meta --data /dev/nvme0n1
  SEALFS_SERVER_SIZE_BYTES=8589934592 sealfs-server --name a --meta-dir ./meta --data ./data

The configuration file:
  name = \"server-0\"
  listen = \"tcp://127.0.0.1:0\"
  manager = \"tcp://127.0.0.1:7420\"
  meta_dir = \"/var/lib/sealfs/meta\"    # LMDB, on a kernel file system
  data = \"/dev/nvme0n1\"                # a block device, or a file that is made and preallocated
  log = \"/dev/nvme1n1\"                 # the log apart from the data, if wanted
  size_bytes = 4294967296              # of a data file that has to be made
  memory_mib = 256
  weight = 1                           # share of the partitions relative to the other servers
  insecure_listen = false              # other addresses than loopback, without any authentication
  ready_file = \"/run/sealfs/server.url\""
)]
pub struct Flags {
    /// Read the configuration from this TOML file
    #[arg(long, env = "SEALFS_SERVER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of this server in the cluster
    #[arg(long, env = "SEALFS_SERVER_NAME")]
    pub name: Option<String>,
    /// Listen here; port 0 takes any free one
    #[arg(long, env = "SEALFS_SERVER_LISTEN", value_name = "URL")]
    pub listen: Option<String>,
    /// The cluster's manager
    #[arg(long, env = "SEALFS_SERVER_MANAGER", value_name = "URL")]
    pub manager: Option<String>,
    /// Keep the index (LMDB) in this directory
    #[arg(long, env = "SEALFS_SERVER_META_DIR", value_name = "DIR")]
    pub meta_dir: Option<PathBuf>,
    /// Keep data on this block device or in this file
    #[arg(long, env = "SEALFS_SERVER_DATA", value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Keep the log on this block device or in this file, apart from the data
    #[arg(long, env = "SEALFS_SERVER_LOG_DEVICE", value_name = "PATH")]
    pub log: Option<PathBuf>,
    /// Size of a data file that has to be made
    #[arg(long, env = "SEALFS_SERVER_SIZE_BYTES", value_name = "BYTES")]
    pub size_bytes: Option<u64>,
    /// Memory to stay within
    #[arg(long, env = "SEALFS_SERVER_MEMORY_MIB", value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// Share of the partitions relative to other servers
    #[arg(long, env = "SEALFS_SERVER_WEIGHT", value_name = "N")]
    pub weight: Option<u32>,
    /// Allow an address other than loopback, although nobody is authenticated
    #[arg(long, env = "SEALFS_SERVER_INSECURE_LISTEN")]
    pub insecure_listen: bool,
    /// Write the URL to this file when ready
    #[arg(long, env = "SEALFS_SERVER_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    name: Option<String>,
    listen: Option<String>,
    manager: Option<String>,
    meta_dir: Option<PathBuf>,
    data: Option<PathBuf>,
    log: Option<PathBuf>,
    size_bytes: Option<u64>,
    memory_mib: Option<u64>,
    weight: Option<u32>,
    insecure_listen: Option<bool>,
    ready_file: Option<PathBuf>,
}

/// What a server runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub listen: Url,
    pub manager: Url,
    pub meta_dir: PathBuf,
    pub data: PathBuf,
    pub log: Option<PathBuf>,
    pub size_bytes: u64,
    pub memory_mib: u64,
    pub weight: u32,
    pub insecure_listen: bool,
    pub ready_file: Option<PathBuf>,
}

impl Config {
    /// Merges file and flags; the error is one line.
    pub fn load(flags: Flags) -> Result<Config, String> {
        let file: FileConfig = config::read_file(flags.config.as_deref())?;
        let insecure_listen = flags.insecure_listen || file.insecure_listen.unwrap_or(false);
        let address = flags.listen.or(file.listen);
        let address = address.as_deref().unwrap_or(LISTEN_DEFAULT);
        let missing = |key: &str| {
            let flag = key.replace('_', "-");
            format!("no {key}: give it in the configuration file or with --{flag}")
        };
        let manager = flags
            .manager
            .or(file.manager)
            .ok_or_else(|| missing("manager"))?;
        Ok(Config {
            name: flags.name.or(file.name).ok_or_else(|| missing("name"))?,
            listen: listen::url(address, insecure_listen)?,
            manager: manager
                .parse()
                .map_err(|e| format!("manager {manager:?}: {e}"))?,
            meta_dir: flags
                .meta_dir
                .or(file.meta_dir)
                .ok_or_else(|| missing("meta_dir"))?,
            data: flags.data.or(file.data).ok_or_else(|| missing("data"))?,
            log: flags.log.or(file.log),
            size_bytes: flags
                .size_bytes
                .or(file.size_bytes)
                .unwrap_or(SIZE_DEFAULT_BYTES),
            memory_mib: flags
                .memory_mib
                .or(file.memory_mib)
                .unwrap_or(MEMORY_DEFAULT_MIB),
            weight: flags.weight.or(file.weight).unwrap_or(1).max(1),
            insecure_listen,
            ready_file: flags.ready_file.or(file.ready_file),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags {
            name: Some("a".into()),
            manager: Some("tcp://127.0.0.1:1".into()),
            meta_dir: Some("m".into()),
            data: Some("d".into()),
            ..Flags::default()
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = Config::load(Flags {
            data: None,
            ..flags()
        })
        .unwrap_err();
        assert!(refused.contains("--data"), "{refused}");
    }
}
