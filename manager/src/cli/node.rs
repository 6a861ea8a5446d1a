//! What the command needs of this node: a place for the arena, and the cluster as last known here.

use super::Fail;
use sealfs_client::node::{Runtime, state_file};
use sealfs_protocol::manager::ClusterState;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The runtime directory of the user. One that the look itself made is removed again by
/// [`NodePlace::drop`] unless somebody began to use it.
pub struct NodePlace {
    pub runtime: Runtime,
    was_there: bool,
}

impl NodePlace {
    /// Finds a place for the arena, or tells why there is none.
    pub fn find() -> Result<NodePlace, Fail> {
        let chosen = std::env::var_os("SEALFS_RUNTIME_DIR");
        let chosen = chosen.as_deref().map(OsStrExt::as_bytes);
        let name = format!("sealfs-{}", rustix::process::geteuid().as_raw());
        let was_there = chosen.is_some() || Path::new("/dev/shm").join(name).exists();
        match Runtime::open(chosen) {
            Ok(runtime) => Ok(NodePlace { runtime, was_there }),
            Err(error) => Err(error.to_string().into()),
        }
    }

    /// The cluster of `manager` as last published on this node.
    pub fn last_state(&self, manager: &str) -> Option<ClusterState> {
        state_file::read(&self.runtime, manager)
    }

    /// Keeps the state for when the manager is away.
    pub fn keep_state(&self, manager: &str, state: &ClusterState) {
        // Without a copy only that is lost.
        let _ = state_file::write(&self.runtime, manager, state);
    }

    pub fn path(&self) -> String {
        String::from_utf8_lossy(self.runtime.path()).into_owned()
    }
}

impl Drop for NodePlace {
    fn drop(&mut self) {
        if !self.was_there && self.runtime.is_default() {
            // Refused while anything is in it.
            let _ = std::fs::remove_dir(self.path());
        }
    }
}
