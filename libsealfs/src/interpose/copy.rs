//! sendfile(2), splice(2), tee(2), copy_file_range(2) with an end of ours: done here, by reading and
//! writing.
//!
//! What must stay true: offsets move by what arrived at the other end; a native end that would
//! block does so with the program's signal mask.
//!
//! # Safety
//! Native reads and writes get a buffer of ours that outlives them.

use super::Ctx;
use super::file::{Position, Written};
use super::rw::offset_at;
use super::user::{self, Spans};
use crate::fds::{self, Fd, Open};
use crate::kernel;
use crate::patch::call::Call;
use crate::route::{Answer, Bypass, theirs, value};
use sealfs_protocol::Errno;

/// Most bytes that one call moves; callers of these calls go on after less than they asked for.
const STEP_BYTES: usize = 1 << 20;

/// One end of a copy.
enum End {
    Ours(Open),
    Native(u32),
}

impl End {
    fn of(fd: usize) -> Result<End, Errno> {
        match fds::lookup(fd)? {
            Fd::Ours(open) => Ok(End::Ours(open)),
            Fd::Internal => Err(Errno::EBADF),
            Fd::Theirs | Fd::Above | Fd::Listing => Ok(End::Native(fd as u32)),
        }
    }

    fn mode(&self) -> Result<u32, Errno> {
        match self {
            End::Ours(open) => Ok(open.slot.kind()),
            End::Native(fd) => Ok(kernel::fstat(*fd as usize)?.st_mode & libc::S_IFMT),
        }
    }

    fn read(&self, position: Position, bytes: &mut [u8]) -> Result<usize, Errno> {
        match self {
            End::Ours(open) => open.read(position, &mut Spans::own(bytes)),
            End::Native(fd) => {
                native_transfer([libc::SYS_read, libc::SYS_pread64], *fd, position, bytes)
            }
        }
    }

    fn write(&self, position: Position, bytes: &mut [u8]) -> Result<usize, Errno> {
        match self {
            End::Ours(open) => open.write(position, &mut Spans::own(bytes), Written::AsOpened),
            End::Native(fd) => {
                native_transfer([libc::SYS_write, libc::SYS_pwrite64], *fd, position, bytes)
            }
        }
    }
}

fn native_transfer(
    [current, at]: [i64; 2],
    fd: u32,
    position: Position,
    bytes: &mut [u8],
) -> Result<usize, Errno> {
    let (nr, offset) = match position {
        Position::Current => (current, 0),
        Position::At(offset) => (at, offset as usize),
    };
    let args = [
        fd as usize,
        bytes.as_mut_ptr() as usize,
        bytes.len(),
        offset,
        0,
        0,
    ];
    crate::sys::check(super::native(&Call {
        nr: nr as usize,
        args,
    }))
    .map_err(Errno)
}

/// Moves up to `len` bytes; `None` is the end's own offset, which moves along.
fn transfer(
    (from, from_at): (&End, Option<u64>),
    (to, to_at): (&End, Option<u64>),
    len: usize,
) -> Result<usize, Errno> {
    // Before anything is taken out of a pipe.
    if matches!(from, End::Ours(open) if !open.can_read())
        || matches!(to, End::Ours(open) if !open.can_write())
    {
        return Err(Errno::EBADF);
    }
    let mut bytes = vec![0u8; len.min(STEP_BYTES)];
    let at = |offset: Option<u64>| offset.map_or(Position::Current, Position::At);
    // A source that is ours is read without moving it, and moved by what arrived.
    let start = match (from, from_at) {
        (_, Some(offset)) => Some(offset),
        (End::Ours(open), None) => Some(open.slot.peek_offset()),
        (End::Native(_), None) => None,
    };
    let count = from.read(at(start), &mut bytes)?;
    let mut moved = 0;
    while moved < count {
        let position = at(to_at.map(|offset| offset + moved as u64));
        match to.write(position, &mut bytes[moved..count]) {
            Ok(0) => break,
            Ok(n) => moved += n,
            Err(_) if moved > 0 => break,
            Err(errno) => return Err(errno),
        }
        if matches!(to, End::Native(_)) {
            break;
        }
    }
    if let (End::Ours(open), None, Some(start)) = (from, from_at, start) {
        open.lock_offset()?.set(start + moved as u64);
    }
    Ok(moved)
}

/// Writes back an offset that was passed by pointer.
fn advance(pointer: usize, from: Option<u64>, by: usize) -> Result<(), Errno> {
    match from {
        Some(offset) => user::write(pointer, &((offset + by as u64) as i64)),
        None => Ok(()),
    }
}

