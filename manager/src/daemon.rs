//! From flags to a serving manager, in the order that leaves nothing behind when it is refused:
//! configuration, port, state, then the file that says "ready".

use crate::config::{Config, Flags};
use crate::serve::Server;
use crate::state::Registry;
use crate::store::Store;
use sealfs_protocol::Errno;
use sealfs_transport::tcp::pool::Pool;
use sealfs_transport::tcp::server::Listener;
use sealfs_transport::{TransportError, Url};
use std::path::Path;

const EADDRINUSE: Errno = Errno(98);

/// Runs the manager; returns only when it cannot serve, with one line that says why.
pub fn run(flags: Flags) -> Result<(), String> {
    let config = Config::load(flags)?;
    let listener = Listener::bind(&config.listen, Pool::new())
        .map_err(|e| cannot_listen(&config.listen, &e))?;
    let url = listener.url().map_err(|e| e.to_string())?;
    let (store, durable) =
        Store::open(&config.state_dir, config.partitions).map_err(|e| e.to_string())?;
    if config.insecure_listen {
        log::warn!("insecure_listen = true: anybody who reaches {url} may change the cluster");
    }
    log::info!(
        "manager of cluster {}: listening at {url}, state {} in {}, {} servers, {} volumes",
        durable.cluster(),
        durable.version,
        config.state_dir.display(),
        durable.members.len(),
        durable.volumes.len()
    );
    let server = Server::new(listener, Registry::new(durable), store).map_err(|e| e.to_string())?;
    if let Some(path) = &config.ready_file {
        write_ready(path, &url)?;
    }
    server.run().map_err(|e| e.to_string())
}

fn cannot_listen(url: &Url, error: &TransportError) -> String {
    match error {
        TransportError::Os { errno, .. } if *errno == EADDRINUSE => format!(
            "listen {url}: another process uses this port: stop it, or choose another port (0 takes \
             any free one)"
        ),
        other => format!("listen {url}: {other}"),
    }
}

/// Written beside and renamed, so that nobody reads half of it.
fn write_ready(path: &Path, url: &Url) -> Result<(), String> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("{url}\n"))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|e| format!("ready_file {}: {e}", path.display()))
}
