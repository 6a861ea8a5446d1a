//! Executables of the volume: whether a file is one, its bytes in sealed memory, the path that
//! `/proc/self/exe` shall tell.
//!
//! What must stay true: an open description that is made here is closed here.

use super::filled::memory_with;
use super::{name, repeat, user};
use crate::credentials;
use crate::fds::{self, Fd};
use crate::kernel;
use crate::path;
use crate::process::{self, ClientRef};
use crate::route::Place;
use sealfs_client::node::keeper_link;
use sealfs_client::node::mapped::FileKey;
use sealfs_client::node::wire::ImageVersion;
use sealfs_client::{At, Failure, FileRef, Opened};
use sealfs_protocol::attr::{Attr, Time};
use sealfs_protocol::limits::SYMLINKS_MAX;
use sealfs_protocol::message::O_EXEC;
use sealfs_protocol::{Errno, InodeId};

/// What the kernel shows where it would show a path.
const TITLE: &[u8] = b"sealfs";

fn nanoseconds(time: Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

/// Runs `open`, and once more if the file was being executed by what may have ended since.
pub fn unless_it_ended<T>(open: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    match open() {
        Err(Failure::Errno(Errno::ETXTBSY)) => {}
        other => return other,
    }
    let node = process::node()?;
    let _owner = credentials::as_owner(node.runtime);
    keeper_link::ended(node.runtime, process::deadline_ms()).map_err(|_| Errno::ETXTBSY)?;
    open()
}

/// A file of the volume that may be executed, open for reading.
pub struct Program<'a> {
    client: &'a ClientRef,
    file: FileRef,
    attr: Attr,
}

impl<'a> Program<'a> {
    pub fn open(client: &'a ClientRef, place: &Place) -> Result<Program<'a>, Failure> {
        let open = process::node()?.arena.mint_open();
        let Opened { attr, .. } = client.open(place.at(), O_EXEC, 0, open)?;
        let file = FileRef {
            ino: attr.ino,
            open,
        };
        repeat::executed(attr.ino);
        Ok(Program { client, file, attr })
    }

    pub fn read_head(&self, into: &mut [u8]) -> Result<usize, Errno> {
        self.client
            .read(self.file, 0, &mut user::Spans::own(into).targets())
    }

    /// The whole file in sealed memory that is closed at exec, about to be executed: the keeper sees
    /// to it that nobody writes the file while it runs. Without a keeper the copy is our own, and
    /// who writes the file does not disturb it.
    pub fn image(&self) -> Result<u32, Errno> {
        let node = process::node()?;
        let template = process::template()?;
        let key = FileKey {
            manager: template.manager,
            volume: template.volume,
            ino: self.file.ino,
        };
        let version = ImageVersion {
            size_bytes: self.attr.size_bytes,
            mtime_ns: nanoseconds(self.attr.mtime),
            ctime_ns: nanoseconds(self.attr.ctime),
        };
        let _owner = credentials::as_owner(node.runtime);
        process::need_keeper(node);
        let wait_ms = process::deadline_ms();
        let given = keeper_link::image(node.runtime, key, self.file.open, version, TITLE, wait_ms);
        match given {
            Ok(memory) => Ok(memory as u32),
            Err(_) => self.memory(),
        }
    }

    /// The same in memory of this process's own.
    pub fn memory(&self) -> Result<u32, Errno> {
        let memory = memory_with(self.client, self.file, 0, self.attr.size_bytes)?;
        let seals =
            libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
        kernel::fcntl(memory, libc::F_ADD_SEALS, seals as usize)?;
        Ok(memory)
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // At once: a close that waits for a request to go along with is lost at exec, and the file
        // could not be written for as long as this node session lasts.
        let _ = self.client.close_now(self.file);
    }
}

/// The absolute path of a place, its last symbolic links followed, as `/proc/self/exe` tells it.
pub fn full_path(client: &ClientRef, place: &Place) -> Result<Vec<u8>, Failure> {
    if let Some(fd) = place.descriptor
        && let Fd::Ours(open) = fds::lookup(fd as usize)?
    {
        return Ok(name::path_of(&open)?);
    }
    let (base, name) = followed(client, place.at())?;
    client.stat(At { base, path: &name }, false)?;
    Ok(path::join(&client.directory_path(base)?, &name))
}

/// Directory and name of where a path leads, its last symbolic links followed; what the name names
/// may be about to be made.
pub fn followed(client: &ClientRef, at: At<'_>) -> Result<(InodeId, Vec<u8>), Failure> {
    let (mut base, mut rest) = (at.base, at.path.to_vec());
    for _ in 0..SYMLINKS_MAX {
        let (directory, name) = client.parent_of(At { base, path: &rest })?;
        let here = At {
            base: directory,
            path: &name,
        };
        let target = match client.readlink(here) {
            Ok(target) => target,
            Err(Failure::Errno(Errno::EINVAL | Errno::ENOENT)) => return Ok((directory, name)),
            Err(failure) => return Err(failure),
        };
        (base, rest) = match path::below(process::mount(), &target) {
            Some(inside) => (process::root()?, inside.to_vec()),
            None => (directory, target),
        };
    }
    Err(Errno::ELOOP.into())
}
