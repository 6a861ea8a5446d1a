//! Reading directories, and finding a directory's path.

use crate::client::Client;
use crate::walk::unexpected;
use sealfs_protocol::limits::PATH_MAX_BYTES;
use sealfs_protocol::message::{DirEntry, Op, OpReply};
use sealfs_protocol::{Errno, InodeId};

/// Largest page of a directory that is asked for, in bytes; a body is at most 1 MiB.
const PAGE_MAX_BYTES: u32 = 256 << 10;

/// Some entries of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Without `.` and `..`; each with the cookie of the place behind it.
    pub entries: Vec<DirEntry>,
    /// Nothing follows.
    pub end: bool,
}

impl Client {
    /// Entries from `cookie` on (0: the start), about `limit_bytes` of them.
    pub fn read_dir(
        &self,
        directory: InodeId,
        cookie: u64,
        limit_bytes: u32,
        with_attributes: bool,
    ) -> Result<Page, Errno> {
        let op = Op::ReadDir {
            dir: directory,
            cookie,
            limit_bytes: limit_bytes.min(PAGE_MAX_BYTES),
            with_attributes,
        };
        match self.call(directory.partition(), op) {
            Ok(OpReply::Entries { entries, end }) => Ok(Page { entries, end }),
            Ok(reply) => Err(unexpected(&reply)),
            // A directory that was removed while it was open is empty: readdir(3) ends.
            Err(Errno::ESTALE) => Err(Errno::ENOENT),
            Err(errno) => Err(errno),
        }
    }

    /// The absolute path of a directory, mount prefix included; ENOENT if it was removed.
    pub fn directory_path(&self, directory: InodeId) -> Result<Vec<u8>, Errno> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = directory;
        let mut len = self.shared.config.mount.len();
        while at != self.shared.root {
            let op = Op::GetPath { dir: at };
            let reply = match self.call(at.partition(), op) {
                Err(Errno::ESTALE) => return Err(Errno::ENOENT),
                other => other?,
            };
            let OpReply::Ancestors {
                names: more,
                top,
                unlinked,
            } = reply
            else {
                return Err(unexpected(&reply));
            };
            if unlinked {
                return Err(Errno::ENOENT);
            }
            if more.is_empty() {
                // No name and not the root: the answer leads nowhere.
                return Err(Errno::EIO);
            }
            len += more.iter().map(|n| n.len() + 1).sum::<usize>();
            if len >= PATH_MAX_BYTES {
                return Err(Errno::ENAMETOOLONG);
            }
            names.extend(more);
            at = top;
        }
        let mut path = Vec::with_capacity(len);
        path.extend_from_slice(&self.shared.config.mount);
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Ok(path)
    }
}
