//! How a write is cut: pieces within chunks, requests of pieces.
//!
//! What must stay true: the pieces cover the range once and in order; no two requests are for one
//! partition; a request holds operations on two partitions only if both are on the owner's shard.

use crate::config::FileRef;
use crate::files::FileInfo;
use crate::read::partition_of;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::layout::Span;
use sealfs_protocol::limits::IO_MAX_BYTES;
use sealfs_protocol::message::{Op, Source};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{Errno, PartitionId, TruncateGeneration};
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
    /// The source of a copy has become shorter: it does not reach here.
    Beyond,
    Failed(Errno),
}

/// What is written in one go: `len` bytes of `content` at `offset`.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub file: FileRef,
    pub offset: u64,
    pub content: Content<'a>,
    pub len: usize,
}

impl Window<'_> {
    /// `len` bytes of it from byte `at` on.
    pub fn part(self, at: usize, len: usize) -> Self {
        let content = match self.content {
            Content::Memory(sources, from) => Content::Memory(sources, from + at),
            Content::File(copied) => Content::File(Copied {
                offset: copied.offset + at as u64,
                ..copied
            }),
        };
        Window {
            offset: self.offset + at as u64,
            content,
            len,
            ..self
        }
    }
}

/// Where the bytes of a window are.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// In the caller's memory, from a byte of these on.
    Memory(&'a [IoVec<'a>], usize),
    /// In another file, or elsewhere in this one.
    File(Copied),
}

/// Bytes of a file from `offset` on, to be copied from server to server.
#[derive(Clone, Copy)]
pub(crate) struct Copied {
    pub file: FileRef,
    pub layout: Layout,
    pub generation: TruncateGeneration,
    pub offset: u64,
    pub atime: bool,
}

impl Copied {
    /// The bytes that one operation takes, which lie in one chunk.
    fn source(&self, at: usize, partitions: u16) -> Source {
        let offset = self.offset + at as u64;
        let chunk = self.layout.chunk_of(offset);
        Source {
            ino: self.file.ino,
            partition: self.layout.partition_of(self.file.ino, chunk, partitions),
            chunk,
            offset_bytes: (offset % self.layout.chunk_size_bytes()) as u32,
            generation: self.generation,
            atime: self.atime,
        }
    }
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
        let op = publish_op(window.file, info, window.offset, size);
        self.ops.push((window.file.ino.partition(), op));
        self.roles.push(None);
    }

    fn add_write(
        &mut self,
        window: Window<'a>,
        info: FileInfo,
        (index, piece): (usize, &Piece),
        partitions: u16,
    ) {
        let (ino, open, generation) = (window.file.ino, window.file.open, info.generation);
        let Span {
            chunk,
            offset_bytes,
            len_bytes,
        } = piece.span;
        let op = match window.content {
            Content::Memory(sources, from) => {
                let len = len_bytes as usize;
                slice(sources, from + piece.at, len, &mut self.payload);
                Op::Write {
                    ino,
                    chunk,
                    offset_bytes,
                    len_bytes,
                    generation,
                    open,
                }
            }
            Content::File(copied) => Op::Copy {
                ino,
                chunk,
                offset_bytes,
                len_bytes,
                generation,
                open,
                source: copied.source(piece.at, partitions),
            },
        };
        self.ops.push((piece.partition, op));
        self.roles.push(Some(index));
    }
}

/// Who publishes has bytes beyond chunk 0, or is about to.
pub(crate) fn publish_op(
    file: FileRef,
    info: FileInfo,
    from_bytes: u64,
    size_at_least_bytes: u64,
) -> Op {
    Op::Publish {
        ino: file.ino,
        from_bytes,
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
    partitions: u16,
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
        let which = (index, piece);
        list[at].1.add_write(window, info, which, partitions);
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

/// Cuts a window into pieces of one chunk each (of a copy: one of either file), none longer than
/// one operation may be.
pub(crate) fn cut(window: Window<'_>, info: FileInfo, ring: &Ring) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(2);
    let mut at = 0;
    for span in info.layout.split(window.offset, window.len as u64) {
        let mut from = 0;
        while from < span.len_bytes {
            let part = Span {
                chunk: span.chunk,
                offset_bytes: span.offset_bytes + from,
                len_bytes: (span.len_bytes - from).min(longest(window, at)),
            };
            pieces.push(Piece {
                partition: partition_of(window.file, info, part, ring.partitions()),
                span: part,
                at,
                fate: Fate::Open,
            });
            from += part.len_bytes;
            at += part.len_bytes as usize;
        }
    }
    pieces
}

/// The most that one operation takes from byte `at` of a window on.
fn longest(window: Window<'_>, at: usize) -> u32 {
    let Content::File(copied) = window.content else {
        return IO_MAX_BYTES;
    };
    let size = copied.layout.chunk_size_bytes();
    let left = size - (copied.offset + at as u64) % size;
    left.min(u64::from(IO_MAX_BYTES)) as u32
}

/// A copy's source ends `reach` bytes from the window's start: what is still to be copied is cut.
pub(crate) fn shorten(pieces: &mut [Piece], reach: u64) {
    for piece in pieces.iter_mut().filter(|p| p.fate == Fate::Open) {
        let left = reach.saturating_sub(piece.at as u64);
        if left == 0 {
            piece.fate = Fate::Beyond;
        } else {
            piece.span.len_bytes = piece
                .span
                .len_bytes
                .min(left.min(u64::from(u32::MAX)) as u32);
        }
    }
}

#[cfg(test)]
mod tests;
