//! Chunks beyond the first, as far as this shard hosts layout slots of a file: cutting, counting,
//! and the truncate generation installed here.

use std::ops::ControlFlow;

use crate::core::{Halt, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{GenerationRecord, InodeRecord};
use crate::store::{ChunkRecord, WriteAs};
use sealfs_protocol::attr::Layout;
use sealfs_protocol::message::Refusal;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, PartitionId, TruncateGeneration, VolumeId, hash};

/// Chunks that one log entry changes at most; more work is done in further steps.
pub const STEP_CHUNKS: usize = 256;
const BLOCKS_512_PER_BLOCK: u64 = 8;

/// The partitions that host layout slots of a file, each with one slot that lies there.
pub fn slot_partitions<V: World>(
    v: &View<V>,
    ino: InodeId,
    file: Layout,
) -> Vec<(PartitionId, u8)> {
    let mut places: Vec<(PartitionId, u8)> = Vec::new();
    for slot in 0..file.width.max(1) {
        let partition = hash::layout_slot_partition(ino, slot, v.cluster.partitions());
        if !places.iter().any(|(p, _)| *p == partition) {
            places.push((partition, slot));
        }
    }
    places
}

/// Refuses a request made under an older truncate generation than the one installed here.
pub fn check_generation<V: World>(
    v: &mut View<V>,
    partition: PartitionId,
    ino: InodeId,
    generation: TruncateGeneration,
) -> OpResult<()> {
    let installed: Option<GenerationRecord> = v.read(Db::Part, &key::part(partition, ino, 0))?;
    match installed {
        Some(record) if generation < record.generation => {
            Err(Halt::Refused(Refusal::StaleGeneration { attr: None }))
        }
        _ => Ok(()),
    }
}

/// A cut of a file's bytes `from..until` in one partition.
pub struct Cut {
    pub partition: PartitionId,
    pub ino: InodeId,
    pub layout: Layout,
    pub from: u64,
    pub until: u64,
    /// Blocks that were never written stay.
    pub spare: bool,
    pub how: WriteAs,
}

/// Frees what the range covers of the chunks beyond the first; whether there is more to do.
pub fn cut<V: World>(v: &mut View<V>, range: &Cut) -> OpResult<bool> {
    let size = range.layout.chunk_size_bytes();
    let (partition, ino) = (range.partition, range.ino);
    let first = (range.from / size).max(1);
    let last = range.until.saturating_sub(1) / size;
    if range.until <= range.from || last < first {
        return Ok(false);
    }
    let goes = |c: &ChunkRecord| !range.spare || !c.crcs.is_empty();
    let found = chunks_between(v, partition, ino, first..=last, goes)?;
    let more = found.len() > STEP_CHUNKS;
    for (index, record) in found.into_iter().take(STEP_CHUNKS) {
        let start = index * size;
        let lo = range.from.saturating_sub(start) as u32;
        let hi = (range.until - start).min(size) as u32;
        let at = (partition, ino, index);
        let reach = record.reach();
        let stays = range.spare && record.has_unwritten();
        if lo == 0 && hi >= reach && !stays {
            v.drop_chunk(at, record);
        } else if lo < reach && hi >= reach {
            v.shorten_chunk(at, &record, (lo, range.spare), range.how)?;
        } else if lo < reach {
            v.punch_chunk(at, &record, lo..hi, range.how)?;
        }
    }
    Ok(more)
}

