//! What is different when both ends of a connection are on one node.
//!
//! # Safety
//! A bare descriptor number is borrowed for one system call.

#![allow(unsafe_code, reason = "borrows a bare descriptor number")]

use core::net::IpAddr;
use rustix::fd::BorrowedFd;
use rustix::net::sockopt::{set_tcp_congestion, socket_incoming_cpu};
use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

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

/// This thread goes on on another core, if it may use one. The kernel leaves two that wake each other in
/// turn on one core, since either has always just run there; what it decides later stands.
pub fn leave_core() {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut others = allowed;
    others.unset(sched_getcpu());
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        // Refused only where somebody takes the cores away at this moment, and then it is theirs to say.
        let _ = sched_setaffinity(None, &allowed);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_leaves_its_core_may_use_all_of_them_afterwards() {
        let allowed = sched_getaffinity(None).unwrap();
        let before = sched_getcpu();
        leave_core();
        let after = sched_getaffinity(None).unwrap();
        assert!((0..1024).all(|core| allowed.is_set(core) == after.is_set(core)));
        // Nobody else has made it come back in these few microseconds, or not each time.
        let left = (0..20).any(|_| {
            let from = sched_getcpu();
            leave_core();
            sched_getcpu() != from
        });
        assert!(left || allowed.count() == 1, "still on core {before}");
    }
}
