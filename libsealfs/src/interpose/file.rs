//! Reading and writing an open description: what read(2) and write(2) mean, whatever the form of
//! the call.
//!
//! What must stay true: a description's offset moves by exactly what was transferred; bytes of a
//! file that is mapped on this node go through the mapping's memory, never past it.

use super::user::Spans;
use super::{map, write_limit};
use crate::fds::Open;
use crate::process;
use sealfs_client::node::shadow::Touch;
use sealfs_protocol::Errno;
use sealfs_protocol::attr::{Attr, S_IFMT, S_IFREG};
use sealfs_protocol::limits::FILE_SIZE_MAX_BYTES;

/// Where a transfer takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the description's offset, which then moves.
    Current,
    At(u64),
}

/// How a write is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// As the description's flags say.
    AsOpened,
    /// As well as they say, and besides (pwritev2).
    With {
        append: bool,
        sync: bool,
        data_sync: bool,
    },
}

impl Open {
    /// read(2): how many bytes arrived; 0 at the end of the file.
    pub fn read(&self, position: Position, spans: &mut Spans) -> Result<usize, Errno> {
        if !self.can_read() {
            return Err(Errno::EBADF);
        }
        self.usable()?;
        if self.is_directory() {
            return Err(Errno::EISDIR);
        }
        match position {
            Position::At(offset) => self.moved(self.read_at(offset, spans), Touch::Access),
            Position::Current => {
                let guard = self.lock_offset()?;
                let count = self.read_at(guard.get(), spans)?;
                guard.set(guard.get() + count as u64);
                drop(guard);
                self.moved(Ok(count), Touch::Access)
            }
        }
    }

    fn read_at(&self, offset: u64, spans: &mut Spans) -> Result<usize, Errno> {
        check_end(offset, spans)?;
        if spans.total() == 0 {
            return Ok(0);
        }
        spans.prepare();
        let count = if let Some(memory) = map::memory_of(self)? {
            memory.read(offset, spans)?
        } else {
            let atime = self.flags() & libc::O_NOATIME == 0;
            process::client()?.read_as(self.file(), offset, &mut spans.targets(), atime)?
        };
        spans.deliver(count)?;
        Ok(count)
    }

    /// write(2): how many bytes are in the file now.
    pub fn write(
        &self,
        position: Position,
        spans: &mut Spans,
        how: Written,
    ) -> Result<usize, Errno> {
        if !self.can_write() {
            return Err(Errno::EBADF);
        }
        self.usable()?;
        let (append, sync, data_sync) = match how {
            Written::AsOpened => (false, false, false),
            Written::With {
                append,
                sync,
                data_sync,
            } => (append, sync, data_sync),
        };
        let flags = self.flags();
        let append = append || flags & libc::O_APPEND != 0;
        let count = match position {
            Position::Current => {
                let guard = self.lock_offset()?;
                let (count, end) = self.write_at(guard.get(), spans, append)?;
                guard.set(end);
                count
            }
            // Linux appends with pwrite as well when the description says O_APPEND.
            Position::At(offset) => self.write_at(offset, spans, append)?.0,
        };
        let full = sync || flags & libc::O_SYNC == libc::O_SYNC;
        if count > 0 && (full || data_sync || flags & libc::O_DSYNC != 0) {
            self.sync(!full)?;
        }
        self.moved(Ok(count), Touch::Modify)
    }

    /// The bytes written and the offset behind them.
    fn write_at(
        &self,
        offset: u64,
        spans: &mut Spans,
        append: bool,
    ) -> Result<(usize, u64), Errno> {
        check_end(offset, spans)?;
        if spans.total() == 0 {
            return Ok((0, offset));
        }
        spans.fetch()?;
        if let Some(memory) = map::memory_of(self)? {
            let offset = if append { memory.size() } else { offset };
            write_limit::apply(offset, spans)?;
            let count = memory.write(offset, spans)?;
            return Ok((count, offset + count as u64));
        }
        let client = process::client()?;
        if append {
            if write_limit::is_set() {
                write_limit::apply(client.stat_open(self.file())?.size_bytes, spans)?;
            }
            let (count, end) = client.append(self.file(), &spans.sources())?;
            self.note_written();
            return Ok((count, end));
        }
        write_limit::apply(offset, spans)?;
        let count = client.write(self.file(), offset, &spans.sources())?;
        self.note_written();
        Ok((count, offset + count as u64))
    }

    /// Puts into the arena what this description wrote where, for those who share it.
    pub fn note_written(&self) {
        if !self.slot.is_shared() {
            return;
        }
        if let Some(client) = process::known_client() {
            for (shard, incarnation) in client.written(self.file()) {
                self.slot.note_written(shard, incarnation);
            }
        }
    }

    /// fsync(2) and fdatasync(2).
    pub fn sync(&self, data_only: bool) -> Result<(), Errno> {
        map::write_back(self)?;
        let client = process::client()?;
        let written: Vec<_> = self.slot.written().collect();
        client.note_written(self.file(), &written);
        let synced = client.fsync(self.file(), data_only);
        for (shard, _) in written {
            self.slot.forget_written(shard);
        }
        synced
    }

    /// fstat(2)
    pub fn attributes(&self) -> Result<Attr, Errno> {
        process::client()?.stat_open(self.file())
    }

    pub fn is_regular(&self) -> bool {
        self.slot.kind() & S_IFMT == S_IFREG
    }

    /// ftruncate(2)
    pub fn truncate(&self, size: u64) -> Result<(), Errno> {
        if self.is_path_only() {
            return Err(Errno::EBADF);
        }
        if !self.can_write() || !self.is_regular() {
            return Err(Errno::EINVAL);
        }
        write_limit::check_size(size)?;
        process::client()?.truncate(self.file(), size)?;
        map::resized(self.ino(), size)?;
        self.touched(Touch::Modify);
        Ok(())
    }

    /// SEEK_DATA and SEEK_HOLE of lseek(2).
    pub fn seek_data(&self, offset: u64) -> Result<u64, Errno> {
        map::write_back(self)?;
        process::client()?.seek_data(self.file(), offset)
    }

    pub fn seek_hole(&self, offset: u64) -> Result<u64, Errno> {
        map::write_back(self)?;
        process::client()?.seek_hole(self.file(), offset)
    }
}

/// A transfer that would pass the largest offset is refused, as by Linux.
fn check_end(offset: u64, spans: &Spans) -> Result<(), Errno> {
    if offset.saturating_add(spans.total() as u64) > FILE_SIZE_MAX_BYTES {
        return Err(Errno::EINVAL);
    }
    Ok(())
}
