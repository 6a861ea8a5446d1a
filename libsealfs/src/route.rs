//! Ours or theirs, and why: from the directory and path of a call to a place in the volume.
//!
//! A path is ours by its text ([`path::below`]), by where it starts (a working directory or
//! descriptor of ours), by a magic name under `/proc` or `/dev`, or because the kernel did not find
//! it and a walk ([`walk`]) crosses a local symbolic link into the mount. Everything else is the
//! kernel's.
//!
//! What must stay true: a path that is the kernel's by text is asked there first, so that programs
//! pay nothing for the mount; and no path below the mount is ever handed to the kernel.

use crate::cwd::{self, Cwd};
use crate::fds::{self, Fd};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::path::{self, Magic};
use crate::process;
use sealfs_client::At;
use sealfs_protocol::limits::SYMLINKS_MAX;
use sealfs_protocol::{Errno, InodeId};

/// Why a call is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypass {
    /// Nothing in its path or its starting directory leads to the mount.
    NotBelowMount,
    /// The descriptor is none of ours.
    NativeDescriptor,
    /// We only looked, or did our part; the kernel does the rest.
    KernelsPart,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, with the kernel's word for it.
    Ours(isize),
    Theirs(Bypass),
    /// The kernel's as well; it was asked here and said this.
    Asked(Bypass, isize),
}

/// What every handler returns.
pub type Answer = Result<Outcome, Errno>;

/// An answer without a value.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the last expression of every handler"
)]
pub fn done() -> Answer {
    Ok(Outcome::Ours(0))
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the last expression of every handler"
)]
pub fn value(value: usize) -> Answer {
    Ok(Outcome::Ours(value as isize))
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the last expression of every handler"
)]
pub fn theirs(why: Bypass) -> Answer {
    Ok(Outcome::Theirs(why))
}

/// What the kernel said when it was asked; where it was not, it is to be.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the last expression of every handler"
)]
pub fn asked(why: Bypass, said: Option<isize>) -> Answer {
    Ok(said.map_or(Outcome::Theirs(why), |said| Outcome::Asked(why, said)))
}

/// A place in the volume: a starting inode and the rest of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub base: InodeId,
    pub path: Vec<u8>,
    /// The place was named by this descriptor itself (`AT_EMPTY_PATH`, `/proc/self/fd/N`).
    pub descriptor: Option<u32>,
}

impl Place {
    pub fn below(base: InodeId, path: &[u8]) -> Place {
        Place {
            base,
            path: path.to_vec(),
            descriptor: None,
        }
    }

    pub fn at(&self) -> At<'_> {
        At {
            base: self.base,
            path: &self.path,
        }
    }

    /// The mount point itself, whose name belongs to the kernel's tree.
    pub fn is_mount_point(&self) -> bool {
        self.path.is_empty() && self.descriptor.is_none()
    }
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Ours(Place),
    /// A magic link itself (not what it stands for), when the last link is not followed.
    Link(Magic),
    Theirs(Bypass),
}

const THEIRS: Target = Target::Theirs(Bypass::NotBelowMount);

/// Where `text`, starting at `dir`, leads as far as text and descriptors tell.
pub fn locate(dir: i32, text: &[u8], follow: bool) -> Result<Target, Errno> {
    if text.first() != Some(&b'/') {
        return match start(dir)? {
            Start::Ours(base) => Ok(Target::Ours(Place::below(base, text))),
            Start::Theirs => Ok(THEIRS),
            Start::Above(directory) => {
                let full = path::join(&directory, text);
                below_mount(&full)
            }
        };
    }
    if let ours @ Target::Ours(_) = below_mount(text)? {
        return Ok(ours);
    }
    match path::magic(text, process::pid()) {
        Some((what, rest)) => locate_magic(what, rest, follow),
        None => Ok(THEIRS),
    }
}

/// The place of an absolute path that is below the mount by its text.
fn below_mount(full: &[u8]) -> Result<Target, Errno> {
    match path::below(process::mount(), full) {
        Some(rest) => Ok(Target::Ours(Place::below(process::root()?, rest))),
        None => Ok(THEIRS),
    }
}

/// Where a relative path starts.
enum Start {
    Ours(InodeId),
    Above(Vec<u8>),
    Theirs,
}

fn start(dir: i32) -> Result<Start, Errno> {
    if dir == AT_FDCWD {
        return Ok(match cwd::get() {
            Cwd::Ours(ino) => Start::Ours(ino),
            Cwd::Above(directory) => Start::Above(directory),
            Cwd::Theirs => Start::Theirs,
        });
    }
    match fds::lookup(dir as usize)? {
        Fd::Ours(open) if open.is_directory() => Ok(Start::Ours(open.ino())),
        Fd::Ours(_) => Err(Errno::ENOTDIR),
        Fd::Above => kernel::descriptor_path(dir).map(Start::Above),
        Fd::Internal => Err(Errno::EBADF),
        Fd::Theirs | Fd::Listing => Ok(Start::Theirs),
    }
}

