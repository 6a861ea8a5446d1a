//! Whether anything stays behind: once every name below the mount is removed the volume is empty, although a program
//! of the same session lives on. A description that a restarted server was told of and that nobody closes would keep
//! its file.

use crate::cluster::Cluster;
use std::io;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Longest time until what was removed is collected, and counted by the manager.
const COLLECTED_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What an empty volume takes: the inode of its root, which is charged with a block.
const EMPTY: (u64, u64) = (1, 4096);

/// A program that keeps the session alive: its end would end everything that is open in it.
pub struct Witness(Child);

impl Witness {
    pub fn start(cluster: &Cluster) -> io::Result<Self> {
        let mut bash = cluster.wrapped("bash");
        bash.args(["-c", "cd \"$1\" && read -r _", "witness"])
            .arg(cluster.folder(""))
            .stdin(Stdio::piped());
        Ok(Self(bash.spawn()?))
    }
}

/// Removes everything, and waits until it is gone.
pub fn look(cluster: &Cluster) -> io::Result<()> {
    let mut remove = cluster.wrapped("find");
    remove
        .arg(cluster.folder(""))
        .args(["-mindepth", "1", "-delete"]);
    crate::c_tests::must_succeed(&mut remove)?;
    let until = Instant::now() + COLLECTED_WITHIN;
    loop {
        let used = (cluster.used("inodes")?, cluster.used("used_bytes")?);
        if used == EMPTY {
            return Ok(());
        }
        if Instant::now() > until {
            let text = format!("{} inodes and {} bytes in an empty volume", used.0, used.1);
            return Err(io::Error::other(text));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
