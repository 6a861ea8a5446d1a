//! The parts of a call: one request each, and what became of it.

use crate::connect::{Connection, Unreachable};
use crate::slots::Slot;
use sealfs_protocol::header::Kind;
use sealfs_protocol::message::{Entry, FrameError, Op, OpReply, Passed, Refusal, Reply, Request};
use sealfs_protocol::{
    Epoch, Errno, Incarnation, PartitionId, RenameVersion, RingVersion, Sequence, ShardId, codec,
};
use sealfs_transport::error::TransportError;
use sealfs_transport::link::Response;
use sealfs_transport::memory::{IoVec, IoVecMut};
use std::ops::Range;

/// A client that is refused more often than this within one call has ended.
const FORGOTTEN_MAX: u32 = 3;
/// Pause after a frame that was refused for now, in ms.
const AGAIN_MS: u32 = 2;

/// One request of a call: operations for one shard, the owner of the first one's partition.
pub(crate) struct Part<'a, 'm> {
    pub request: Request,
    /// Which operations are the call's own; around them goes what was deferred.
    own: Range<usize>,
    pub sequence: Sequence,
    pub outgoing: &'a [IoVec<'a>],
    pub incoming: &'a mut [IoVecMut<'m>],
    /// Set when the call has returned.
    pub answer: Option<Result<Answer, Errno>>,
    /// It went out before: the next time is a retry.
    pub sent: bool,
    /// Times that the server did not know us.
    strikes: u32,
}

/// The reply to one part.
#[derive(Debug)]
pub(crate) struct Answer {
    pub replies: Vec<OpReply>,
    pub passed: Vec<Passed>,
    pub rename_version: RenameVersion,
    pub shard: ShardId,
    pub incarnation: Incarnation,
    /// The shard's last log entry when it answered.
    pub written: u64,
    /// Payload that landed in the caller's memory, in bytes.
    pub payload_bytes: usize,
}

impl<'a, 'm> Part<'a, 'm> {
    pub fn new(
        slot: &Slot<'_>,
        ops: Vec<(PartitionId, Op)>,
        outgoing: &'a [IoVec<'a>],
        incoming: &'a mut [IoVecMut<'m>],
    ) -> Part<'a, 'm> {
        let own = 0..ops.len();
        let ops = ops.into_iter().map(entry).collect();
        Part {
            request: Request { ops },
            own,
            sequence: slot.next(),
            outgoing,
            incoming,
            answer: None,
            sent: false,
            strikes: 0,
        }
    }

    pub fn partition(&self) -> PartitionId {
        let first = self.request.ops.get(self.own.start);
        first.map_or(PartitionId(0), |e| e.partition)
    }
}

fn entry((partition, op): (PartitionId, Op)) -> Entry {
    Entry {
        partition,
        epoch: Epoch(0),
        op,
    }
}

impl Part<'_, '_> {
    /// The answer of a part with one operation.
    pub fn single(self) -> Result<OpReply, Errno> {
        let mut answer = self.answer.unwrap_or(Err(Errno::EIO))?;
        match answer.replies.pop() {
            Some(OpReply::Errno(errno)) => Err(errno),
            Some(reply) => Ok(reply),
            None => Err(Errno::EIO),
        }
    }

    pub fn take_answer(&mut self) -> Result<Answer, Errno> {
        self.answer.take().unwrap_or(Err(Errno::EIO))
    }

    /// The server does not know this client. One that hears so again and again has ended.
    pub fn strike(&mut self) {
        self.strikes += 1;
        if self.strikes > FORGOTTEN_MAX {
            self.answer = Some(Err(Errno::EIO));
        }
    }

    /// Adds what goes along, before and behind the call's own operations.
    pub fn take_along(
        &mut self,
        before: impl ExactSizeIterator<Item = (PartitionId, Op)>,
        behind: impl Iterator<Item = (PartitionId, Op)>,
    ) {
        let (start, added) = (self.own.start, before.len());
        self.request.ops.splice(start..start, before.map(entry));
        self.request.ops.extend(behind.map(entry));
        self.own = start + added..self.own.end + added;
    }

