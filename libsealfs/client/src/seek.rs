//! Operations on an open file as a whole: truncate, fallocate, SEEK_DATA and SEEK_HOLE.

use crate::attr::itself;
use crate::client::Client;
use crate::config::FileRef;
use crate::read::partition_of;
use crate::walk::unexpected;
use sealfs_protocol::Errno;
use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::layout::Span;
use sealfs_protocol::message::{Op, OpReply, Refusal};

impl Client {
    /// ftruncate(2); that the description may write was checked when it was opened.
    pub fn truncate(&self, file: FileRef, size: u64) -> Result<Attr, Errno> {
        let op = Op::SetAttr {
            at: itself(file.ino),
            follow: false,
            set: SetAttr {
                size_bytes: Some(size),
                by_handle: true,
                ..SetAttr::default()
            },
        };
        let reply = self.call(file.ino.partition(), op)?;
        self.attr_of(reply)
    }

    /// fallocate(2); `mode` as FALLOC_FL_*.
    pub fn allocate(&self, file: FileRef, mode: u32, offset: u64, len: u64) -> Result<Attr, Errno> {
        let op = Op::Allocate {
            ino: file.ino,
            mode,
            offset,
            len,
            open: file.open,
        };
        let reply = self.call(file.ino.partition(), op)?;
        self.attr_of(reply)
    }

    /// lseek(2) SEEK_DATA: the first byte from `offset` on that is not in a hole; ENXIO if none.
    pub fn seek_data(&self, file: FileRef, offset: u64) -> Result<u64, Errno> {
        self.seek(file, offset, true)
    }

    /// lseek(2) SEEK_HOLE: the first hole from `offset` on; the end of the file is one.
    pub fn seek_hole(&self, file: FileRef, offset: u64) -> Result<u64, Errno> {
        self.seek(file, offset, false)
    }

    fn seek(&self, file: FileRef, offset: u64, data: bool) -> Result<u64, Errno> {
        let deadline = self.deadline();
        loop {
            let attr = self.stat_open(file)?;
            let info = crate::files::FileInfo::from(&attr);
            if offset >= attr.size_bytes {
                return Err(Errno::ENXIO);
            }
            match self.seek_in(file, info, offset, data)? {
                Some(position) => return Ok(position),
                None if self.shared.config.world.now() >= deadline => return Err(Errno::EIO),
                None => {}
            }
        }
    }

    /// Goes from chunk to chunk. `None`: the file was truncated meanwhile.
    fn seek_in(
        &self,
        file: FileRef,
        info: crate::files::FileInfo,
        offset: u64,
        data: bool,
    ) -> Result<Option<u64>, Errno> {
        let chunk_size = info.layout.chunk_size_bytes();
        let partitions = self.shared.cluster.state().ring.partitions();
        let mut at = offset;
        while at < info.size_bytes {
            let chunk = at / chunk_size;
            let chunk_end = (chunk + 1) * chunk_size;
            let span = Span {
                chunk,
                offset_bytes: (at % chunk_size) as u32,
                len_bytes: 0,
            };
            let op = Op::Seek {
                ino: file.ino,
                chunk,
                offset_bytes: span.offset_bytes,
                data,
                generation: info.generation,
            };
            match self.call(partition_of(file, info, span, partitions), op) {
                Ok(OpReply::Position(within)) => {
                    let position = chunk * chunk_size + within;
                    if position < chunk_end {
                        return end_of_seek(position, info.size_bytes, data).map(Some);
                    }
                }
                Ok(OpReply::Refused(Refusal::StaleGeneration { .. })) => return Ok(None),
                Ok(reply) => return Err(unexpected(&reply)),
                // No data from here to the chunk's end.
                Err(Errno::ENXIO) => {}
                Err(errno) => return Err(errno),
            }
            at = chunk_end;
        }
        end_of_seek(info.size_bytes, info.size_bytes, data).map(Some)
    }
}

fn end_of_seek(position: u64, size: u64, data: bool) -> Result<u64, Errno> {
    if data && position >= size {
        return Err(Errno::ENXIO);
    }
    Ok(position.min(size))
}
