//! getdents(2): listing directories of ours, and the two kernel directories whose listing differs
//! because of us (the mount point's parent, the list of descriptors).
//!
//! Positions of our directories: 0 before `.`, 1 before `..`, then the server's cookies moved up by
//! two; [`END`] is where the server said that nothing follows. They are what telldir(3) returns.
//!
//! What must stay true: a position that a program got from one listing leads to the same entry in
//! every later one; an entry that existed all the time is returned exactly once.

use super::{Ctx, user};
use crate::descriptors;
use crate::fds::{self, Fd, Open};
use crate::kernel;
use crate::path;
use crate::process;
use crate::route::{Answer, Bypass, Outcome, theirs, value};
use sealfs_client::{At, Failure};
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::{Errno, InodeId};

/// The position behind the last entry.
pub const END: u64 = i64::MAX as u64;
const AFTER_DOTS: u64 = 2;
/// Bytes of `struct linux_dirent64` before the name (getdents(2)).
const HEAD_BYTES: usize = 19;
/// The same of the old `struct linux_dirent`, whose type byte stands at the record's end.
const OLD_HEAD_BYTES: usize = 18;
/// Bytes asked of a server for one call, at most.
const PAGE_MAX_BYTES: usize = 256 << 10;

/// Which of the two layouts a call wants.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Old,
    New,
}

/// getdents64(fd, buffer, bytes)
pub fn getdents64(ctx: &mut Ctx<'_>) -> Answer {
    list(ctx, Form::New)
}

/// getdents(fd, buffer, bytes)
pub fn getdents(ctx: &mut Ctx<'_>) -> Answer {
    list(ctx, Form::Old)
}

fn list(ctx: &mut Ctx<'_>, form: Form) -> Answer {
    match fds::of(ctx, 0)? {
        Fd::Ours(open) => list_ours(&open, ctx.arg(1), ctx.arg(2) as u32 as usize, form),
        Fd::Internal => Err(Errno::EBADF),
        Fd::Above if form == Form::New => list_above(ctx),
        Fd::Listing if form == Form::New => list_descriptors(ctx),
        Fd::Above | Fd::Listing | Fd::Theirs => theirs(Bypass::NativeDescriptor),
    }
}

/// Records collected for one call.
struct Page {
    bytes: Vec<u8>,
    room: usize,
    form: Form,
    /// Where the position of the last record stands.
    last_position: Option<usize>,
}

impl Page {
    /// Appends a record; `false` if it does not fit any more.
    fn push(&mut self, ino: u64, position: u64, kind: u32, name: &[u8]) -> bool {
        let head = if self.form == Form::New {
            HEAD_BYTES
        } else {
            OLD_HEAD_BYTES
        };
        let tail = if self.form == Form::New { 1 } else { 2 };
        let len = (head + name.len() + tail).next_multiple_of(8);
        if self.bytes.len() + len > self.room {
            return false;
        }
        let start = self.bytes.len();
        let kind = (kind >> 12) as u8;
        self.bytes.extend_from_slice(&ino.to_le_bytes());
        self.last_position = Some(self.bytes.len());
        self.bytes.extend_from_slice(&position.to_le_bytes());
        self.bytes.extend_from_slice(&(len as u16).to_le_bytes());
        if self.form == Form::New {
            self.bytes.push(kind);
        }
        self.bytes.extend_from_slice(name);
        self.bytes.resize(start + len, 0);
        if self.form == Form::Old {
            self.bytes[start + len - 1] = kind;
        }
        true
    }

    fn set_last_position(&mut self, position: u64) {
        if let Some(at) = self.last_position {
            self.bytes[at..at + 8].copy_from_slice(&position.to_le_bytes());
        }
    }
}

fn list_ours(open: &Open, buffer: usize, room: usize, form: Form) -> Answer {
    open.not_path_only()?;
    if !open.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let guard = open.lock_offset()?;
    let mut position = guard.get();
    if position == END {
        return value(0);
    }
    let mut page = Page {
        bytes: Vec::new(),
        room,
        form,
        last_position: None,
    };
    fill(open, &mut position, &mut page)?;
    if page.bytes.is_empty() && position != END {
        return Err(Errno::EINVAL);
    }
    user::copy_out(buffer, &page.bytes)?;
    guard.set(position);
    value(page.bytes.len())
}

