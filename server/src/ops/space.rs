//! Which parts of a file have space: fallocate(2).
//!
//! Reserving goes in steps, over all shards that have chunks of the range. What must stay true: a
//! call that fails leaves nothing of what it has added (`give_back`), unless the owner's shard ends
//! in between; then what was added is the file's like any other of its blocks.

use super::reserve::{self, Part, What};
use super::{attr, chunks, data, truncate};
use crate::core::{Job, OpResult, Reservation, View, World};
use crate::meta::db::{Db, key};
use crate::records::{Body, InodeRecord};
use crate::store::BLOCK_BYTES;
use sealfs_protocol::limits::FILE_SIZE_MAX_BYTES;
use sealfs_protocol::message::OpReply;
use sealfs_protocol::peer::PeerRequest;
use sealfs_protocol::{Errno, InodeId, PartitionId};

const FALLOC_KEEP_SIZE: u32 = 1;
const FALLOC_PUNCH_HOLE: u32 = 2;
const FALLOC_ZERO_RANGE: u32 = 16;
const BLOCKS_512_PER_BLOCK: u32 = 8;

/// A stage says what the next step does, and from which chunk on (in the bits below).
const CHUNK_BITS: u32 = 56;
const RESERVES: u64 = 1;
const CLEARS: u64 = 2;
const ENDS: u64 = 3;

/// A call on a file.
#[derive(Clone, Copy)]
struct Call {
    ino: InodeId,
    from: u64,
    until: u64,
    keep_size: bool,
    zero: bool,
}

pub fn allocate<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    mode: u32,
    offset: u64,
    len: u64,
) -> OpResult<OpReply> {
    let keep_size = mode & FALLOC_KEEP_SIZE != 0;
    let what = mode & !FALLOC_KEEP_SIZE;
    let known = match what {
        0 | FALLOC_ZERO_RANGE => true,
        FALLOC_PUNCH_HOLE => keep_size,
        _ => false,
    };
    if !known {
        return Err(Errno::EOPNOTSUPP.into());
    }
    if len == 0 {
        return Err(Errno::EINVAL.into());
    }
    v.hold(Db::Ino, key::ino(ino.partition(), ino))?;
    let record = data::regular(v, ino)?;
    v.check_writable(record.volume)?;
    let until = offset
        .checked_add(len)
        .filter(|end| *end <= FILE_SIZE_MAX_BYTES)
        .ok_or(Errno::EFBIG)?;
    if record.pending.is_some() {
        // A truncation that is not everywhere yet would cut what is reserved now.
        truncate::finish(v, ino)?;
        v.again();
        return Ok(OpReply::Done);
    }
    let call = Call {
        ino,
        from: offset,
        until,
        keep_size,
        zero: what == FALLOC_ZERO_RANGE,
    };
    if what == FALLOC_PUNCH_HOLE {
        return punch(v, &call, record);
    }
    let chunk = v.stage() & ((1 << CHUNK_BITS) - 1);
    match v.stage() >> CHUNK_BITS {
        RESERVES => reserve_step(v, &call, record, chunk),
        CLEARS => clear_step(v, &call, record, chunk),
        ENDS => end(v, &call, record),
        _ => begin(v, &call, record),
    }
}

fn punch<V: World>(v: &mut View<V>, call: &Call, mut record: InodeRecord) -> OpResult<OpReply> {
    let block = u64::from(BLOCK_BYTES);
    // A hole that reaches the end takes the last block whole.
    let until = if call.until >= record.size_bytes {
        call.until.next_multiple_of(block)
    } else {
        call.until
    };
    let chunk = record.layout.chunk_size_bytes();
    if record.wide
        && until > chunk
        && truncate::punch_slots(v, call.ino, &record, call.from, until)?
    {
        v.again();
        return Ok(OpReply::Done);
    }
    let range = (call.from, until.min(chunk));
    truncate::zero_first_chunk(v, call.ino, &mut record, range, false)?;
    data::touch(v, &mut record);
    v.put_inode(call.ino, &record);
    attr::reply(v, call.ino, &record)
}

