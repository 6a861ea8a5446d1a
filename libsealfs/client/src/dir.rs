//! Reading directories, and finding a directory's path.

use crate::client::Client;
use crate::part::{Answer, Part};
use crate::walk::unexpected;
use sealfs_protocol::attr::Attr;
use sealfs_protocol::limits::PATH_MAX_BYTES;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, InodeId, PartitionId, dirent};
use sealfs_transport::memory::IoVecMut;

/// Largest page of a directory that is asked for, in bytes.
pub const PAGE_MAX_BYTES: usize = 256 << 10;

/// A page of a directory's records; see [`dirent`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Bytes of records.
    pub len: usize,
    /// The directory that names this one.
    pub parent: InodeId,
    /// The position behind the last record; [`dirent::END`] if nothing follows.
    pub next: u64,
    /// It came with the open, and to read it moves the access time ([`Client::accessed`]).
    pub moves_atime: bool,
}

/// An entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    pub name: Vec<u8>,
    pub ino: InodeId,
    /// File type as in `st_mode` (S_IFMT bits).
    pub kind: u32,
    /// If they came along.
    pub attr: Option<Attr>,
}

/// The answer to one request for a page.
enum Listed {
    Page(Page, Vec<Option<Attr>>),
    /// The part is hosted by another partition; the directory's owner has told or knows which.
    Elsewhere,
}

impl Client {
    /// Fills `buffer` with records from `position` on (0: the start), without `.` and `..`. EFAULT
    /// if it is not there.
    pub fn read_dir(
        &self,
        directory: InodeId,
        position: u64,
        buffer: IoVecMut<'_>,
    ) -> Result<Page, Errno> {
        let (page, _) = self.read_dir_page(directory, position, buffer, false)?;
        Ok(page)
    }

    /// All entries of a directory, with the attributes that its server has.
    pub fn entries(&self, directory: InodeId) -> Result<Vec<DirEntry>, Errno> {
        let mut entries = Vec::new();
        let mut buffer = vec![0; PAGE_MAX_BYTES];
        let mut position = 0;
        loop {
            let into = IoVecMut::new(&mut buffer);
            let (page, attributes) = self.read_dir_page(directory, position, into, true)?;
            let mut attributes = attributes.into_iter();
            for record in dirent::records(&buffer[..page.len]) {
                entries.push(DirEntry {
                    name: record.name.to_vec(),
                    ino: InodeId(record.ino),
                    kind: record.kind,
                    attr: attributes.next().flatten(),
                });
            }
            if page.next == dirent::END {
                return Ok(entries);
            }
            position = page.next;
        }
    }

    fn read_dir_page(
        &self,
        directory: InodeId,
        position: u64,
        mut buffer: IoVecMut<'_>,
        with_attributes: bool,
    ) -> Result<(Page, Vec<Option<Attr>>), Errno> {
        let op = Op::ReadDir {
            dir: directory,
            position,
            limit_bytes: buffer.len().min(PAGE_MAX_BYTES) as u32,
            with_attributes,
        };
        let part = dirent::part_of(position);
        let host = self.shared.directories.lock().part(directory, part);
        let owner = directory.partition();
        match self.page(host.unwrap_or(owner), op.clone(), buffer.reborrow())? {
            Listed::Page(page, attributes) => Ok((page, attributes)),
            Listed::Elsewhere if host.is_some() => {
                self.shared.directories.lock().forget_split(directory);
                self.read_dir_page(directory, position, buffer, with_attributes)
            }
            // The owner has told where the part is.
            Listed::Elsewhere => {
                let host = self.shared.directories.lock().part(directory, part);
                match self.page(host.ok_or(Errno::EIO)?, op, buffer)? {
                    Listed::Page(page, attributes) => Ok((page, attributes)),
                    Listed::Elsewhere => Err(Errno::EIO),
                }
            }
        }
    }

    /// One request for a page.
    fn page(&self, partition: PartitionId, op: Op, buffer: IoVecMut<'_>) -> Result<Listed, Errno> {
        let Op::ReadDir { dir, position, .. } = op else {
            return Err(Errno::EIO);
        };
        let slot = self.shared.slots.take();
        let mut incoming = [buffer];
        let mut parts = [Part::new(&slot, vec![(partition, op)], &[], &mut incoming)];
        self.run(&mut parts, &mut self.mode(&slot));
        let [mut part] = parts;
        let Answer {
            mut replies,
            payload_bytes,
            ..
        } = part.take_answer()?;
        match replies.pop() {
            Some(OpReply::Entries {
                len_bytes,
                parent,
                next,
                attributes,
                parts,
            }) if len_bytes as usize == payload_bytes => {
                if !parts.is_empty() {
                    self.shared.directories.lock().learn_split(dir, &parts);
                }
                if !parts.is_empty() && next == position && payload_bytes == 0 {
                    return Ok(Listed::Elsewhere);
                }
                let len = payload_bytes;
                Ok(Listed::Page(
                    Page {
                        len,
                        parent,
                        next,
                        moves_atime: false,
                    },
                    attributes,
                ))
            }
            Some(OpReply::Errno(Errno::ESTALE)) if partition != dir.partition() => {
                Ok(Listed::Elsewhere)
            }
            // A directory that was removed while it was open is empty: readdir(3) ends.
            Some(OpReply::Errno(Errno::ESTALE)) => Err(Errno::ENOENT),
            Some(OpReply::Errno(errno)) => Err(errno),
            Some(reply) => Err(unexpected(&reply)),
            None => Err(Errno::EIO),
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
