//! What an operation asks other shards, and what is taken and free on its own.
//!
//! A question halts the operation like a key of another shard does ([`Need::Answer`]); the answers are
//! there when it runs again from its start. What must stay true: an operation asks the same questions
//! in every run, and all that it can ask at once in one go.

use std::ops::Range;

use super::event::{Halt, OpResult, World};
use super::task::Need;
use super::view::View;
use crate::meta::db::{Db, Key};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::usage::Totals;
use sealfs_protocol::{Errno, PartitionId, ShardId, VolumeId};

impl<W: World> View<'_, W> {
    /// Holds a key of this shard until the operation is over: nobody else changes it meanwhile.
    pub fn hold(&mut self, db: Db, key: Key) -> OpResult<()> {
        if self.locks.blocks_write(db, &key, self.txn) {
            return Err(Halt::Key(db, key));
        }
        self.holds.push((db, key));
        Ok(())
    }

    /// The same, and nobody else reads it meanwhile either.
    pub fn hold_shut(&mut self, db: Db, key: Key) -> OpResult<()> {
        self.shuts = true;
        self.hold(db, key)
    }

    /// The answers of other shards to these questions, in their order; halts until all are there.
    /// A question with bytes names them as a range of the payload.
    pub fn ask(
        &mut self,
        questions: Vec<(PartitionId, PeerRequest, Range<usize>)>,
    ) -> OpResult<Vec<PeerReply>> {
        let targeted = questions
            .into_iter()
            .map(|(partition, request, bytes)| (self.cluster.owner(partition), request, bytes));
        let targeted: Vec<_> = targeted.collect();
        self.ask_shards(targeted)
    }

    pub fn ask_shards(
        &mut self,
        questions: Vec<(Option<ShardId>, PeerRequest, Range<usize>)>,
    ) -> OpResult<Vec<PeerReply>> {
        let mut answers = Vec::with_capacity(questions.len());
        for (shard, request, bytes) in questions {
            let shard = shard.ok_or(Errno::EIO)?;
            match self.memo.answer(shard, &request) {
                Some((answer, _)) => answers.push(answer.clone()),
                None => self.needs.push(Need::Answer(shard, request, bytes)),
            }
        }
        if self.needs.is_empty() {
            Ok(answers)
        } else {
            Err(Halt::Need)
        }
    }

    /// Another shard's answer to one question, and the bytes that came along.
    pub fn ask_bytes(
        &mut self,
        partition: PartitionId,
        request: PeerRequest,
    ) -> OpResult<(PeerReply, Vec<u8>)> {
        let shard = self.cluster.owner(partition).ok_or(Errno::EIO)?;
        if let Some(answer) = self.memo.answer(shard, &request) {
            return Ok(answer.clone());
        }
        self.needs.push(Need::Answer(shard, request, 0..0));
        Err(Halt::Need)
    }

    /// What is free of this shard's store once nothing is held back any more to be discarded.
    pub fn free_undiscarded(&mut self) -> u64 {
        self.meta.store_mut().alloc().forgo_discards();
        self.meta.store().space().free_bytes
    }

    pub fn space(&self) -> crate::store::Space {
        self.meta.store().space()
    }

    /// What a volume takes in one partition of this shard.
    pub fn used_in(&self, partition: PartitionId, volume: VolumeId) -> Totals {
        self.meta.usage_in(partition, volume)
    }

    /// What the caller's volume takes on this shard.
    pub fn used(&self) -> Totals {
        self.meta.usage(self.caller.volume)
    }
}
