//! inotify_add_watch(2) below the mount: the watch is put on the inode's shadow
//! ([`sealfs_client::node::shadow`]) by the kernel, so that the instance is the kernel's own.
//!
//! What must stay true: a shadow of a directory has an entry for each of its names before it has a
//! watch, and no name changes in between.

use super::at::{self, PathArg};
use super::name::first_native;
use super::naming::Names;
use super::{Ctx, repeat};
use crate::connected::ClientRef;
use crate::credentials;
use crate::kernel::CPath;
use crate::process;
use crate::route::{Answer, Bypass, Outcome, theirs};
use crate::subject;
use sealfs_client::node::shadow::Entry;
use sealfs_client::node::watched::ENTRIES_MAX;
use sealfs_protocol::attr::{Attr, S_IFDIR};
use sealfs_protocol::{Errno, InodeId};

const R_OK: u32 = 4;

/// inotify_add_watch(fd, path, mask)
pub fn add_watch(ctx: &mut Ctx<'_>) -> Answer {
    let mask = ctx.arg(2) as u32;
    let follow = mask & libc::IN_DONT_FOLLOW == 0;
    let arg = PathArg::plain(1, follow);
    if at::locate(ctx, arg).is_err() {
        // The kernel looks at the descriptor and the mask before it comes to the path.
        return theirs(Bypass::KernelsPart);
    }
    let mut wanted = None;
    let answer = first_native(ctx, arg, |client, place| {
        let attr = client.access(place.at(), follow, R_OK)?;
        if mask & libc::IN_ONLYDIR != 0 && !attr.is_dir() {
            return Err(Errno::ENOTDIR.into());
        }
        wanted = Some((process::client()?, attr));
        Ok(0)
    });
    match wanted {
        Some((client, attr)) => watch(ctx, &client, &attr, mask),
        None if answer.is_err() => first_by_descriptor(ctx, answer),
        None => answer,
    }
}

/// What the kernel says of everything but the path, else `answer`.
fn first_by_descriptor(ctx: &mut Ctx<'_>, answer: Answer) -> Answer {
    let said = native_at(ctx, b"\0", ctx.arg(2));
    if said == -(Errno::ENOENT.0 as isize) {
        answer
    } else {
        Ok(Outcome::Ours(said))
    }
}

/// Issues the call with a path of ours.
fn native_at(ctx: &mut Ctx<'_>, path: &[u8], mask: usize) -> isize {
    let saved = ctx.call.args;
    ctx.call.args[1] = subject::lend(path);
    ctx.call.args[2] = mask;
    let said = ctx.native();
    ctx.call.args = saved;
    said
}

/// Puts the watch on the shadow, which is made if there is none.
fn watch(ctx: &mut Ctx<'_>, client: &ClientRef, attr: &Attr, mask: u32) -> Answer {
    let node = process::node()?;
    let key = repeat::key(attr.ino).ok_or(Errno::EIO)?;
    let watched = node.arena.shadows(node.runtime);
    let _owner = credentials::as_owner(node.runtime);
    watched.tree().make_folders()?;
    process::need_keeper(node);
    let _names = Names::new(watched.lock(&[key]));
    let list = || entries(client, attr.ino);
    let list: Option<&dyn Fn() -> Result<Vec<Entry>, Errno>> =
        if attr.is_dir() { Some(&list) } else { None };
    watched.begin(key, list, &|id, files| repeat::hold(node, id, files))?;
    let path = CPath::new(&watched.tree().own(key));
    // The link to a shadow that was moved is none of the program's.
    let mask = mask & !libc::IN_DONT_FOLLOW;
    Ok(Outcome::Ours(native_at(ctx, path.bytes(), mask as usize)))
}

/// What a directory names now.
fn entries(client: &ClientRef, ino: InodeId) -> Result<Vec<Entry>, Errno> {
    let directory = repeat::key(ino).ok_or(Errno::EIO)?;
    let listed = client.entries(ino).map_err(|errno| match errno {
        Errno::ESTALE => Errno::ENOENT,
        other => other,
    })?;
    if listed.len() > ENTRIES_MAX {
        return Err(Errno::ENOSPC);
    }
    let entry = |found: sealfs_client::DirEntry| {
        Some(Entry {
            directory,
            name: found.name,
            child: repeat::key(found.ino)?,
            is_dir: found.kind == S_IFDIR,
        })
    };
    Ok(listed.into_iter().filter_map(entry).collect())
}
