//! The courier: the thread that tells servers what happened on this node.
//!
//! Ends of clients, closes of descriptions that nobody holds any more, and the renewal of the
//! session's lease go through here, one after the other, so that the watcher never waits for a
//! server. What fails is tried again for a while; then it is given up, because the servers end a
//! session that does not renew by themselves. A description's slot and a process' entry stay taken
//! until the servers know: a keeper that is killed in between leaves them to the next.

use crate::cluster::{Clusters, File};
use crate::run::Node;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::processes::{ProcessIndex, Registered};
use sealfs_client::node::reclaim::Remains;
use sealfs_protocol::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Interval of renewals; the lease is `SESSION_LEASE_MS`.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// An errand is tried for so long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// What is left is still tried for so long when the keeper ends.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Something that servers have to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    Close(Remains),
    EndClient(Registered),
    /// Finish what is there and end the thread; with the session if nobody is left.
    Stop {
        end_session: bool,
    },
}

struct Pending {
    errand: Errand,
    since: Instant,
    not_before: Instant,
}

pub struct Courier {
    node: Arc<Node>,
    clusters: Arc<dyn Clusters>,
    pending: VecDeque<Pending>,
    renewed: Option<Instant>,
    /// Clusters that this session was made known to.
    known: BTreeSet<ManagerIndex>,
}

impl Courier {
    pub fn new(node: Arc<Node>, clusters: Arc<dyn Clusters>) -> Courier {
        Courier {
            node,
            clusters,
            pending: VecDeque::new(),
            renewed: None,
            known: BTreeSet::new(),
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self, errands: &Receiver<Errand>) {
        loop {
            self.renew_if_due();
            match errands.recv_timeout(self.pause()) {
                Ok(Errand::Stop { end_session }) => return self.stop(end_session),
                Ok(errand) => self.take(errand),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.stop(false),
            }
            self.work();
        }
    }

    fn take(&mut self, errand: Errand) {
        if let Errand::EndClient(process) = errand {
            self.known.insert(process.manager);
        }
        let now = Instant::now();
        self.pending.push_back(Pending {
            errand,
            since: now,
            not_before: now,
        });
    }

    fn pause(&self) -> Duration {
        let now = Instant::now();
        let renewal = self.renewed.map_or(Duration::ZERO, |at| {
            (at + RENEW_EVERY).saturating_duration_since(now)
        });
        self.pending
            .iter()
            .map(|p| p.not_before.saturating_duration_since(now))
            .chain([renewal])
            .min()
            .unwrap_or(renewal)
    }

    /// Tries everything once that is due.
    fn work(&mut self) {
        for _ in 0..self.pending.len() {
            let Some(mut next) = self.pending.pop_front() else {
                return;
            };
            let now = Instant::now();
            if next.not_before > now {
                self.pending.push_back(next);
                continue;
            }
            match self.run_errand(next.errand) {
                Err(Errno::EIO) if now - next.since < GIVE_UP_AFTER => {
                    next.not_before = Instant::now() + TRY_AGAIN_AFTER;
                    self.pending.push_back(next);
                }
                outcome => self.finish(next.errand, outcome),
            }
            self.renew_if_due();
        }
    }

    fn run_errand(&self, errand: Errand) -> Result<(), Errno> {
        match errand {
            Errand::Close(r) => self.clusters.get(r.manager, None)?.close(File {
                ino: r.ino,
                open: r.open,
            }),
            Errand::EndClient(p) if p.is_ended || p.client.0 == 0 => Ok(()),
            Errand::EndClient(p) => self.clusters.get(p.manager, None)?.end_client(p.client),
            Errand::Stop { .. } => Ok(()),
        }
    }

    /// Whatever came of it: the arena may forget it.
    fn finish(&self, errand: Errand, outcome: Result<(), Errno>) {
        if let Err(e) = outcome {
            log::warn!("{errand:?}: {e}");
        }
        match errand {
            Errand::Close(remains) => self.node.arena.release(remains.id),
            Errand::EndClient(process) => self.forget(process.index),
            Errand::Stop { .. } => {}
        }
    }

    fn forget(&self, index: ProcessIndex) {
        self.node.arena.forget_process(index);
    }

    fn renew_if_due(&mut self) {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW_EVERY) {
            return;
        }
        self.renewed = Some(Instant::now());
        // Also where nobody is at this moment: the session lives on, and the next process is in it.
        let mut managers = self.node.managers_in_use();
        managers.extend(&self.known);
        for manager in managers {
            match self.renew(manager) {
                Ok(()) => {
                    self.known.insert(manager);
                }
                Err(Errno::ESTALE) => self.begin_again(),
                Err(e) => log::warn!("renewal of the session's lease: {e}"),
            }
        }
    }

    /// The session lives, and its descriptions are open: a server that restarted hears it in time.
    fn renew(&self, manager: ManagerIndex) -> Result<(), Errno> {
        let cluster = self.clusters.get(manager, None)?;
        cluster.renew(self.node.arena.session())?;
        cluster.keep_known(&self.node.descriptions(manager))
    }

    /// The servers have ended the session, because nobody renewed it in time (the node slept, the
    /// network was cut): its locks and opens are gone. Another begins, so that programs that start now
    /// work.
    fn begin_again(&mut self) {
        log::error!("the servers ended this node's session: it was not renewed in time");
        match self.node.arena.begin_session() {
            Ok(_) => self.clusters.begin_again(),
            Err(e) => log::error!("no new session: {e}"),
        }
        self.known.clear();
        self.renewed = None;
    }

    fn stop(mut self, end_session: bool) {
        let until = Instant::now() + STOP_WITHIN;
        while !self.pending.is_empty() && Instant::now() < until {
            self.work();
            if !self.pending.is_empty() {
                std::thread::park_timeout(self.pause());
            }
        }
        if end_session {
            for manager in &self.known {
                let ended = self.clusters.get(*manager, None);
                if let Err(e) = ended.and_then(|c| c.end_session(self.node.arena.session())) {
                    log::warn!("end of the session: {e}");
                }
            }
        }
        self.clusters.end();
    }
}
