//! Opening and closing.
//!
//! A close is not waited for: it goes along with the next request to the same shard, or when enough
//! have gathered. What must stay true: a description that may hold file locks is closed at once,
//! since somebody may be waiting for them.

use crate::attr::itself;
use crate::client::Client;
use crate::config::{At, FileRef, Outcome};
use crate::dir::{PAGE_MAX_BYTES, Page};
use crate::part::Part;
use crate::walk::{done, unexpected};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, OpenId};
use sealfs_transport::memory::IoVecMut;

/// Closes that may wait for a request to go along with.
const CLOSING_MAX: usize = 64;
/// Closes in one request of their own.
const BATCH_MAX: usize = 256;

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
        });
        let page = page.filter(|p| p.len == read_bytes as usize && attr.is_dir());
        Ok((Opened { attr, created }, page))
    }

    /// The last descriptor of a description is gone. Deferred; never fails.
    pub fn close(&self, file: FileRef) {
        if self.shared.files.lock().closed(file) {
            // A description that the server has lost holds no locks either.
            let _ = self.send_close(file);
            return;
        }
        let waiting = {
            let mut closing = self.shared.closing.lock();
            closing.push(file);
            closing.len()
        };
        if waiting >= CLOSING_MAX {
            self.flush_deferred();
        }
    }

    /// As [`Client::close`], and waits for the server.
    pub fn close_now(&self, file: FileRef) -> Result<(), Errno> {
        self.shared.files.lock().closed(file);
        self.send_close(file)
    }

    fn send_close(&self, file: FileRef) -> Result<(), Errno> {
        let op = Op::Close {
            ino: file.ino,
            open: file.open,
        };
        done(&self.call(file.ino.partition(), op)?)
    }

    /// Tells the servers of every close that waits. Before exec, exit and long waits.
    pub fn flush_deferred(&self) {
        let closing = core::mem::take(&mut *self.shared.closing.lock());
        if closing.is_empty() {
            return;
        }
        let state = self.shared.cluster.state();
        let slot = self.shared.slots.take();
        let mut mode = self.mode(&slot);
        let mut by_shard: Vec<(u16, Vec<FileRef>)> = Vec::new();
        for file in closing {
            let owners = state.ring.owners.get(usize::from(file.ino.partition().0));
            let owner = owners.copied().unwrap_or(u16::MAX);
            match by_shard.iter_mut().find(|(o, _)| *o == owner) {
                Some((_, files)) => files.push(file),
                None => by_shard.push((owner, vec![file])),
            }
        }
        let close = |file: &FileRef| {
            let op = Op::Close {
                ino: file.ino,
                open: file.open,
            };
            (file.ino.partition(), op)
        };
        let batches = by_shard
            .iter()
            .flat_map(|(_, files)| files.chunks(BATCH_MAX));
        let mut parts: Vec<Part<'_, '_>> = batches
            .map(|files| Part::new(&slot, files.iter().map(close).collect(), &[], &mut []))
            .collect();
        // A server that cannot be reached forgets its opens by itself, or is told by the keeper.
        self.run(&mut parts, &mut mode);
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
        files.opened(file, &attr);
        files.info(file.ino).ok_or(Errno::EIO)
    }
}
