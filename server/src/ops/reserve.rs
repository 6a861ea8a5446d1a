//! Space for a byte range of a file, as far as its chunks beyond the first lie on this shard.
//!
//! The work is done in steps of bounded size, each a log entry of its own, and others have their
//! turn in between. What must stay true: a range that can never fit is refused before anything is
//! taken for it, and what a call has taken that then cannot have it all is found again by its
//! number (`store::reserve`).

use super::chunks;
use crate::core::{OpResult, View, World};
use crate::store::{BLOCK_BYTES, ChunkRecord, WriteAs};
use sealfs_protocol::attr::Layout;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, PartitionId, TruncateGeneration, VolumeId};
use smallvec::SmallVec;

/// Bytes of chunk records that one step changes at most, but for the last one.
const STEP_BYTES: usize = 16 << 10;
/// Written blocks that one step zeroes, in bytes: no more than any store keeps for changes that
/// take no space in the end.
const STEP_CLEAR_BYTES: u32 = 1 << 20;
/// What a chunk costs that was only looked at.
const LOOK_BYTES: usize = 64;

/// A byte range of a file, and how much of it is meant.
#[derive(Clone, Copy)]
pub struct Part {
    pub ino: InodeId,
    pub volume: VolumeId,
    pub layout: Layout,
    pub generation: TruncateGeneration,
    pub from: u64,
    pub until: u64,
    /// What lies in this partition; `None`: in all of this shard.
    pub partition: Option<PartitionId>,
}

/// What is done to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// All of it gets space, for the call with this number.
    Reserve(u64),
    /// It becomes zeros; what has space keeps it.
    Clear,
}

impl Part {
    fn indexes(&self) -> std::ops::RangeInclusive<u64> {
        let size = self.layout.chunk_size_bytes();
        (self.from / size).max(1)..=self.until.saturating_sub(1) / size
    }

    /// The bytes of a chunk that are meant.
    fn span(&self, index: u64) -> std::ops::Range<u32> {
        let size = self.layout.chunk_size_bytes();
        let start = index * size;
        self.from.saturating_sub(start) as u32..(self.until - start).min(size) as u32
    }

    /// By layout slot: the partition, if its chunks are meant.
    fn places<V: World>(&self, v: &View<V>) -> SmallVec<[Option<PartitionId>; 64]> {
        let partitions = v.cluster.partitions();
        let width = u64::from(self.layout.width.max(1));
        // A chunk of each layout slot that is not the first one of the file.
        (width..2 * width)
            .map(|chunk| self.layout.partition_of(self.ino, chunk, partitions))
            .map(|place| match self.partition {
                Some(partition) => (place == partition).then_some(place),
                None => v.is_mine(place).then_some(place),
            })
            .collect()
    }
}

/// One step from chunk `at` on; where the next begins, if that was not the last.
pub fn step<V: World>(v: &mut View<V>, part: &Part, what: What, at: u64) -> OpResult<Option<u64>> {
    let indexes = part.indexes();
    let (first, last) = (at.max(*indexes.start()), *indexes.end());
    if part.from >= part.until || first > last {
        return Ok(None);
    }
    let places = part.places(v);
    if places.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut least = 0;
    if let What::Reserve(_) = what {
        least = least_missing(v, part, &places, first);
        let bytes = least * u64::from(BLOCK_BYTES);
        if bytes > v.space().free_bytes && bytes > v.free_undiscarded() {
            return Err(Errno::ENOSPC.into());
        }
    }
    let how = v.write_as(part.volume, part.generation);
    let (mut bytes, mut taken, mut next) = (0, 0, None);
    for index in first..=last {
        let Some(partition) = places[(index % places.len() as u64) as usize] else {
            continue;
        };
        if bytes >= STEP_BYTES {
            next = Some(index);
            break;
        }
        let (place, span) = ((partition, part.ino, index), part.span(index));
        let old = v.chunk(partition, part.ino, index)?;
        bytes += LOOK_BYTES;
        match (what, &old) {
            (What::Reserve(call), old) => {
                let missing = missing_blocks(old.as_ref(), &span);
                if missing > 0 {
                    let made = v.reserve_chunk(place, old.as_ref(), span, call, how)?;
                    bytes += made.encoded_bytes();
                    taken += u64::from(missing);
                }
            }
            (What::Clear, Some(old)) => {
                if clear_some(v, place, old, span, how)?.is_some() {
                    next = Some(index);
                    break;
                }
            }
            (What::Clear, None) => {}
        }
    }
    let later = least.saturating_sub(taken) * u64::from(BLOCK_BYTES);
    v.expect_space(part.volume, later);
    Ok(next)
}

