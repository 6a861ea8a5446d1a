//! copy_file_range(2): the servers of the destination take the bytes from those of the source.
//!
//! It is a write whose bytes stand in another file (`write`, `plan`). What must stay true: nothing is
//! copied from behind the source's end. Chunks do not know where a file ends, so its size is known
//! here first, and holds for as long as the truncate generation does that goes with each request.

use crate::client::Client;
use crate::config::FileRef;
use crate::plan::{Content, Copied, Piece, Window, shorten};
use sealfs_protocol::Errno;
use sealfs_protocol::limits::FILE_SIZE_MAX_BYTES;
use sealfs_protocol::message::Op;

/// Most data that is under way at once, in bytes.
const WINDOW_BYTES: u64 = 8 << 20;

impl Client {
    /// How many of the `len` bytes from `offset` on a file has.
    pub fn available(&self, file: FileRef, offset: u64, len: u64) -> Result<u64, Errno> {
        let left = |size: u64| size.saturating_sub(offset).min(len);
        if left(self.file_info(file)?.size_bytes) == len {
            return Ok(len);
        }
        self.stat_open(file)?;
        Ok(left(self.file_info(file)?.size_bytes))
    }

    /// Copies up to `len` bytes, short at the end of the source; how many are the contiguous prefix
    /// that landed, or why nothing did. The ranges must not overlap. `atime`: the source's access
    /// time moves.
    pub fn copy(
        &self,
        (from, from_offset): (FileRef, u64),
        (to, to_offset): (FileRef, u64),
        len: u64,
        atime: bool,
    ) -> Result<u64, Errno> {
        if len > 0 && to_offset >= FILE_SIZE_MAX_BYTES {
            return Err(Errno::EFBIG);
        }
        let len = len.min(FILE_SIZE_MAX_BYTES.saturating_sub(to_offset));
        let mut done = 0;
        while done < len {
            let part = (len - done).min(WINDOW_BYTES);
            let source = (from, from_offset + done);
            match self.copy_window(source, (to, to_offset + done), part, atime) {
                Ok(n) => {
                    done += n;
                    if n < part {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if atime && done > 0 {
            self.tell_access(from, from_offset)?;
        }
        Ok(done)
    }

    fn copy_window(
        &self,
        (from, from_offset): (FileRef, u64),
        (to, to_offset): (FileRef, u64),
        len: u64,
        atime: bool,
    ) -> Result<u64, Errno> {
        let len = self.available(from, from_offset, len)?;
        if len == 0 {
            return Ok(0);
        }
        let info = self.file_info(from)?;
        let copied = Copied {
            file: from,
            layout: info.layout,
            generation: info.generation,
            offset: from_offset,
            atime,
        };
        let window = Window {
            file: to,
            offset: to_offset,
            content: Content::File(copied),
            len: len as usize,
        };
        Ok(self.write_window(window)? as u64)
    }

    /// Where nothing was read at the inode's owner, that has to be told.
    fn tell_access(&self, file: FileRef, offset: u64) -> Result<(), Errno> {
        let info = self.file_info(file)?;
        let tells = self.shared.files.lock().accessed(file.ino);
        if !tells || offset < info.layout.chunk_size_bytes() {
            return Ok(());
        }
        let op = Op::Read {
            ino: file.ino,
            chunk: 0,
            offset_bytes: 0,
            len_bytes: 0,
            atime: true,
            generation: info.generation,
        };
        self.call(file.ino.partition(), op)?;
        Ok(())
    }

    /// Some truncate generation was another: the source of a copy is looked at anew.
    pub(crate) fn look_at_source(
        &self,
        window: &mut Window<'_>,
        pieces: &mut [Piece],
    ) -> Result<(), Errno> {
        let Content::File(copied) = &mut window.content else {
            return Ok(());
        };
        self.stat_open(copied.file)?;
        let info = self.file_info(copied.file)?;
        copied.generation = info.generation;
        let reach = info.size_bytes.saturating_sub(copied.offset);
        shorten(pieces, reach);
        window.len = window.len.min(usize::try_from(reach).unwrap_or(usize::MAX));
        Ok(())
    }
}
