//! The environment that makes a program see a mount.

use super::{Fail, layers, programs};
use std::process::Command;

/// Variables for a program, in the order in which they are shown.
pub struct Environment(Vec<(&'static str, String)>);

impl Environment {
    /// For `volume` of the cluster at `manager`, to be seen below `mount`. Prepares the images
    /// that programs map at start.
    pub fn new(manager: &str, volume: &str, mount: &str) -> Result<Environment, Fail> {
        let library = programs::library()?;
        let keeper = programs::beside("sealfs-keeper")?;
        let sites = layers::cache_dir();
        let shown = sites.to_string_lossy().into_owned();
        if shown.contains(|c: char| c.is_whitespace() || "'\"$`\\".contains(c)) {
            let text =
                format!("{shown}: set SEALFS_SITES to a directory without blanks and quotes");
            return Err(text.into());
        }
        layers::prepare(&sites)?;
        let inherited = std::env::var("LD_PRELOAD").unwrap_or_default();
        Ok(Environment(vec![
            (
                "LD_PRELOAD",
                preload(&inherited, &library.to_string_lossy()),
            ),
            ("SEALFS_MOUNT", mount.into()),
            ("SEALFS_MANAGER", manager.into()),
            ("SEALFS_VOLUME", volume.into()),
            ("SEALFS_KEEPER", keeper.to_string_lossy().into_owned()),
            ("SEALFS_SITES", shown),
        ]))
    }

    /// One variable more, which has a name of ours.
    pub fn add(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    /// Lines for `eval`. No value holds a blank or quote.
    pub fn exports(&self) -> String {
        let line = |(name, value): &(_, String)| format!("export {name}={value}\n");
        self.0.iter().map(line).collect()
    }

    /// One line to put before a command.
    pub fn prefix(&self) -> String {
        let word = |(name, value): &(_, String)| format!(" {name}={value}");
        format!("env{}\n", self.0.iter().map(word).collect::<String>())
    }

    pub fn apply(&self, command: &mut Command) {
        command.envs(self.0.iter().map(|(name, value)| (name, value)));
    }
}

/// Others' libraries keep their order and come first; ours is named once.
fn preload(inherited: &str, library: &str) -> String {
    let is_ours = |path: &&str| path.rsplit('/').next() == Some("libsealfs.so");
    let mut all: Vec<&str> = inherited
        .split([':', ' '])
        .filter(|path| !path.is_empty() && !is_ours(path))
        .collect();
    all.push(library);
    all.join(":")
}

/// Removes from a daemon's environment what would cover it or configure it behind its file's back.
pub fn strip_for_daemon(command: &mut Command) {
    for (name, value) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "LD_PRELOAD" && value.to_string_lossy().contains("libsealfs.so") {
            command.env_remove(&name);
        }
        let stays = matches!(&*text, "SEALFS_LOG" | "SEALFS_RUNTIME_DIR");
        if text.starts_with("SEALFS_") && !stays {
            command.env_remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::preload;

    #[test]
    fn a_preload_of_others_is_kept_and_ours_is_named_once() {
        assert_eq!(preload("", "/l/libsealfs.so"), "/l/libsealfs.so");
        assert_eq!(
            preload("/a.so /b.so:/old/libsealfs.so", "/l/libsealfs.so"),
            "/a.so:/b.so:/l/libsealfs.so"
        );
    }
}
