//! getdents(2): listing directories of ours, and the two kernel directories whose listing differs
//! because of us (the mount point's parent, the list of descriptors).
//!
//! Positions of our directories: 0 before `.`, 1 before `..`, then the server's; [`END`] is where the
//! server said that nothing follows. They are what telldir(3) returns.
//!
//! # Safety
//! A buffer is handed on by its address, which was checked to lie in user space, or is our own.
//!
//! What must stay true: a position that a program got from one listing leads to the same entry in
//! every later one; an entry that existed all the time is returned exactly once.

use super::at::PathArg;
use super::user::Spans;
use super::{Ctx, opendir, user};
use crate::descriptors;
use crate::fds::{self, Fd, Open};
use crate::fdtable::{self, State};
use crate::kernel;
use crate::path::{self, Magic};
use crate::process;
use crate::route::{Answer, Bypass, Outcome, theirs, value};
use crate::subject;
use sealfs_client::node::shadow::Touch;
use sealfs_client::{IoVecMut, PAGE_MAX_BYTES, Page};
use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::dirent::{self, END};
use sealfs_protocol::limits::NAME_MAX_BYTES;
use sealfs_protocol::{Errno, InodeId};

const AFTER_DOTS: u64 = 2;
/// Most bytes of a page in the old form, which is made in a buffer of our own.
const OLD_PAGE_MAX_BYTES: usize = 32 << 10;
/// Bytes before the name of the old `struct linux_dirent`, whose type byte stands at the record's end.
const OLD_HEAD_BYTES: usize = 18;

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

fn list_ours(open: &Open, buffer: usize, room: usize, form: Form) -> Answer {
    open.usable()?;
    if !open.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    let guard = open.lock_offset()?;
    let mut position = guard.get();
    if position == END {
        drop(guard);
        open.touched(Touch::Access);
        return value(0);
    }
    let room = room.min(PAGE_MAX_BYTES);
    let len = match form {
        Form::New => {
            let mut page = Spans::one(buffer, room)?;
            let buffer = page.prepare();
            let len = match kept(open, &mut position, buffer, room)? {
                Some(len) => len,
                None => fill(open.ino(), &mut position, buffer, room)?,
            };
            page.deliver(len)?;
            len
        }
        Form::Old => {
            let mut page = vec![0; room.min(OLD_PAGE_MAX_BYTES)];
            let len = fill(
                open.ino(),
                &mut position,
                page.as_mut_ptr() as usize,
                page.len(),
            )?;
            to_old_form(&mut page[..len]);
            user::copy_out(buffer, &page[..len])?;
            len
        }
    };
    if len == 0 && position != END {
        return Err(Errno::EINVAL);
    }
    guard.set(position);
    drop(guard);
    open.touched(Touch::Access);
    value(len)
}

/// What opendir(3) brought along, if that is what is asked for.
fn kept(
    open: &Open,
    position: &mut u64,
    buffer: usize,
    room: usize,
) -> Result<Option<usize>, Errno> {
    if *position != 0 {
        return Ok(None);
    }
    let client = process::client()?;
    let put = |page: &Page, records: &[u8]| {
        let start = dots_bytes(0);
        let len = start + page.len;
        if len > room {
            return None;
        }
        let copied = parent_of(open.ino(), page.parent).and_then(|parent| {
            let dots = dots_that_fit(open.ino(), parent, &mut 0, room);
            user::put(buffer, &dots)?;
            user::put(buffer + start, records)
        });
        Some(copied.map(|()| (len, page.next)))
    };
    let Some(copied) = opendir::first_page(&client, open.file(), put) else {
        return Ok(None);
    };
    let (len, next) = copied?;
    *position = next;
    Ok(Some(len))
}