/// Notes in the inode what is to be known before anything is reserved, and how to undo it.
fn begin<V: World>(v: &mut View<V>, call: &Call, mut record: InodeRecord) -> OpResult<OpReply> {
    let size = record.layout.chunk_size_bytes();
    let before = record.clone();
    record.wide |= call.until > size;
    record.reserves |= call.until > record.size_bytes;
    if let Body::Inline(bytes) = &record.body
        && !bytes.is_empty()
        && call.from < size
    {
        let how = v.write_as(record.volume, record.generation);
        let at = (call.ino.partition(), call.ino, 0);
        let blocks = v.write_chunk(at, None, 0, &[bytes], how)?.blocks();
        record.body = chunks_of(blocks);
    }
    if record != before {
        v.put_inode(call.ino, &record);
    }
    match v.number() {
        Some(number) => {
            v.or_else(Job::GiveBack(Reservation {
                ino: call.ino,
                call: number,
                from: call.from,
                until: call.until,
            }));
            v.next_stage(RESERVES << CHUNK_BITS);
        }
        None => v.again(),
    }
    Ok(OpReply::Done)
}

fn chunks_of(blocks: u32) -> Body {
    let first_blocks_512 = blocks * BLOCKS_512_PER_BLOCK;
    Body::Chunks { first_blocks_512 }
}

fn part(call: &Call, record: &InodeRecord) -> Part {
    Part {
        ino: call.ino,
        volume: record.volume,
        layout: record.layout,
        generation: record.generation,
        from: call.from,
        until: call.until,
        partition: None,
    }
}

/// The layout slots of other shards, if the range goes beyond chunk 0.
fn elsewhere<V: World>(v: &View<V>, call: &Call, record: &InodeRecord) -> Vec<(PartitionId, u8)> {
    if call.until <= record.layout.chunk_size_bytes() {
        return Vec::new();
    }
    let mut places = chunks::slot_partitions(v, call.ino, record.layout);
    places.retain(|(partition, _)| !v.is_mine(*partition));
    places
}

fn reserve_step<V: World>(
    v: &mut View<V>,
    call: &Call,
    mut record: InodeRecord,
    chunk: u64,
) -> OpResult<OpReply> {
    let ino = call.ino;
    let number = v.number().ok_or(Errno::EIO)?;
    let questions = elsewhere(v, call, &record).into_iter();
    let questions = questions.map(|(partition, slot)| {
        let request = PeerRequest::Reserve {
            ino,
            slot,
            volume: record.volume,
            state: v.cluster.version,
            layout: record.layout,
            generation: record.generation,
            offset: call.from,
            len: call.until - call.from,
            call: number,
        };
        (partition, request, 0..0)
    });
    truncate::expect_acknowledged(v.ask(questions.collect())?)?;
    let what = What::Reserve(number);
    if let Some(next) = reserve::step(v, &part(call, &record), what, chunk)? {
        v.step_to(RESERVES << CHUNK_BITS | next);
        return Ok(OpReply::Done);
    }
    let size = record.layout.chunk_size_bytes();
    if call.from < size {
        let span = call.from as u32..call.until.min(size) as u32;
        let at = (ino.partition(), ino, 0);
        let old = v.chunk(at.0, ino, 0)?;
        if reserve::missing_blocks(old.as_ref(), &span) > 0 {
            let how = v.write_as(record.volume, record.generation);
            let made = v.reserve_chunk(at, old.as_ref(), span, number, how)?;
            record.body = chunks_of(made.blocks());
            v.put_inode(ino, &record);
        }
    }
    let next = if call.zero { CLEARS } else { ENDS };
    v.next_stage(next << CHUNK_BITS);
    Ok(OpReply::Done)
}

