//! Reading and writing chunks, appending, publishing sizes, fallocate(2), SEEK_DATA and SEEK_HOLE.
//!
//! Chunk 0 lives with the inode: a write to it sets size and times in the same log entry. Other
//! chunks know no inode; their writer publishes the size afterwards, so that no reader sees a size
//! whose bytes were not written.

use std::ops::Range;

use super::attr;
use super::chunks;
use super::permission;
use super::truncate;
use crate::core::{Halt, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{Body, INLINE_MAX_BYTES, InodeRecord};
use crate::store::CHUNK_MAX_BYTES;
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::layout::Span;
use sealfs_protocol::limits::{FILE_SIZE_MAX_BYTES, IO_MAX_BYTES};
use sealfs_protocol::message::{OpReply, Refusal};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, TruncateGeneration, VolumeId};

const BLOCKS_512_PER_BLOCK: u32 = 8;
/// A gap after inline bytes up to which they and new bytes become one write.
const GAP_MAX_BYTES: usize = 4096;
/// relatime: an access time older than this is renewed whatever it says.
const ATIME_STALE_S: i64 = 24 * 3600;

/// A byte range within one chunk, as requests name it.
#[derive(Clone, Copy)]
pub struct Bytes {
    pub ino: InodeId,
    pub chunk: u64,
    pub offset: u32,
    pub len: u32,
    pub generation: TruncateGeneration,
}

impl Bytes {
    fn check(&self) -> OpResult<()> {
        let end = u64::from(self.offset) + u64::from(self.len);
        if self.len > IO_MAX_BYTES || end > u64::from(CHUNK_MAX_BYTES) {
            return Err(Errno::EINVAL.into());
        }
        Ok(())
    }
}

