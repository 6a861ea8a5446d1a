//! The client's side of TCP: a non-blocking socket on raw system calls.
//!
//! # Safety
//! The socket is a bare descriptor number, since the standard library's owned one closes through
//! libc, whose `close` may be the very hook that called us. It is closed once, in `drop`.

#![allow(unsafe_code, reason = "closes and borrows a bare descriptor number")]

use super::loopback;
use crate::error::TransportError;
use crate::memory::{IoVec, IoVecMut, as_io_slices, as_io_slices_mut};
use crate::sync::timespec;
use crate::time::Instant;
use crate::url::Url;
use core::time::Duration;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{BorrowedFd, IntoRawFd};
use rustix::io::Errno as OsError;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};
use sealfs_protocol::Errno;

/// A connected socket.
pub struct Socket {
    fd: i32,
}

/// What a socket is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    Readable,
    ReadableOrWritable,
}

/// What a wait found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    pub readable: bool,
    pub writable: bool,
    /// A signal handler ran meanwhile.
    pub interrupted: bool,
}

impl Socket {
    /// Connects; `place` moves the new descriptor to where the program does not see it.
    pub fn connect(
        url: &Url,
        deadline: Instant,
        place: fn(i32) -> i32,
    ) -> Result<Socket, TransportError> {
        let family = if url.address.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            .map_err(|e| os("socket", e))?;
        let socket = Socket {
            fd: place(fd.into_raw_fd()),
        };
        sockopt::set_tcp_nodelay(socket.borrow(), true)
            .map_err(|e| os("setsockopt TCP_NODELAY", e))?;
        loopback::tune(socket.fd, url.address.ip());
        match rustix::net::connect(socket.borrow(), &url.address) {
            Ok(()) => return Ok(socket),
            Err(OsError::INPROGRESS | OsError::INTR | OsError::ALREADY) => {}
            Err(e) => return Err(connect_error(e)),
        }
        loop {
            let now = Instant::now();
            if now >= deadline {
                return Err(TransportError::Timeout);
            }
            let ready = socket.wait(Until::ReadableOrWritable, now.until(deadline))?;
            if ready.writable {
                break;
            }
        }
        match sockopt::socket_error(socket.borrow()) {
            Ok(Ok(())) => Ok(socket),
            Ok(Err(e)) | Err(e) => Err(connect_error(e)),
        }
    }

    /// The descriptor's number.
    pub fn raw_fd(&self) -> i32 {
        self.fd
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self` lives; it is never -1.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Sends what fits; `None` when nothing does for now. [`TransportError::Fault`] for memory of
    /// the caller that cannot be read.
    pub fn send(&self, from: &[IoVec<'_>]) -> Result<Option<usize>, TransportError> {
        let mut control = rustix::net::SendAncillaryBuffer::default();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            let sent = rustix::net::sendmsg(self.borrow(), as_io_slices(from), &mut control, flags);
            match sent {
                Ok(n) => return Ok(Some(n)),
                Err(OsError::AGAIN) => return Ok(None),
                Err(OsError::INTR) => {}
                Err(e) => return Err(io_error("send", e)),
            }
        }
    }

    /// Receives what is there; `None` when nothing is for now, `Closed` at the end of the stream,
    /// `Fault` for memory of the caller that cannot be written.
    pub fn receive(&self, into: &mut [IoVecMut<'_>]) -> Result<Option<usize>, TransportError> {
        loop {
            match rustix::io::readv(self.borrow(), as_io_slices_mut(into)) {
                Ok(0) => return Err(TransportError::Closed),
                Ok(n) => return Ok(Some(n)),
                Err(OsError::AGAIN) => return Ok(None),
                Err(OsError::INTR) => {}
                Err(e) => return Err(io_error("recv", e)),
            }
        }
    }

    /// Sleeps until the socket is ready, a signal comes, or `timeout` has passed.
    pub fn wait(&self, until: Until, timeout: Duration) -> Result<Ready, TransportError> {
        let wanted = match until {
            Until::Readable => PollFlags::IN,
            Until::ReadableOrWritable => PollFlags::IN | PollFlags::OUT,
        };
        let fd = self.borrow();
        let mut fds = [PollFd::new(&fd, wanted)];
        match rustix::event::poll(&mut fds, Some(&timespec(timeout))) {
            Ok(_) => {
                let got = fds[0].revents();
                let over = got.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
                Ok(Ready {
                    readable: over || got.contains(PollFlags::IN),
                    writable: over || got.contains(PollFlags::OUT),
                    interrupted: false,
                })
            }
            Err(OsError::INTR) => Ok(Ready {
                interrupted: true,
                ..Ready::default()
            }),
            Err(e) => Err(os("ppoll", e)),
        }
    }

    /// Whether the peer was last on the core that this thread runs on.
    pub fn peer_was_on_this_core(&self) -> bool {
        loopback::peer_was_on_this_core(self.fd)
    }

    /// Ends the connection in both directions, waking whoever waits for it.
    pub fn shutdown(&self) {
        // It fails only if the connection is gone already.
        let _ = rustix::net::shutdown(self.borrow(), rustix::net::Shutdown::Both);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        close_raw(self.fd);
    }
}

/// Closes a descriptor by number without telling the peer (a forked child's copy).
pub fn close_raw(fd: i32) {
    // SAFETY: the caller owns the number: a socket at its end, or the inherited copy in a child
    // that never uses its parent's sockets.
    unsafe { rustix::io::close(fd) }
}

fn connect_error(e: OsError) -> TransportError {
    match e {
        OsError::CONNREFUSED => TransportError::Refused,
        OsError::TIMEDOUT => TransportError::Timeout,
        e => os("connect", e),
    }
}

fn io_error(what: &'static str, e: OsError) -> TransportError {
    match e {
        OsError::FAULT => TransportError::Fault,
        OsError::CONNRESET | OsError::PIPE | OsError::NOTCONN | OsError::TIMEDOUT => {
            TransportError::Closed
        }
        e => os(what, e),
    }
}

fn os(what: &'static str, e: OsError) -> TransportError {
    TransportError::Os {
        what,
        errno: Errno(e.raw_os_error()),
    }
}
