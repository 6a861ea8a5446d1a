//! From a byte range of a file to spans, each within one chunk.

use crate::attr::Layout;
use crate::hash::layout_slot_partition;
use crate::ids::{InodeId, PartitionId};
use crate::limits::{CHUNK_SIZE_LOG2_DEFAULT, WIDTH_DEFAULT};

/// A byte range within one chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub chunk: u64,
    pub offset_bytes: u32,
    pub len_bytes: u32,
}

impl Layout {
    pub const DEFAULT: Layout = Layout {
        chunk_size_log2: CHUNK_SIZE_LOG2_DEFAULT,
        width: WIDTH_DEFAULT,
    };

    pub fn chunk_size_bytes(self) -> u64 {
        1 << self.chunk_size_log2.clamp(12, 30)
    }

    pub fn chunk_of(self, offset: u64) -> u64 {
        offset >> self.chunk_size_log2.clamp(12, 30)
    }

    /// The layout slot of chunk `chunk`; `None` for chunk 0, which lives with the inode.
    pub fn slot_of(self, chunk: u64) -> Option<u8> {
        (chunk > 0).then(|| (chunk % u64::from(self.width.max(1))) as u8)
    }

    /// The partition that hosts chunk `chunk` of `ino`.
    pub fn partition_of(self, ino: InodeId, chunk: u64, partitions: u16) -> PartitionId {
        match self.slot_of(chunk) {
            None => ino.partition(),
            Some(slot) => layout_slot_partition(ino, slot, partitions),
        }
    }

    /// Cuts `len` bytes from `offset` on into spans, in file order. The end must not pass 2^63.
    pub fn split(self, offset: u64, len: u64) -> impl Iterator<Item = Span> {
        let size = self.chunk_size_bytes();
        let end = offset.saturating_add(len);
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let within = at % size;
            let take = (size - within).min(end - at);
            let span = Span {
                chunk: at / size,
                offset_bytes: within as u32,
                len_bytes: take as u32,
            };
            at += take;
            Some(span)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_the_range_once_and_stay_within_their_chunk() {
        let layout = Layout {
            chunk_size_log2: 16,
            width: 4,
        };
        for (offset, len) in [(0, 0), (0, 1), (65535, 2), (10, 200_000), (131_072, 65536)] {
            let mut at = offset;
            for s in layout.split(offset, len) {
                assert_eq!(s.chunk * 65536 + u64::from(s.offset_bytes), at);
                assert!(u64::from(s.offset_bytes) + u64::from(s.len_bytes) <= 65536);
                at += u64::from(s.len_bytes);
            }
            assert_eq!(at, offset + len);
        }
    }
}