/// Collects records from `position` on until the page is full or the directory ends.
fn fill(open: &Open, position: &mut u64, page: &mut Page) -> Result<(), Errno> {
    let dir = open.ino();
    if *position == 0 {
        if !page.push(dir.0, 1, S_IFDIR, b".") {
            return Ok(());
        }
        *position = 1;
    }
    if *position == 1 {
        if !page.push(parent_of(dir)?, AFTER_DOTS, S_IFDIR, b"..") {
            return Ok(());
        }
        *position = AFTER_DOTS;
    }
    let client = process::client()?;
    while page.bytes.len() < page.room {
        let want = (page.room - page.bytes.len()).clamp(1024, PAGE_MAX_BYTES);
        let answer = client.read_dir(dir, *position - AFTER_DOTS, want as u32, false)?;
        for entry in &answer.entries {
            let next = entry.cookie.saturating_add(AFTER_DOTS).min(END - 1);
            if !page.push(entry.ino.0, next, entry.kind, &entry.name) {
                return Ok(());
            }
            *position = next;
        }
        if answer.end {
            // Only a directory without entries can have been removed.
            if *position == AFTER_DOTS && open.attributes()?.nlink == 0 {
                return Err(Errno::ENOENT);
            }
            page.set_last_position(END);
            *position = END;
            return Ok(());
        }
        if answer.entries.is_empty() || page.bytes.len() > page.room / 2 {
            return Ok(());
        }
    }
    Ok(())
}

/// Inode number of `..`; the root's lies in the kernel's tree. ENOENT: the directory was removed.
fn parent_of(dir: InodeId) -> Result<u64, Errno> {
    if dir == process::root()? {
        return Ok(process::mount_parent().map_or(dir.0, |(_, ino)| ino));
    }
    let up = At {
        base: dir,
        path: b"..",
    };
    match process::client()?.stat(up, false) {
        Ok(attr) => Ok(attr.ino.0),
        Err(Failure::Errno(Errno::ESTALE | Errno::ENOENT)) => Err(Errno::ENOENT),
        Err(Failure::Errno(errno)) => Err(errno),
        Err(Failure::Outside(_)) => Ok(dir.0),
    }
}

/// A record as the kernel wrote it.
pub struct Record<'a> {
    pub bytes: &'a [u8],
    pub name: &'a [u8],
}

/// The records of a page of getdents64.
pub fn records(page: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = page;
    core::iter::from_fn(move || {
        let len = usize::from(u16::from_le_bytes(*rest.get(16..18)?.first_chunk::<2>()?));
        let bytes = rest.get(..len).filter(|b| b.len() > HEAD_BYTES)?;
        rest = &rest[len..];
        let name = &bytes[HEAD_BYTES..];
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        Some(Record {
            bytes,
            name: &name[..end],
        })
    })
}

/// The kernel's directory above the mount point, with the way to the mount added to its first page.
fn list_above(ctx: &Ctx<'_>) -> Answer {
    let fd = ctx.fd(0) as u32;
    let room = ctx.arg(2) as u32 as usize;
    let directory = kernel::descriptor_path(fd as i32)?;
    let mount = process::mount();
    if !path::is_above(mount, &directory) {
        return theirs(Bypass::NativeDescriptor);
    }
    let skip = if directory == b"/" {
        1
    } else {
        directory.len() + 1
    };
    let name = path::split_first(&mount[skip..]).0;
    let at_start = kernel::position(fd)? == 0;
    let extra = (HEAD_BYTES + name.len() + 1).next_multiple_of(8);
    if !at_start || room < extra + HEAD_BYTES + 256 {
        return theirs(Bypass::NativeDescriptor);
    }
    let mut bytes = vec![0u8; (room - extra).min(PAGE_MAX_BYTES)];
    let len = kernel::getdents(fd, &mut bytes)?;
    bytes.truncate(len);
    let known = records(&bytes).any(|record| record.name == name);
    let position = records(&bytes).last().map_or(0, |r| position_of(r.bytes));
    let mut page = Page {
        bytes,
        room,
        form: Form::New,
        last_position: None,
    };
    if !known {
        let ino = if mount.len() == skip + name.len() {
            process::root()?.0
        } else {
            1
        };
        page.push(ino, position, S_IFDIR, name);
    }
    user::copy_out(ctx.arg(1), &page.bytes)?;
    value(page.bytes.len())
}

fn position_of(record: &[u8]) -> u64 {
    record[8..16]
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The list of this process's descriptors without the library's own.
fn list_descriptors(ctx: &Ctx<'_>) -> Answer {
    let fd = ctx.fd(0) as u32;
    let hidden: Vec<u32> = descriptors::in_use().collect();
    if hidden.is_empty() {
        return theirs(Bypass::NativeDescriptor);
    }
    let mut bytes = vec![0u8; (ctx.arg(2) as u32 as usize).min(PAGE_MAX_BYTES)];
    loop {
        let len = kernel::getdents(fd, &mut bytes)?;
        let mut kept = Vec::with_capacity(len);
        for record in records(&bytes[..len]) {
            if !path::number(record.name).is_some_and(|n| hidden.contains(&n)) {
                kept.extend_from_slice(record.bytes);
            }
        }
        // A page of nothing but hidden entries is not the end.
        if !kept.is_empty() || len == 0 {
            user::copy_out(ctx.arg(1), &kept)?;
            return Ok(Outcome::Ours(kept.len() as isize));
        }
    }
}
