//! Keeps the published state of every cluster in use fresh in the runtime directory.
//!
//! While processes exist, the manager is asked every second. A manager that is away changes nothing:
//! the last copy stays, and programs go on and start with it.

use crate::courier::Errand;
use crate::run::{Node, Stop};
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::state_file;
use sealfs_protocol::manager::{ClusterState, ManagerReply, ManagerRequest};
use sealfs_transport::{Url, rpc};
use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

pub const REFRESH_EVERY: Duration = Duration::from_secs(1);
const ANSWER_WITHIN_MS: u32 = 900;

/// Runs until the keeper stops.
pub fn refresh(node: &Node, stop: &Stop, errands: &Sender<Errand>) {
    let mut seen: BTreeMap<ManagerIndex, u64> = BTreeMap::new();
    while !stop.wait(REFRESH_EVERY) {
        for manager in node.managers_in_use() {
            let Some(url) = node.arena.manager_url(manager) else {
                continue;
            };
            let Some(version) = refresh_one(node, &url) else {
                continue;
            };
            // Servers that came back are listed anew: tell them which descriptions are open.
            if seen
                .insert(manager, version)
                .is_some_and(|before| before != version)
            {
                let _ = errands.send(Errand::Reassert(manager));
            }
        }
    }
}

/// Fetches the state if it is newer than the file; the version that the file has then. `None` when
/// the manager does not answer.
fn refresh_one(node: &Node, url: &str) -> Option<u64> {
    let address: Url = url.parse().ok()?;
    let have = state_file::read(&node.runtime, url);
    match ask(&address, have.as_ref().map_or(0, |s| s.version)) {
        Ok(None) => have.map(|s| s.version),
        Ok(Some(state)) => {
            if let Err(e) = state_file::write(&node.runtime, url, &state) {
                log::warn!("state of {url}: {e}");
            }
            Some(state.version)
        }
        Err(e) => {
            log::info!("manager {url}: {e}");
            None
        }
    }
}

fn ask(url: &Url, known: u64) -> Result<Option<ClusterState>, String> {
    match rpc::manager(url, &ManagerRequest::State { known }, ANSWER_WITHIN_MS) {
        Ok(ManagerReply::State(state)) => Ok(state),
        Ok(_) => Err("an answer to something else".into()),
        Err(e) => Err(e.to_string()),
    }
}
