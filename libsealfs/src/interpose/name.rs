//! Names: mkdir, rmdir, unlink, rename, link, symlink, readlink and their *at forms.
//!
//! What must stay true: a name in the volume and one in the kernel's tree are never linked or moved
//! into each other (EXDEV), whichever way the paths lead there.

use super::at::{self, PathArg};
use super::{Ctx, NOT_FOUND, is_missing, naming, user};
use crate::cwd::{self, Cwd};
use crate::fds::{self, Fd};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::path::{self, Magic};
use crate::process::{self, ClientRef};
use crate::route::{self, Answer, Bypass, Outcome, Place, Target, asked, done, theirs, value};
use crate::subject;
use sealfs_client::{At, Failure};
use sealfs_protocol::Errno;
use sealfs_protocol::limits::SYMLINK_MAX_BYTES;

/// mkdir(path, mode)
pub fn mkdir(ctx: &mut Ctx<'_>) -> Answer {
    make_directory(ctx, PathArg::plain(0, false), 1)
}

/// mkdirat(dir, path, mode)
pub fn mkdirat(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::at(ctx, 1, false);
    make_directory(ctx, arg, 2)
}

fn make_directory(ctx: &mut Ctx<'_>, arg: PathArg, mode: usize) -> Answer {
    let mode = ctx.arg(mode) as u32 & 0o1777 & !process::umask();
    at::run(ctx, arg, |client, place| {
        if place.is_mount_point() {
            return Err(Errno::EEXIST.into());
        }
        naming::making(client, place.at(), || client.mkdir(place.at(), mode)).map(|_| 0)
    })
}

/// rmdir(path)
pub fn rmdir(ctx: &mut Ctx<'_>) -> Answer {
    remove(ctx, PathArg::plain(0, false), true)
}

/// unlink(path)
pub fn unlink(ctx: &mut Ctx<'_>) -> Answer {
    remove(ctx, PathArg::plain(0, false), false)
}

/// unlinkat(dir, path, flags)
pub fn unlinkat(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(2);
    if flags & !libc::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let arg = PathArg::at(ctx, 1, false);
    remove(ctx, arg, flags != 0)
}

fn remove(ctx: &mut Ctx<'_>, arg: PathArg, directory: bool) -> Answer {
    at::run(ctx, arg, |client, place| {
        match (directory, place.is_mount_point()) {
            (true, true) => return Err(Errno::EBUSY.into()),
            (false, true) => return Err(Errno::EISDIR.into()),
            (true, false) => {
                naming::removing(client, place.at(), true, || client.rmdir(place.at()))?;
            }
            (false, false) => {
                naming::removing(client, place.at(), false, || client.unlink(place.at()))?;
            }
        }
        Ok(0)
    })
}

/// symlink(target, path)
pub fn symlink(ctx: &mut Ctx<'_>) -> Answer {
    make_link(ctx, PathArg::plain(1, false))
}

/// symlinkat(target, dir, path)
pub fn symlinkat(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::at(ctx, 2, false);
    make_link(ctx, arg)
}

fn make_link(ctx: &mut Ctx<'_>, arg: PathArg) -> Answer {
    let target = user::path(ctx.arg(0))?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    if target.len() > SYMLINK_MAX_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    first_native(ctx, arg, |client, place| {
        if place.is_mount_point() {
            return Err(Errno::EEXIST.into());
        }
        naming::making(client, place.at(), || client.symlink(place.at(), &target)).map(|_| 0)
    })
}

/// As [`at::run`], for calls whose path the ways in do not look at: what is the kernel's by text is
/// asked there, and walked when it was not found.
pub(super) fn first_native(
    ctx: &mut Ctx<'_>,
    arg: PathArg,
    mut ours: impl FnMut(&ClientRef, &Place) -> Result<usize, Failure>,
) -> Answer {
    let target = at::locate(ctx, arg)?;
    if let Target::Theirs(_) = target {
        let said = subject::ask(ctx);
        if let Some(said) = said
            && (!is_missing(said) || process::is_sandboxed())
        {
            return asked(Bypass::NotBelowMount, Some(said));
        }
        ctx.kernel_said = said.or(NOT_FOUND);
        let walked = at::locate(ctx, arg)?;
        return match at::run_from(ctx, arg, walked, &mut ours)? {
            Outcome::Theirs(why) => asked(why, said),
            answer @ (Outcome::Ours(_) | Outcome::Asked(..)) => Ok(answer),
        };
    }
    at::run_from(ctx, arg, target, &mut ours)
}

/// readlink(path, buffer, bytes)
pub fn readlink(ctx: &mut Ctx<'_>) -> Answer {
    read_link(ctx, PathArg::plain(0, false), 1)
}

/// readlinkat(dir, path, buffer, bytes); an empty path means the link that `dir` is open on
pub fn readlinkat(ctx: &mut Ctx<'_>) -> Answer {
    let arg = PathArg::at(ctx, 1, false).or_empty(true);
    read_link(ctx, arg, 2)
}

