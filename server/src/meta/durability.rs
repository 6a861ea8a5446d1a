//! When what is appended becomes durable: flushes with their barriers, and commits to the index.
//!
//! A flush that has ended covers every entry up to the one that was the last when it began, with
//! the data they name; a barrier record then says so in the log, and is durable itself with the
//! next flush. A commit takes the overlay as it is, waits until a flush covers it, and moves it.

use super::log::{Kind, LogIndex};
use super::{CommitDone, CommitJob, Db, FlushDone, FlushJob, Meta, Retired, meta_key, replay};
use crate::env::{BlockDevice, Kv};
use crate::store::StoreError;

impl<K: Kv, D: BlockDevice> Meta<K, D> {
    /// Whether to begin a flush that nobody asked for: something has been dirty for long enough, or
    /// a commit, freed space or inode numbers wait for it.
    pub fn wants_flush(&mut self, now_ns: u64) -> bool {
        if self.flush_under_way || self.failed.is_some() {
            return false;
        }
        let barrier_wanted = self.store.waits_for_barrier() && !self.barriers.is_empty();
        if self.clean() && !barrier_wanted {
            self.dirty_since_ns = None;
            return false;
        }
        let since = *self.dirty_since_ns.get_or_insert(now_ns);
        let frozen = self.overlay.frozen.as_ref();
        let commit_waits = frozen.is_some_and(|f| f.through > self.flushed);
        let space = self.store.space();
        let space_low = space.free_bytes < space.total_bytes / 16 && space.pending_bytes > 0;
        commit_waits
            || space_low
            || self.sequences.wait_for_flush()
            || now_ns.saturating_sub(since) >= self.limits.flush_after_ns
    }

    /// Begins a flush of everything appended so far. `None` if one is under way (then begin again
    /// when it has finished, unless `flushed` says it was enough) or if there is nothing to flush.
    pub fn begin_flush(&mut self) -> Result<Option<FlushJob<D>>, StoreError> {
        self.check_writable()?;
        if self.flush_under_way {
            return Ok(None);
        }
        let through = self.write_out()?;
        if through == self.flushed {
            return Ok(None);
        }
        self.flush_under_way = true;
        let data_dirty = self.store.take_dirty();
        Ok(Some(FlushJob {
            data: data_dirty.then(|| self.store.device().clone()),
            log: self.log.device().clone(),
            through,
        }))
    }

    /// Takes a flush's result: `flushed` moves, and a barrier is queued. After a failure the store
    /// is read-only.
    pub fn finish_flush(&mut self, done: FlushDone) -> Result<LogIndex, StoreError> {
        self.flush_under_way = false;
        self.dirty_since_ns = None;
        if let Err((device, e)) = done.result {
            return Err(self.fail(format!("flushing {device} failed: {e}")));
        }
        self.check_writable()?;
        self.flushed = done.through;
        self.sequences.flushed(done.through);
        let mut durable = LogIndex(0);
        while let Some(&(barrier, covers)) = self.barriers.front()
            && barrier <= self.flushed
        {
            durable = covers;
            self.barriers.pop_front();
        }
        self.store.alloc().release_through(durable.0);
        // A barrier that says nothing new is left out, else an idle store would never be clean.
        let news = self.last_group.min(done.through) > self.last_barrier;
        if news && self.log.has_reserve(8) {
            let covers = done.through;
            let barrier = self.log.push(Kind::Barrier, &covers.0.to_le_bytes());
            self.barriers.push_back((barrier, covers));
            self.last_barrier = covers;
        }
        Ok(self.flushed)
    }

    /// Whether `begin_commit` would do something.
    pub fn wants_commit(&mut self, now_ns: u64) -> bool {
        if self.commit_under_way || self.failed.is_some() {
            return false;
        }
        if let Some(frozen) = &self.overlay.frozen {
            return frozen.through <= self.flushed;
        }
        let bytes = self.overlay.active.bytes();
        if bytes == 0 {
            self.uncommitted_since_ns = None;
            return false;
        }
        let since = *self.uncommitted_since_ns.get_or_insert(now_ns);
        bytes >= self.limits.commit_bytes
            || self.log.used() >= self.log.capacity() / 2
            || now_ns.saturating_sub(since) >= self.limits.commit_after_ns
    }

    /// Freezes the overlay, and hands out its commit once everything in it is flushed. `None`: a
    /// flush is needed first (`wants_flush` is true then), or a commit is under way, or there is
    /// nothing to commit.
    pub fn begin_commit(&mut self) -> Result<Option<CommitJob<K>>, StoreError> {
        self.check_writable()?;
        if self.commit_under_way {
            return Ok(None);
        }
        if self.overlay.frozen.is_none() {
            if self.overlay.active.bytes() == 0 {
                return Ok(None);
            }
            self.write_out()?;
            self.freeze();
        }
        let frozen = self.overlay.frozen.as_ref();
        let Some(generation) = frozen.filter(|f| f.through <= self.flushed).cloned() else {
            return Ok(None);
        };
        self.commit_under_way = true;
        let runs = self.store.alloc().take_discards();
        let place = |run| (run, self.store.place(run));
        Ok(Some(CommitJob {
            generation,
            writer: self.kv.writer(),
            discards: runs.into_iter().map(place).collect(),
            data: self.store.device().clone(),
        }))
    }

    fn freeze(&mut self) {
        let through = self.log.last();
        let position = self.log.tail();
        let active = &mut self.overlay.active;
        active.through = through;
        active.through_position = position;
        let applied = replay::encode_applied(through, position, self.log.life());
        active.set(Db::Meta, meta_key::APPLIED, Some(&applied));
        for partition in self.partitions.take_changed() {
            let key = meta_key::partition(partition);
            let last = self.partitions.last(partition).to_le_bytes();
            active.set(Db::Meta, &key, Some(&last));
        }
        for (key, record) in self.usages.take_changed() {
            let record = record.as_ref().map(<[u8; 17]>::as_slice);
            active.set(Db::Usage, &key, record);
        }
        self.uncommitted_since_ns = None;
        self.overlay.freeze();
    }

    /// Takes a commit's result. Drop what it returns on the commit thread.
    pub fn finish_commit(&mut self, done: CommitDone) -> Result<Retired, StoreError> {
        self.commit_under_way = false;
        if let Err(e) = done.result.and_then(|()| self.kv.refresh()) {
            return Err(self.fail(format!("committing to the index failed: {e}")));
        }
        self.overlay.frozen = None;
        self.committed = done.generation.through;
        self.log.trim(done.generation.through_position);
        self.store.alloc().discarded(&done.discarded);
        self.store.alloc().release_through(self.committed.0);
        Ok(Retired {
            _generation: done.generation,
        })
    }
}