/// One more than a step's worth of the chunks in a range of indexes that are `wanted`.
pub fn chunks_between<V: World>(
    v: &mut View<V>,
    partition: PartitionId,
    ino: InodeId,
    indexes: std::ops::RangeInclusive<u64>,
    wanted: impl Fn(&ChunkRecord) -> bool,
) -> OpResult<Vec<(u64, ChunkRecord)>> {
    let from = key::chunk(partition, ino, *indexes.start());
    let until = key::chunk(partition, ino, indexes.end().saturating_add(1));
    let mut found = Vec::new();
    let mut damaged = None;
    v.scan(Db::Chunk, &from, &until, |key, value| {
        match ChunkRecord::decode(value) {
            Ok(record) if wanted(&record) => found.push((index_of(key), record)),
            Ok(_) => {}
            Err(error) => damaged = Some(error),
        }
        if found.len() > STEP_CHUNKS || damaged.is_some() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    match damaged {
        Some(error) => Err(error.into()),
        None => Ok(found),
    }
}

/// Index of the chunk that a key of the chunk database names.
pub fn index_of(key: &[u8]) -> u64 {
    let tail = key.last_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(tail)
}

/// Space of a file's chunks beyond the first in one partition, in units of 512 bytes.
pub fn used_blocks<V: World>(
    v: &mut View<V>,
    partition: PartitionId,
    ino: InodeId,
) -> OpResult<u64> {
    let from = key::chunk(partition, ino, 1);
    let until = key::chunk(partition, ino, u64::MAX);
    let mut blocks = 0;
    let mut record = ChunkRecord::default();
    v.scan(Db::Chunk, &from, &until, |_, value| {
        if record.decode_into(value).is_ok() {
            blocks += u64::from(record.blocks()) * BLOCKS_512_PER_BLOCK;
        }
        ControlFlow::Continue(())
    })?;
    Ok(blocks)
}

/// Space on the layout slots of this shard.
pub fn local_slot_blocks<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &InodeRecord,
) -> OpResult<u64> {
    let mut blocks = 0;
    if record.wide {
        for (partition, _) in slot_partitions(v, ino, record.layout) {
            if v.is_mine(partition) {
                blocks += used_blocks(v, partition, ino)?;
            }
        }
    }
    Ok(blocks)
}

/// Space on all layout slots; other shards are asked.
pub fn slot_blocks<V: World>(v: &mut View<V>, ino: InodeId, record: &InodeRecord) -> OpResult<u64> {
    if !record.wide {
        return Ok(0);
    }
    let elsewhere = slot_partitions(v, ino, record.layout).into_iter();
    let questions = elsewhere
        .filter(|(partition, _)| !v.is_mine(*partition))
        .map(|(partition, slot)| (partition, PeerRequest::UsedBlocks { ino, slot }, 0..0))
        .collect();
    let mut blocks = 0;
    for answer in v.ask(questions)? {
        match answer {
            PeerReply::Used { blocks_512 } => blocks += blocks_512,
            other => return Err(unexpected(&other)),
        }
    }
    Ok(blocks + local_slot_blocks(v, ino, record)?)
}

/// What an answer means that is not the one hoped for.
pub fn unexpected(answer: &PeerReply) -> Halt {
    match answer {
        PeerReply::Failed(errno) => Halt::Errno(*errno),
        _ => Halt::Errno(Errno::EIO),
    }
}

/// Installs a truncate generation in one partition and cuts its chunks; whether more is to do.
pub fn install<V: World>(
    v: &mut View<V>,
    (partition, ino): (PartitionId, InodeId),
    (volume, file): (VolumeId, Layout),
    generation: TruncateGeneration,
    (size, spare): (u64, bool),
) -> OpResult<bool> {
    let key = key::part(partition, ino, 0);
    let installed: Option<GenerationRecord> = v.read(Db::Part, &key)?;
    if installed.is_some_and(|r| r.generation > generation) {
        return Ok(false);
    }
    let range = Cut {
        partition,
        ino,
        layout: file,
        from: size,
        until: u64::MAX,
        spare,
        how: v.write_as(volume, generation),
    };
    let more = cut(v, &range)?;
    let record = GenerationRecord { volume, generation };
    v.put(partition, Db::Part, key, &record);
    Ok(more)
}

/// Removes all chunks beyond the first of a dead inode in one partition; whether more is to do.
pub fn remove<V: World>(v: &mut View<V>, partition: PartitionId, ino: InodeId) -> OpResult<bool> {
    let found = chunks_between(v, partition, ino, 1..=u64::MAX - 1, |_| true)?;
    let more = found.len() > STEP_CHUNKS;
    for (index, record) in found.into_iter().take(STEP_CHUNKS) {
        v.drop_chunk((partition, ino, index), record);
    }
    let key = key::part(partition, ino, 0);
    if !more && v.read::<GenerationRecord>(Db::Part, &key)?.is_some() {
        v.delete(partition, Db::Part, key);
    }
    Ok(more)
}
