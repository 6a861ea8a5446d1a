//! What a courier waits at: a bell that others ring, and sockets whose other end may go.

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fd::{AsFd, OwnedFd};
use sealfs_client::node::sys;
use std::time::Duration;

/// An eventfd: rung from any thread, heard by one.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    pub fn new() -> std::io::Result<Bell> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        rustix::event::eventfd(0, flags)
            .map(Bell)
            .map_err(|e| std::io::Error::from_raw_os_error(e.raw_os_error()))
    }

    pub fn ring(&self) {
        // A counter that is full is rung already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until it rings or `pause` is over; those of `sockets` whose other end is gone. What comes
    /// from there is not looked at.
    pub fn wait(&self, sockets: &[i32], pause: Duration) -> Vec<i32> {
        let mut polled = vec![PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
        let gone = |fd: &i32| PollFd::from_borrowed_fd(sys::borrow(*fd), PollFlags::RDHUP);
        polled.extend(sockets.iter().map(gone));
        let time = rustix::time::Timespec {
            tv_sec: pause.as_secs() as i64,
            tv_nsec: i64::from(pause.subsec_nanos()),
        };
        if rustix::event::poll(&mut polled, Some(&time)).is_err() {
            return Vec::new();
        }
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
        let polled = sockets.iter().zip(&polled[1..]);
        let gone = polled.filter(|(_, p)| !p.revents().is_empty());
        gone.map(|(fd, _)| *fd).collect()
    }
}
