//! Verbs on files without the library: `ls`, `cat`, `cp`, `rm`, `mkdir`, `stat`, `chunk-size`.
//!
//! They use the client crate directly, so they work where nothing can be preloaded. Paths are
//! written as programs see them (`/sealfs/a`) or with the volume's name (`home:/a`).

pub mod copy;
pub mod layout;
pub mod list;
mod remote;
pub mod remove;
pub mod show;
mod tree;

use super::Fail;
use super::cluster::ManagerArg;
use crate::names::check_name;
use clap::Args;
use remote::Remote;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Which cluster, and how its paths are written.
#[derive(Args, Debug, Clone)]
pub struct Where {
    #[command(flatten)]
    manager: ManagerArg,
    /// Volume of paths below the mount; may be left out if the cluster has one only
    #[arg(long, env = "SEALFS_VOLUME", value_name = "NAME")]
    volume: Option<String>,
    /// Prefix of paths in the volume
    #[arg(
        long,
        env = "SEALFS_MOUNT",
        value_name = "PATH",
        default_value = "/sealfs"
    )]
    mount: String,
}

/// A path as it was typed, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Typed {
    Local(OsString),
    /// Path below the volume's root; no name: the volume of the mount.
    Volume(Option<String>, Vec<u8>),
}

impl Where {
    fn understand(&self, typed: &OsStr) -> Typed {
        let bytes = typed.as_bytes();
        if let Some(at) = bytes.windows(2).position(|w| w == b":/")
            && let Ok(name) = std::str::from_utf8(&bytes[..at])
            && check_name("volume", name).is_ok()
        {
            return Typed::Volume(Some(name.into()), trimmed(&bytes[at + 1..]));
        }
        let mount = self.mount.trim_end_matches('/').as_bytes();
        match bytes.strip_prefix(mount) {
            Some(rest) if rest.is_empty() || rest[0] == b'/' => Typed::Volume(None, trimmed(rest)),
            _ => Typed::Local(typed.to_owned()),
        }
    }

    /// Connects to the volume of a path that must be in one.
    fn connect(&self, typed: &OsStr, links: &mut Links) -> Result<(Remote, Vec<u8>), Fail> {
        match self.understand(typed) {
            Typed::Volume(volume, path) => Ok((links.get(self, volume)?, path)),
            Typed::Local(path) => Err(format!(
                "{}: not on sealfs: write {}/… or VOLUME:/…",
                path.display(),
                self.mount
            )
            .into()),
        }
    }
}

/// Slashes around a path mean nothing to the client, but a final one asks for a directory.
fn trimmed(path: &[u8]) -> Vec<u8> {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    path[start..].to_vec()
}

/// Volumes that this command has connected to.
#[derive(Default)]
struct Links(Vec<(Option<String>, Remote)>);

impl Links {
    fn get(&mut self, place: &Where, volume: Option<String>) -> Result<Remote, Fail> {
        if let Some((_, link)) = self.0.iter().find(|(name, _)| *name == volume) {
            return Ok(link.clone());
        }
        let asked = volume.clone().or_else(|| place.volume.clone());
        let link = Remote::connect(&place.manager, asked, &place.mount)?;
        self.0.push((volume, link.clone()));
        Ok(link)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for (_, link) in &self.0 {
            link.end();
        }
    }
}

/// Runs `verb` on each path; all are tried, the first failure decides the exit code.
fn for_each(paths: &[OsString], mut verb: impl FnMut(&OsStr) -> Result<(), Fail>) -> u8 {
    let mut code = 0;
    for path in paths {
        if let Err(fail) = verb(path) {
            eprintln!("sealfs: {}", fail.text);
            code = code.max(fail.code);
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understand(text: &str) -> Typed {
        let place = Where {
            manager: ManagerArg { manager: None },
            volume: None,
            mount: "/sealfs/".into(),
        };
        place.understand(OsStr::new(text))
    }

    #[test]
    fn paths_below_the_mount_and_with_a_volume_are_told_from_local_ones() {
        let below = |volume: Option<&str>, path: &str| {
            Typed::Volume(volume.map(str::to_owned), path.as_bytes().to_vec())
        };
        assert_eq!(understand("/sealfs"), below(None, ""));
        assert_eq!(understand("/sealfs//a/b/"), below(None, "a/b/"));
        assert_eq!(understand("home:/a:/b"), below(Some("home"), "a:/b"));
        for local in ["/sealfsx", "a", "./a:/b", "/tmp/x:/y"] {
            assert_eq!(understand(local), Typed::Local(local.into()), "{local}");
        }
    }
}
