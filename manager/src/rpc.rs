//! One question to the manager and its answer, with a deadline.

use mio::{Events, Poll, Token};
use sealfs_protocol::codec;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::{ManagerReply, ManagerRequest};
use sealfs_transport::tcp::pool::Pool;
use sealfs_transport::tcp::server::{Outgoing, Received, ServerConnection};
use sealfs_transport::{TransportError, Url};
use std::time::{Duration, Instant};

/// Asks the manager at `url`; every failure within `timeout` comes back as an error.
pub fn call(
    url: &Url,
    request: &ManagerRequest,
    timeout: Duration,
) -> Result<ManagerReply, TransportError> {
    let deadline = Instant::now() + timeout;
    let mut poll = Poll::new().map_err(|e| os("epoll_create", &e))?;
    let mut events = Events::with_capacity(4);
    let mut connection = ServerConnection::connect(url, Pool::new())?;
    connection.register(poll.registry(), Token(0))?;
    let body = codec::encode(request)
        .map_err(|_| TransportError::Unexpected("request cannot be encoded"))?;
    let mut header = Header::new(Kind::ManagerRequest);
    header.deadline_ms = timeout.as_millis() as u32;
    connection.queue(header, &body, Outgoing::None);
    connection.flush()?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(TransportError::Timeout);
        }
        match poll.poll(&mut events, Some(left)) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            outcome => outcome.map_err(|e| os("epoll_wait", &e))?,
        }
        for event in &events {
            connection.on_event(event)?;
        }
        connection.flush()?;
        match connection.receive()? {
            Received::Blocked => {}
            Received::Closed => return Err(TransportError::Closed),
            Received::Frame(frame) if frame.header.kind == Kind::ManagerReply => {
                return codec::decode(frame.body)
                    .map_err(|_| TransportError::Unexpected("malformed reply"));
            }
            Received::Frame(_) => return Err(TransportError::Unexpected("not a manager's reply")),
        }
    }
}

fn os(what: &'static str, error: &std::io::Error) -> TransportError {
    TransportError::Os {
        what,
        errno: sealfs_protocol::Errno(
            error
                .raw_os_error()
                .unwrap_or(sealfs_protocol::Errno::EIO.0),
        ),
    }
}
