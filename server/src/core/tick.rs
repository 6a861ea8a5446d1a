//! What time and finished jobs bring: flushes and commits, timers, deadlines, leases, pushes.

use super::event::Action;
use super::peers::Purpose;
use super::task::{Ended, Task, TaskId, Waiting, Work};
use super::versions::{LEASE_MS, PUSH_MS};
use super::{Core, FlushWait, World};
use crate::meta::{CommitDone, FlushDone};
use crate::store::StoreError;
use sealfs_protocol::message::Op;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, ShardId, VolumeId};

const MS: u64 = 1_000_000;
/// Shortest time between two looks at deadlines, leases and the like, in ns.
pub(super) const HOUSEKEEPING_NS: u64 = 2 * MS;

impl<W: World> Core<W> {
    pub(super) fn on_tick(&mut self) {
        let now = self.now.mono_ns;
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, id));
            self.ready.push_back(id);
        }
        self.search_if_due();
        if now.saturating_sub(self.kept_house_ns) >= HOUSEKEEPING_NS {
            self.kept_house_ns = now;
            self.keep_house();
        }
    }

    /// What need not be looked at after every batch.
    fn keep_house(&mut self) {
        let now = self.now.mono_ns;
        if !self.outstanding.is_empty() {
            self.repeat_overdue();
            self.give_up_pushes();
            self.give_up_recalls();
            self.give_up_lock_questions();
        }
        if !self.tasks.is_empty() {
            self.end_overdue();
        }
        self.ask_outcomes();
        if self.grace.is_some() {
            self.look_at_grace();
        }
        for session in self.sessions.expired(now) {
            log::info!("session {session} was not renewed: it has ended");
            self.end(Ended::Session(session));
        }
        if now.saturating_sub(self.pushed_ns) >= PUSH_MS * MS {
            self.pushed_ns = now;
            self.push_versions();
        }
        for waiting in std::mem::take(&mut self.hellos) {
            self.on_hello(waiting.conn, waiting.tag, waiting.hello, waiting.until_ns);
        }
        self.write_due_access_times();
        self.wipe_step();
    }

    /// Begins the flush and the commit that are due.
    pub(super) fn begin_jobs(&mut self) {
        let now = self.now.mono_ns;
        if self.flush_wanted || self.meta.wants_flush(now) {
            match self.meta.begin_flush() {
                Ok(Some(job)) => {
                    self.flush_wanted = false;
                    self.actions.push(Action::Flush(job));
                }
                Ok(None) => {}
                Err(error) => self.on_store_failure(&error),
            }
        }
        self.release_flushed();
        if self.meta.wants_commit(now) {
            match self.meta.begin_commit() {
                Ok(Some(job)) => self.actions.push(Action::Commit(job)),
                Ok(None) => {}
                Err(error) => self.on_store_failure(&error),
            }
        }
    }

    pub(super) fn on_flush_done(&mut self, done: FlushDone) {
        if let Err(error) = self.meta.finish_flush(done) {
            self.on_store_failure(&error);
        }
        self.release_flushed();
        self.room_came();
    }

    pub(super) fn on_commit_done(&mut self, done: CommitDone) {
        match self.meta.finish_commit(done) {
            Ok(retired) => self.actions.push(Action::Retire(retired)),
            Err(error) => self.on_store_failure(&error),
        }
        self.room_came();
    }

    fn room_came(&mut self) {
        let waiting = std::mem::take(&mut self.room_waits);
        self.ready.extend(waiting);
    }

    /// Lets go what waited for a flush that has happened.
    fn release_flushed(&mut self) {
        let flushed = self.meta.flushed();
        self.quotas.flushed(flushed);
        while let Some(first) = self.flush_waits.first_entry()
            && *first.key() <= flushed
        {
            for what in first.remove() {
                match what {
                    FlushWait::Task(id) => self.flushed(id),
                    FlushWait::End(who) => self.push_end(who),
                    FlushWait::Action(action) => self.actions.push(*action),
                }
            }
        }
        if self.flush_waits.is_empty() {
            self.flush_wanted = false;
        }
    }

    /// The store is read-only from now on: whoever waits for a flush gets EIO, once.
    pub(super) fn on_store_failure(&mut self, error: &StoreError) {
        log::error!("{error}; the store is read-only until the server is started again");
        self.flush_wanted = false;
        for (_, waits) in std::mem::take(&mut self.flush_waits) {
            for what in waits {
                if let FlushWait::Task(id) = what
                    && let Some(task) = self.tasks.get_mut(&id)
                {
                    task.held = Some(Self::errno_answer(Errno::EIO));
                    self.flushed(id);
                }
            }
        }
        self.room_came();
    }

    /// The flush that a task waits for is over.
    fn flushed(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.waiting = Waiting::Nothing;
            self.ready.push_back(id);
        }
    }

    /// Tasks whose caller has given up: what can still be taken back is taken back.
    fn end_overdue(&mut self) {
        let now = self.now.mono_ns;
        let over = self.tasks.values().filter(|t| {
            let waits = !matches!(
                t.waiting,
                Waiting::FileLock(_) | Waiting::Flush | Waiting::Job | Waiting::Nothing
            );
            waits && t.caller.deadline_ns <= now && !matches!(t.work, Work::Job(_))
        });
        let mut over: Vec<TaskId> = over.map(|t| t.id).collect();
        over.sort_unstable();
        for id in over {
            self.give_up(id);
        }
    }

    fn give_up(&mut self, id: TaskId) {
        let Some(mut task) = self.tasks.remove(&id) else {
            return;
        };
        if task.shared.as_ref().is_some_and(|s| s.decided) {
            self.tasks.insert(id, task);
            return;
        }
        self.forget_questions(id);
        self.release_shared(&mut task);
        if let Some(ino) = unanswered_append(&task) {
            self.ends.doubt(ino);
        }
        self.jobs.extend(task.memo.undo.take());
        task.held = Some(Self::errno_answer(Errno::EIO));
        self.drive(task, None);
    }

    // ---- rename versions ----------------------------------------------------------------------

    /// A push that was not acknowledged in time: the shard has no lease left that it could honour.
    fn give_up_pushes(&mut self) {
        let now = self.now.mono_ns;
        let over = self.outstanding.iter().filter(|(_, what)| {
            matches!(what.request, PeerRequest::PushRenameVersion { .. })
                && now.saturating_sub(what.first_ns) >= LEASE_MS * MS
        });
        let over: Vec<u64> = over.map(|(tag, _)| *tag).collect();
        for tag in over {
            if let Some(what) = self.outstanding.remove(&tag) {
                self.answered(what, PeerReply::Acknowledged, &[]);
            }
        }
    }

    fn own_volumes(&self) -> Vec<VolumeId> {
        let volumes = self.cluster.volumes().into_iter();
        let own = volumes.filter(|v| self.cluster.is_mine(self.cluster.root(*v).partition()));
        own.collect()
    }

    fn push_versions(&mut self) {
        let others: Vec<ShardId> = self.cluster.others().collect();
        for shard in others {
            self.versions_to_push(shard);
        }
    }

    /// Renews the lease of one shard on the versions that this shard keeps.
    pub(super) fn versions_to_push(&mut self, shard: ShardId) {
        let on_the_way = self.outstanding.values();
        let mut on_the_way = on_the_way.filter(|o| o.shard == shard);
        if on_the_way.any(|o| o.purpose == Purpose::Push) {
            return;
        }
        for volume in self.own_volumes() {
            let version = self.versions.current(volume, self.now.mono_ns);
            let request = PeerRequest::PushRenameVersion {
                volume,
                version,
                directories: Vec::new(),
            };
            self.send_peer(shard, request, &[], Purpose::Push);
        }
    }
}

/// Bytes of an append that is given up may have landed on another shard.
fn unanswered_append(task: &Task) -> Option<InodeId> {
    let Work::Request(request) = &task.work else {
        return None;
    };
    match request.ops.get(task.index)?.op {
        Op::Append { ino, .. } => Some(ino),
        _ => None,
    }
}