/// Zeroes as much of a span as one step may; the record that this makes, if there was something to
/// do. Every block that is zeroed takes a fresh one, and on a full device these must come from what is
/// kept for that.
pub fn clear_some<'v, V: World>(
    v: &'v mut View<V>,
    at: (PartitionId, InodeId, u64),
    old: &ChunkRecord,
    span: std::ops::Range<u32>,
    how: WriteAs,
) -> OpResult<Option<&'v ChunkRecord>> {
    let whole = span.start.next_multiple_of(BLOCK_BYTES)..span.end / BLOCK_BYTES * BLOCK_BYTES;
    let data = old.next_data(whole.start).filter(|at| *at < whole.end);
    if let Some(from) = data {
        let until = whole.end.min(from + STEP_CLEAR_BYTES);
        return v.clear_chunk(at, old, from..until, how).map(Some);
    }
    let head = span.start..whole.start.min(span.end);
    let tail = whole.end.max(head.end)..span.end;
    if has_data(old, &head) || has_data(old, &tail) {
        v.clear_chunk(at, old, span, how)?;
    }
    Ok(None)
}

fn has_data(chunk: &ChunkRecord, span: &std::ops::Range<u32>) -> bool {
    let data = chunk.next_data(span.start);
    data.is_some_and(|at| at < span.end)
}

/// Blocks that a span of a chunk lacks.
pub fn missing_blocks(chunk: Option<&ChunkRecord>, span: &std::ops::Range<u32>) -> u32 {
    let (first, end) = (span.start / BLOCK_BYTES, span.end.div_ceil(BLOCK_BYTES));
    let Some(chunk) = chunk else {
        return end - first;
    };
    let missing = chunk.missing_in(first, end);
    missing.iter().map(|(first, end)| end - first).sum()
}

/// No fewer blocks than this are missing from chunk `first` on: without looking at the file, as
/// if it were all that its volume has in those partitions.
fn least_missing<V: World>(
    v: &View<V>,
    part: &Part,
    places: &[Option<PartitionId>],
    first: u64,
) -> u64 {
    let width = places.len() as u64;
    let last = *part.indexes().end();
    let below = |chunk: u64, slot: u64| (chunk + width - 1 - slot) / width;
    let (mut chunks, mut used) = (0, 0);
    for (slot, place) in places.iter().enumerate() {
        let Some(partition) = place else {
            continue;
        };
        chunks += below(last + 1, slot as u64) - below(first, slot as u64);
        if !places[..slot].contains(place) {
            used += v.used_in(*partition, part.volume).bytes;
        }
    }
    // The first and the last one may be meant in part.
    let blocks = part.layout.chunk_size_bytes() / u64::from(BLOCK_BYTES);
    let whole = chunks.saturating_sub(2).saturating_mul(blocks);
    whole.saturating_sub(used / u64::from(BLOCK_BYTES))
}

/// Takes back what a call has added to chunks from `at` on; where the next step begins.
pub fn give_back<V: World>(
    v: &mut View<V>,
    part: &Part,
    call: u64,
    partition: PartitionId,
) -> OpResult<bool> {
    let indexes = part.indexes();
    if part.from >= part.until || indexes.is_empty() {
        return Ok(false);
    }
    let added = |chunk: &ChunkRecord| chunk.has_added(call);
    let found = chunks::chunks_between(v, partition, part.ino, indexes, added)?;
    let more = found.len() > chunks::STEP_CHUNKS;
    let how = v.write_as(part.volume, part.generation);
    for (index, record) in found.into_iter().take(chunks::STEP_CHUNKS) {
        let at = (partition, part.ino, index);
        if record.is_all_added() {
            v.drop_chunk(at, record);
        } else {
            v.give_back_chunk(at, &record, call, how)?;
        }
    }
    Ok(more)
}

/// What the owner of an inode asks for in one partition.
pub fn serve<V: World>(
    v: &mut View<V>,
    partition: PartitionId,
    request: &PeerRequest,
) -> OpResult<PeerReply> {
    let (part, what, back) = match *request {
        PeerRequest::Reserve {
            ino,
            volume,
            layout,
            generation,
            offset,
            len,
            call,
            ..
        } => {
            let part = part(partition, (ino, volume, layout, generation), (offset, len));
            (part, What::Reserve(call), None)
        }
        PeerRequest::GiveBack {
            ino,
            volume,
            layout,
            generation,
            offset,
            len,
            call,
            ..
        } => {
            let part = part(partition, (ino, volume, layout, generation), (offset, len));
            (part, What::Reserve(call), Some(call))
        }
        PeerRequest::Clear {
            ino,
            volume,
            layout,
            generation,
            offset,
            len,
            ..
        } => {
            let part = part(partition, (ino, volume, layout, generation), (offset, len));
            (part, What::Clear, None)
        }
        _ => return Err(Errno::EPROTO.into()),
    };
    if let Some(call) = back {
        if give_back(v, &part, call, partition)? {
            v.step_to(v.stage());
        }
        return Ok(PeerReply::Acknowledged);
    }
    chunks::check_generation(v, partition, part.ino, part.generation)?;
    if let Some(next) = step(v, &part, what, v.stage())? {
        v.step_to(next);
    }
    Ok(PeerReply::Acknowledged)
}

fn part(
    partition: PartitionId,
    (ino, volume, layout, generation): (InodeId, VolumeId, Layout, TruncateGeneration),
    (offset, len): (u64, u64),
) -> Part {
    Part {
        ino,
        volume,
        layout,
        generation,
        from: offset,
        until: offset.saturating_add(len),
        partition: Some(partition),
    }
}
