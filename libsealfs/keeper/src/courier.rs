//! A courier: the thread that tells the servers of one cluster what happened on this node.
//!
//! Ends of clients, closes of descriptions that nobody holds any more, and the renewal of the
//! session's lease go through here, one after the other, so that the watcher never waits for a
//! server, and no cluster for another ([`crate::couriers`]). What fails is tried again for a while;
//! then it is given up, because the servers end a session that does not renew by themselves. A
//! description's slot and a process' entry stay taken until the servers know: a keeper that is killed
//! in between leaves them to the next. What must stay true: a cluster that nobody here uses any more
//! and that does not answer is forgotten, with its errands, once its lease has run out; and a server
//! that was restarted hears what is open as soon as it is back, because it gives no lock before.

use crate::bell::Bell;
use crate::cluster::{Cluster, Clusters, File, Image, Retold};
use crate::run::Node;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::processes::Registered;
use sealfs_client::node::reclaim::Remains;
use sealfs_client::node::wire::FileName;
use sealfs_protocol::limits::SESSION_LEASE_MS;
use sealfs_protocol::{Errno, InodeId, SessionId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// Interval of renewals; the lease is `SESSION_LEASE_MS`.
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
/// An errand is tried for so long.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(30);
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// The same when the keeper is to end.
const HURRIED_AFTER: Duration = Duration::from_millis(50);
/// Errands that may fail one after the other before the rest of them waits untried.
pub(crate) const MISSES_MAX: u32 = 3;
/// A cluster in which nobody is any more is renewed for so long after it was heard of last: its servers
/// have ended the session by then.
pub(crate) const MISSED_FOR: Duration = Duration::from_millis(SESSION_LEASE_MS as u64 * 2);
/// A server whose connection broke is looked for without a pause for so long; each look takes up to a
/// second while it is away. Afterwards it is left to the renewals.
const LOOK_FOR: Duration = Duration::from_secs(60);
/// Pause between two such looks.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Something that servers have to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    Close(Remains),
    /// Once more: it may have come before a server that restarted was told of the description.
    CloseAgain(ManagerIndex, File),
    EndClient(Registered),
    /// Somebody may have ended in the middle of a write to the file.
    Doubt(ManagerIndex, InodeId),
    /// A program image is gone, and with it the process's record locks on a file.
    Unlock(Departed),
}

/// A process that executes another program, and a file of which it lost a descriptor by that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departed {
    pub process: Registered,
    /// The image that is gone.
    pub image: u32,
    pub file: FileName,
}

impl Errand {
    pub fn manager(&self) -> ManagerIndex {
        match self {
            Errand::Close(remains) => remains.manager,
            Errand::CloseAgain(manager, _) | Errand::Doubt(manager, _) => *manager,
            Errand::EndClient(process) => process.manager,
            Errand::Unlock(departed) => ManagerIndex(departed.file.manager),
        }
    }
}

/// What a courier is told.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    Errand(Errand),
    /// The keeper is to end: what is left is tried more often.
    Hurry,
    /// End the thread, with the session if nobody is left on this node.
    Stop {
        end_session: bool,
    },
}

pub(crate) struct Pending {
    errand: Errand,
    pub(crate) since: Instant,
    not_before: Instant,
}

pub struct Courier {
    node: Arc<Node>,
    clusters: Arc<dyn Clusters>,
    manager: ManagerIndex,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) renewed: Option<Instant>,
    /// When the cluster was heard of last, or this courier began.
    pub(crate) heard: Instant,
    /// The cluster has heard of this session.
    is_known: bool,
    is_hurried: bool,
    /// A connection broke: since when a server may have to be told what is open.
    cut: Option<Instant>,
    /// Sockets that were found to be cut since the last renewal.
    gone: Vec<i32>,
}

/// Why a courier goes on, or does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    GoOn,
    /// The cluster is away and nobody uses it: no courier is needed.
    Forget,
    Stop,
}

