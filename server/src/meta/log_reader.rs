//! Reading the log: which bytes of it are believed (see `log`), and why it ends where it ends.

use std::io;

use super::log::{HEADER_BYTES, Header, LogIndex};
use crate::env::BlockDevice;
use crate::store::{Region, crc};

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
    use std::io::IoSlice;
    use std::sync::Arc;

    use super::*;
    use crate::meta::log::{Kind, Log};
    use crate::store::MemoryDevice;
    use crate::store::superblock::LOG_MIN_BYTES;

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
        log.leave_what_follows();
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
