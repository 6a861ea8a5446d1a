//! The replies that are kept, so that a request that arrives twice is answered twice and executed once.
//!
//! An operation with an effect puts its reply into the log entry of its effect (`commit`); any other
//! answer is remembered in memory alone. `slots` keeps the records and says at the next arrival what
//! is to be done. What must stay true: nothing is kept for a client that has ended, since nobody
//! would remove it any more.

use super::changes::Changes;
use super::slots::Verdict;
use super::task::{Answer, Task, Work};
use super::{Core, World};
use crate::ops;
use crate::records::SlotRecord;
use sealfs_protocol::message::OpReply;
use sealfs_protocol::{ClientId, PartitionId};

/// The record of a request slot that goes with an effect.
pub(crate) struct SlotWrite {
    pub client: ClientId,
    pub partition: PartitionId,
    pub slot: u16,
    pub record: SlotRecord,
}

impl<W: World> Core<W> {
    /// The slot record of an operation with an effect.
    pub(super) fn slot_write(
        &self,
        task: &Task,
        answer: &Answer,
        changes: &Changes,
    ) -> Option<SlotWrite> {
        let Answer::Op(reply) = answer else {
            return None;
        };
        if changes.writes.is_empty() {
            return None;
        }
        self.slot_of(task, reply)
    }

    fn slot_of(&self, task: &Task, reply: &OpReply) -> Option<SlotWrite> {
        let Work::Request(request) = &task.work else {
            return None;
        };
        let entry = request.ops.get(task.index)?;
        let caller = &task.caller;
        if caller.client.0 == 0 || !ops::is_mutation(&entry.op) {
            return None;
        }
        if self.refusal(caller).is_some() {
            // The client has ended meanwhile, and nobody would remove the record any more.
            return None;
        }
        let record = self.slots.with_reply(
            caller.client,
            entry.partition,
            caller.slot,
            caller.sequence,
            task.index as u16,
            without_payload(reply),
        );
        Some(SlotWrite {
            client: caller.client,
            partition: entry.partition,
            slot: caller.slot,
            record,
        })
    }

    /// Every answer of an operation that may change something is remembered, if only here: a copy
    /// of its request that arrives later must not do what the first one did not, or do it again.
    /// But for a refusal, after which the client may send the same request again.
    pub(crate) fn remember(&mut self, task: &Task, reply: &OpReply) {
        if matches!(reply, OpReply::Refused(_)) {
            return;
        }
        let Some(slot) = self.slot_of(task, reply) else {
            return;
        };
        let index = task.index as u16;
        let place = (slot.client, slot.partition, slot.slot);
        let sequence = task.caller.sequence;
        if self.slots.check(place.0, place.1, place.2, sequence, index) == Verdict::Execute {
            self.slots.set(place.0, place.1, place.2, slot.record);
        }
    }
}

/// Replies are stored without the bytes that went with them: who asks again reads again.
fn without_payload(reply: &OpReply) -> OpReply {
    match reply {
        OpReply::Opened { attr, created, .. } => OpReply::Opened {
            attr: attr.clone(),
            created: *created,
            read_bytes: 0,
            page: None,
        },
        other => other.clone(),
    }
}
