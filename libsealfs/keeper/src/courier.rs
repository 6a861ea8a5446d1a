//! The courier: the thread that tells servers what happened on this node.
//!
//! Ends of clients, closes of descriptions that nobody holds any more, and the renewal of the
//! session's lease go through here, one after the other, so that the watcher never waits for a
//! server. What fails is tried again for a while; then it is given up, because the servers end a
//! session that does not renew by themselves. A description's slot and a process' entry stay taken
//! until the servers know: a keeper that is killed in between leaves them to the next. What must stay
//! true: a cluster that is away holds up the others for a few calls at most, and one that nobody uses
//! any more is forgotten once its lease has run out.

use crate::cluster::{Clusters, File, Retold};
use crate::run::Node;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::processes::{ProcessIndex, Registered};
use sealfs_client::node::reclaim::Remains;
use sealfs_protocol::Errno;
use sealfs_protocol::limits::SESSION_LEASE_MS;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Interval of renewals; the lease is `SESSION_LEASE_MS`.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// An errand is tried for so long.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Errands of one cluster that may fail one after the other before the rest of them waits untried.
const MISSES_MAX: u32 = 3;
/// A cluster in which nobody is any more is renewed for so long after it was heard of last: its servers
/// have ended the session by then.
const MISSED_FOR: Duration = Duration::from_millis(SESSION_LEASE_MS as u64 * 2);
/// What is left is still tried for so long when the keeper ends.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Something that servers have to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    Close(Remains),
    /// Once more: it may have come before a server that restarted was told of the description.
    CloseAgain(ManagerIndex, File),
    EndClient(Registered),
    /// Finish what is there and end the thread; with the session if nobody is left.
    Stop {
        end_session: bool,
    },
}

impl Errand {
    fn manager(&self) -> Option<ManagerIndex> {
        match self {
            Errand::Close(remains) => Some(remains.manager),
            Errand::CloseAgain(manager, _) => Some(*manager),
            Errand::EndClient(process) => Some(process.manager),
            Errand::Stop { .. } => None,
        }
    }
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
    /// Clusters that this session was made known to, and when they were heard of last.
    known: BTreeMap<ManagerIndex, Instant>,
    /// Those of them that did not answer last, the one to be tried next first.
    away: VecDeque<ManagerIndex>,
}