/// The inode of an open regular file.
fn regular<V: World>(v: &mut View<V>, ino: InodeId) -> OpResult<InodeRecord> {
    if v.partition != ino.partition() {
        return Err(Errno::EINVAL.into());
    }
    let record = v.inode(ino)?.ok_or(Errno::ESTALE)?;
    if v.caller.volume.0 != 0 && record.volume != v.caller.volume {
        return Err(Errno::ESTALE.into());
    }
    match record.kind() {
        S_IFDIR => Err(Errno::EISDIR.into()),
        _ if record.is_regular() => Ok(record),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn check_generation(
    ino: InodeId,
    record: &InodeRecord,
    generation: TruncateGeneration,
) -> OpResult<()> {
    if generation == record.generation {
        return Ok(());
    }
    Err(Halt::Refused(Refusal::StaleGeneration {
        attr: Some(record.attr(ino, 0)),
    }))
}

pub fn read<V: World>(v: &mut View<V>, want: Bytes) -> OpResult<OpReply> {
    want.check()?;
    if want.chunk > 0 {
        return read_slot(v, want);
    }
    let mut record = regular(v, want.ino)?;
    check_generation(want.ino, &record, want.generation)?;
    let len = read_first(v, want.ino, &record, want.offset, want.len)?;
    if is_atime_due(&record, v) {
        record.atime = v.time();
        v.put_inode(want.ino, &record);
    }
    Ok(OpReply::Read { len_bytes: len })
}

/// The relatime rule of mount(8).
pub fn is_atime_due<V: World>(record: &InodeRecord, v: &View<V>) -> bool {
    let old = record.atime.seconds + ATIME_STALE_S <= v.time().seconds;
    record.atime <= record.mtime || record.atime <= record.ctime || old
}

/// Bytes of chunk 0 into the reply, as far as the file goes; how many.
pub fn read_first<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &InodeRecord,
    offset: u32,
    len: u32,
) -> OpResult<u32> {
    let end = record.size_bytes.min(record.layout.chunk_size_bytes());
    let left = end.saturating_sub(u64::from(offset));
    let len = u64::from(len.min(IO_MAX_BYTES)).min(left) as usize;
    let from = v.out.len();
    match &record.body {
        Body::Chunks { .. } => {
            let partition = ino.partition();
            match v.chunk(partition, ino, 0)? {
                Some(chunk) => v.read_chunk((partition, ino, 0), &chunk, offset, len)?,
                None => v.out.resize(from + len, 0),
            }
        }
        Body::Inline(bytes) => {
            let stored = bytes.get(offset as usize..).unwrap_or_default();
            v.out.extend_from_slice(&stored[..stored.len().min(len)]);
            v.out.resize(from + len, 0);
        }
        _ => return Ok(0),
    }
    Ok(len as u32)
}

fn read_slot<V: World>(v: &mut View<V>, want: Bytes) -> OpResult<OpReply> {
    let partition = v.partition;
    chunks::check_generation(v, partition, want.ino, want.generation)?;
    let Some(chunk) = v.chunk(partition, want.ino, want.chunk)? else {
        return Ok(OpReply::Read { len_bytes: 0 });
    };
    let len = want.len.min(chunk.end().saturating_sub(want.offset));
    let at = (partition, want.ino, want.chunk);
    v.read_chunk(at, &chunk, want.offset, len as usize)?;
    Ok(OpReply::Read { len_bytes: len })
}

pub fn write<V: World>(v: &mut View<V>, want: Bytes) -> OpResult<OpReply> {
    want.check()?;
    let payload = v.payload;
    let data = payload.get(..want.len as usize).ok_or(Errno::EINVAL)?;
    if want.chunk > 0 {
        let volume = v.caller.volume;
        write_slot(v, want, volume, data)?;
        return Ok(written(v, u64::from(want.offset), 0));
    }
    let mut record = regular(v, want.ino)?;
    check_generation(want.ino, &record, want.generation)?;
    let end = u64::from(want.offset) + u64::from(want.len);
    if end > record.layout.chunk_size_bytes() {
        return Err(Errno::EINVAL.into());
    }
    if write_first(v, want.ino, &mut record, want.offset, data)? {
        record.size_bytes = record.size_bytes.max(end);
        touch(v, &mut record);
    }
    v.put_inode(want.ino, &record);
    Ok(written(v, u64::from(want.offset), record.size_bytes))
}

fn written<V: World>(v: &View<V>, offset: u64, size_bytes: u64) -> OpReply {
    OpReply::Written {
        offset,
        size_bytes,
        incarnation: v.incarnation(),
    }
}

/// A file's content changes.
fn touch<V: World>(v: &View<V>, record: &mut InodeRecord) {
    record.mtime = v.time();
    record.ctime = v.time();
    record.mode = permission::mode_after_write(record, &v.caller.credentials);
}

/// Puts bytes into chunk 0, whose inode the caller stores. False: the inline bytes had to move to
/// a chunk first; that alone takes place now, and the operation runs again.
fn write_first<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &mut InodeRecord,
    offset: u32,
    data: &[u8],
) -> OpResult<bool> {
    let at = (ino.partition(), ino, 0);
    let how = v.write_as(record.volume, record.generation);
    let start = offset as usize;
    let end = start + data.len();
    let blocks = match &mut record.body {
        Body::Inline(bytes) if end <= INLINE_MAX_BYTES => {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(data);
            return Ok(true);
        }
        Body::Inline(bytes) if bytes.is_empty() => {
            v.write_chunk(at, None, offset, &[data], how)?.blocks()
        }
        Body::Inline(bytes) if start <= bytes.len() + GAP_MAX_BYTES => {
            let gap = [0u8; GAP_MAX_BYTES];
            let gap = &gap[..start.saturating_sub(bytes.len())];
            let head = &bytes[..start.min(bytes.len())];
            let tail = bytes.get(end..).unwrap_or_default();
            let all = [head, gap, data, tail];
            v.write_chunk(at, None, 0, &all, how)?.blocks()
        }
        Body::Inline(bytes) => {
            let blocks = v.write_chunk(at, None, 0, &[bytes], how)?.blocks();
            let first_blocks_512 = blocks * BLOCKS_512_PER_BLOCK;
            record.body = Body::Chunks { first_blocks_512 };
            v.again();
            return Ok(false);
        }
        _ => {
            let old = v.chunk(at.0, ino, 0)?;
            v.write_chunk(at, old.as_ref(), offset, &[data], how)?
                .blocks()
        }
    };
    let first_blocks_512 = blocks * BLOCKS_512_PER_BLOCK;
    record.body = Body::Chunks { first_blocks_512 };
    Ok(true)
}

/// Puts bytes into a chunk beyond the first.
pub fn write_slot<V: World>(
    v: &mut View<V>,
    want: Bytes,
    volume: VolumeId,
    data: &[u8],
) -> OpResult<()> {
    let partition = v.partition;
    chunks::check_generation(v, partition, want.ino, want.generation)?;
    let old = v.chunk(partition, want.ino, want.chunk)?;
    let how = v.write_as(volume, want.generation);
    let at = (partition, want.ino, want.chunk);
    v.write_chunk(at, old.as_ref(), want.offset, &[data], how)?;
    Ok(())
}