impl Courier {
    pub fn new(node: Arc<Node>, clusters: Arc<dyn Clusters>, manager: ManagerIndex) -> Courier {
        Courier {
            node,
            clusters,
            manager,
            pending: VecDeque::new(),
            renewed: None,
            heard: Instant::now(),
            is_known: false,
            is_hurried: false,
            cut: None,
            gone: Vec::new(),
        }
    }

    /// One round: what is due is done, and then waited for the next thing. `bell` rings when there are
    /// words.
    pub fn round(&mut self, words: &Receiver<Word>, bell: &Bell) -> Next {
        self.renew_if_due();
        if self.is_forgotten() {
            return Next::Forget;
        }
        self.wait(bell);
        loop {
            match words.try_recv() {
                Ok(Word::Errand(errand)) => self.take(errand),
                Ok(Word::Hurry) => self.hurry(),
                Ok(Word::Stop { end_session }) => {
                    self.stop(end_session);
                    return Next::Stop;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Next::Stop,
            }
        }
        self.look_for_cut();
        self.work();
        Next::GoOn
    }

    pub fn take(&mut self, errand: Errand) {
        let now = Instant::now();
        self.pending.push_back(Pending {
            errand,
            since: now,
            not_before: now,
        });
    }

    fn hurry(&mut self) {
        self.is_hurried = true;
        for pending in &mut self.pending {
            pending.not_before = Instant::now();
        }
    }

    /// Waits for words, for something that is due, or for the end of a connection: a server that was
    /// restarted waits for us.
    fn wait(&mut self, bell: &Bell) {
        let mut sockets = Vec::new();
        if let (None, Some(cluster)) = (self.cut, self.clusters.get_made(self.manager)) {
            sockets = cluster.sockets();
            sockets.retain(|fd| !self.gone.contains(fd));
        }
        let gone = bell.wait(&sockets, self.pause());
        if !gone.is_empty() {
            log::info!("a connection to a server broke");
            self.gone.extend(gone);
            self.cut = Some(Instant::now());
        }
    }

    fn pause(&self) -> Duration {
        let now = Instant::now();
        let renewal = self.renewed.map_or(Duration::ZERO, |at| {
            (at + RENEW_EVERY).saturating_duration_since(now)
        });
        let looked = self.cut.map(|_| LOOK_AGAIN_AFTER);
        self.pending
            .iter()
            .map(|p| p.not_before.saturating_duration_since(now))
            .chain(looked)
            .fold(renewal, Duration::min)
    }

    /// Tries everything once that is due. Each try of what is away takes its time, so that a cluster
    /// that is away altogether gets a few of them.
    pub fn work(&mut self) {
        let mut missed = 0;
        for _ in 0..self.pending.len() {
            let Some(mut next) = self.pending.pop_front() else {
                return;
            };
            let now = Instant::now();
            if next.not_before > now {
                self.pending.push_back(next);
                continue;
            }
            let outcome = if missed >= MISSES_MAX {
                Err(Errno::EIO)
            } else {
                self.run_errand(next.errand)
            };
            if outcome == Err(Errno::EIO) {
                missed += 1;
            } else {
                missed = 0;
                self.heard = Instant::now();
            }
            match outcome {
                Err(Errno::EIO) if now - next.since < GIVE_UP_AFTER => {
                    let pause = if self.is_hurried {
                        HURRIED_AFTER
                    } else {
                        TRY_AGAIN_AFTER
                    };
                    next.not_before = Instant::now() + pause;
                    self.pending.push_back(next);
                }
                outcome => self.finish(next.errand, outcome),
            }
            self.renew_if_due();
        }
    }

    fn cluster(&self) -> Result<Arc<dyn Cluster>, Errno> {
        self.clusters.get(self.manager, None)
    }

    fn run_errand(&self, errand: Errand) -> Result<(), Errno> {
        match errand {
            Errand::Close(r) => self.cluster()?.close(File {
                ino: r.ino,
                open: r.open,
            }),
            Errand::CloseAgain(_, file) => self.cluster()?.close(file),
            Errand::Doubt(_, ino) => self.cluster()?.doubt(ino),
            Errand::EndClient(p) if p.is_ended || p.client.0 == 0 => Ok(()),
            Errand::EndClient(p) => self.cluster()?.end_client(p.client),
            Errand::Unlock(departed) => self.unlock(departed),
        }
    }

    /// Nobody waits for it when the process has ended meanwhile: its end drops all its locks.
    fn unlock(
        &self,
        Departed {
            process,
            image,
            file,
        }: Departed,
    ) -> Result<(), Errno> {
        let client = process.client;
        if !self.node.arena.awaits_locks(process.index, client) {
            return Ok(());
        }
        let pid = process.process.pid;
        let cluster = self.clusters.get(self.manager, Some(file.volume))?;
        cluster.drop_record_locks(Image { client, pid, image }, file.ino)
    }

    /// Whatever came of it: the arena may forget it.
    fn finish(&self, errand: Errand, outcome: Result<(), Errno>) {
        if let Err(e) = outcome {
            log::warn!("{errand:?}: {e}");
        }
        match errand {
            Errand::Close(remains) => self.node.arena.release(remains.id),
            Errand::EndClient(process) => self.node.arena.forget_process(process.index),
            Errand::Unlock(departed) => {
                let Registered { index, client, .. } = departed.process;
                self.node.arena.end_exec(index, client, 1);
            }
            Errand::CloseAgain(..) | Errand::Doubt(..) => {}
        }
    }

    pub fn renew_if_due(&mut self) {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW_EVERY) {
            return;
        }
        self.renewed = Some(Instant::now());
        self.gone.clear();
        let session = self.node.arena.session();
        match self.renew(session) {
            Ok(()) => {
                self.is_known = true;
                self.heard = Instant::now();
            }
            Err(Errno::ESTALE) => self.begin_again(session),
            Err(e) => log::warn!("renewal of the session's lease: {e}"),
        }
    }