impl Courier {
    pub fn new(node: Arc<Node>, clusters: Arc<dyn Clusters>) -> Courier {
        Courier {
            node,
            clusters,
            pending: VecDeque::new(),
            renewed: None,
            known: BTreeMap::new(),
            away: VecDeque::new(),
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
            self.known
                .entry(process.manager)
                .or_insert_with(Instant::now);
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

    /// Tries everything once that is due. Each try of what is away takes its time, so that a cluster
    /// that is away altogether gets a few of them.
    fn work(&mut self) {
        let mut misses: BTreeMap<ManagerIndex, u32> = BTreeMap::new();
        for _ in 0..self.pending.len() {
            let Some(mut next) = self.pending.pop_front() else {
                return;
            };
            let now = Instant::now();
            if next.not_before > now {
                self.pending.push_back(next);
                continue;
            }
            let missed = next.errand.manager().map(|m| misses.entry(m).or_default());
            let outcome = match &missed {
                Some(missed) if **missed >= MISSES_MAX => Err(Errno::EIO),
                _ => self.run_errand(next.errand),
            };
            if let Some(missed) = missed {
                *missed = if outcome.is_ok() { 0 } else { *missed + 1 };
            }
            match outcome {
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
            Errand::CloseAgain(manager, file) => self.clusters.get(manager, None)?.close(file),
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
            Errand::CloseAgain(..) | Errand::Stop { .. } => {}
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
        let in_use = self.node.managers_in_use();
        let known = self.known.keys().copied();
        let all: BTreeSet<ManagerIndex> = in_use.iter().copied().chain(known).collect();
        self.away.retain(|m| all.contains(m));
        let here: Vec<ManagerIndex> = all.into_iter().filter(|m| !self.away.contains(m)).collect();
        // Of those that are away one at a time: their lease may be over, that of others is not.
        let away = self.away.pop_front();
        for manager in here.into_iter().chain(away) {
            match self.renew(manager) {
                Ok(()) => {
                    self.known.insert(manager, Instant::now());
                }
                Err(Errno::ESTALE) => return self.begin_again(),
                Err(e) => {
                    if away != Some(manager) {
                        log::warn!("renewal of the session's lease: {e}");
                    }
                    self.missed(manager, in_use.contains(&manager));
                }
            }
        }
    }

    fn missed(&mut self, manager: ManagerIndex, in_use: bool) {
        let heard = self.known.get(&manager);
        if !in_use && heard.is_some_and(|at| at.elapsed() > MISSED_FOR) {
            log::info!("a cluster that nobody here uses any more does not answer: forgotten");
            self.known.remove(&manager);
        } else {
            self.away.push_back(manager);
        }
    }

    /// The session lives, and its descriptions are open: a server that restarted hears it in time.
    fn renew(&mut self, manager: ManagerIndex) -> Result<(), Errno> {
        let cluster = self.clusters.get(manager, None)?;
        let session = self.node.arena.session();
        cluster.renew(session)?;
        let mut told = Retold::default();
        let open = || self.node.descriptions(manager);
        let all = cluster.keep_known(session, &open, &mut told);
        let live = self.node.live_opens();
        for file in told.open.iter().filter(|f| !live.contains(&f.open)) {
            self.take(Errand::CloseAgain(manager, *file));
        }
        for (file, intact) in told.judged {
            if intact.is_none() {
                log::error!("locks of {file:?} may be lost: a server lost its last changes");
            }
            self.node
                .arena
                .judge_locks(manager, file.ino, file.open, intact);
        }
        if let Err(e) = all {
            // The lease is renewed; that server hears it with the next renewal.
            log::info!("a server could not be told what is open: {e}");
        }
        Ok(())
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
        self.away.clear();
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
            for manager in self.known.keys() {
                let ended = self.clusters.get(*manager, None);
                if let Err(e) = ended.and_then(|c| c.end_session(self.node.arena.session())) {
                    log::warn!("end of the session: {e}");
                }
            }
        }
        self.clusters.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::tests::{One, Told, runtime_at};
    use sealfs_client::node::{Arena, SlotId, sys};
    use sealfs_protocol::{InodeId, OpenId, VolumeId};
    use std::path::PathBuf;
    use std::sync::Mutex;

    const HERE: ManagerIndex = ManagerIndex(0);
    const AWAY: ManagerIndex = ManagerIndex(1);

    /// One cluster that answers, and one that counts how often it is asked and does not.
    #[derive(Default)]
    struct Two {
        told: Arc<Told>,
        asked: Mutex<u32>,
    }

    impl Clusters for Two {
        fn get(
            &self,
            manager: ManagerIndex,
            volume: Option<VolumeId>,
        ) -> Result<Arc<dyn Cluster>, Errno> {
            if manager == AWAY {
                *self.asked.lock().unwrap() += 1;
                return Err(Errno::EIO);
            }
            One(Arc::clone(&self.told)).get(manager, volume)
        }
        fn begin_again(&self) {}
        fn end(&self) {}
    }

    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn courier() -> (Dir, Arc<Two>, Courier) {
        let name = format!("sealfs-courier-{:x}", sys::random_u128().unwrap() as u64);
        let path = PathBuf::from("/dev/shm").join(name);
        let runtime = runtime_at(&path);
        let arena = Arena::attach(&runtime).unwrap();
        let node = Arc::new(Node::new(runtime, arena));
        let clusters = Arc::new(Two::default());
        let courier = Courier::new(node, Arc::clone(&clusters) as Arc<dyn Clusters>);
        (Dir(path), clusters, courier)
    }

    fn close(manager: ManagerIndex, number: u32) -> Errand {
        Errand::Close(Remains {
            locked: None,
            id: SlotId {
                index: number,
                generation: 0,
            },
            manager,
            ino: InodeId(u64::from(number)),
            open: OpenId(1),
        })
    }

    #[test]
    fn many_errands_to_a_cluster_that_is_away_hold_up_nobody() {
        let (_dir, clusters, mut courier) = courier();
        courier.renewed = Some(Instant::now());
        (0..50).for_each(|n| courier.take(close(AWAY, n)));
        courier.take(close(HERE, 77));
        courier.work();
        assert_eq!(*clusters.asked.lock().unwrap(), MISSES_MAX);
        assert_eq!(clusters.told.closed.lock().unwrap().len(), 1);
        assert_eq!(courier.pending.len(), 50, "what failed is tried again");
    }

    #[test]
    fn errands_are_given_up_when_a_cluster_stays_away() {
        let (_dir, _, mut courier) = courier();
        courier.renewed = Some(Instant::now());
        (0..50).for_each(|n| courier.take(close(AWAY, n)));
        for pending in &mut courier.pending {
            pending.since = pending.since.checked_sub(GIVE_UP_AFTER).unwrap();
        }
        courier.work();
        assert!(courier.pending.is_empty());
    }

    #[test]
    fn what_is_closed_while_a_server_is_told_of_it_is_closed_again() {
        let (_dir, clusters, mut courier) = courier();
        let node = Arc::clone(&courier.node);
        let pin = |n| {
            let (ino, open) = (InodeId(n), OpenId(n));
            (HERE, (File { ino, open }, true))
        };
        node.pins.lock().unwrap().extend([pin(1), pin(2)]);
        courier.known.insert(HERE, Instant::now());
        // Its close has overtaken what the server is told.
        let closes = Arc::clone(&node);
        *clusters.told.meanwhile.lock().unwrap() = Some(Box::new(move || {
            closes.pins.lock().unwrap().remove(&pin(1));
        }));
        courier.renew_if_due();
        courier.work();
        assert_eq!(clusters.told.known.lock().unwrap().len(), 2);
        assert_eq!(*clusters.told.closed.lock().unwrap(), [pin(1).1.0]);
    }

    #[test]
    fn a_cluster_that_nobody_uses_any_more_is_forgotten_when_it_does_not_answer() {
        let (_dir, clusters, mut courier) = courier();
        let now = Instant::now();
        courier.known.insert(HERE, now);
        courier.known.insert(AWAY, now);
        courier.renew_if_due();
        assert!(courier.known.contains_key(&AWAY) && courier.away == [AWAY]);
        let long_ago = now.checked_sub(2 * MISSED_FOR).unwrap();
        courier.known.insert(AWAY, long_ago);
        courier.renewed = None;
        courier.renew_if_due();
        assert_eq!(courier.known.keys().copied().collect::<Vec<_>>(), [HERE]);
        assert!(courier.away.is_empty());
        assert_eq!(*clusters.told.renewals.lock().unwrap(), 2);
    }
}
