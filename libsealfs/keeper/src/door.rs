//! The keeper's socket: who knocks, what it asks, and what goes back with which descriptors.

use rustix::event::{PollFd, PollFlags};
use rustix::fd::{BorrowedFd, IntoRawFd};
use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use sealfs_client::node::Runtime;
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::wire::{
    DESCRIPTORS_MAX, KeeperReply, KeeperRequest, PACKET_MAX_BYTES, SOCKET_FILE,
};
use sealfs_protocol::{Errno, codec};
use std::cell::RefCell;
use std::time::Duration;

/// Connections that wait to be accepted; a process finds EAGAIN beyond and relies on the table.
const BACKLOG: i32 = 256;

/// The listening socket. Dropping it takes its name away first.
pub struct Door<'a> {
    runtime: &'a Runtime,
    socket: Fd,
}

impl<'a> Door<'a> {
    /// Opens it; what a killed keeper left in its place goes.
    pub fn open(runtime: &'a Runtime) -> Result<Door<'a>, Errno> {
        let path = runtime.join(SOCKET_FILE);
        let _ = sys::unlink(path.as_c_str());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .map_err(sys::errno)?;
        let socket = Fd::new(socket.into_raw_fd());
        let address = SocketAddrUnix::new(path.as_c_str()).map_err(sys::errno)?;
        rustix::net::bind(sys::borrow(socket.raw()), &address).map_err(sys::errno)?;
        rustix::net::listen(sys::borrow(socket.raw()), BACKLOG).map_err(sys::errno)?;
        Ok(Door { runtime, socket })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        sys::borrow(self.socket.raw())
    }

    /// Everybody who knocked and is the same user.
    pub fn accept(&self) -> Vec<Visitor> {
        let mut visitors = Vec::new();
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(fd) = rustix::net::accept_with(self.fd(), flags) {
            let visitor = Visitor {
                socket: Fd::new(fd.into_raw_fd()),
                brought: RefCell::default(),
            };
            let peer = rustix::net::sockopt::socket_peercred(sys::borrow(visitor.socket.raw()));
            if peer.is_ok_and(|p| p.uid.as_raw() == self.runtime.uid()) {
                visitors.push(visitor);
            }
        }
        visitors
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        let _ = sys::unlink(self.runtime.join(SOCKET_FILE).as_c_str());
    }
}

/// A connection: one request, at most one answer.
#[derive(Debug)]
pub struct Visitor {
    socket: Fd,
    /// Descriptors that came with the request.
    brought: RefCell<Vec<Fd>>,
}

/// What came of reading a request.
pub enum Heard {
    Request(KeeperRequest),
    /// Not yet.
    Nothing,
    /// It went away, or spoke nonsense.
    Gone,
}

impl Visitor {
    pub fn fd(&self) -> BorrowedFd<'_> {
        sys::borrow(self.socket.raw())
    }

    /// Its process, or 0.
    pub fn pid(&self) -> u32 {
        let peer = rustix::net::sockopt::socket_peercred(self.fd());
        peer.map_or(0, |p| p.pid.as_raw_nonzero().get() as u32)
    }

    pub fn hear(&self) -> Heard {
        let mut packet = [0u8; PACKET_MAX_BYTES];
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let mut into = [IoSliceMut::new(&mut packet)];
        let received = rustix::net::recvmsg(self.fd(), &mut into, &mut ancillary, flags);
        for part in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                let owned = descriptors.map(|fd| Fd::new(fd.into_raw_fd()));
                self.brought.borrow_mut().extend(owned);
            }
        }
        match received.map(|message| message.bytes) {
            Ok(0) => Heard::Gone,
            Ok(n) => codec::decode(&packet[..n]).map_or(Heard::Gone, Heard::Request),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }

    /// The descriptors that came along; the caller has them from now on.
    pub fn take_brought(&self) -> Vec<Fd> {
        self.brought.take()
    }

    /// Answers; a visitor that did not wait is no failure.
    pub fn answer(&self, reply: &KeeperReply, descriptors: &[i32]) {
        let Ok(packet) = codec::encode(reply) else {
            return;
        };
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(|fd| sys::borrow(*fd)).collect();
        let mut space =
            [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        let sent = rustix::net::sendmsg(
            self.fd(),
            &[IoSlice::new(&packet)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        );
        if let Err(e) = sent {
            log::info!("answer to a process: {e}");
        }
    }
}

/// Waits until one of the descriptors can be read; which ones. At most `pause`.
pub fn wait_readable(fds: &[BorrowedFd<'_>], pause: Duration) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> = fds
        .iter()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN))
        .collect();
    let time = rustix::time::Timespec {
        tv_sec: pause.as_secs() as i64,
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    match rustix::event::poll(&mut polled, Some(&time)) {
        Ok(_) => polled.iter().map(|p| !p.revents().is_empty()).collect(),
        Err(_) => vec![false; fds.len()],
    }
}
