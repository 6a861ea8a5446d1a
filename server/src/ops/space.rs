//! Which parts of a file have space: fallocate(2).

use super::{attr, data, truncate};
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::store::BLOCK_BYTES;
use sealfs_protocol::limits::FILE_SIZE_MAX_BYTES;
use sealfs_protocol::message::OpReply;
use sealfs_protocol::{Errno, InodeId};

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
    let mut record = data::regular(v, ino)?;
    v.check_writable(record.volume)?;
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
        data::touch(v, &mut record);
    }
    v.put_inode(ino, &record);
    let reply = attr::reply(v, ino, &record)?;
    if let (OpReply::Attr(attr), false) = (&reply, zero) {
        // Nothing is reserved; but what no quota has room for is refused now and not later.
        let whole = end.next_multiple_of(u64::from(BLOCK_BYTES));
        let missing = whole.saturating_sub(attr.blocks_512 * 512);
        v.expect_space(record.volume, missing.min(len));
    }
    Ok(reply)
}
