//! Configuration of the daemon: TOML file, environment, flags; the later wins.
//!
//! What must stay true: an unknown key or an unusable value is refused in one line before anything
//! is opened, bound or written.

use clap::Parser;
use sealfs_daemon::{config, listen};
use sealfs_transport::Url;
use serde::Deserialize;
use std::path::PathBuf;

/// Where a manager listens unless told otherwise.
pub const LISTEN_DEFAULT: &str = "tcp://127.0.0.1:7420";

/// Publishes the members, the ring and the volumes of a sealfs cluster.
#[derive(Parser, Debug, Default)]
#[command(
    name = "sealfs-manager",
    version,
    after_help = "\
Examples:
  sealfs-manager --state-dir /var/lib/sealfs/manager
  sealfs-manager --config /etc/sealfs/manager.toml
  SEALFS_MANAGER_LISTEN=tcp://127.0.0.1:0 sealfs-manager --state-dir ./state --ready-file ./ready

The configuration file:
  listen = \"tcp://127.0.0.1:7420\"
  state_dir = \"/var/lib/sealfs/manager\"
  partitions = 4096         # when the cluster is made; never changes afterwards
  insecure_listen = false   # other addresses than loopback, without any authentication
  ready_file = \"/run/sealfs/manager.url\""
)]
pub struct Flags {
    /// Read the configuration from this TOML file
    #[arg(long, env = "SEALFS_MANAGER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Listen here; port 0 takes any free one
    #[arg(long, env = "SEALFS_MANAGER_LISTEN", value_name = "URL")]
    pub listen: Option<String>,
    /// Keep the cluster's state in this directory
    #[arg(long, env = "SEALFS_MANAGER_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Partitions of a new cluster, 1 to 32767 [default: 4096]
    #[arg(long, env = "SEALFS_MANAGER_PARTITIONS", value_name = "N")]
    pub partitions: Option<u16>,
    /// Allow an address other than loopback, although nobody is authenticated
    #[arg(long, env = "SEALFS_MANAGER_INSECURE_LISTEN")]
    pub insecure_listen: bool,
    /// Write the URL to this file when ready
    #[arg(long, env = "SEALFS_MANAGER_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    listen: Option<String>,
    state_dir: Option<PathBuf>,
    partitions: Option<u16>,
    insecure_listen: Option<bool>,
    ready_file: Option<PathBuf>,
}

/// What the daemon runs with.
#[derive(Debug, PartialEq, Eq)]
pub struct Config {
    pub listen: Url,
    pub state_dir: PathBuf,
    pub partitions: Option<u16>,
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
        let state_dir = flags.state_dir.or(file.state_dir).ok_or(
            "no state directory: name one with --state-dir, SEALFS_MANAGER_STATE_DIR or state_dir",
        )?;
        let partitions = flags.partitions.or(file.partitions);
        let most = sealfs_protocol::limits::PARTITIONS_MAX;
        if partitions.is_some_and(|n| n == 0 || n > most) {
            return Err(format!("partitions: a cluster has 1 to {most}"));
        }
        Ok(Config {
            listen: listen::url(address, insecure_listen)?,
            state_dir,
            partitions,
            insecure_listen,
            ready_file: flags.ready_file.or(file.ready_file),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(listen: &str) -> Flags {
        Flags {
            listen: Some(listen.into()),
            state_dir: Some("s".into()),
            ..Flags::default()
        }
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.toml");
        std::fs::write(
            &path,
            "listen = \"tcp://127.0.0.1:1\"\nstate_dir = \"file\"\n",
        )
        .unwrap();
        let mut given = flags("tcp://127.0.0.1:2");
        given.config = Some(path);
        let config = Config::load(given).unwrap();
        assert_eq!(config.listen.address.port(), 2);
    }
}
