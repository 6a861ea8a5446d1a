//! The circular log: what a shard has acknowledged, in order.
//!
//! Positions count bytes since the log was made and never go back; a position's place in the
//! region is its remainder. Records are queued, then written with one device write, the
//! acknowledgement point. What must stay true: a record is believed only if its checksum, its
//! position, its index (one more than the last) and its life (not below the last one's) are right,
//! so that neither a torn write, nor an older lap, nor records that an earlier opening gave up can
//! be taken for the log's end. Byte table: docs/on-disk-format.md.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::env::BlockDevice;
use crate::store::{Region, crc};

/// Position of an entry in the order of the log; the first is 1, 0 is before all.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogIndex(pub u64);

pub const HEADER_BYTES: usize = 32;
/// Longest body of a record, in bytes.
pub const BODY_MAX_BYTES: usize = 1 << 20;
/// Kept free for barriers and reservations, which must never wait, in bytes.
const RESERVE_BYTES: u64 = 64 * 1024;
const PAGE_BYTES: u64 = 4096;
static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// An atomic group of effects.
    Group = 1,
    /// Everything up to an index, log and data, is durable.
    Barrier = 2,
    /// An opening of the store; also a barrier for everything before it.
    Start = 3,
}

/// The fields of a record's header besides its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub len: u32,
    pub index: LogIndex,
    pub position: u64,
    pub life: u32,
    pub kind: Kind,
}

impl Header {
    /// `body` is needed for the checksum alone.
    fn encode(&self, body: &[u8]) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.life.to_le_bytes());
        bytes[28] = self.kind as u8;
        let crc = crc::extend(crc::crc32c(&bytes[4..]), body);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header and the checksum over the rest of it and the body.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<(Header, u32)> {
        let u32_at = |at: usize| {
            let field = bytes[at..at + 4].iter().rev();
            field.fold(0, |n, &byte| n << 8 | u32::from(byte))
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let kind = match bytes[28] {
            1 => Kind::Group,
            2 => Kind::Barrier,
            3 => Kind::Start,
            _ => return None,
        };
        let header = Header {
            len: u32_at(4),
            index: LogIndex(u64_at(8)),
            position: u64_at(16),
            life: u32_at(24),
            kind,
        };
        (header.len as usize <= BODY_MAX_BYTES).then_some((header, u32_at(0)))
    }
}

pub struct Log<D> {
    device: Arc<D>,
    region: Region,
    life: u32,
    /// The oldest position that a replay could still need.
    head: u64,
    /// Where the next record goes, behind those queued.
    tail: u64,
    /// Up to here records are on the device.
    written_position: u64,
    /// Up to here pages have been written as a whole in this lap.
    filled: u64,
    last: LogIndex,
    written: LogIndex,
    queue: Vec<u8>,
}

impl<D: BlockDevice> Log<D> {
    /// A log whose entry `last`, the last one that the index has, ends at `head`.
    pub fn resume(device: Arc<D>, region: Region, life: u32, head: u64, last: LogIndex) -> Log<D> {
        Log {
            device,
            region,
            life,
            head,
            tail: head,
            written_position: head,
            filled: head / PAGE_BYTES * PAGE_BYTES,
            last,
            written: last,
            queue: Vec::new(),
        }
    }

    /// Replay has taken this record over: the log goes on behind it.
    pub fn skip(&mut self, header: &Header) {
        debug_assert!(self.queue.is_empty() && header.position == self.tail);
        self.life = header.life;
        self.tail = header.position + HEADER_BYTES as u64 + u64::from(header.len);
        self.written_position = self.tail;
        self.filled = self.tail / PAGE_BYTES * PAGE_BYTES;
        self.last = header.index;
        self.written = header.index;
    }

    /// From here on records are of this life, which is above every life so far: nothing that lies
    /// at or behind the tail will be believed.
    pub fn begin_life(&mut self, life: u32) {
        self.life = life;
    }

    pub fn life(&self) -> u32 {
        self.life
    }

    /// As if the page of the tail had been filled before: no zeros are written behind the tail.
    #[cfg(test)]
    pub fn leave_what_follows(&mut self) {
        self.filled = u64::MAX;
    }

    pub fn device(&self) -> &Arc<D> {
        &self.device
    }

    /// The last entry, written or queued.
    pub fn last(&self) -> LogIndex {
        self.last
    }

    pub fn written(&self) -> LogIndex {
        self.written
    }

    pub fn tail(&self) -> u64 {
        self.tail
    }

    pub fn capacity(&self) -> u64 {
        self.region.len
    }

    pub fn used(&self) -> u64 {
        self.tail - self.head
    }

    /// Whether bodies of `bytes` fit, in `records` records, without the reserve.
    pub fn has_room(&self, bytes: usize, records: usize) -> bool {
        let wanted = (bytes + records * HEADER_BYTES) as u64;
        self.used() + wanted + RESERVE_BYTES + PAGE_BYTES <= self.region.len
    }

    /// Room that only barriers and reservations may use.
    pub fn has_reserve(&self, bytes: usize) -> bool {
        self.used() + (bytes + HEADER_BYTES) as u64 + PAGE_BYTES <= self.region.len
    }

    /// Nothing before `position` is needed any more.
    pub fn trim(&mut self, position: u64) {
        debug_assert!(self.head <= position && position <= self.tail);
        self.head = position;
    }

    /// Queues a record. The caller has made sure that there is room.
    pub fn push(&mut self, kind: Kind, body: &[u8]) -> LogIndex {
        assert!(self.has_reserve(body.len()), "the log is over-full");
        self.last.0 += 1;
        let header = Header {
            len: body.len() as u32,
            index: self.last,
            position: self.tail,
            life: self.life,
            kind,
        };
        self.queue.extend_from_slice(&header.encode(body));
        self.queue.extend_from_slice(body);
        self.tail += (HEADER_BYTES + body.len()) as u64;
        self.last
    }

    /// Writes what is queued. A page that is begun is written to its end, with zeros, so that the
    /// kernel need not read it first and nothing of an older lap follows right behind.
    pub fn write_out(&mut self) -> io::Result<()> {
        if self.queue.is_empty() {
            return Ok(());
        }
        let padding = if self.filled < self.tail {
            self.tail.next_multiple_of(PAGE_BYTES) - self.tail
        } else {
            0
        };
        let zeros = &ZEROS[..padding as usize];
        write_circular(
            &*self.device,
            self.region,
            self.written_position,
            &self.queue,
            zeros,
        )?;
        self.filled = self.filled.max(self.tail + padding);
        self.written_position = self.tail;
        self.written = self.last;
        self.queue.clear();
        Ok(())
    }
}

fn write_circular<D: BlockDevice>(
    device: &D,
    region: Region,
    position: u64,
    bytes: &[u8],
    padding: &[u8],
) -> io::Result<()> {
    let start = position % region.len;
    let before_end = ((region.len - start) as usize).min(bytes.len());
    let (first, second) = bytes.split_at(before_end);
    // The region's end is a page boundary: the padding never crosses it.
    let (pad_first, pad_second): (&[u8], &[u8]) = if second.is_empty() {
        (padding, &[])
    } else {
        (&[], padding)
    };
    let slices = [IoSlice::new(first), IoSlice::new(pad_first)];
    device.write_at(&slices, region.offset + start)?;
    if !second.is_empty() {
        let slices = [IoSlice::new(second), IoSlice::new(pad_second)];
        device.write_at(&slices, region.offset)?;
    }
    Ok(())
}
