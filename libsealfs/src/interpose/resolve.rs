//! The restricted walks of openat2(2): RESOLVE_BENEATH, IN_ROOT, NO_SYMLINKS, NO_XDEV.
//!
//! The path is gone through component by component here, so that no server follows a link or a `..`
//! out of the bounds. What must stay true: the last component is opened without following it, or
//! whoever puts a link there meanwhile would lead the program out after all.

use crate::process::ClientRef;
use crate::route::Place;
use sealfs_client::{At, Failure};
use sealfs_protocol::limits::SYMLINKS_MAX;
use sealfs_protocol::{Errno, InodeId};
use std::collections::VecDeque;

/// The bits of `open_how.resolve` that keep a walk within its starting directory.
const SCOPED: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT;
/// Those that have a say below the mount, where there are no magic links.
pub const RESTRICTS: u64 = SCOPED | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;

struct Walk<'a> {
    client: &'a ClientRef,
    resolve: u64,
    /// Directories from the start to where the walk is.
    way: Vec<InodeId>,
    rest: VecDeque<Vec<u8>>,
    links: u32,
}

/// Where a place leads under these restrictions: a directory, and in it a name that is not to be
/// followed, or `.`. `follow`: a symbolic link at the end is.
pub fn walk(
    client: &ClientRef,
    place: &Place,
    resolve: u64,
    follow: bool,
) -> Result<Place, Failure> {
    if place.descriptor.is_some() || place.path.is_empty() {
        return Ok(place.clone());
    }
    let mut walk = Walk {
        client,
        resolve,
        way: vec![place.base],
        rest: VecDeque::new(),
        links: 0,
    };
    let slash = place.path.ends_with(b"/");
    walk.put_before(&place.path);
    while let Some(name) = walk.rest.pop_front() {
        let last = walk.rest.is_empty();
        match &name[..] {
            b"." => walk.search()?,
            b".." => walk.up()?,
            _ => {
                let here = walk.here();
                let at = At {
                    base: here,
                    path: &name,
                };
                let attr = match client.stat(at, false) {
                    Ok(attr) => attr,
                    // What is not there may be about to be made.
                    Err(Failure::Errno(Errno::ENOENT)) if last => {
                        return Ok(at_last(here, name, slash));
                    }
                    Err(failure) => return Err(failure),
                };
                if attr.is_symlink() && (!last || follow || slash) {
                    walk.follow(&client.readlink(at)?)?;
                } else if last && !attr.is_dir() {
                    return Ok(at_last(here, name, slash));
                } else if attr.is_dir() {
                    walk.way.push(attr.ino);
                } else {
                    return Err(Errno::ENOTDIR.into());
                }
            }
        }
    }
    Ok(Place::below(walk.here(), b"."))
}

fn at_last(directory: InodeId, mut name: Vec<u8>, slash: bool) -> Place {
    if slash {
        name.push(b'/');
    }
    Place::below(directory, &name)
}

impl Walk<'_> {
    fn here(&self) -> InodeId {
        // The start is never taken off.
        self.way.last().copied().unwrap_or_default()
    }

    fn put_before(&mut self, path: &[u8]) {
        let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        for name in names.rev() {
            self.rest.push_front(name.to_vec());
        }
    }

    /// Whether names can be looked up here.
    fn search(&self) -> Result<(), Failure> {
        let at = At {
            base: self.here(),
            path: b".",
        };
        self.client.stat(at, false).map(|_| ())
    }

    fn up(&mut self) -> Result<(), Failure> {
        self.search()?;
        if self.way.len() > 1 {
            self.way.pop();
            return Ok(());
        }
        if self.resolve & libc::RESOLVE_BENEATH != 0 {
            return Err(Errno::EXDEV.into());
        }
        if self.resolve & libc::RESOLVE_IN_ROOT != 0 {
            return Ok(());
        }
        let at = At {
            base: self.here(),
            path: b"..",
        };
        let parent = self.inside(self.client.stat(at, false))?;
        self.way = vec![parent.ino];
        Ok(())
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), Failure> {
        self.links += 1;
        if self.resolve & libc::RESOLVE_NO_SYMLINKS != 0 || self.links > SYMLINKS_MAX {
            return Err(Errno::ELOOP.into());
        }
        if target.first() == Some(&b'/') {
            if self.resolve & libc::RESOLVE_BENEATH != 0 {
                return Err(Errno::EXDEV.into());
            }
            if self.resolve & libc::RESOLVE_IN_ROOT == 0 {
                // Through the kernel's root, which is another file system.
                return Err(Errno::EXDEV.into());
            }
            self.way.truncate(1);
        }
        self.put_before(target);
        Ok(())
    }

    /// What led out of the mount has crossed file systems.
    fn inside<T>(&self, found: Result<T, Failure>) -> Result<T, Failure> {
        match found {
            Err(Failure::Outside(_)) if self.resolve & libc::RESOLVE_NO_XDEV != 0 => {
                Err(Errno::EXDEV.into())
            }
            other => other,
        }
    }
}
