//! What all path calls have in common: from (directory, path, flags) to an operation at a place in
//! the volume, and back out where a symbolic link in the volume leads to the kernel's tree.
//!
//! # Safety
//! A call is issued again with its path argument replaced by a path of our own that outlives it.

use super::{Ctx, is_missing, user};
use crate::cwd::{self, Cwd};
use crate::fds::{self, Fd};
use crate::kernel::{AT_FDCWD, CPath};
use crate::process::ClientRef;
use crate::route::{self, Answer, Bypass, Outcome, Place, Target, theirs};
use crate::{path, process, subject};
use sealfs_client::{At, Failure};
use sealfs_protocol::limits::SYMLINKS_MAX;
use sealfs_protocol::{Errno, InodeId};

/// A path argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct PathArg {
    /// Where a relative path starts: a descriptor or `AT_FDCWD`.
    pub dir: i32,
    /// Which argument holds the path.
    pub index: usize,
    /// A final symbolic link is followed.
    pub follow: bool,
    /// An empty path means the directory or descriptor itself (`AT_EMPTY_PATH`).
    pub empty: bool,
}

impl PathArg {
    /// The path in argument `index`, from the working directory.
    pub fn plain(index: usize, follow: bool) -> PathArg {
        PathArg {
            dir: AT_FDCWD,
            index,
            follow,
            empty: false,
        }
    }

    /// The path in argument `index`, below the descriptor in the argument before it.
    pub fn at(ctx: &Ctx<'_>, index: usize, follow: bool) -> PathArg {
        PathArg {
            dir: ctx.int(index - 1),
            index,
            follow,
            empty: false,
        }
    }

    pub fn or_empty(self, empty: bool) -> PathArg {
        PathArg { empty, ..self }
    }
}

/// Where the argument leads, as far as can be told without the servers.
pub fn locate(ctx: &Ctx<'_>, arg: PathArg) -> Result<Target, Errno> {
    let pointer = ctx.arg(arg.index);
    if pointer == 0 && arg.empty {
        return descriptor(arg.dir);
    }
    let text = user::path(pointer)?;
    if text.is_empty() {
        return if arg.empty {
            descriptor(arg.dir)
        } else {
            Err(Errno::ENOENT)
        };
    }
    match route::locate(arg.dir, &text, arg.follow)? {
        Target::Theirs(_) if ctx.kernel_said.is_some() => route::walk(arg.dir, &text, arg.follow),
        other => Ok(other),
    }
}

/// The descriptor (or working directory) itself as a place.
pub fn descriptor(fd: i32) -> Result<Target, Errno> {
    if fd == AT_FDCWD {
        return Ok(match cwd::get() {
            Cwd::Ours(ino) => Target::Ours(Place::below(ino, b".")),
            Cwd::Above(_) | Cwd::Theirs => Target::Theirs(Bypass::KernelsPart),
        });
    }
    match fds::lookup(fd as u32 as usize)? {
        Fd::Ours(open) => Ok(Target::Ours(Place {
            base: open.ino(),
            path: Vec::new(),
            descriptor: Some(fd as u32),
        })),
        Fd::Internal => Err(Errno::EBADF),
        Fd::Theirs | Fd::Above | Fd::Listing => Ok(match fds::fifo(fd as u32 as usize) {
            Some(ino) => Target::Ours(Place {
                base: ino,
                path: Vec::new(),
                descriptor: Some(fd as u32),
            }),
            None => Target::Theirs(Bypass::NativeDescriptor),
        }),
    }
}

/// The inode of ours that the descriptor in argument 0 stands for, be it the kernel's FIFO.
pub fn inode(ctx: &Ctx<'_>) -> Result<Option<InodeId>, Errno> {
    match fds::of(ctx, 0)? {
        Fd::Ours(open) => {
            open.usable()?;
            Ok(Some(open.ino()))
        }
        Fd::Internal => Err(Errno::EBADF),
        Fd::Theirs | Fd::Above | Fd::Listing => Ok(fds::fifo(ctx.fd(0))),
    }
}

/// Runs `ours` where the path argument leads, if that is in the volume.
pub fn run(
    ctx: &mut Ctx<'_>,
    arg: PathArg,
    mut ours: impl FnMut(&ClientRef, &Place) -> Result<usize, Failure>,
) -> Answer {
    let target = locate(ctx, arg)?;
    run_from(ctx, arg, target, &mut ours)
}

/// As [`run`], from a target that is known already.
pub fn run_from(
    ctx: &mut Ctx<'_>,
    arg: PathArg,
    mut target: Target,
    ours: &mut dyn FnMut(&ClientRef, &Place) -> Result<usize, Failure>,
) -> Answer {
    for _ in 0..SYMLINKS_MAX {
        let place = match target {
            Target::Ours(place) => place,
            Target::Link(_) => return theirs(Bypass::KernelsPart),
            Target::Theirs(why) => return theirs(why),
        };
        let client = process::client()?;
        match ours(&client, &place) {
            Ok(value) => return Ok(Outcome::Ours(value as isize)),
            Err(Failure::Errno(errno @ (Errno::ENOENT | Errno::ESTALE))) => {
                match above_removed(&client, &place) {
                    Some(above) => target = Target::Ours(above),
                    // A starting directory that was removed has no entries.
                    None => {
                        return Err(if errno == Errno::ESTALE {
                            Errno::ENOENT
                        } else {
                            errno
                        });
                    }
                }
            }
            Err(Failure::Errno(errno)) => return Err(errno),
            Err(Failure::Outside(local)) => match outside(ctx, arg, &local)? {
                Next::Said(said) => return Ok(Outcome::Ours(said)),
                Next::Back(back) => target = back,
            },
        }
    }
    Err(Errno::ELOOP)
}

/// A path that goes up from a working directory which was removed: its `..` leads to where it was.
fn above_removed(client: &ClientRef, place: &Place) -> Option<Place> {
    let (first, rest) = path::split_first(&place.path);
    let parent = cwd::parent_of(place.base).filter(|_| first == b"..")?;
    let itself = At {
        base: place.base,
        path: b".",
    };
    if client.stat(itself, false).is_ok() {
        return None;
    }
    let rest = if rest.is_empty() { b"." } else { rest };
    Some(Place::below(parent, rest))
}

/// What the kernel's tree had to say.
enum Next {
    Said(isize),
    /// The local path leads into the volume again.
    Back(Target),
}

/// Goes on in the kernel's tree, at the absolute path `local`.
fn outside(ctx: &mut Ctx<'_>, arg: PathArg, local: &[u8]) -> Result<Next, Errno> {
    match route::locate(AT_FDCWD, local, arg.follow)? {
        Target::Theirs(_) | Target::Link(_) => {}
        back @ Target::Ours(_) => return Ok(Next::Back(back)),
    }
    if subject::FOREIGN
        && let back @ Target::Ours(_) = route::walk(AT_FDCWD, local, arg.follow)?
    {
        return Ok(Next::Back(back));
    }
    let text = CPath::new(local);
    let saved = ctx.call.args[arg.index];
    ctx.call.args[arg.index] = subject::lend(text.bytes());
    let said = ctx.native();
    ctx.call.args[arg.index] = saved;
    if !is_missing(said) {
        return Ok(Next::Said(said));
    }
    match route::walk(AT_FDCWD, local, arg.follow)? {
        back @ Target::Ours(_) => Ok(Next::Back(back)),
        Target::Theirs(_) | Target::Link(_) => Ok(Next::Said(said)),
    }
}
