//! Processes that are about to execute a program, and the descriptions that lose a descriptor by it.
//!
//! Each holds a connection that the kernel closes along with those descriptors: when it goes, the
//! program runs (or execve(2) has failed, and nothing is found). In which order the kernel closes
//! them is its own affair, so that one look may come too early and a few more follow. What is missed
//! all the same the watcher's sweep finds.

use crate::door::{Heard, Visitor};
use crate::run::Node;
use rustix::fd::BorrowedFd;
use sealfs_client::node::SlotId;
use sealfs_client::node::reclaim::Remains;
use std::time::{Duration, Instant};

/// Looks after the connection went, each so long after the one before.
const LOOKS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
];
/// Departures that are waited for; with more the oldest is left to the sweep.
const DEPARTURES_MAX: usize = 128;

struct Departure {
    visitor: Visitor,
    slots: Vec<SlotId>,
    /// Its connection went: the next look, and which it is.
    next: Option<(Instant, usize)>,
}

#[derive(Default)]
pub struct Departures {
    list: Vec<Departure>,
}

impl Departures {
    pub fn add(&mut self, visitor: Visitor, slots: &[(u32, u32)]) {
        if self.list.len() == DEPARTURES_MAX {
            self.list.remove(0);
        }
        let id = |(index, generation)| SlotId { index, generation };
        self.list.push(Departure {
            visitor,
            slots: slots.iter().copied().map(id).collect(),
            next: None,
        });
    }

    /// The connections of those that have not left, in their order.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.waiting().map(|d| d.visitor.fd())
    }

    fn waiting(&self) -> impl Iterator<Item = &Departure> {
        self.list.iter().filter(|d| d.next.is_none())
    }

    /// `ready`: which of [`Departures::fds`] can be read.
    pub fn hear(&mut self, ready: &[bool]) {
        let waiting = self.list.iter_mut().filter(|d| d.next.is_none());
        for (departure, _) in waiting.zip(ready).filter(|(_, ready)| **ready) {
            if !matches!(departure.visitor.hear(), Heard::Nothing) {
                departure.next = Some((Instant::now(), 0));
            }
        }
    }

    /// How long until there is something to look at.
    pub fn pause(&self) -> Option<Duration> {
        let next = self.list.iter().filter_map(|d| d.next).min();
        next.map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }

    /// Takes over what nobody holds any more of those that have left.
    pub fn look(&mut self, node: &Node) -> Vec<Remains> {
        let (now, mut found) = (Instant::now(), Vec::new());
        self.list.retain_mut(|departure| {
            let Some((_, nth)) = departure.next.filter(|(at, _)| *at <= now) else {
                return true;
            };
            departure.slots.retain(|id| {
                let remains = node.arena.take_if_left(&node.runtime, *id);
                found.extend(remains);
                remains.is_none() && node.arena.slot(*id).is_some()
            });
            departure.next = LOOKS.get(nth + 1).map(|after| (now + *after, nth + 1));
            departure.next.is_some() && !departure.slots.is_empty()
        });
        found
    }
}