/// Fills `buffer` with records from `position` on until it is well filled or the directory ends.
/// The server's records go where they are read from, those of `.` and `..` before them.
fn fill(dir: InodeId, position: &mut u64, buffer: usize, room: usize) -> Result<usize, Errno> {
    let client = process::client()?;
    let mut len = 0;
    loop {
        let dots = dots_bytes(*position);
        let start = (len + dots).min(room);
        // SAFETY: the range lies in user space or is our own; whether memory is there, the kernel
        // will say.
        let rest = unsafe { IoVecMut::from_raw(buffer + start, room - start) };
        let answer = client.read_dir(dir, *position, rest)?;
        if dots > 0 {
            let parent = parent_of(dir, answer.parent)?;
            let records = dots_that_fit(dir, parent, position, room);
            user::put(buffer, &records)?;
            if records.len() < dots {
                return Ok(records.len());
            }
        }
        let stuck = answer.next == *position;
        *position = answer.next;
        len = start + answer.len;
        if stuck || answer.next == END || len > room / 2 {
            return Ok(len);
        }
    }
}

/// What `.` and `..`, as far as they lie behind `position`, take in a page.
fn dots_bytes(position: u64) -> usize {
    match position {
        0 => dirent::record_bytes(1) + dirent::record_bytes(2),
        1 => dirent::record_bytes(2),
        _ => 0,
    }
}

/// The records of `.` and `..` that lie behind `position`, which moves, and fit.
fn dots_that_fit(dir: InodeId, parent: u64, position: &mut u64, room: usize) -> Vec<u8> {
    let mut dots = Vec::new();
    for (behind, ino, name) in [(1, dir.0, &b"."[..]), (AFTER_DOTS, parent, b"..")] {
        if *position + 1 == behind && dots.len() + dirent::record_bytes(name.len()) <= room {
            dirent::push(&mut dots, ino, behind, S_IFDIR, name);
            *position = behind;
        }
    }
    dots
}

/// Makes `struct linux_dirent` of each record, which takes as many bytes: the name stands a byte
/// earlier, the type in the last byte.
fn to_old_form(page: &mut [u8]) {
    let lengths: Vec<usize> = dirent::records(page).map(|r| r.bytes.len()).collect();
    let mut rest = page;
    for len in lengths {
        let (record, tail) = rest.split_at_mut(len);
        let kind = record[OLD_HEAD_BYTES];
        record.copy_within(dirent::HEAD_BYTES.., OLD_HEAD_BYTES);
        record[len - 1] = kind;
        rest = tail;
    }
}

/// Inode number of `..`; the root's lies in the kernel's tree.
fn parent_of(dir: InodeId, parent: InodeId) -> Result<u64, Errno> {
    if dir == process::root()? {
        return Ok(process::mount_parent().map_or(dir.0, |(_, ino)| ino));
    }
    Ok(parent.0)
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
    let extra = dirent::record_bytes(name.len());
    if !at_start || room < extra + dirent::record_bytes(NAME_MAX_BYTES) {
        return theirs(Bypass::NativeDescriptor);
    }
    let mut bytes = vec![0u8; (room - extra).min(PAGE_MAX_BYTES)];
    let len = kernel::getdents(fd, &mut bytes)?;
    bytes.truncate(len);
    let known = dirent::records(&bytes).any(|record| record.name == name);
    let position = dirent::records(&bytes).last().map_or(0, |r| r.position);
    if !known {
        let ino = if mount.len() == skip + name.len() {
            process::root()?.0
        } else {
            1
        };
        dirent::push(&mut bytes, ino, position, S_IFDIR, name);
    }
    user::copy_out(ctx.arg(1), &bytes)?;
    value(bytes.len())
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
        for record in dirent::records(&bytes[..len]) {
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

/// The path is the directory that lists this process's descriptors.
pub fn lists_descriptors(ctx: &Ctx<'_>, arg: PathArg) -> bool {
    // Another process has none of ours among its own.
    !subject::FOREIGN
        && user::path(ctx.arg(arg.index)).is_ok_and(|text| {
            matches!(path::magic(&text, process::pid()), Some((Magic::Descriptors, rest))
            if rest.iter().all(|b| *b == b'/'))
        })
}

/// Opens that directory natively and remembers what it is.
pub fn open_listing(ctx: &Ctx<'_>) -> Outcome {
    let said = ctx.native();
    if let Ok(fd) = usize::try_from(said) {
        fdtable::set(fd, State::Listing);
    }
    Outcome::Asked(Bypass::NotBelowMount, said)
}