/// sendfile(to, from, offset, bytes)
pub fn sendfile(ctx: &mut Ctx<'_>) -> Answer {
    let (to, from) = (End::of(ctx.fd(0))?, End::of(ctx.fd(1))?);
    if let (End::Native(_), End::Native(_)) = (&to, &from) {
        return theirs(Bypass::NativeDescriptor);
    }
    if !matches!(from.mode()?, libc::S_IFREG | libc::S_IFBLK) {
        return Err(Errno::EINVAL);
    }
    if let End::Ours(open) = &to
        && open.flags() & libc::O_APPEND != 0
    {
        return Err(Errno::EINVAL);
    }
    let offset = offset_at(ctx.arg(2))?;
    let moved = transfer((&from, offset), (&to, None), ctx.arg(3))?;
    advance(ctx.arg(2), offset, moved)?;
    value(moved)
}

/// copy_file_range(from, offset, to, offset, bytes, flags)
pub fn copy_file_range(ctx: &mut Ctx<'_>) -> Answer {
    let (from, to) = (End::of(ctx.fd(0))?, End::of(ctx.fd(2))?);
    if let (End::Native(_), End::Native(_)) = (&to, &from) {
        return theirs(Bypass::NativeDescriptor);
    }
    if ctx.arg(5) != 0 {
        return Err(Errno::EINVAL);
    }
    for end in [&from, &to] {
        match end.mode()? {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let (from_at, to_at) = (offset_at(ctx.arg(1))?, offset_at(ctx.arg(3))?);
    if let (End::Ours(a), End::Ours(b)) = (&from, &to) {
        if b.flags() & libc::O_APPEND != 0 {
            return Err(Errno::EBADF);
        }
        let start = |open: &Open, at: Option<u64>| at.unwrap_or_else(|| open.slot.peek_offset());
        let distance = start(a, from_at).abs_diff(start(b, to_at));
        if a.ino() == b.ino() && distance < ctx.arg(4) as u64 {
            return Err(Errno::EINVAL);
        }
    }
    let moved = transfer((&from, from_at), (&to, to_at), ctx.arg(4))?;
    advance(ctx.arg(1), from_at, moved)?;
    advance(ctx.arg(3), to_at, moved)?;
    value(moved)
}

/// splice(from, offset, to, offset, bytes, flags): one end is a pipe
pub fn splice(ctx: &mut Ctx<'_>) -> Answer {
    let (from, to) = (End::of(ctx.fd(0))?, End::of(ctx.fd(2))?);
    let pipe = match (&from, &to) {
        (End::Native(_), End::Native(_)) => return theirs(Bypass::NativeDescriptor),
        (End::Ours(_), End::Ours(_)) => return Err(Errno::EINVAL),
        (End::Native(pipe), End::Ours(_)) | (End::Ours(_), End::Native(pipe)) => *pipe,
    };
    if kernel::fstat(pipe as usize)?.st_mode & libc::S_IFMT != libc::S_IFIFO {
        return Err(Errno::EINVAL);
    }
    if let End::Ours(open) = &to
        && open.flags() & libc::O_APPEND != 0
    {
        return Err(Errno::EINVAL);
    }
    let (from_at, to_at) = (offset_at(ctx.arg(1))?, offset_at(ctx.arg(3))?);
    let pipe_offset = if matches!(from, End::Native(_)) {
        from_at
    } else {
        to_at
    };
    if pipe_offset.is_some() {
        return Err(Errno::ESPIPE);
    }
    if ctx.arg(5) as u32 & libc::SPLICE_F_NONBLOCK != 0
        && !kernel::is_ready(pipe, matches!(to, End::Native(_)))
    {
        return Err(Errno::EAGAIN);
    }
    let moved = transfer((&from, from_at), (&to, to_at), ctx.arg(4))?;
    advance(ctx.arg(1), from_at, moved)?;
    advance(ctx.arg(3), to_at, moved)?;
    value(moved)
}

/// tee(from, to, bytes, flags), vmsplice(fd, …): pipes only, which ours are not
pub fn pipes_only(ctx: &mut Ctx<'_>) -> Answer {
    match (fds::of(ctx, 0)?, fds::of(ctx, 1)?) {
        (Fd::Ours(_), _) | (_, Fd::Ours(_)) => Err(Errno::EINVAL),
        _ => theirs(Bypass::NativeDescriptor),
    }
}
