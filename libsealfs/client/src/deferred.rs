//! What a server has to hear of and nobody waits for: closes, and directories that were read from what came
//! with their open.
//!
//! It goes along with the next request to the same shard: accesses before that request's operations,
//! so that this process sees its own access times, closes behind them. What must stay true: what a
//! server refused, or was not certainly told, goes again; nothing waits past an exec, an exit or a
//! long wait of the process; only what a server has confirmed counts as closed.

use crate::call::Mode;
use crate::client::{Client, Shared};
use crate::config::FileRef;
use crate::part::{Part, refusal_of};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{InodeId, OpenId, PartitionId, ShardId};

/// Each time that so many of a kind wait for a request to go along with, one is made for them.
const WAITING_MAX: usize = 64;
/// What goes along with one request, of each kind.
const ALONG_MAX: usize = 16;
/// Operations in one request of their own.
const BATCH_MAX: usize = 256;

/// What waits for a request to go along with.
#[derive(Default)]
pub(crate) struct Deferred {
    accessed: Vec<InodeId>,
    closing: Vec<FileRef>,
    /// Descriptions that servers know to be closed, until [`Client::drain_closed`].
    closed: Vec<OpenId>,
}

fn is_due(waiting: usize) -> bool {
    waiting > 0 && waiting.is_multiple_of(WAITING_MAX)
}

impl Deferred {
    /// Operations that go along with a request to `shard`: before its own, and behind them.
    pub fn take_along(&mut self, ring: &Ring, shard: ShardId) -> (Vec<Op>, Vec<Op>) {
        let is_there = |ino: InodeId| ring.owner(ino.partition()).is_some_and(|o| o.id == shard);
        let accessed = take(&mut self.accessed, |ino| is_there(*ino));
        let closing = take(&mut self.closing, |file| is_there(file.ino));
        let accessed = accessed.into_iter().map(accessed_op);
        (
            accessed.collect(),
            closing.into_iter().map(close_op).collect(),
        )
    }

    pub fn close(&mut self, files: impl Iterator<Item = FileRef>) {
        self.closing.extend(files);
    }

    /// What a server has done.
    pub fn note_done<'a>(&mut self, done: impl Iterator<Item = &'a Op>) {
        let opens = done.filter_map(|op| match op {
            Op::Close { open, .. } => Some(*open),
            _ => None,
        });
        self.closed.extend(opens);
    }

    /// Operations that a server refused, or may not have got: they have to go again.
    pub fn put_back<'a>(&mut self, refused: impl Iterator<Item = &'a Op>) {
        for op in refused {
            match op {
                Op::Accessed { ino } => self.accessed.push(*ino),
                Op::Close { ino, open } => self.closing.push(FileRef {
                    ino: *ino,
                    open: *open,
                }),
                _ => {}
            }
        }
    }

    fn take_all(&mut self) -> Vec<Op> {
        let accessed = self.accessed.drain(..).map(accessed_op);
        accessed
            .chain(self.closing.drain(..).map(close_op))
            .collect()
    }
}

/// The first few of `all` that `goes` holds for.
fn take<T: Copy>(all: &mut Vec<T>, goes: impl Fn(&T) -> bool) -> Vec<T> {
    let mut taken = Vec::new();
    all.retain(|one| {
        let goes = taken.len() < ALONG_MAX && goes(one);
        if goes {
            taken.push(*one);
        }
        !goes
    });
    taken
}

fn accessed_op(ino: InodeId) -> Op {
    Op::Accessed { ino }
}

fn close_op(file: FileRef) -> Op {
    Op::Close {
        ino: file.ino,
        open: file.open,
    }
}

fn partition_of(op: &Op) -> PartitionId {
    match op {
        Op::Accessed { ino } | Op::Close { ino, .. } => ino.partition(),
        _ => PartitionId(0),
    }
}

impl Client {
    /// A directory was read from what came with its open, and its access time is due.
    pub fn accessed(&self, directory: InodeId) {
        let due = {
            let mut deferred = self.shared.deferred.lock();
            let is_new = !deferred.accessed.contains(&directory);
            if is_new {
                deferred.accessed.push(directory);
            }
            is_new && is_due(deferred.accessed.len())
        };
        if due {
            self.flush_deferred();
        }
    }

    pub(crate) fn note_closed(&self, open: OpenId) {
        self.shared.deferred.lock().closed.push(open);
    }

    /// The server hears of a close with the next request.
    pub(crate) fn defer_close(&self, file: FileRef) {
        let due = {
            let mut deferred = self.shared.deferred.lock();
            deferred.closing.push(file);
            is_due(deferred.closing.len())
        };
        if due {
            self.flush_deferred();
        }
    }

    /// Calls `each` for every description that a server has confirmed as closed, once.
    pub fn drain_closed(&self, each: impl FnMut(OpenId)) {
        self.shared.deferred.lock().closed.drain(..).for_each(each);
    }

    /// Tells the servers of all that waits. Before exec, exit and long waits.
    pub fn flush_deferred(&self) {
        let all = self.shared.deferred.lock().take_all();
        if all.is_empty() {
            return;
        }
        let state = self.shared.cluster.state();
        let slot = self.shared.slots.take();
        let mut mode: Mode<'_> = self.mode(&slot);
        let mut by_shard: Vec<(u16, Vec<(PartitionId, Op)>)> = Vec::new();
        for op in all {
            let partition = partition_of(&op);
            let owners = state.ring.owners.get(usize::from(partition.0));
            let owner = owners.copied().unwrap_or(u16::MAX);
            match by_shard.iter_mut().find(|(o, _)| *o == owner) {
                Some((_, ops)) => ops.push((partition, op)),
                None => by_shard.push((owner, vec![(partition, op)])),
            }
        }
        let batches = by_shard.iter().flat_map(|(_, ops)| ops.chunks(BATCH_MAX));
        let mut parts: Vec<Part<'_, '_>> = batches
            .map(|ops| Part::new(&slot, ops.to_vec(), &[], &mut []))
            .collect();
        self.run(&mut parts, &mut mode);
        let mut deferred = self.shared.deferred.lock();
        for part in &parts {
            match part.answer {
                Some(Ok(_)) => deferred.note_done(part.own_ops()),
                _ => deferred.put_back(part.own_ops()),
            }
        }
    }
}

impl Shared {
    /// What went along with a request came back with its reply: `replies`, in order.
    pub(crate) fn settle_along(&self, part: &Part<'_, '_>, replies: &[OpReply]) {
        if replies.is_empty() {
            return;
        }
        let mut deferred = self.deferred.lock();
        for (op, reply) in part.along().zip(replies) {
            match refusal_of(reply) {
                Some(_) => deferred.put_back(std::iter::once(op)),
                None => deferred.note_done(std::iter::once(op)),
            }
        }
    }

    /// Adds to a request what waits for one to its shard.
    pub(crate) fn take_along(&self, part: &mut Part<'_, '_>, ring: &Ring, shard: ShardId) {
        let (before, behind) = self.deferred.lock().take_along(ring, shard);
        let with_partition = |op: Op| (partition_of(&op), op);
        part.take_along(
            before.into_iter().map(with_partition),
            behind.into_iter().map(with_partition),
        );
    }
}
