//! fsync(2), fdatasync(2), syncfs(2).
//!
//! An fsync goes to the inode's owner and, for a wide file, to every shard of its layout slots at
//! once: it covers anybody's writes. What must stay true: if a shard lost unflushed writes of this
//! description, the next fsync says EIO, and only that one.

use crate::client::Client;
use crate::config::FileRef;
use crate::part::Part;
use crate::walk::done;
use sealfs_protocol::hash::layout_slot_partition;
use sealfs_protocol::message::Op;
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{Errno, Incarnation, PartitionId, ShardId};

impl Client {
    pub fn fsync(&self, file: FileRef, data_only: bool) -> Result<(), Errno> {
        let info = self.file_info(file)?;
        let state = self.shared.cluster.state();
        let ring = &state.ring;
        let mut partitions = vec![file.ino.partition()];
        if info.wide {
            for slot in 0..info.layout.width {
                let partition = layout_slot_partition(file.ino, slot, ring.partitions());
                add_if_elsewhere(&mut partitions, partition, ring);
            }
        }
        let written = self.shared.files.lock().written(file);
        let fsync = |partition: PartitionId| {
            let shard = ring.owner(partition).map(|o| o.id);
            Op::Fsync {
                ino: file.ino,
                data_only,
                written_in: written_in(&written, shard),
            }
        };
        let slot = self.shared.slots.take();
        let mut parts: Vec<Part<'_, '_>> = partitions
            .iter()
            .map(|p| Part::new(&slot, vec![(*p, fsync(*p))], &[], &mut []))
            .collect();
        self.run(&mut parts, &mut self.mode(&slot));
        let mut result = Ok(());
        for mut part in parts {
            result = result.and(self.conclude_fsync(file, part.take_answer()));
        }
        result
    }

    fn conclude_fsync(
        &self,
        file: FileRef,
        answer: Result<crate::part::Answer, Errno>,
    ) -> Result<(), Errno> {
        let answer = answer?;
        // The shard has told the fate of what was written so far; the next fsync is about the rest.
        self.shared
            .files
            .lock()
            .settled(file, answer.shard, answer.incarnation);
        answer.replies.first().map_or(Err(Errno::EIO), done)
    }

    /// Everything of the volume, on all servers.
    pub fn sync_fs(&self) -> Result<(), Errno> {
        self.flush_deferred();
        for reply in self.ask_all_shards(|_| Op::SyncFs)? {
            done(&reply)?;
        }
        Ok(())
    }
}

/// One partition for each shard is enough: a flush is the shard's.
fn add_if_elsewhere(partitions: &mut Vec<PartitionId>, new: PartitionId, ring: &Ring) {
    let shard = |p: PartitionId| ring.owner(p).map(|o| o.id);
    if partitions.iter().all(|p| shard(*p) != shard(new)) {
        partitions.push(new);
    }
}

fn written_in(written: &[(ShardId, Incarnation)], shard: Option<ShardId>) -> Incarnation {
    let found = written.iter().find(|(s, _)| Some(*s) == shard);
    found.map_or(Incarnation(0), |(_, incarnation)| *incarnation)
}