fn clear_step<V: World>(
    v: &mut View<V>,
    call: &Call,
    mut record: InodeRecord,
    chunk: u64,
) -> OpResult<OpReply> {
    let ino = call.ino;
    let questions = elsewhere(v, call, &record).into_iter();
    let questions = questions.map(|(partition, slot)| {
        let request = PeerRequest::Clear {
            ino,
            slot,
            volume: record.volume,
            state: v.cluster.version,
            layout: record.layout,
            generation: record.generation,
            offset: call.from,
            len: call.until - call.from,
        };
        (partition, request, 0..0)
    });
    truncate::expect_acknowledged(v.ask(questions.collect())?)?;
    if let Some(next) = reserve::step(v, &part(call, &record), What::Clear, chunk)? {
        v.step_to(CLEARS << CHUNK_BITS | next);
        return Ok(OpReply::Done);
    }
    let size = record.layout.chunk_size_bytes();
    let at = (ino.partition(), ino, 0);
    if call.from < size
        && let Some(old) = v.chunk(at.0, ino, 0)?
    {
        let span = call.from as u32..call.until.min(size) as u32;
        let how = v.write_as(record.volume, record.generation);
        if let Some(made) = reserve::clear_some(v, at, &old, span, how)? {
            record.body = chunks_of(made.blocks());
            v.put_inode(ino, &record);
            v.step_to(CLEARS << CHUNK_BITS | u64::MAX >> (64 - CHUNK_BITS));
            return Ok(OpReply::Done);
        }
    }
    v.next_stage(ENDS << CHUNK_BITS);
    Ok(OpReply::Done)
}

fn end<V: World>(v: &mut View<V>, call: &Call, mut record: InodeRecord) -> OpResult<OpReply> {
    if !call.keep_size && call.until > record.size_bytes {
        truncate::resize(v, call.ino, &mut record, call.until, true)?;
    }
    data::touch(v, &mut record);
    v.put_inode(call.ino, &record);
    attr::reply(v, call.ino, &record)
}

/// Takes back what a call has added that could not have it all.
pub fn give_back<V: World>(v: &mut View<V>, call: Reservation) -> OpResult<()> {
    let ino = call.ino;
    v.hold(Db::Ino, key::ino(ino.partition(), ino))?;
    let Some(mut record) = v.inode(ino)? else {
        return Ok(());
    };
    let part = Part {
        ino,
        volume: record.volume,
        layout: record.layout,
        generation: record.generation,
        from: call.from,
        until: call.until,
        partition: None,
    };
    if call.until > record.layout.chunk_size_bytes() {
        let places = chunks::slot_partitions(v, ino, record.layout);
        let others = places.iter().filter(|(p, _)| !v.is_mine(*p));
        let questions = others.map(|(partition, slot)| {
            let request = PeerRequest::GiveBack {
                ino,
                slot: *slot,
                volume: record.volume,
                state: v.cluster.version,
                layout: record.layout,
                generation: record.generation,
                offset: call.from,
                len: call.until - call.from,
                call: call.call,
            };
            (*partition, request, 0..0)
        });
        truncate::expect_acknowledged(v.ask(questions.collect())?)?;
        for (partition, _) in places {
            if v.is_mine(partition) && reserve::give_back(v, &part, call.call, partition)? {
                v.step_to(v.stage());
                return Ok(());
            }
        }
    }
    give_back_first(v, call, &mut record)
}

fn give_back_first<V: World>(
    v: &mut View<V>,
    call: Reservation,
    record: &mut InodeRecord,
) -> OpResult<()> {
    let (partition, ino) = (call.ino.partition(), call.ino);
    let Some(chunk) = v.chunk(partition, ino, 0)? else {
        return Ok(());
    };
    if !chunk.has_added(call.call) {
        return Ok(());
    }
    let at = (partition, ino, 0);
    if chunk.is_all_added() {
        v.drop_chunk(at, chunk);
        record.body = Body::Inline(Vec::new());
    } else {
        let how = v.write_as(record.volume, record.generation);
        let left = v.give_back_chunk(at, &chunk, call.call, how)?;
        record.body = chunks_of(left.blocks());
    }
    v.put_inode(ino, record);
    Ok(())
}
