//! Executables of the volume: whether a file is one, its bytes in sealed memory, the path that
//! `/proc/self/exe` shall tell.
//!
//! What must stay true: an open description that is made here is closed here.

use super::filled::memory_with;
use super::{name, user};
use crate::fds::{self, Fd};
use crate::kernel;
use crate::path;
use crate::process::{self, ClientRef};
use crate::route::Place;
use sealfs_client::{At, Failure, FileRef};
use sealfs_protocol::attr::{S_IFMT, S_IFREG};
use sealfs_protocol::limits::SYMLINKS_MAX;
use sealfs_protocol::{Errno, InodeId};

const X_OK: u32 = 1;

/// A file of the volume that may be executed, open for reading.
pub struct Program<'a> {
    client: &'a ClientRef,
    file: FileRef,
    size: u64,
}

impl<'a> Program<'a> {
    pub fn open(client: &'a ClientRef, place: &Place) -> Result<Program<'a>, Failure> {
        let attr = client.access(place.at(), true, X_OK)?;
        if attr.mode & S_IFMT != S_IFREG || attr.mode & 0o111 == 0 {
            return Err(Errno::EACCES.into());
        }
        let open = process::node()?.arena.mint_open();
        let opened = client.open(place.at(), libc::O_RDONLY as u32, 0, open)?;
        let file = FileRef {
            ino: opened.attr.ino,
            open,
        };
        Ok(Program {
            client,
            file,
            size: opened.attr.size_bytes,
        })
    }

    pub fn read_head(&self, into: &mut [u8]) -> Result<usize, Errno> {
        self.client
            .read(self.file, 0, &mut user::Spans::own(into).targets())
    }

    /// The whole file in a sealed memfd that is closed at exec.
    pub fn memory(&self) -> Result<u32, Errno> {
        let memory = memory_with(self.client, self.file, 0, self.size)?;
        let seals =
            libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        kernel::fcntl(memory, libc::F_ADD_SEALS, seals as usize)?;
        Ok(memory)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        self.client.close(self.file);
    }
}

/// The absolute path of a place, its last symbolic links followed, as `/proc/self/exe` tells it.
pub fn full_path(client: &ClientRef, place: &Place) -> Result<Vec<u8>, Failure> {
    if let Some(fd) = place.descriptor
        && let Fd::Ours(open) = fds::lookup(fd as usize)?
    {
        return Ok(name::path_of(&open)?);
    }
    let mut base: InodeId = place.base;
    let mut rest = place.path.clone();
    for _ in 0..SYMLINKS_MAX {
        let (directory, name) = client.parent_of(At { base, path: &rest })?;
        let at = At {
            base: directory,
            path: &name,
        };
        if !client.stat(at, false)?.is_symlink() {
            return Ok(path::join(&client.directory_path(directory)?, &name));
        }
        let target = client.readlink(At {
            base: directory,
            path: &name,
        })?;
        (base, rest) = match path::below(process::mount(), &target) {
            Some(inside) => (process::root()?, inside.to_vec()),
            None => (directory, target),
        };
    }
    Err(Errno::ELOOP.into())
}
