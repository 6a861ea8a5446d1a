//! Configuration of the daemon: TOML file, environment, flags; the later wins.
//!
//! What must stay true: an unknown key or an unusable value is refused in one line before anything
//! is opened, bound or written.

use clap::Parser;
use sealfs_transport::Url;
use serde::Deserialize;
use std::path::{Path, PathBuf};

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
        let file = match &flags.config {
            Some(path) => read_file(path)?,
            None => FileConfig::default(),
        };
        let insecure_listen = flags.insecure_listen || file.insecure_listen.unwrap_or(false);
        let listen = flags.listen.or(file.listen);
        let state_dir = flags.state_dir.or(file.state_dir).ok_or(
            "no state directory: name one with --state-dir, SEALFS_MANAGER_STATE_DIR or state_dir",
        )?;
        let partitions = flags.partitions.or(file.partitions);
        let most = sealfs_protocol::limits::PARTITIONS_MAX;
        if partitions.is_some_and(|n| n == 0 || n > most) {
            return Err(format!("partitions: a cluster has 1 to {most}"));
        }
        Ok(Config {
            listen: listen_url(listen.as_deref().unwrap_or(LISTEN_DEFAULT), insecure_listen)?,
            state_dir,
            partitions,
            insecure_listen,
            ready_file: flags.ready_file.or(file.ready_file),
        })
    }
}

fn read_file(path: &Path) -> Result<FileConfig, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| format!("configuration {}: {e}", path.display()))?;
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |s| {
            1 + text[..s.start.min(text.len())].matches('\n').count()
        });
        let what = e
            .message()
            .lines()
            .next()
            .unwrap_or("unreadable")
            .to_owned();
        format!("configuration {}, line {line}: {what}", path.display())
    })
}

/// Where to listen; loopback unless `insecure`.
fn listen_url(text: &str, insecure: bool) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|e| format!("listen {text:?}: {e}"))?;
    if !url.is_loopback() && !insecure {
        return Err(format!(
            "listen {text}: clients are not authenticated yet, so only loopback is served: use \
             tcp://127.0.0.1:{}, or set insecure_listen = true on a closed test network",
            url.address.port()
        ));
    }
    Ok(url)
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
    fn an_address_for_everybody_needs_insecure_listen() {
        let refused = Config::load(flags("tcp://0.0.0.0:7420")).unwrap_err();
        assert!(refused.contains("insecure_listen = true"), "{refused}");
        let mut allowed = flags("tcp://0.0.0.0:7420");
        allowed.insecure_listen = true;
        assert!(Config::load(allowed).is_ok());
    }

    #[test]
    fn a_file_with_an_unknown_key_is_refused_in_one_line_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.toml");
        std::fs::write(&path, "state_dir = \"s\"\nlissten = \"x\"\n").unwrap();
        let refused = Config::load(Flags {
            config: Some(path.clone()),
            ..Flags::default()
        })
        .unwrap_err();
        assert!(
            refused.contains("m.toml, line 2") && refused.contains("lissten"),
            "{refused}"
        );
        assert!(!refused.contains('\n'));
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
