//! sendfile(2), splice(2), tee(2), copy_file_range(2) with an end of ours: done here, by reading and
//! writing; between two files of the volume by the servers, which send the bytes to each other.
//!
//! What must stay true: offsets move by what arrived at the other end; a native end that would
//! block does so with the program's signal mask; what mappings of this node hold of the source is
//! with the servers before they copy.
//!
//! # Safety
//! Native reads and writes get a buffer of ours that outlives them.

use super::Ctx;
use super::file::{Position, Written};
use super::rw::offset_at;
use super::user::{self, Spans};
use super::{map, write_limit};
use crate::fds::{self, Fd, Open};
use crate::kernel;
use crate::patch::call::Call;
use crate::process;
use crate::route::{Answer, Bypass, theirs, value};
use crate::subject;
use sealfs_client::node::shadow::Touch;
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

    fn can_read(&self) -> Result<bool, Errno> {
        match self {
            End::Ours(open) => Ok(open.can_read()),
            End::Native(fd) => Ok(kernel::open_flags(*fd)? & libc::O_ACCMODE != libc::O_WRONLY),
        }
    }

    fn can_write(&self) -> Result<bool, Errno> {
        match self {
            End::Ours(open) => Ok(open.can_write()),
            End::Native(fd) => Ok(kernel::open_flags(*fd)? & libc::O_ACCMODE != libc::O_RDONLY),
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
    crate::sys::check(subject::native_here(&Call {
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

/// Most bytes that one call copies between two files: the kernel's `MAX_RW_COUNT`.
const COPY_MAX_BYTES: u64 = 0x7fff_f000;

/// Has the servers copy from one file of the volume to another, or elsewhere in it. `None`: the
/// bytes have to pass here.
fn copy_on_servers(
    (from, from_at): (&Open, u64),
    (to, to_at): (&Open, u64),
    len: u64,
) -> Result<Option<u64>, Errno> {
    if map::memory_of(to)?.is_some() {
        return Ok(None);
    }
    map::write_back(from)?;
    let atime = from.flags() & libc::O_NOATIME == 0;
    let source = (from.file(), from_at);
    let count = process::client()?.copy(source, (to.file(), to_at), len, atime)?;
    if count > 0 {
        from.touched(Touch::Access);
        to.touched(Touch::Modify);
        to.note_written();
        let flags = to.flags();
        if flags & libc::O_DSYNC != 0 {
            to.sync(flags & libc::O_SYNC != libc::O_SYNC)?;
        }
    }
    Ok(Some(count))
}

/// An offset of copy_file_range: where a range wraps around, that is said first.
fn copied_at(ctx: &Ctx<'_>, arg: usize) -> Result<Option<u64>, Errno> {
    let pointer = ctx.arg(arg);
    if pointer == 0 {
        return Ok(None);
    }
    let raw = user::read::<i64>(pointer)? as u64;
    if raw.checked_add(ctx.arg(4) as u64).is_none() {
        return Err(Errno::EOVERFLOW);
    }
    if raw > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    Ok(Some(raw))
}

/// copy_file_range between two files of the volume, in the kernel's order of checks.
fn copy_range(
    (from, from_at): (&Open, Option<u64>),
    (to, to_at): (&Open, Option<u64>),
    len: usize,
) -> Result<usize, Errno> {
    if !from.can_read() || !to.can_write() || to.flags() & libc::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    from.usable()?;
    to.usable()?;
    let start = |open: &Open, at: Option<u64>| at.unwrap_or_else(|| open.slot.peek_offset());
    let (source, target) = (start(from, from_at), start(to, to_at));
    let overflows = |at: u64| at.checked_add(len as u64).is_none();
    if overflows(source) || overflows(target) {
        return Err(Errno::EOVERFLOW);
    }
    let client = process::client()?;
    let left = client.available(from.file(), source, len as u64)?;
    let left = left.min(write_limit::left_at(target)?);
    if from.ino() == to.ino() && target + left > source && target < source + left {
        return Err(Errno::EINVAL);
    }
    if left == 0 {
        return Ok(0);
    }
    move_range((from, source, from_at), (to, target, to_at), left)
}

/// Copies, and moves the descriptions whose offsets were meant. Each end: where it begins, and the
/// offset that the program passed.
fn move_range(
    (from, source, from_at): (&Open, u64, Option<u64>),
    (to, target, to_at): (&Open, u64, Option<u64>),
    len: u64,
) -> Result<usize, Errno> {
    let ends = ((from, source), (to, target));
    let moved = match copy_on_servers(ends.0, ends.1, len.min(COPY_MAX_BYTES))? {
        Some(moved) => moved,
        None => pass(ends.0, ends.1, len)?,
    };
    if from_at.is_none() {
        from.lock_offset()?.set(source + moved);
    }
    if to_at.is_none() {
        to.lock_offset()?.set(target + moved);
    }
    Ok(moved as usize)
}

/// Moves a step of bytes through this process.
fn pass((from, from_at): (&Open, u64), (to, to_at): (&Open, u64), len: u64) -> Result<u64, Errno> {
    let mut bytes = vec![0u8; len.min(STEP_BYTES as u64) as usize];
    let count = from.read(Position::At(from_at), &mut Spans::own(&mut bytes))?;
    let mut spans = Spans::own(&mut bytes[..count]);
    Ok(to.write(Position::At(to_at), &mut spans, Written::AsOpened)? as u64)
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
    let mode = from.mode()?;
    if !from.can_read()? || !to.can_write()? {
        return Err(Errno::EBADF);
    }
    if !matches!(mode, libc::S_IFREG | libc::S_IFBLK) {
        return Err(Errno::EINVAL);
    }
    if let End::Ours(open) = &to
        && open.flags() & libc::O_APPEND != 0
    {
        return Err(Errno::EINVAL);
    }
    let offset = offset_at(ctx.arg(2))?;
    let moved = match (&from, &to) {
        (End::Ours(a), End::Ours(b)) if a.ino() != b.ino() && b.is_regular() => {
            send_range((a, offset), b, ctx.arg(3))?
        }
        _ => send((&from, offset), &to, ctx.arg(3))?,
    };
    advance(ctx.arg(2), offset, moved)?;
    value(moved)
}

/// sendfile with an end that is not ours, until all is sent, the file ends or the other end has had
/// enough.
fn send((from, from_at): (&End, Option<u64>), to: &End, len: usize) -> Result<usize, Errno> {
    let len = len.min(COPY_MAX_BYTES as usize);
    let mut sent = 0;
    while sent < len {
        let step = (len - sent).min(STEP_BYTES);
        let at = from_at.map(|offset| offset + sent as u64);
        match transfer((from, at), (to, None), step) {
            Ok(moved) => {
                sent += moved;
                if moved < step {
                    break;
                }
            }
            Err(_) if sent > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(sent)
}

/// sendfile between two files of the volume, which differ.
fn send_range(
    (from, from_at): (&Open, Option<u64>),
    to: &Open,
    len: usize,
) -> Result<usize, Errno> {
    if !from.can_read() || !to.can_write() {
        return Err(Errno::EBADF);
    }
    from.usable()?;
    to.usable()?;
    let source = from_at.unwrap_or_else(|| from.slot.peek_offset());
    let target = to.slot.peek_offset();
    let client = process::client()?;
    let left = client.available(from.file(), source, len as u64)?;
    if left == 0 {
        return Ok(0);
    }
    let left = left.min(write_limit::left_at(target)?);
    move_range((from, source, from_at), (to, target, None), left)
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
    let modes = [from.mode()?, to.mode()?];
    if modes.contains(&libc::S_IFDIR) {
        return Err(Errno::EISDIR);
    }
    if modes != [libc::S_IFREG; 2] {
        return Err(Errno::EINVAL);
    }
    let (from_at, to_at) = (copied_at(ctx, 1)?, copied_at(ctx, 3)?);
    let moved = match (&from, &to) {
        (End::Ours(a), End::Ours(b)) => copy_range((a, from_at), (b, to_at), ctx.arg(4))?,
        _ => transfer((&from, from_at), (&to, to_at), ctx.arg(4))?,
    };
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