fn read_link(ctx: &mut Ctx<'_>, arg: PathArg, buffer: usize) -> Answer {
    let (out, room) = (ctx.arg(buffer), ctx.int(buffer + 1));
    if room <= 0 {
        return Err(Errno::EINVAL);
    }
    let give = |target: &[u8]| {
        let take = target.len().min(room as usize);
        user::copy_out(out, &target[..take]).map(|()| take)
    };
    let target = at::locate(ctx, arg)?;
    if let Target::Link(what) = target {
        return value(give(&magic_target(what)?)?);
    }
    at::run_from(ctx, arg, target, &mut |client, place| {
        if place.is_mount_point() {
            return Err(Errno::EINVAL.into());
        }
        Ok(give(&client.readlink(place.at())?)?)
    })
}

/// What a magic link of this process says.
fn magic_target(what: Magic) -> Result<Vec<u8>, Errno> {
    match what {
        Magic::Descriptor(fd) => match fds::lookup(fd as usize)? {
            Fd::Ours(open) => path_of(&open),
            _ => Err(Errno::ENOENT),
        },
        Magic::WorkingDirectory => match cwd::get() {
            Cwd::Ours(ino) => cwd::path_of(ino),
            Cwd::Above(_) | Cwd::Theirs => Err(Errno::ENOENT),
        },
        Magic::Executable => process::executable()
            .map(<[u8]>::to_vec)
            .ok_or(Errno::ENOENT),
        Magic::Descriptors => Err(Errno::EINVAL),
    }
}

/// The path of an open description: by its inode for directories, by where it was opened for
/// others, marked as the kernel does when that name is gone.
pub fn path_of(open: &fds::Open) -> Result<Vec<u8>, Errno> {
    const GONE: &[u8] = b" (deleted)";
    let client = process::client()?;
    if open.is_directory() {
        return cwd::path_of(open.ino());
    }
    let (base, name) = open.slot.opened_by().ok_or(Errno::ENAMETOOLONG)?;
    let at = At { base, path: &name };
    let (directory, last) = match client.parent_of(at) {
        Ok(found) => found,
        Err(Failure::Errno(errno)) => return Err(errno),
        Err(Failure::Outside(_)) => return Err(Errno::ENOENT),
    };
    let mut full = path::join(&client.directory_path(directory)?, &last);
    let there = client.stat(
        At {
            base: directory,
            path: &last,
        },
        false,
    );
    if !there.is_ok_and(|attr| attr.ino == open.ino()) {
        full.extend_from_slice(GONE);
    }
    Ok(full)
}

/// rename(from, to)
pub fn rename(ctx: &mut Ctx<'_>) -> Answer {
    rename_between(ctx, PathArg::plain(0, false), PathArg::plain(1, false), 0)
}

/// renameat(from dir, from, to dir, to)
pub fn renameat(ctx: &mut Ctx<'_>) -> Answer {
    let (from, to) = (PathArg::at(ctx, 1, false), PathArg::at(ctx, 3, false));
    rename_between(ctx, from, to, 0)
}

/// renameat2(from dir, from, to dir, to, flags)
pub fn renameat2(ctx: &mut Ctx<'_>) -> Answer {
    let (from, to) = (PathArg::at(ctx, 1, false), PathArg::at(ctx, 3, false));
    let flags = ctx.arg(4) as u32;
    rename_between(ctx, from, to, flags)
}

fn rename_between(ctx: &mut Ctx<'_>, from: PathArg, to: PathArg, flags: u32) -> Answer {
    let known = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    match both(ctx, from, to)? {
        Pair::Said(said) => asked(Bypass::NotBelowMount, Some(said)),
        Pair::Theirs => theirs(Bypass::NotBelowMount),
        Pair::Across => Err(Errno::EXDEV),
        Pair::Ours(old, new) => {
            if old.is_mount_point() || new.is_mount_point() {
                return Err(Errno::EBUSY);
            }
            if flags & libc::RENAME_WHITEOUT != 0 {
                return Err(Errno::EINVAL);
            }
            let client = process::client()?;
            let rename = || client.rename(old.at(), new.at(), flags);
            match naming::renaming(&client, (old.at(), new.at()), flags, rename) {
                Ok(()) => done(),
                Err(Failure::Errno(errno)) => Err(errno),
                Err(Failure::Outside(_)) => outside(ctx, &client, (&old, from), (&new, to)),
            }
        }
    }
}

/// link(from, to): does not follow a final symbolic link, as Linux
pub fn link(ctx: &mut Ctx<'_>) -> Answer {
    link_between(ctx, PathArg::plain(0, false), PathArg::plain(1, false))
}

