//! Exactly once: what every client's request slots did last, in each partition.
//!
//! An operation with an effect puts its reply into the slot's record in the same log entry
//! (`Db::Slot`); a failed one is remembered here alone, since only a connection of this very process
//! can still deliver it twice. What must stay true: a sequence is executed at most once, an equal
//! one is answered with the stored reply, a lower one is refused.

use std::collections::HashMap;

use crate::records::SlotRecord;
use sealfs_protocol::message::OpReply;
use sealfs_protocol::{ClientId, PartitionId, Sequence};

/// What to do with an operation that has an effect.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    Execute,
    Replay(Box<OpReply>),
    Refuse,
}

#[derive(Default)]
pub struct Slots {
    clients: HashMap<ClientId, HashMap<(PartitionId, u16), SlotRecord>>,
}

impl Slots {
    pub fn check(
        &self,
        client: ClientId,
        partition: PartitionId,
        slot: u16,
        sequence: Sequence,
        index: u16,
    ) -> Verdict {
        let slots = self.clients.get(&client);
        let Some(record) = slots.and_then(|s| s.get(&(partition, slot))) else {
            return Verdict::Execute;
        };
        if record.sequence > sequence {
            return Verdict::Refuse;
        }
        if record.sequence < sequence {
            return Verdict::Execute;
        }
        let stored = record.replies.iter().find(|(i, _)| *i == index);
        match stored {
            Some((_, reply)) => Verdict::Replay(Box::new(reply.clone())),
            None => Verdict::Execute,
        }
    }

    /// The record to store with the effect of an operation.
    pub fn with_reply(
        &self,
        client: ClientId,
        partition: PartitionId,
        slot: u16,
        sequence: Sequence,
        index: u16,
        reply: OpReply,
    ) -> SlotRecord {
        let slots = self.clients.get(&client);
        let so_far = slots.and_then(|s| s.get(&(partition, slot)));
        let mut replies = match so_far {
            Some(record) if record.sequence == sequence => record.replies.clone(),
            _ => Vec::with_capacity(1),
        };
        replies.push((index, reply));
        SlotRecord { sequence, replies }
    }

    pub fn set(&mut self, client: ClientId, partition: PartitionId, slot: u16, record: SlotRecord) {
        let slots = self.clients.entry(client).or_default();
        slots.insert((partition, slot), record);
    }

    /// Forgets an ended client; the (partition, slot) pairs whose records go, in a fixed order.
    pub fn end_client(&mut self, client: ClientId) -> Vec<(PartitionId, u16)> {
        let slots = self.clients.remove(&client).unwrap_or_default();
        let mut places: Vec<_> = slots.into_keys().collect();
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::Errno;

    const CLIENT: ClientId = ClientId(7);
    const PARTITION: PartitionId = PartitionId(3);

    #[test]
    fn an_equal_sequence_is_replayed_and_a_lower_one_refused() {
        let mut slots = Slots::default();
        let reply = OpReply::Errno(Errno::EEXIST);
        let record = slots.with_reply(CLIENT, PARTITION, 0, Sequence(5), 0, reply.clone());
        slots.set(CLIENT, PARTITION, 0, record);
        let check = |sequence, index| slots.check(CLIENT, PARTITION, 0, Sequence(sequence), index);
        assert_eq!(check(5, 0), Verdict::Replay(Box::new(reply)));
        assert_eq!(check(5, 1), Verdict::Execute);
        assert_eq!(check(4, 0), Verdict::Refuse);
        assert_eq!(check(6, 0), Verdict::Execute);
        let elsewhere = slots.check(CLIENT, PartitionId(4), 0, Sequence(5), 0);
        assert_eq!(elsewhere, Verdict::Execute);
    }

    #[test]
    fn replies_of_one_request_are_kept_together() {
        let mut slots = Slots::default();
        for index in 0..2 {
            let record = slots.with_reply(CLIENT, PARTITION, 0, Sequence(5), index, OpReply::Done);
            slots.set(CLIENT, PARTITION, 0, record);
        }
        let replayed = slots.check(CLIENT, PARTITION, 0, Sequence(5), 0);
        assert_eq!(replayed, Verdict::Replay(Box::new(OpReply::Done)));
        assert_eq!(slots.end_client(CLIENT), [(PARTITION, 0)]);
    }
}
