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
/// Smallest log, in bytes.
pub const LOG_MIN_BYTES: u64 = 4 << 20;
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
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<(Header, u32)> {
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

/// How much is read at once, in bytes.
const WINDOW_BYTES: usize = 1 << 20;

/// Why a log ends where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Nothing follows, or a write that was cut off: nobody was told of it.
    Clean,
    /// A damaged record, with a good one behind it: entries are lost.
    Damaged,
}

/// Reads records in order from a position on, believing only what the header of this file says.
pub struct LogReader<'a, D> {
    device: &'a D,
    region: Region,
    position: u64,
    /// The index that must come.
    next: LogIndex,
    life: u32,
    /// A read-ahead of the region's bytes from position `window_at` on.
    window: Vec<u8>,
    window_at: u64,
    body: Vec<u8>,
    start: u64,
}

impl<'a, D: BlockDevice> LogReader<'a, D> {
    /// The record at `position` must have index `next`, and at least this life.
    pub fn new(
        device: &'a D,
        region: Region,
        position: u64,
        next: LogIndex,
        life: u32,
    ) -> LogReader<'a, D> {
        LogReader {
            device,
            region,
            position,
            next,
            life,
            window: Vec::new(),
            window_at: position,
            body: Vec::new(),
            start: position,
        }
    }

    /// The next record and its body; `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<(Header, &[u8])>> {
        let at = self.position;
        let Some(header) = self.record_at(at, self.next)? else {
            return Ok(None);
        };
        self.position += HEADER_BYTES as u64 + u64::from(header.len);
        self.next.0 += 1;
        self.life = header.life;
        Ok(Some((header, &self.body)))
    }

    /// Called at the end: whether a damaged record hides good ones.
    pub fn end(&mut self) -> io::Result<End> {
        let mut bytes = [0; HEADER_BYTES];
        self.copy(self.position, &mut bytes)?;
        let Some((header, _)) = Header::decode(&bytes) else {
            return Ok(End::Clean);
        };
        let right = header.index == self.next
            && header.position == self.position
            && header.life >= self.life;
        if !right {
            return Ok(End::Clean);
        }
        let behind = self.position + HEADER_BYTES as u64 + u64::from(header.len);
        let follower = LogIndex(self.next.0 + 1);
        Ok(match self.record_at(behind, follower)? {
            Some(_) => End::Damaged,
            None => End::Clean,
        })
    }

    /// Reads the record at `at` into `body`, if there is a good one with this index.
    fn record_at(&mut self, at: u64, index: LogIndex) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER_BYTES];
        let limit = self.start + self.region.len;
        if at + HEADER_BYTES as u64 > limit {
            return Ok(None);
        }
        self.copy(at, &mut bytes)?;
        let Some((header, crc)) = Header::decode(&bytes) else {
            return Ok(None);
        };
        let right = header.index == index && header.position == at && header.life >= self.life;
        let body_at = at + HEADER_BYTES as u64;
        if !right || body_at + u64::from(header.len) > limit {
            return Ok(None);
        }
        let mut body = std::mem::take(&mut self.body);
        body.resize(header.len as usize, 0);
        let copied = self.copy(body_at, &mut body);
        self.body = body;
        copied?;
        let computed = crc::extend(crc::crc32c(&bytes[4..]), &self.body);
        Ok((computed == crc).then_some(header))
    }

    /// Copies bytes from position `at` on, through the window.
    fn copy(&mut self, mut at: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let window_end = self.window_at + self.window.len() as u64;
            if at < self.window_at || at >= window_end {
                self.fill(at)?;
            }
            let from = (at - self.window_at) as usize;
            let taken = (self.window.len() - from).min(out.len());
            out[..taken].copy_from_slice(&self.window[from..from + taken]);
            out = &mut out[taken..];
            at += taken as u64;
        }
        Ok(())
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        let start = at % self.region.len;
        let len = (self.region.len - start).min(WINDOW_BYTES as u64);
        self.window.resize(len as usize, 0);
        self.window_at = at;
        let offset = self.region.offset + start;
        self.device.read_at(&mut self.window, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryDevice;

    const REGION: Region = Region {
        offset: 4096,
        len: LOG_MIN_BYTES,
    };

    fn device() -> Arc<MemoryDevice> {
        Arc::new(MemoryDevice::new("log", 4096 + REGION.len as usize))
    }

    /// Bodies of the records from `position` on, of which the first has index `next`.
    fn bodies(device: &MemoryDevice, position: u64, next: u64, life: u32) -> Vec<Vec<u8>> {
        let mut reader = LogReader::new(device, REGION, position, LogIndex(next), life);
        let mut bodies = Vec::new();
        while let Some((_, body)) = reader.next().unwrap() {
            bodies.push(body.to_vec());
        }
        bodies
    }

    #[test]
    fn records_of_a_life_that_was_given_up_are_not_believed() {
        let device = device();
        let mut log = Log::resume(Arc::clone(&device), REGION, 1, 0, LogIndex(0));
        for body in [b"one", b"two", b"tre"] {
            log.push(Kind::Group, body);
        }
        log.write_out().unwrap();
        let second = (HEADER_BYTES + 3) as u64;
        let mut log = Log::resume(Arc::clone(&device), REGION, 2, second, LogIndex(1));
        log.push(Kind::Group, b"new");
        log.filled = 4096; // no zeros behind it: the old third record stays
        log.write_out().unwrap();
        assert_eq!(bodies(&device, 0, 1, 1), [b"one", b"new"]);
    }

    #[test]
    fn the_log_goes_around_and_ends_where_it_was_written_to() {
        let device = device();
        let mut log = Log::resume(Arc::clone(&device), REGION, 1, 0, LogIndex(0));
        let mut begins = Vec::new();
        for i in 0..2000u32 {
            begins.push(log.tail());
            log.push(Kind::Group, &i.to_le_bytes().repeat(1000));
            log.write_out().unwrap();
            log.trim(begins[begins.len().saturating_sub(500)]);
        }
        let from = 1600;
        let read = bodies(&device, begins[from], from as u64 + 1, 1);
        assert_eq!(read.len(), 400);
        for (i, body) in read.iter().enumerate() {
            assert_eq!(body[..4], ((from + i) as u32).to_le_bytes());
        }
    }

    #[test]
    fn a_damaged_record_is_told_from_the_end_by_what_follows_it() {
        let device = device();
        let mut log = Log::resume(Arc::clone(&device), REGION, 1, 0, LogIndex(0));
        for body in [b"one", b"two", b"tre"] {
            log.push(Kind::Group, body);
        }
        log.write_out().unwrap();
        let end_after = |damaged: usize| {
            let copy = MemoryDevice::from_bytes("copy", device.contents());
            let at = (damaged * (HEADER_BYTES + 3) + HEADER_BYTES) as u64;
            let torn = [IoSlice::new(b"x")];
            copy.write_at(&torn, REGION.offset + at).unwrap();
            let mut reader = LogReader::new(&copy, REGION, 0, LogIndex(1), 1);
            while reader.next().unwrap().is_some() {}
            reader.end().unwrap()
        };
        assert_eq!(end_after(2), End::Clean);
        assert_eq!(end_after(1), End::Damaged);
    }
}
