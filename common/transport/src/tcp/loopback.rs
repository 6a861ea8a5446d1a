//! What is different when both ends of a connection are on one node.
//!
//! # Safety
//! A bare descriptor number is borrowed for one system call.

#![allow(unsafe_code, reason = "borrows a bare descriptor number")]

use core::net::IpAddr;
use rustix::fd::BorrowedFd;
use rustix::net::sockopt::{set_tcp_congestion, socket_incoming_cpu};
use rustix::thread::sched_getcpu;

/// Loopback has no bottleneck to find: a node's default algorithm, which may measure and pace what it
/// sends (BBR), costs a third of the throughput. Every kernel has this one, for everybody (tcp(7)).
const WITHOUT_PACING: &str = "reno";

/// Whether the peer's last packet was handled on the core that we run on (socket(7),
/// `SO_INCOMING_CPU`). Over loopback that is the core that the peer ran on: while we look for what
/// it sends it cannot run. From another node it says nothing, and costs a yield or two.
pub fn peer_was_on_this_core(socket: i32) -> bool {
    socket_incoming_cpu(borrow(socket))
        .is_ok_and(|core| usize::try_from(core) == Ok(sched_getcpu()))
}

/// Sends without pacing what never leaves this node. A kernel that refuses does as it did before.
pub fn tune(socket: i32, peer: IpAddr) {
    if peer.is_loopback() {
        let _ = set_tcp_congestion(borrow(socket), WITHOUT_PACING);
    }
}

fn borrow<'a>(socket: i32) -> BorrowedFd<'a> {
    // SAFETY: the callers' sockets are open for the length of their calls, so it is never -1.
    unsafe { BorrowedFd::borrow_raw(socket) }
}