    /// Reads a reply: the answer, and the replies to what went along. `Err` for what must be sent
    /// again as a whole.
    pub fn read_reply(
        &self,
        connection: &Connection,
        response: &Response,
        body: &[u8],
    ) -> Result<(Answer, Vec<OpReply>), Why> {
        if response.header.kind == Kind::Error {
            return Err(match codec::decode::<FrameError>(body) {
                Ok(e) if e.again => Why::Busy(AGAIN_MS),
                _ => Why::Errno(Errno::EIO),
            });
        }
        if response.fault {
            return Err(Why::Errno(Errno::EFAULT));
        }
        let reply = codec::decode::<Reply>(body).ok();
        let well_formed = |r: &Reply| {
            response.header.kind == Kind::Reply && r.replies.len() == self.request.ops.len()
        };
        let Some(mut reply) = reply.filter(well_formed) else {
            connection.link.give_up();
            return Err(Why::Errno(Errno::EIO));
        };
        let behind = reply.replies.split_off(self.own.end);
        let own = reply.replies.split_off(self.own.start);
        let mut along = std::mem::replace(&mut reply.replies, own);
        along.extend(behind);
        for refusal in reply.replies.iter().filter_map(refusal_of) {
            match refusal {
                Refusal::WrongEpoch { ring_version } => {
                    return Err(Why::OldRing(RingVersion(ring_version.0.saturating_sub(1))));
                }
                Refusal::Busy { retry_ms } => return Err(Why::Busy(*retry_ms)),
                Refusal::UnknownClient => {
                    connection.link.give_up();
                    return Err(Why::Forgotten);
                }
                Refusal::OldSequence => return Err(Why::Errno(Errno::EIO)),
                Refusal::StaleGeneration { .. } | Refusal::StaleVersion { .. } => {}
            }
        }
        let answer = Answer {
            replies: reply.replies,
            passed: reply.passed,
            rename_version: reply.rename_version,
            shard: connection.shard,
            incarnation: response.header.incarnation,
            written: reply.written,
            payload_bytes: response.payload_bytes,
        };
        Ok((answer, along))
    }

    /// The call's own operations.
    pub fn own_ops(&self) -> impl Iterator<Item = &Op> {
        self.request.ops[self.own.clone()].iter().map(|e| &e.op)
    }

    /// What goes along, in the order of its replies.
    pub fn along(&self) -> impl Iterator<Item = &Op> {
        let (before, rest) = self.request.ops.split_at(self.own.start);
        let behind = &rest[self.own.len()..];
        before.iter().chain(behind).map(|e| &e.op)
    }
}

/// Why a part has no answer yet.
pub(crate) enum Why {
    Away,
    /// Another shard has its address: the ring is out of date.
    Moved,
    /// A ring newer than this version is needed.
    OldRing(RingVersion),
    Busy(u32),
    /// The server does not know us: say hello again.
    Forgotten,
    /// It will have none.
    Errno(Errno),
}

impl From<Unreachable> for Why {
    fn from(unreachable: Unreachable) -> Why {
        match unreachable {
            Unreachable::Away(TransportError::Os { errno, .. })
                if matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM) =>
            {
                Why::Errno(errno)
            }
            Unreachable::Away(_) => Why::Away,
            Unreachable::Moved => Why::Moved,
            // It answers and will not have us: nothing that a program could do about it.
            Unreachable::NoVolume => Why::Errno(Errno::ESTALE),
            Unreachable::Refused | Unreachable::Ended => Why::Errno(Errno::EIO),
        }
    }
}

pub(crate) fn refusal_of(reply: &OpReply) -> Option<&Refusal> {
    match reply {
        OpReply::Refused(refusal) => Some(refusal),
        _ => None,
    }
}