/// linkat(from dir, from, to dir, to, flags)
pub fn linkat(ctx: &mut Ctx<'_>) -> Answer {
    let flags = ctx.int(4);
    if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let from = PathArg::at(ctx, 1, flags & libc::AT_SYMLINK_FOLLOW != 0)
        .or_empty(flags & libc::AT_EMPTY_PATH != 0);
    let to = PathArg::at(ctx, 3, false);
    link_between(ctx, from, to)
}

fn link_between(ctx: &mut Ctx<'_>, from: PathArg, to: PathArg) -> Answer {
    match both(ctx, from, to)? {
        Pair::Said(said) => asked(Bypass::NotBelowMount, Some(said)),
        Pair::Theirs => theirs(Bypass::NotBelowMount),
        Pair::Across => {
            // The kernel looks the file up before it compares the file systems.
            let path = user::path(ctx.arg(from.index))?;
            if let Target::Theirs(_) = at::locate(ctx, from)? {
                let follow = if from.follow {
                    0
                } else {
                    libc::AT_SYMLINK_NOFOLLOW
                };
                kernel::stat_at(from.dir, &CPath::new(&path), follow | libc::AT_EMPTY_PATH)?;
            }
            Err(Errno::EXDEV)
        }
        Pair::Ours(old, new) => {
            if new.is_mount_point() {
                return Err(Errno::EEXIST);
            }
            let client = process::client()?;
            let open = match old
                .descriptor
                .map(|fd| fds::lookup(fd as usize))
                .transpose()?
            {
                Some(Fd::Ours(open)) => Some(open),
                _ => None,
            };
            let link = || match open {
                Some(open) => client.link_open(open.file(), new.at()),
                None => client.link(old.at(), from.follow, new.at()),
            };
            match naming::linking(&client, new.at(), link) {
                Ok(_) => done(),
                Err(Failure::Errno(errno)) => Err(errno),
                Err(Failure::Outside(_)) => outside(ctx, &client, (&old, from), (&new, to)),
            }
        }
    }
}

/// Where the two paths of a call lead.
enum Pair {
    Ours(Place, Place),
    /// One here, one there.
    Across,
    Theirs,
    /// The kernel answered already.
    Said(isize),
}

fn both(ctx: &mut Ctx<'_>, from: PathArg, to: PathArg) -> Result<Pair, Errno> {
    let (old, new) = (at::locate(ctx, from)?, at::locate(ctx, to)?);
    let mut said = None;
    match (&old, &new) {
        (Target::Theirs(_) | Target::Link(_), Target::Theirs(_) | Target::Link(_)) => {
            said = subject::ask(ctx);
            if let Some(said) = said
                && (!is_missing(said) || process::is_sandboxed())
            {
                return Ok(Pair::Said(said));
            }
            ctx.kernel_said = said.or(NOT_FOUND);
        }
        _ => ctx.kernel_said = Some(0),
    }
    // From here on a path that is the kernel's by text is walked: a local link may lead to us.
    let (old, new) = (at::locate(ctx, from)?, at::locate(ctx, to)?);
    Ok(match (old, new) {
        (Target::Ours(old), Target::Ours(new)) => Pair::Ours(old, new),
        (Target::Ours(_), _) => across(ctx, to)?,
        (_, Target::Ours(_)) => across(ctx, from)?,
        _ => said.map_or(Pair::Theirs, Pair::Said),
    })
}

/// One path is ours, the other, `arg`, is not; its directory has to be one all the same.
fn across(ctx: &Ctx<'_>, arg: PathArg) -> Result<Pair, Errno> {
    let relative = user::path(ctx.arg(arg.index))?.first() != Some(&b'/');
    if relative && arg.dir != AT_FDCWD {
        let stat = kernel::fstat(arg.dir as u32 as usize)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
    }
    Ok(Pair::Across)
}

/// A symbolic link in the volume led out of it, for one path or both: goes on in the kernel if that
/// is where both lead.
fn outside(
    ctx: &mut Ctx<'_>,
    client: &ClientRef,
    (old, from): (&Place, PathArg),
    (new, to): (&Place, PathArg),
) -> Answer {
    let local = |place: &Place| match client.parent_of(place.at()) {
        Ok(_) => Ok(None),
        Err(Failure::Outside(local)) => Ok(Some(local)),
        Err(Failure::Errno(errno)) => Err(errno),
    };
    let (Some(old), Some(new)) = (local(old)?, local(new)?) else {
        return Err(Errno::EXDEV);
    };
    for text in [&old, &new] {
        if !matches!(route::walk(AT_FDCWD, text, false)?, Target::Theirs(_)) {
            return Err(Errno::EXDEV);
        }
    }
    let (old, new) = (CPath::new(&old), CPath::new(&new));
    ctx.call.args[from.index] = subject::lend(old.bytes());
    ctx.call.args[to.index] = subject::lend(new.bytes());
    Ok(Outcome::Ours(ctx.native()))
}
