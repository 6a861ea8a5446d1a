//! Opening and closing.
//!
//! A close is not waited for (`deferred`). What must stay true: a description that may hold file locks is closed at once,
//! since somebody may be waiting for them.

use crate::attr::itself;
use crate::client::Client;
use crate::config::{At, FileRef, Outcome};
use crate::dir::{PAGE_MAX_BYTES, Page};
use crate::walk::{done, unexpected};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, OpenId};
use sealfs_transport::memory::IoVecMut;

/// What open(2) found or made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    pub attr: Attr,
    pub created: bool,
}

impl Client {
    /// open(2): `flags` as the kernel's O_*, or `O_EXEC`; `mode` with the umask taken off. `open` is from now on
    /// an open file description of this client's session, until [`Client::close`].
    pub fn open(&self, at: At<'_>, flags: u32, mode: u32, open: OpenId) -> Outcome<Opened> {
        let reply = self.on_path(at, &|at| Op::Open {
            at,
            flags,
            mode,
            open,
            // Bytes that come along may be old by the time they are read, unless under a lease.
            read_bytes: 0,
        })?;
        let OpReply::Opened { attr, created, .. } = reply else {
            return Err(unexpected(&reply).into());
        };
        let file = FileRef {
            ino: attr.ino,
            open,
        };
        self.shared.files.lock().opened(file, &attr);
        Ok(Opened { attr, created })
    }

    /// As [`Client::open`] of a directory that is going to be listed: with its first records, if the
    /// server sends them. What it sends is what [`Client::read_dir`] would bring.
    pub fn open_directory(
        &self,
        at: At<'_>,
        flags: u32,
        open: OpenId,
        mut records: IoVecMut<'_>,
    ) -> Outcome<(Opened, Option<Page>)> {
        let read_bytes = records.len().min(PAGE_MAX_BYTES) as u32;
        let make = |at| Op::Open {
            at,
            flags,
            mode: 0,
            open,
            read_bytes,
        };
        let (reply, payload_bytes) = self.on_path_into(at, &make, Some(&mut records))?;
        let OpReply::Opened {
            attr,
            created,
            read_bytes,
            page,
        } = reply
        else {
            return Err(unexpected(&reply).into());
        };
        let file = FileRef {
            ino: attr.ino,
            open,
        };
        self.shared.files.lock().opened(file, &attr);
        let page = page.map(|end| Page {
            len: payload_bytes,
            parent: end.parent,
            next: end.next,
            moves_atime: end.moves_atime,
        });
        let page = page.filter(|p| p.len == read_bytes as usize && attr.is_dir());
        Ok((Opened { attr, created }, page))
    }

    /// The last descriptor of a description is gone. Deferred; never fails.
    pub fn close(&self, file: FileRef) {
        if self.shared.files.lock().closed(file) {
            // A description that the server has lost holds no locks either.
            if self.send_close(file).is_ok() {
                return self.note_closed(file.open);
            }
        }
        self.defer_close(file);
    }

    /// As [`Client::close`], and waits for the server.
    pub fn close_now(&self, file: FileRef) -> Result<(), Errno> {
        self.shared.files.lock().closed(file);
        self.send_close(file)
    }

    /// A description of another process is not used here any more.
    pub fn give_back(&self, file: FileRef) {
        self.shared.files.lock().closed(file);
    }

    fn send_close(&self, file: FileRef) -> Result<(), Errno> {
        let op = Op::Close {
            ino: file.ino,
            open: file.open,
        };
        done(&self.call(file.ino.partition(), op)?)
    }

    /// Tells a server again that a description is open (the keeper, after a server's restart), or that
    /// one of an open file stands to execute it.
    pub fn reassert(&self, file: FileRef, executes: bool) -> Result<(), Errno> {
        let op = Op::Reassert {
            ino: file.ino,
            open: file.open,
            executes,
            locked: None,
        };
        done(&self.call(file.ino.partition(), op)?)
    }

    /// What is known of a file; asked for if this process did not open it.
    pub(crate) fn file_info(&self, file: FileRef) -> Result<crate::files::FileInfo, Errno> {
        {
            let files = self.shared.files.lock();
            if files.has_lost_locks(file) {
                return Err(Errno::EIO);
            }
            if let Some(info) = files.info(file.ino) {
                return Ok(info);
            }
        }
        let op = Op::GetAttr {
            at: itself(file.ino),
            follow: false,
        };
        let reply = self.call(file.ino.partition(), op)?;
        let OpReply::Attr(attr) = reply else {
            return Err(unexpected(&reply));
        };
        let mut files = self.shared.files.lock();
        files.borrowed(file, &attr);
        files.info(file.ino).ok_or(Errno::EIO)
    }
}
