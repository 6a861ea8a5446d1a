//! Sizes and durability: truncate, fallocate, fsync and its kin, statfs, advice.

use super::at::{self, PathArg};
use super::program::unless_it_ended;
use super::rw::ours;
use super::{Ctx, map, repeat, user, write_limit};
use crate::fds::{self, Fd};
use crate::process;
use crate::route::{Answer, Bypass, done, theirs};
use sealfs_client::node::shadow::Touch;
use sealfs_protocol::Errno;
use sealfs_protocol::attr::{S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, SetAttr};
use sealfs_protocol::limits::NAME_MAX_BYTES;

/// `f_type` of a volume: "seal" in ASCII, as no file system of Linux has it.
const MAGIC: i64 = 0x7365_616c;
const FALLOC_KEEP_SIZE: i32 = 1;
const FALLOC_PUNCH_HOLE: i32 = 2;
const FALLOC_COLLAPSE_RANGE: i32 = 8;
const FALLOC_ZERO_RANGE: i32 = 0x10;
const FALLOC_INSERT_RANGE: i32 = 0x20;
const FALLOC_UNSHARE_RANGE: i32 = 0x40;

/// truncate(path, size)
pub fn truncate(ctx: &mut Ctx<'_>) -> Answer {
    let size = ctx.arg(1) as i64;
    at::run(ctx, PathArg::plain(0, true), |client, place| {
        let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
        write_limit::check_size(size)?;
        let change = SetAttr {
            size_bytes: Some(size),
            ..SetAttr::default()
        };
        let attr = unless_it_ended(|| client.setattr(place.at(), true, &change))?;
        map::resized(attr.ino, size)?;
        repeat::set(attr.ino, &change);
        Ok(0)
    })
}

/// ftruncate(fd, size)
pub fn ftruncate(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.truncate(u64::try_from(ctx.arg(1) as i64).map_err(|_| Errno::EINVAL)?)?;
    done()
}

/// fallocate(fd, mode, offset, bytes)
pub fn fallocate(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    let (mode, offset, len) = (ctx.int(1), ctx.arg(2) as i64, ctx.arg(3) as i64);
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    let keeps_size = mode & FALLOC_KEEP_SIZE != 0;
    // As the kernel looks at it before it looks at the file; then come the modes that are not ours.
    let ours = match mode & !FALLOC_KEEP_SIZE {
        0 | FALLOC_ZERO_RANGE => true,
        FALLOC_PUNCH_HOLE if keeps_size => true,
        FALLOC_UNSHARE_RANGE => false,
        FALLOC_COLLAPSE_RANGE | FALLOC_INSERT_RANGE if !keeps_size => false,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if !open.can_write() {
        return Err(Errno::EBADF);
    }
    match open.slot.kind() & S_IFMT {
        S_IFREG => {}
        S_IFDIR => return Err(Errno::EISDIR),
        S_IFIFO => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    }
    let end = offset.checked_add(len).ok_or(Errno::EFBIG)? as u64;
    if !ours {
        return Err(Errno::EOPNOTSUPP);
    }
    if !keeps_size {
        write_limit::check_size(end)?;
    }
    map::write_back(&open)?;
    let client = process::client()?;
    let attr = client.allocate(open.file(), mode as u32, offset as u64, len as u64)?;
    let zeroed = mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE) != 0;
    map::changed_behind(&open, (offset as u64, len as u64), zeroed, attr.size_bytes)?;
    open.touched(Touch::Modify);
    done()
}

/// fsync(fd)
pub fn fsync(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    open.sync(false)?;
    done()
}

/// fdatasync(fd)
pub fn fdatasync(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    open.sync(true)?;
    done()
}

/// sync_file_range(fd, offset, bytes, flags): no promise of durability is in it
pub fn sync_file_range(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    if (ctx.arg(1) as i64) < 0 || (ctx.arg(2) as i64) < 0 || ctx.arg(3) & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    done()
}

/// sync(): the kernel's file systems, and ours if we are in use
pub fn sync(_ctx: &mut Ctx<'_>) -> Answer {
    if let Some(client) = process::known_client() {
        // sync(2) cannot fail.
        let _ = client.sync_fs();
    }
    theirs(Bypass::KernelsPart)
}

/// fadvise64(fd, offset, bytes, advice): nothing is cached that advice could change
pub fn fadvise(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    open.usable()?;
    if !(0..=5).contains(&ctx.int(3)) || (ctx.arg(2) as i64) < 0 {
        return Err(Errno::EINVAL);
    }
    done()
}

/// readahead(fd, offset, bytes)
pub fn readahead(ctx: &mut Ctx<'_>) -> Answer {
    let open = ours!(ctx);
    if !open.can_read() {
        return Err(Errno::EBADF);
    }
    if open.is_regular() {
        done()
    } else {
        Err(Errno::EINVAL)
    }
}

/// statfs(path, buffer)
pub fn statfs(ctx: &mut Ctx<'_>) -> Answer {
    let out = ctx.arg(1);
    at::run(ctx, PathArg::plain(0, true), |client, place| {
        client.stat(place.at(), true)?;
        user::write(out, &volume_space(client)?)?;
        Ok(0)
    })
}

/// fstatfs(fd, buffer)
pub fn fstatfs(ctx: &mut Ctx<'_>) -> Answer {
    let _open = ours!(ctx);
    user::write(ctx.arg(1), &volume_space(&*process::client()?)?)?;
    done()
}

/// `struct statfs` of x86-64 as the kernel lays it out (statfs(2)).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct StatfsAbi {
    kind: i64,
    block_bytes: i64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    files: u64,
    files_free: u64,
    id: [i32; 2],
    name_max: i64,
    fragment_bytes: i64,
    flags: i64,
    spare: [i64; 4],
}

const _: () = assert!(size_of::<StatfsAbi>() == size_of::<libc::statfs>());

fn volume_space(client: &sealfs_client::Client) -> Result<StatfsAbi, Errno> {
    const ST_RDONLY: i64 = 1;
    const ST_VALID: i64 = 0x20;
    let space = client.statfs()?;
    let device = super::stat::device();
    Ok(StatfsAbi {
        kind: MAGIC,
        block_bytes: space.block_bytes as i64,
        blocks: space.blocks,
        blocks_free: space.blocks_free,
        blocks_available: space.blocks_free,
        files: space.inodes,
        files_free: space.inodes_free,
        id: [device as i32, (device >> 32) as i32],
        name_max: NAME_MAX_BYTES as i64,
        fragment_bytes: space.block_bytes as i64,
        flags: if space.read_only {
            ST_VALID | ST_RDONLY
        } else {
            ST_VALID
        },
        spare: [0; 4],
    })
}
