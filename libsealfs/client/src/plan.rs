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
        let op = publish_op(window.file, info, size);
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
            content: Content::Memory(&sources, 100),
            len: 500_000,
        };
        let ring = Ring::empty(ClusterId(1), 4096);
        let pieces = cut(window, info(), &ring);
        let list = batches(window, info(), &pieces, Extra::default(), 4096);
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
            content: Content::Memory(&sources, 0),
            len: 100_000,
        };
        let extra = Extra {
            widen: true,
            publish: Some(100_000),
            together: true,
        };
        let pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
        let list = batches(window, info(), &pieces, extra, 4096);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].roles, [None, Some(0), Some(1), None]);
    }

    /// A copy between files of different chunk sizes.
    fn copied(offset: u64) -> Window<'static> {
        let layout = Layout {
            chunk_size_log2: 17,
            width: 3,
        };
        let copied = Copied {
            file: FileRef {
                ino: InodeId(2 << 48 | 9),
                open: OpenId(2),
            },
            layout,
            generation: TruncateGeneration(4),
            offset,
            atime: true,
        };
        Window {
            file: FILE,
            offset: 30_000,
            content: Content::File(copied),
            len: 300_000,
        }
    }

    #[test]
    fn each_piece_of_a_copy_lies_in_one_chunk_of_either_file() {
        let window = copied(100_001);
        let pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
        let list = batches(window, info(), &pieces, Extra::default(), 4096);
        let mut covered: Vec<(u64, u64)> = Vec::new();
        for (_, op) in list.iter().flat_map(|batch| &batch.ops) {
            let Op::Copy {
                chunk,
                offset_bytes,
                len_bytes,
                source,
                ..
            } = op
            else {
                panic!("not a copy: {op:?}");
            };
            assert!(offset_bytes + len_bytes <= 1 << 16);
            assert!(source.offset_bytes + len_bytes <= 1 << 17);
            let to = chunk * (1 << 16) + u64::from(*offset_bytes);
            let from = source.chunk * (1 << 17) + u64::from(source.offset_bytes);
            assert_eq!(to - 30_000, from - 100_001);
            covered.push((to, to + u64::from(*len_bytes)));
        }
        covered.sort_unstable();
        assert_eq!((covered[0].0, covered.last().unwrap().1), (30_000, 330_000));
        assert!(covered.windows(2).all(|pair| pair[0].1 == pair[1].0));
    }

    #[test]
    fn what_a_source_lost_meanwhile_is_not_copied() {
        let window = copied(0);
        let mut pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
        pieces[0].fate = Fate::Landed;
        let whole = pieces[1].span.len_bytes as usize;
        let reach = pieces[1].at as u64 + 10;
        shorten(&mut pieces, reach);
        assert!(whole > 10);
        assert_eq!((pieces[1].span.len_bytes, pieces[1].fate), (10, Fate::Open));
        assert_eq!(pieces[0].fate, Fate::Landed);
        assert!(pieces[2..].iter().all(|p| p.fate == Fate::Beyond));
    }
}
