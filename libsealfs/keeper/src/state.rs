//! Keeps the published state of every cluster in use fresh in the runtime directory.
//!
//! While processes exist, the manager is asked every second. A manager that is away changes nothing:
//! the last copy stays, and programs go on and start with it.

use crate::run::Node;
use sealfs_client::node::state_file;
use sealfs_protocol::manager::{ClusterState, ManagerReply, ManagerRequest};
use sealfs_transport::{Url, rpc};
use std::time::Duration;

pub const REFRESH_EVERY: Duration = Duration::from_secs(1);
const ANSWER_WITHIN_MS: u32 = 900;

/// Looks once.
pub fn refresh(node: &Node) {
    for manager in node.managers_in_use() {
        if let Some(url) = node.arena.manager_url(manager) {
            refresh_one(node, &url);
        }
    }
}

/// Fetches the state if it is newer than the file.
fn refresh_one(node: &Node, url: &str) {
    let Ok(address) = url.parse::<Url>() else {
        return;
    };
    let have = state_file::read(&node.runtime, url);
    match ask(&address, have.as_ref().map_or(0, |s| s.version)) {
        Ok(None) => {}
        Ok(Some(state)) => {
            if let Err(e) = state_file::write(&node.runtime, url, &state) {
                log::warn!("state of {url}: {e}");
            }
        }
        Err(e) => log::info!("manager {url}: {e}"),
    }
}

fn ask(url: &Url, known: u64) -> Result<Option<ClusterState>, String> {
    match rpc::manager(url, &ManagerRequest::State { known }, ANSWER_WITHIN_MS) {
        Ok(ManagerReply::State(state)) => Ok(state),
        Ok(_) => Err("an answer to something else".into()),
        Err(e) => Err(e.to_string()),
    }
}
