//! The threads beside the shard's: one flushes devices, one commits to the index.
//!
//! Each takes jobs from a bounded queue and sends what came of them back, waking the shard's thread.
//! At most one job of each kind is under way, so the queues never fill.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{Receiver, Sender, bounded};
use mio::Waker;

use crate::core::event::World;
use crate::meta::{CommitDone, CommitJob, FlushDone, FlushJob, Retired};
use sealfs_protocol::manager::ClusterState;

/// Jobs that may wait for a thread; more than the core ever has under way.
const QUEUE: usize = 8;

/// What other threads have for the shard's thread.
pub enum Done {
    Flush(FlushDone),
    Commit(CommitDone),
    State(ClusterState),
    /// The process was asked to end.
    Stop,
}

/// The way back to the shard's thread.
#[derive(Clone)]
pub struct Inbox {
    sender: Sender<Done>,
    waker: Arc<Waker>,
}

impl Inbox {
    pub fn new(sender: Sender<Done>, waker: Arc<Waker>) -> Inbox {
        Inbox { sender, waker }
    }

    /// Hands over; says nothing if the shard has gone.
    pub fn put(&self, done: Done) {
        if self.sender.send(done).is_ok()
            && let Err(e) = self.waker.wake()
        {
            log::error!("cannot wake the shard's thread: {e}");
        }
    }
}

/// For the commit thread: a commit, or what one leaves behind to be dropped there.
enum Commit<W: World> {
    Run(CommitJob<W::Kv>),
    Drop(Retired),
}

pub struct Jobs<W: World> {
    flushes: Sender<FlushJob<W::Device>>,
    commits: Sender<Commit<W>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: World> Jobs<W> {
    pub fn start(inbox: &Inbox) -> std::io::Result<Jobs<W>> {
        let (flushes, to_flush) = bounded::<FlushJob<W::Device>>(QUEUE);
        let (commits, to_commit) = bounded::<Commit<W>>(QUEUE);
        let flush_inbox = inbox.clone();
        let commit_inbox = inbox.clone();
        let flusher = thread::Builder::new().name("flush".into()).spawn(move || {
            to_flush
                .iter()
                .for_each(|job| flush_inbox.put(Done::Flush(job.run())));
        })?;
        let committer = thread::Builder::new()
            .name("commit".into())
            .spawn(move || commit_all::<W>(&to_commit, &commit_inbox))?;
        Ok(Jobs {
            flushes,
            commits,
            threads: vec![flusher, committer],
        })
    }

    pub fn flush(&self, job: FlushJob<W::Device>) {
        // The thread ends only with this object.
        let _ = self.flushes.send(job);
    }

    pub fn commit(&self, job: CommitJob<W::Kv>) {
        let _ = self.commits.send(Commit::Run(job));
    }

    pub fn retire(&self, retired: Retired) {
        let _ = self.commits.send(Commit::Drop(retired));
    }

    /// Ends the threads when they have done what is queued.
    pub fn finish(self) {
        drop((self.flushes, self.commits));
        for thread in self.threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn commit_all<W: World>(jobs: &Receiver<Commit<W>>, inbox: &Inbox) {
    for job in jobs {
        match job {
            Commit::Run(job) => inbox.put(Done::Commit(job.run())),
            Commit::Drop(retired) => drop(retired),
        }
    }
}
