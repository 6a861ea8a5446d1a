//! Reading and writing chunks, and publishing sizes.
//!
//! Chunk 0 lives with the inode: a write to it sets size and times in the same log entry. Other
//! chunks know no inode; their writer publishes the size afterwards, so that no reader sees a size
//! whose bytes were not written.

use super::chunks;
use super::{permission, truncate};
use crate::core::{Halt, MemoryChange, OpResult, View, World};
use crate::records::{Body, INLINE_MAX_BYTES, InodeRecord};
use crate::store::CHUNK_MAX_BYTES;
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::limits::{FILE_SIZE_MAX_BYTES, IO_MAX_BYTES};
use sealfs_protocol::message::{OpReply, Refusal};
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
    pub fn check(&self) -> OpResult<()> {
        let end = u64::from(self.offset) + u64::from(self.len);
        if self.len > IO_MAX_BYTES || end > u64::from(CHUNK_MAX_BYTES) {
            return Err(Errno::EINVAL.into());
        }
        Ok(())
    }
}

/// The inode of an open regular file.
pub fn regular<V: World>(v: &mut View<V>, ino: InodeId) -> OpResult<InodeRecord> {
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

pub fn check_generation(
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

/// `atime`: the access time moves, by relatime.
pub fn read<V: World>(v: &mut View<V>, want: Bytes, atime: bool) -> OpResult<OpReply> {
    want.check()?;
    if want.chunk > 0 {
        return read_slot(v, want);
    }
    let record = regular(v, want.ino)?;
    check_generation(want.ino, &record, want.generation)?;
    let len = read_first(v, want.ino, &record, want.offset, want.len)?;
    if atime && is_atime_due(&record, v) {
        v.access(want.ino);
    }
    Ok(OpReply::Read { len_bytes: len })
}

/// The relatime rule of mount(8).
pub fn is_atime_due<V: World>(record: &InodeRecord, v: &View<V>) -> bool {
    if v.check_writable(record.volume).is_err() {
        return false;
    }
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
    store(v, want, data)
}

/// Puts bytes into a chunk, whichever it is.
pub fn store<V: World>(v: &mut View<V>, want: Bytes, data: &[u8]) -> OpResult<OpReply> {
    if want.chunk > 0 {
        let volume = v.caller.volume;
        write_slot(v, want, volume, data)?;
        return Ok(written(v, u64::from(want.offset), 0));
    }
    let mut record = regular(v, want.ino)?;
    v.check_writable(record.volume)?;
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

pub fn written<V: World>(v: &View<V>, offset: u64, size_bytes: u64) -> OpReply {
    OpReply::Written {
        offset,
        size_bytes,
        incarnation: v.incarnation(),
    }
}

/// A file's content changes.
pub fn touch<V: World>(v: &View<V>, record: &mut InodeRecord) {
    record.mtime = v.time();
    record.ctime = v.time();
    record.mode = permission::mode_after_write(record, &v.caller.credentials);
}

/// Puts bytes into chunk 0, whose inode the caller stores. False: the inline bytes had to move to
/// a chunk first; that alone takes place now, and the operation runs again.
pub fn write_first<V: World>(
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
    v.check_writable(volume)?;
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
    (from, size_at_least): (u64, u64),
    wide: bool,
    generation: TruncateGeneration,
) -> OpResult<OpReply> {
    let mut record = regular(v, ino)?;
    v.check_writable(record.volume)?;
    check_generation(ino, &record, generation)?;
    if size_at_least > FILE_SIZE_MAX_BYTES {
        return Err(Errno::EFBIG.into());
    }
    record.wide |= wide;
    let gap = record.size_bytes < from.min(size_at_least);
    if gap && v.ends.is_doubted(ino) {
        // What was written is cut as well, and comes again.
        truncate::settle(v, ino, &mut record);
        return Ok(OpReply::Refused(Refusal::StaleGeneration {
            attr: Some(record.attr(ino, 0)),
        }));
    }
    record.size_bytes = record.size_bytes.max(size_at_least);
    touch(v, &mut record);
    v.put_inode(ino, &record);
    Ok(written(v, 0, record.size_bytes))
}

/// Bytes may lie behind the end of a file that nobody will publish: they are cut before a gap shows them.
pub fn doubt<V: World>(v: &mut View<V>, ino: InodeId) -> OpReply {
    if v.is_mine(ino.partition()) {
        v.remember(MemoryChange::Doubted(ino));
    }
    OpReply::Done
}
