//! Processes that are about to execute a program, and the descriptions that lose a descriptor by it.
//!
//! Each holds a connection that the kernel closes along with those descriptors: when it goes, the
//! program runs (or execve(2) has failed, which the process says first). In which order the kernel
//! closes them is its own affair, so that one look may come too early and a few more follow. What is
//! missed all the same the watcher's sweep finds; record locks that go with them
//! ([`sealfs_client::node::leaving`]) are found here alone.

use crate::courier::Departed;
use crate::door::{Heard, Visitor};
use crate::run::Node;
use rustix::fd::BorrowedFd;
use sealfs_client::node::SlotId;
use sealfs_client::node::reclaim::Remains;
use sealfs_client::node::wire::{FileName, KeeperRequest};
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
    /// The files on which the process loses its record locks.
    locked: Vec<Departed>,
    /// Its connection went: the next look, and which it is.
    next: Option<(Instant, usize)>,
}

#[derive(Default)]
pub struct Departures {
    list: Vec<Departure>,
}

impl Departures {
    pub fn add(&mut self, node: &Node, visitor: Visitor, request: &KeeperRequest) {
        let KeeperRequest::Leaving {
            process,
            image,
            slots,
            files,
        } = request
        else {
            return;
        };
        if self.list.len() == DEPARTURES_MAX {
            for Departed { process, .. } in self.list.remove(0).locked {
                node.arena.end_exec(process.index, process.client, 1);
            }
        }
        let process = node.arena.processes().find(|p| p.index.0 == *process);
        let departed = |file: &FileName| {
            Some(Departed {
                process: process?,
                image: *image,
                file: *file,
            })
        };
        let id = |(index, generation)| SlotId { index, generation };
        self.list.push(Departure {
            visitor,
            slots: slots.iter().copied().map(id).collect(),
            locked: files.iter().filter_map(departed).collect(),
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

    /// `ready`: which of [`Departures::fds`] can be read. The files whose locks are to go.
    pub fn hear(&mut self, ready: &[bool]) -> Vec<Departed> {
        let mut unlocked = Vec::new();
        let waiting = self.list.iter_mut().filter(|d| d.next.is_none());
        for (departure, _) in waiting.zip(ready).filter(|(_, ready)| **ready) {
            match departure.visitor.hear() {
                Heard::Nothing => continue,
                // execve(2) has failed: the process has taken its word back.
                Heard::Request(_) => {}
                Heard::Gone => unlocked.append(&mut departure.locked),
            }
            departure.next = Some((Instant::now(), 0));
        }
        unlocked
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
