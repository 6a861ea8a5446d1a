//! What can go wrong between two peers.

use crate::url::UrlError;
use sealfs_protocol::Errno;
use sealfs_protocol::header::HeaderError;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TransportError {
    #[error("{0}")]
    Url(#[from] UrlError),
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    #[error("the deadline has passed")]
    Timeout,
    /// The peer has gone, or the connection was given up.
    #[error("connection closed")]
    Closed,
    /// The caller's memory could not be read or written (EFAULT).
    #[error("bad address")]
    Fault,
    #[error("malformed frame: {0}")]
    Malformed(#[from] HeaderError),
    /// A frame longer than its sender may send (a peer that has not said hello, or a body of the
    /// wrong form).
    #[error("a frame of {bytes} bytes where at most {limit} are allowed")]
    Oversized { bytes: usize, limit: usize },
    /// A well-formed frame that has no place here, such as a body that does not parse.
    #[error("unexpected frame: {0}")]
    Unexpected(&'static str),
    /// The peer refused the frame as such.
    #[error("{text}")]
    Refusal { errno: Errno, text: String },
    #[error("{what}: {errno}")]
    Os { what: &'static str, errno: Errno },
}
