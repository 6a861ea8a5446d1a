//! Appending: the owner of the inode alone knows where the file ends, so the bytes go through it.
//!
//! What must stay true: appended ranges never overlap, and the size covers only bytes that are in
//! their chunks. So the inode is held from the reading of its size to the new one. If one fails,
//! the end is in doubt before its answer.

use std::ops::Range;

use super::{chunks, data};
use crate::core::{Job, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::InodeRecord;
use sealfs_protocol::layout::Span;
use sealfs_protocol::limits::{FILE_SIZE_MAX_BYTES, IO_MAX_BYTES};
use sealfs_protocol::message::OpReply;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId};

/// Stage of an append of which another shard has stored something.
const LANDED: u64 = 1;

pub fn append<V: World>(v: &mut View<V>, ino: InodeId, len: u32) -> OpResult<OpReply> {
    let payload = v.payload;
    let data = payload.get(..len as usize).ok_or(Errno::EINVAL)?;
    if len > IO_MAX_BYTES {
        return Err(Errno::EINVAL.into());
    }
    v.hold(Db::Ino, key::ino(ino.partition(), ino))?;
    let mut record = data::regular(v, ino)?;
    v.check_writable(record.volume)?;
    let offset = record.size_bytes;
    let end = offset
        .checked_add(u64::from(len))
        .filter(|end| *end <= FILE_SIZE_MAX_BYTES)
        .ok_or(Errno::EFBIG)?;
    let spans: Vec<Span> = record.layout.split(offset, u64::from(len)).collect();
    if !record.wide && spans.iter().any(|s| s.chunk > 0) {
        record.wide = true;
        v.put_inode(ino, &record);
        v.again();
        return Ok(OpReply::Done);
    }
    if append_elsewhere(v, ino, &record, &spans)? {
        return Ok(OpReply::Done);
    }
    if append_here(v, ino, &mut record, &spans, data)? {
        record.size_bytes = end;
        data::touch(v, &mut record);
    }
    v.put_inode(ino, &record);
    Ok(data::written(v, offset, record.size_bytes))
}

/// Where each span's bytes stand in the payload.
fn placed(spans: &[Span]) -> impl Iterator<Item = (&Span, Range<usize>)> {
    let mut at = 0;
    spans.iter().map(move |span| {
        let from = at;
        at += span.len_bytes as usize;
        (span, from..at)
    })
}

/// True: bytes have landed behind the end, which is noted before it goes on.
fn append_elsewhere<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &InodeRecord,
    spans: &[Span],
) -> OpResult<bool> {
    let partitions = v.cluster.partitions();
    let mut questions = Vec::new();
    for (span, range) in placed(spans) {
        let partition = record.layout.partition_of(ino, span.chunk, partitions);
        if v.is_mine(partition) {
            continue;
        }
        let request = PeerRequest::WriteSpan {
            ino,
            volume: record.volume,
            state: v.cluster.version,
            partition,
            chunk: span.chunk,
            offset_bytes: span.offset_bytes,
            generation: record.generation,
        };
        questions.push((partition, request, range));
    }
    let answers = v.ask(questions)?;
    let landed = |answer: &PeerReply| matches!(answer, PeerReply::Written { .. });
    if v.stage() != LANDED && answers.iter().any(landed) {
        v.or_else(Job::Doubt(ino));
        v.next_stage(LANDED);
        return Ok(true);
    }
    match answers.iter().find(|answer| !landed(answer)) {
        Some(answer) => Err(chunks::unexpected(answer)),
        None => Ok(false),
    }
}

/// False: see [`data::write_first`].
fn append_here<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &mut InodeRecord,
    spans: &[Span],
    data: &[u8],
) -> OpResult<bool> {
    let partitions = v.cluster.partitions();
    for (span, range) in placed(spans) {
        let bytes = data.get(range).ok_or(Errno::EINVAL)?;
        let partition = record.layout.partition_of(ino, span.chunk, partitions);
        if span.chunk == 0 {
            if !data::write_first(v, ino, record, span.offset_bytes, bytes)? {
                return Ok(false);
            }
        } else if v.is_mine(partition) {
            let old = v.chunk(partition, ino, span.chunk)?;
            let how = v.write_as(record.volume, record.generation);
            let at = (partition, ino, span.chunk);
            v.write_chunk(at, old.as_ref(), span.offset_bytes, &[bytes], how)?;
        }
    }
    Ok(true)
}
