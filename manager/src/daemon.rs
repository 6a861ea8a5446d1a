//! From flags to a serving manager, in the order that leaves nothing behind when it is refused:
//! configuration, port, state, then the file that says "ready".

use crate::config::{Config, Flags};
use crate::serve::Server;
use crate::state::Registry;
use crate::store::Store;
use sealfs_daemon::listen;
use sealfs_transport::tcp::pool::Pool;
use sealfs_transport::tcp::server::Listener;

/// Runs the manager; returns only when it cannot serve, with one line that says why.
pub fn run(flags: Flags) -> Result<(), String> {
    let config = Config::load(flags)?;
    let listener = Listener::bind(&config.listen, Pool::new())
        .map_err(|e| listen::refused(&config.listen, &e))?;
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
    listen::write_ready(config.ready_file.as_deref(), &url)?;
    server.run().map_err(|e| e.to_string())
}