pub fn publish<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    size_at_least: u64,
    wide: bool,
    generation: TruncateGeneration,
) -> OpResult<OpReply> {
    let mut record = regular(v, ino)?;
    check_generation(ino, &record, generation)?;
    if size_at_least > FILE_SIZE_MAX_BYTES {
        return Err(Errno::EFBIG.into());
    }
    record.size_bytes = record.size_bytes.max(size_at_least);
    record.wide |= wide;
    touch(v, &mut record);
    v.put_inode(ino, &record);
    Ok(written(v, 0, record.size_bytes))
}

pub fn append<V: World>(v: &mut View<V>, ino: InodeId, len: u32) -> OpResult<OpReply> {
    let payload = v.payload;
    let data = payload.get(..len as usize).ok_or(Errno::EINVAL)?;
    if len > IO_MAX_BYTES {
        return Err(Errno::EINVAL.into());
    }
    v.hold(Db::Ino, key::ino(ino.partition(), ino))?;
    let mut record = regular(v, ino)?;
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
    append_elsewhere(v, ino, &record, &spans)?;
    if append_here(v, ino, &mut record, &spans, data)? {
        record.size_bytes = end;
        touch(v, &mut record);
    }
    v.put_inode(ino, &record);
    Ok(written(v, offset, record.size_bytes))
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

fn append_elsewhere<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &InodeRecord,
    spans: &[Span],
) -> OpResult<()> {
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
            partition,
            chunk: span.chunk,
            offset_bytes: span.offset_bytes,
            generation: record.generation,
        };
        questions.push((partition, request, range));
    }
    for answer in v.ask(questions)? {
        if !matches!(answer, PeerReply::Written { .. }) {
            return Err(chunks::unexpected(&answer));
        }
    }
    Ok(())
}

/// False: see [`write_first`].
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
            if !write_first(v, ino, record, span.offset_bytes, bytes)? {
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

const FALLOC_KEEP_SIZE: u32 = 1;
const FALLOC_PUNCH_HOLE: u32 = 2;
const FALLOC_ZERO_RANGE: u32 = 16;

pub fn allocate<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    mode: u32,
    offset: u64,
    len: u64,
) -> OpResult<OpReply> {
    let keep = mode & FALLOC_KEEP_SIZE != 0;
    let zero = match mode & !FALLOC_KEEP_SIZE {
        0 => false,
        FALLOC_PUNCH_HOLE if keep => true,
        FALLOC_ZERO_RANGE => true,
        _ => return Err(Errno::EOPNOTSUPP.into()),
    };
    if len == 0 {
        return Err(Errno::EINVAL.into());
    }
    v.hold(Db::Ino, key::ino(ino.partition(), ino))?;
    let mut record = regular(v, ino)?;
    let end = offset
        .checked_add(len)
        .filter(|end| *end <= FILE_SIZE_MAX_BYTES)
        .ok_or(Errno::EFBIG)?;
    if !zero && len > v.space().free_bytes {
        return Err(Errno::ENOSPC.into());
    }
    if zero {
        let chunk = record.layout.chunk_size_bytes();
        if record.wide && end > chunk && truncate::punch_slots(v, ino, &record, offset, end)? {
            v.again();
        } else {
            truncate::punch_first_chunk(v, ino, &mut record, offset, end.min(chunk))?;
        }
    }
    let grows = !keep && end > record.size_bytes;
    if grows {
        truncate::resize(v, ino, &mut record, end, true)?;
    }
    if zero || grows {
        touch(v, &mut record);
    }
    v.put_inode(ino, &record);
    attr::reply(v, ino, &record)
}

/// SEEK_DATA and SEEK_HOLE within one chunk; positions count from the chunk's start.
pub fn seek<V: World>(v: &mut View<V>, want: Bytes, data: bool) -> OpResult<OpReply> {
    let partition = v.partition;
    let chunk = if want.chunk == 0 {
        let record = regular(v, want.ino)?;
        check_generation(want.ino, &record, want.generation)?;
        if let Body::Inline(bytes) = &record.body {
            let end = bytes.len() as u32;
            return match (data, want.offset < end) {
                (true, false) => Err(Errno::ENXIO.into()),
                (true, true) | (false, false) => Ok(OpReply::Position(u64::from(want.offset))),
                (false, true) => Ok(OpReply::Position(u64::from(end))),
            };
        }
        v.chunk(partition, want.ino, 0)?
    } else {
        chunks::check_generation(v, partition, want.ino, want.generation)?;
        v.chunk(partition, want.ino, want.chunk)?
    };
    let position = match (chunk, data) {
        (Some(chunk), true) => chunk.next_data(want.offset).ok_or(Errno::ENXIO)?,
        (Some(chunk), false) => chunk.next_hole(want.offset),
        (None, true) => return Err(Errno::ENXIO.into()),
        (None, false) => want.offset,
    };
    Ok(OpReply::Position(u64::from(position)))
}