fn locate_magic(what: Magic, rest: &[u8], follow: bool) -> Result<Target, Errno> {
    let behind = path::split_first(rest).0;
    let inside = !rest.is_empty();
    let base = match what {
        Magic::Descriptors => return Ok(THEIRS),
        Magic::Descriptor(fd) => match fds::lookup(fd as usize)? {
            Fd::Ours(_) if !inside && !follow => return Ok(Target::Link(what)),
            Fd::Ours(open) if inside && !open.is_directory() => return Err(Errno::ENOTDIR),
            Fd::Ours(open) if behind.is_empty() => {
                let descriptor = Some(fd);
                return Ok(Target::Ours(Place {
                    base: open.ino(),
                    path: Vec::new(),
                    descriptor,
                }));
            }
            Fd::Ours(open) => open.ino(),
            Fd::Internal => return Err(Errno::ENOENT),
            Fd::Theirs if follow && !inside => {
                let descriptor = Some(fd);
                return Ok(match fds::fifo(fd as usize) {
                    Some(base) => Target::Ours(Place {
                        base,
                        path: Vec::new(),
                        descriptor,
                    }),
                    None => THEIRS,
                });
            }
            Fd::Theirs | Fd::Above | Fd::Listing => return Ok(THEIRS),
        },
        Magic::WorkingDirectory => match cwd::get() {
            Cwd::Ours(_) if !inside && !follow => return Ok(Target::Link(what)),
            Cwd::Ours(ino) => ino,
            Cwd::Theirs | Cwd::Above(_) => return Ok(THEIRS),
        },
        Magic::Executable => {
            let Some(program) = process::executable() else {
                return Ok(THEIRS);
            };
            if inside || follow {
                let full = [program, rest].concat();
                return below_mount(&full);
            }
            return Ok(Target::Link(what));
        }
    };
    let start = rest.iter().position(|b| *b != b'/').unwrap_or(rest.len());
    let mut place = Place::below(base, &rest[start..]);
    if place.path.is_empty() {
        // The directory itself, not a mount point: nothing below treats it as one.
        place.path.push(b'.');
    }
    Ok(Target::Ours(place))
}

/// The kernel did not find `text`: follows it through local symbolic links, to see whether it leads
/// into the mount.
pub fn walk(dir: i32, text: &[u8], follow: bool) -> Result<Target, Errno> {
    if text.is_empty() || process::is_sandboxed() {
        return Ok(THEIRS);
    }
    // Without a link or a `..` on the way, the kernel's answer is the truth: one call says so.
    let dots = text.split(|b| *b == b'/').any(|name| name == b"..");
    if !dots {
        match kernel::look_without_links(dir, &CPath::new(text)) {
            Err(Errno::ELOOP) => {}
            Ok(fd) => {
                kernel::close(fd);
                return Ok(THEIRS);
            }
            Err(_) => return Ok(THEIRS),
        }
    }
    let full = match text.first() {
        Some(b'/') => text.to_vec(),
        _ if dir == AT_FDCWD => path::join(&kernel::getcwd()?, text),
        _ => path::join(&kernel::descriptor_path(dir)?, text),
    };
    walk_absolute(full, follow)
}

/// Walks an absolute local path, component by component.
fn walk_absolute(full: Vec<u8>, follow: bool) -> Result<Target, Errno> {
    let mount = process::mount();
    let mut passed: Vec<u8> = Vec::new();
    let mut rest = full;
    let mut links = 0;
    loop {
        let (name, after) = path::split_first(&rest);
        let (name, after) = (name.to_vec(), after.to_vec());
        let last = after.is_empty();
        let slash = rest.ends_with(b"/");
        match &name[..] {
            b"" => return Ok(THEIRS),
            b"." => {}
            b".." => passed.truncate(passed.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            _ => {
                let here = path::join(&passed, &name);
                if here == mount {
                    let mut place = Place::below(process::root()?, &after);
                    if last && slash {
                        place.path.clear();
                    }
                    return Ok(Target::Ours(place));
                }
                if last && !follow && !slash {
                    return Ok(THEIRS);
                }
                match kernel::readlink_at(AT_FDCWD, &CPath::new(&here)) {
                    Ok(target) => {
                        links += 1;
                        if links > SYMLINKS_MAX {
                            return Ok(THEIRS);
                        }
                        rest = if last {
                            target
                        } else {
                            path::join(&target, &after)
                        };
                        if rest.first() == Some(&b'/') {
                            if let Some((what, tail)) = path::magic(&rest, process::pid()) {
                                return locate_magic(what, tail, follow);
                            }
                            passed.clear();
                        }
                        continue;
                    }
                    Err(Errno::EINVAL) => passed = here,
                    Err(Errno::ENOENT) if path::is_above(mount, &here) => passed = here,
                    Err(_) => return Ok(THEIRS),
                }
            }
        }
        rest = after;
    }
}
