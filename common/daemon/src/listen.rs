//! Where a daemon listens, and how it says that it does.
//!
//! What must stay true: without `insecure` nobody but this node is served, since nobody is
//! authenticated; the ready file is never seen half written.

use sealfs_protocol::Errno;
use sealfs_transport::{TransportError, Url};
use std::path::Path;

const EADDRINUSE: Errno = Errno(98);

/// Where to listen; loopback unless `insecure`.
pub fn url(text: &str, insecure: bool) -> Result<Url, String> {
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

/// Why the port cannot be had.
pub fn refused(url: &Url, error: &TransportError) -> String {
    match error {
        TransportError::Os { errno, .. } if *errno == EADDRINUSE => format!(
            "listen {url}: another process uses this port: stop it, or choose another port (0 takes \
             any free one)"
        ),
        other => format!("listen {url}: {other}"),
    }
}

/// Says in the ready file, if there is to be one, where the daemon serves. Written beside and
/// renamed, so that nobody reads half of it.
pub fn write_ready(path: Option<&Path>, url: &Url) -> Result<(), String> {
    let Some(path) = path else {
        return Ok(());
    };
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("{url}\n"))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|e| format!("ready_file {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_needs_insecure_listen() {
        let refused = url("tcp://0.0.0.0:7420", false).unwrap_err();
        assert!(refused.contains("insecure_listen = true"), "{refused}");
        assert!(url("tcp://0.0.0.0:7420", true).is_ok());
        assert!(url("tcp://127.0.0.1:7420", false).is_ok());
    }

    #[test]
    fn the_ready_file_holds_the_url() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready");
        let url = "tcp://127.0.0.1:7420".parse().unwrap();
        write_ready(Some(&path), &url).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "tcp://127.0.0.1:7420\n");
    }
}
