//! How a write is cut: pieces within chunks, requests of pieces.
//!
//! What must stay true: the pieces cover the range once and in order; no two requests are for one
//! partition; a request holds operations on two partitions only if both are on the owner's shard.

use crate::config::FileRef;
use crate::files::FileInfo;
use crate::read::partition_of;
use sealfs_protocol::layout::Span;
use sealfs_protocol::limits::IO_MAX_BYTES;
use sealfs_protocol::message::Op;
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{Errno, PartitionId};
use sealfs_transport::memory::{IoVec, slice};

/// A span of a write, and what became of it.
pub(crate) struct Piece {
    pub partition: PartitionId,
    pub span: Span,
    /// Where it begins within the window.
    pub at: usize,
    pub fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Open,
    Landed,
    Failed(Errno),
}

/// What is written in one go: `len` bytes of the caller's memory from `from` on, at `offset`.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub file: FileRef,
    pub offset: u64,
    pub sources: &'a [IoVec<'a>],
    pub from: usize,
    pub len: usize,
}

/// Publications that go along with the data.
#[derive(Clone, Copy, Default)]
pub(crate) struct Extra {
    /// Set the `wide` bit first.
    pub widen: bool,
    /// Afterwards raise the size to this; 0 sets the time of change only.
    pub publish: Option<u64>,
    /// All in one request, in this order: everything is on the owner's shard.
    pub together: bool,
}

/// One request: for each operation the piece that it writes, `None` for a publication.
pub(crate) struct Batch<'a> {
    pub ops: Vec<(PartitionId, Op)>,
    pub roles: Vec<Option<usize>>,
    pub payload: Vec<IoVec<'a>>,
}

impl<'a> Batch<'a> {
    fn new() -> Batch<'a> {
        Batch {
            ops: Vec::with_capacity(3),
            roles: Vec::with_capacity(3),
            payload: Vec::with_capacity(1),
        }
    }

    fn add_publish(&mut self, window: Window<'_>, info: FileInfo, size: u64) {
        let op = publish_op(window.file, info, size);
        self.ops.push((window.file.ino.partition(), op));
        self.roles.push(None);
    }

    fn add_write(&mut self, window: Window<'a>, info: FileInfo, index: usize, piece: &Piece) {
        let op = Op::Write {
            ino: window.file.ino,
            chunk: piece.span.chunk,
            offset_bytes: piece.span.offset_bytes,
            len_bytes: piece.span.len_bytes,
            generation: info.generation,
            open: window.file.open,
        };
        self.ops.push((piece.partition, op));
        self.roles.push(Some(index));
        let len = piece.span.len_bytes as usize;
        slice(
            window.sources,
            window.from + piece.at,
            len,
            &mut self.payload,
        );
    }
}

/// Who publishes has bytes beyond chunk 0, or is about to.
pub(crate) fn publish_op(file: FileRef, info: FileInfo, size_at_least_bytes: u64) -> Op {
    Op::Publish {
        ino: file.ino,
        size_at_least_bytes,
        wide: true,
        generation: info.generation,
        open: file.open,
    }
}

/// The requests for all open pieces: one for each partition, or one for all.
pub(crate) fn batches<'a>(
    window: Window<'a>,
    info: FileInfo,
    pieces: &[Piece],
    extra: Extra,
) -> Vec<Batch<'a>> {
    let mut list: Vec<(PartitionId, Batch<'a>)> = Vec::with_capacity(pieces.len() + 1);
    let open = pieces.iter().enumerate();
    for (index, piece) in open.filter(|(_, p)| p.fate == Fate::Open) {
        let same = |(p, _): &(PartitionId, Batch<'a>)| extra.together || *p == piece.partition;
        let at = list.iter().position(same).unwrap_or_else(|| {
            let mut batch = Batch::new();
            if extra.widen {
                batch.add_publish(window, info, 0);
            }
            list.push((piece.partition, batch));
            list.len() - 1
        });
        list[at].1.add_write(window, info, index, piece);
    }
    if let Some(size) = extra.publish {
        // One request to a partition at a time: a repeated one must not meet a later sequence.
        let home = window.file.ino.partition();
        let same = |(p, _): &(PartitionId, Batch<'a>)| extra.together || *p == home;
        let at = list.iter().position(same).unwrap_or_else(|| {
            list.push((home, Batch::new()));
            list.len() - 1
        });
        list[at].1.add_publish(window, info, size);
    }
    list.into_iter().map(|(_, batch)| batch).collect()
}

/// Cuts a window into pieces of one chunk each, none longer than one operation may be.
pub(crate) fn cut(window: Window<'_>, info: FileInfo, ring: &Ring) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2);
    let mut at = 0;
    for span in info.layout.split(window.offset, window.len as u64) {
        for from in (0..span.len_bytes).step_by(IO_MAX_BYTES as usize) {
            let part = Span {
                chunk: span.chunk,
                offset_bytes: span.offset_bytes + from,
                len_bytes: (span.len_bytes - from).min(IO_MAX_BYTES),
            };
            pieces.push(Piece {
                partition: partition_of(window.file, info, part, ring.partitions()),
                span: part,
                at,
                fate: Fate::Open,
            });
            at += part.len_bytes as usize;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::attr::Layout;
    use sealfs_protocol::{ClusterId, InodeId, OpenId, TruncateGeneration};
    use sealfs_transport::memory::total;

    const FILE: FileRef = FileRef {
        ino: InodeId(1 << 48 | 5),
        open: OpenId(1),
    };

    fn info() -> FileInfo {
        FileInfo {
            layout: Layout {
                chunk_size_log2: 16,
                width: 4,
            },
            generation: TruncateGeneration(0),
            wide: false,
            size_bytes: 0,
        }
    }

    #[test]
    fn one_request_for_each_partition_covers_every_byte_once() {
        let data: Vec<u8> = vec![0; 600_000];
        let sources = [IoVec::new(&data[..70_001]), IoVec::new(&data[70_001..])];
        let window = Window {
            file: FILE,
            offset: 30_000,
            sources: &sources,
            from: 100,
            len: 500_000,
        };
        let ring = Ring::empty(ClusterId(1), 4096);
        let pieces = cut(window, info(), &ring);
        let list = batches(window, info(), &pieces, Extra::default());
        assert!(list.len() <= 5, "four layout slots and chunk 0");
        let written: usize = list.iter().map(|b| total(&b.payload)).sum();
        assert_eq!(written, 500_000);
        let mut seen: Vec<usize> = list
            .iter()
            .flat_map(|b| b.roles.iter().flatten().copied())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..pieces.len()).collect::<Vec<_>>());
    }

    #[test]
    fn together_means_width_first_then_data_then_size() {
        let data = vec![0u8; 100_000];
        let sources = [IoVec::new(&data)];
        let window = Window {
            file: FILE,
            offset: 0,
            sources: &sources,
            from: 0,
            len: 100_000,
        };
        let extra = Extra {
            widen: true,
            publish: Some(100_000),
            together: true,
        };
        let pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
        let list = batches(window, info(), &pieces, extra);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].roles, [None, Some(0), Some(1), None]);
    }
}
