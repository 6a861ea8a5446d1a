//! read(2), write(2), their positional and vectored forms, and lseek(2).
//!
//! What must stay true: the offset of a description is held from before the transfer until it has
//! moved; positional forms never touch it.

use super::Ctx;
use super::file::{Position, Written};
use super::user::{self, Spans};
use crate::fds::{self, Fd, Open};
use crate::route::{Answer, Bypass, theirs, value};
use sealfs_protocol::Errno;

const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// The description in argument 0, or the reason why the call is the kernel's.
macro_rules! ours {
    ($ctx:expr) => {
        match fds::of($ctx, 0)? {
            Fd::Ours(open) => open,
            _ => return theirs(Bypass::NativeDescriptor),
        }
    };
}
pub(super) use ours;

/// read(fd, buffer, count)
pub fn read(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let mut spans = Spans::one(ctx.arg(1), ctx.arg(2))?;
    value(open.read(Position::Current, &mut spans)?)
}

/// readv(fd, buffers, count)
pub fn readv(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let mut spans = Spans::many(ctx.arg(1), ctx.arg(2))?;
    value(open.read(Position::Current, &mut spans)?)
}

/// pread64(fd, buffer, count, offset)
pub fn pread(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let at = offset(ctx.arg(3))?;
    let mut spans = Spans::one(ctx.arg(1), ctx.arg(2))?;
    value(open.read(Position::At(at), &mut spans)?)
}

/// preadv(fd, buffers, count, offset low, offset high)
pub fn preadv(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let at = offset(ctx.arg(3))?;
    let mut spans = Spans::many(ctx.arg(1), ctx.arg(2))?;
    value(open.read(Position::At(at), &mut spans)?)
}

/// preadv2(fd, buffers, count, offset low, offset high, flags); offset -1 is the current one
pub fn preadv2(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let known = libc::RWF_HIPRI | libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_NOWAIT;
    if ctx.int(5) & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if ctx.int(5) & libc::RWF_NOWAIT != 0 {
        return Err(Errno::EAGAIN);
    }
    let position = position_or_current(ctx.arg(3))?;
    let mut spans = Spans::many(ctx.arg(1), ctx.arg(2))?;
    value(open.read(position, &mut spans)?)
}

/// write(fd, buffer, count)
pub fn write(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let mut spans = Spans::one(ctx.arg(1), ctx.arg(2))?;
    value(open.write(Position::Current, &mut spans, Written::AsOpened)?)
}

/// writev(fd, buffers, count)
pub fn writev(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let mut spans = Spans::many(ctx.arg(1), ctx.arg(2))?;
    value(open.write(Position::Current, &mut spans, Written::AsOpened)?)
}

/// pwrite64(fd, buffer, count, offset)
pub fn pwrite(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let at = offset(ctx.arg(3))?;
    let mut spans = Spans::one(ctx.arg(1), ctx.arg(2))?;
    value(open.write(Position::At(at), &mut spans, Written::AsOpened)?)
}

/// pwritev(fd, buffers, count, offset low, offset high)
pub fn pwritev(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let at = offset(ctx.arg(3))?;
    let mut spans = Spans::many(ctx.arg(1), ctx.arg(2))?;
    value(open.write(Position::At(at), &mut spans, Written::AsOpened)?)
}

/// pwritev2(fd, buffers, count, offset low, offset high, flags)
pub fn pwritev2(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let flags = ctx.int(5);
    let known = libc::RWF_HIPRI | libc::RWF_DSYNC | libc::RWF_SYNC | libc::RWF_APPEND;
    if flags & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let written = Written::With {
        append: flags & libc::RWF_APPEND != 0,
        sync: flags & libc::RWF_SYNC != 0,
        data_sync: flags & libc::RWF_DSYNC != 0,
    };
    let position = position_or_current(ctx.arg(3))?;
    let mut spans = Spans::many(ctx.arg(1), ctx.arg(2))?;
    value(open.write(position, &mut spans, written)?)
}

fn offset(raw: usize) -> Result<u64, Errno> {
    i64::try_from(raw as u64)
        .map(|at| at as u64)
        .map_err(|_| Errno::EINVAL)
}

fn position_or_current(raw: usize) -> Result<Position, Errno> {
    if raw as i64 == -1 {
        Ok(Position::Current)
    } else {
        offset(raw).map(Position::At)
    }
}

/// lseek(fd, offset, whence)
pub fn lseek(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let (by, whence) = (ctx.arg(1) as i64, ctx.int(2));
    open.usable()?;
    let guard = open.lock_offset()?;
    let to = match whence {
        libc::SEEK_SET => by,
        libc::SEEK_CUR => (guard.get() as i64).checked_add(by).ok_or(Errno::EINVAL)?,
        libc::SEEK_END => {
            let size = end_of(&open)?;
            size.checked_add(by).ok_or(Errno::EINVAL)?
        }
        SEEK_DATA | SEEK_HOLE if open.is_directory() => return Err(Errno::EINVAL),
        SEEK_DATA | SEEK_HOLE if by < 0 => return Err(Errno::ENXIO),
        SEEK_DATA => open.seek_data(by as u64)? as i64,
        SEEK_HOLE => open.seek_hole(by as u64)? as i64,
        _ => return Err(Errno::EINVAL),
    };
    if to < 0 {
        return Err(Errno::EINVAL);
    }
    guard.set(to as u64);
    value(to as usize)
}

fn end_of(open: &Open) -> Result<i64, Errno> {
    if open.is_directory() {
        return Ok(sealfs_protocol::dirent::END as i64);
    }
    Ok(open.attributes()?.size_bytes as i64)
}

/// Reads the offset that a call passes by pointer; `None` for a null pointer.
pub fn offset_at(pointer: usize) -> Result<Option<u64>, Errno> {
    if pointer == 0 {
        return Ok(None);
    }
    offset(user::read::<i64>(pointer)? as usize).map(Some)
}