    /// The session lives, and its descriptions are open: a server that restarted hears it in time.
    fn renew(&mut self, session: SessionId) -> Result<(), Errno> {
        self.cluster()?.renew(session)?;
        if let Err(e) = self.tell_what_is_open() {
            // The lease is renewed; that server hears it with the next renewal.
            log::info!("a server could not be told what is open: {e}");
        }
        Ok(())
    }

    fn tell_what_is_open(&mut self) -> Result<(), Errno> {
        let manager = self.manager;
        let mut told = Retold::default();
        let open = || self.node.descriptions(manager);
        let session = self.node.arena.session();
        let all = self.cluster()?.keep_known(session, &open, &mut told);
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
        all
    }

    /// A server whose connection broke is looked for until it is there again and has been told.
    fn look_for_cut(&mut self) {
        let Some(since) = self.cut else { return };
        let is_told = self.tell_what_is_open().is_ok();
        if is_told || since.elapsed() > LOOK_FOR {
            self.cut = None;
        }
    }

    /// The servers have ended the session, because nobody renewed it in time (the node slept, the
    /// network was cut): its locks and opens are gone. Another begins, so that programs that start now
    /// work.
    fn begin_again(&mut self, refused: SessionId) {
        self.is_known = false;
        self.renewed = None;
        log::error!("the servers ended this node's session: it was not renewed in time");
        match self.node.begin_session(refused) {
            Ok(()) => self.clusters.begin_again(),
            Err(e) => log::error!("no new session: {e}"),
        }
    }

    /// Nobody here uses the cluster, and it has not answered for so long that it has ended the
    /// session: what is left to do for it is done.
    pub fn is_forgotten(&mut self) -> bool {
        if self.heard.elapsed() <= MISSED_FOR || self.node.is_in_use(self.manager) {
            return false;
        }
        log::info!("a cluster that nobody here uses any more does not answer: forgotten");
        while let Some(pending) = self.pending.pop_front() {
            self.finish(pending.errand, Err(Errno::EIO));
        }
        true
    }

    fn stop(&mut self, end_session: bool) {
        self.hurry();
        self.work();
        if end_session && self.is_known {
            let ended = self.cluster();
            if let Err(e) = ended.and_then(|c| c.end_session(self.node.arena.session())) {
                log::warn!("end of the session: {e}");
            }
        }
    }
}
