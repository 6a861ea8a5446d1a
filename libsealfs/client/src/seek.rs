//! Operations on an open file as a whole: truncate, fallocate, SEEK_DATA and SEEK_HOLE.

use crate::attr::itself;
use crate::client::Client;
use crate::config::FileRef;
use crate::files::FileInfo;
use crate::part::Part;
use crate::walk::unexpected;
use sealfs_protocol::Errno;
use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::hash::layout_slot_partition;
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
            let info = FileInfo::from(&attr);
            if offset >= attr.size_bytes {
                return Err(Errno::ENXIO);
            }
            match self.seek_in(file, info, offset, data)? {
                Some(position) => return end_of_seek(position, attr.size_bytes, data),
                None if self.shared.config.world.now() >= deadline => return Err(Errno::EIO),
                None => {}
            }
        }
    }

    /// Asks every partition with chunks of the file; the first answer in file order counts.
    /// `None`: the file was truncated meanwhile.
    fn seek_in(
        &self,
        file: FileRef,
        info: FileInfo,
        offset: u64,
        data: bool,
    ) -> Result<Option<u64>, Errno> {
        // Without chunks beyond the first, one hole reaches from there to the end.
        let mut best = info.size_bytes;
        let mut until = best;
        let mut frontiers = vec![(file.ino.partition(), offset)];
        if info.wide {
            let partitions = self.shared.cluster.state().ring.partitions();
            for slot in 0..info.layout.width.max(1) {
                let partition = layout_slot_partition(file.ino, slot, partitions);
                if frontiers.iter().all(|(p, _)| *p != partition) {
                    frontiers.push((partition, offset));
                }
            }
        } else {
            until = until.min(info.layout.chunk_size_bytes());
            if !data {
                best = until.max(offset);
            }
        }
        while !frontiers.is_empty() && offset < until {
            let slot = self.shared.slots.take();
            let seek = |from: u64| Op::Seek {
                ino: file.ino,
                from,
                until,
                data,
                layout: info.layout,
                generation: info.generation,
            };
            let mut parts: Vec<Part<'_, '_>> = frontiers
                .iter()
                .map(|(p, from)| Part::new(&slot, vec![(*p, seek(*from))], &[], &mut []))
                .collect();
            self.run(&mut parts, &mut self.mode(&slot));
            let mut left = Vec::new();
            for (part, (partition, _)) in parts.into_iter().zip(frontiers) {
                match part.single()? {
                    OpReply::Sought {
                        position,
                        found: true,
                    } => best = best.min(position),
                    OpReply::Sought {
                        position,
                        found: false,
                    } => left.push((partition, position)),
                    OpReply::Refused(Refusal::StaleGeneration { .. }) => return Ok(None),
                    reply => return Err(unexpected(&reply)),
                }
            }
            left.retain(|(_, position)| *position < best.min(until));
            frontiers = left;
        }
        Ok(Some(best))
    }
}

fn end_of_seek(position: u64, size: u64, data: bool) -> Result<u64, Errno> {
    if data && position >= size {
        return Err(Errno::ENXIO);
    }
    Ok(position.min(size))
}
