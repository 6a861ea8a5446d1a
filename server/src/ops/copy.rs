//! Copying between chunks: copy_file_range(2), without the bytes passing the client.
//!
//! The owner of the destination takes the bytes from its own store or asks the owner of the source,
//! then writes them as it would write a client's. What must stay true: the source is read between
//! the arrival of the request and its reply, under the truncate generation that the caller knew the
//! source's size by; a hole stays one where that costs nothing, and reads as zeros everywhere.

use super::data::{self, Bytes};
use super::{chunks, truncate};
use crate::core::{Halt, OpResult, View, World};
use crate::records::Body;
use crate::store::{CHUNK_MAX_BYTES, ChunkRecord};
use sealfs_protocol::limits::IO_MAX_BYTES;
use sealfs_protocol::message::{OpReply, Refusal, Source};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, VolumeId};

pub fn copy<V: World>(v: &mut View<V>, want: Bytes, source: &Source) -> OpResult<OpReply> {
    want.check()?;
    check(source, want.len)?;
    let volume = v.caller.volume;
    let mut bytes = if v.is_mine(source.partition) {
        let home = std::mem::replace(&mut v.partition, source.partition);
        let from = v.out.len();
        let found = append_stored(v, volume, source, want.len);
        v.partition = home;
        let bytes = v.out.split_off(from);
        found.map(|()| bytes)?
    } else {
        stored_elsewhere(v, volume, source, want.len)?
    };
    if bytes.is_empty() {
        return clear(v, want);
    }
    bytes.resize(want.len as usize, 0);
    data::store(v, want, &bytes)
}

fn check(source: &Source, len: u32) -> OpResult<()> {
    let end = u64::from(source.offset_bytes) + u64::from(len);
    if len > IO_MAX_BYTES || end > u64::from(CHUNK_MAX_BYTES) {
        return Err(Errno::EINVAL.into());
    }
    Ok(())
}

/// What another shard has of a span of its chunk.
fn stored_elsewhere<V: World>(
    v: &mut View<V>,
    volume: VolumeId,
    source: &Source,
    len: u32,
) -> OpResult<Vec<u8>> {
    let request = PeerRequest::ReadSpan {
        volume,
        state: v.cluster.version,
        source: *source,
        len_bytes: len,
    };
    match v.ask_bytes(source.partition, request)? {
        (PeerReply::Span, bytes) if bytes.len() <= len as usize => Ok(bytes),
        // Cut meanwhile, or gone: the caller looks at the file anew and learns which.
        (PeerReply::Failed(Errno::ESTALE), _) => {
            Err(Halt::Refused(Refusal::StaleGeneration { attr: None }))
        }
        (answer, _) => Err(chunks::unexpected(&answer)),
    }
}

/// For another shard: bytes of a chunk of this one into the reply.
pub fn read_span<V: World>(
    v: &mut View<V>,
    volume: VolumeId,
    source: &Source,
    len: u32,
) -> OpResult<PeerReply> {
    check(source, len)?;
    append_stored(v, volume, source, len)?;
    Ok(PeerReply::Span)
}

/// Appends what a chunk of this shard has of a span to the reply: nothing if that is a hole.
fn append_stored<V: World>(
    v: &mut View<V>,
    volume: VolumeId,
    source: &Source,
    len: u32,
) -> OpResult<()> {
    let (ino, offset) = (source.ino, source.offset_bytes);
    if source.chunk > 0 {
        let partition = v.partition;
        chunks::check_generation(v, partition, ino, source.generation)?;
        let found = v.chunk(partition, ino, source.chunk)?;
        let Some(chunk) = found.filter(|c| has_data(c, offset, len)) else {
            return Ok(());
        };
        let len = len.min(chunk.end().saturating_sub(offset));
        let at = (partition, ino, source.chunk);
        return v.read_chunk(at, &chunk, offset, len as usize);
    }
    let record = data::regular(v, ino)?;
    if record.volume != volume {
        return Err(Errno::ESTALE.into());
    }
    data::check_generation(ino, &record, source.generation)?;
    if source.atime && data::is_atime_due(&record, v) {
        v.access(ino);
    }
    let is_hole = if let Body::Inline(bytes) = &record.body {
        bytes.len() <= offset as usize
    } else {
        let chunk = v.chunk(ino.partition(), ino, 0)?;
        !chunk.is_some_and(|c| has_data(&c, offset, len))
    };
    if is_hole {
        return Ok(());
    }
    data::read_first(v, ino, &record, offset, len)?;
    Ok(())
}

fn has_data(chunk: &ChunkRecord, offset: u32, len: u32) -> bool {
    let until = chunk.end().min(offset.saturating_add(len));
    chunk.next_data(offset).is_some_and(|at| at < until)
}

/// Writes zeros by taking out what is there. Space stays: it may have been asked for.
fn clear<V: World>(v: &mut View<V>, want: Bytes) -> OpResult<OpReply> {
    let end = want.offset + want.len;
    if want.chunk > 0 {
        let (partition, volume) = (v.partition, v.caller.volume);
        v.check_writable(volume)?;
        chunks::check_generation(v, partition, want.ino, want.generation)?;
        if let Some(old) = v.chunk(partition, want.ino, want.chunk)?
            && want.offset < old.reach()
        {
            let how = v.write_as(volume, want.generation);
            let at = (partition, want.ino, want.chunk);
            let until = end.min(old.reach());
            v.clear_chunk(at, &old, want.offset..until, how)?;
        }
        return Ok(data::written(v, u64::from(want.offset), 0));
    }
    let mut record = data::regular(v, want.ino)?;
    v.check_writable(record.volume)?;
    data::check_generation(want.ino, &record, want.generation)?;
    if u64::from(end) > record.layout.chunk_size_bytes() {
        return Err(Errno::EINVAL.into());
    }
    let range = (u64::from(want.offset), u64::from(end));
    truncate::zero_first_chunk(v, want.ino, &mut record, range, true)?;
    record.size_bytes = record.size_bytes.max(range.1);
    data::touch(v, &mut record);
    v.put_inode(want.ino, &record);
    Ok(data::written(v, range.0, record.size_bytes))
}
