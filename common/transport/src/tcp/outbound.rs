//! Replies on their way out: many frames, one system call.
//!
//! Small frames are copied one behind the other into a shared segment; large payloads wait in
//! their own buffers and are sent from there. The owner of the connection bounds the queue by not
//! reading further requests while it is long.

use super::pool::Buffer;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

/// A segment of small frames is not extended beyond this, in bytes.
const SEGMENT_BYTES: usize = 64 << 10;
/// Payloads up to this are copied behind the frame before them, in bytes.
const COPIED_MAX_BYTES: usize = 4 << 10;
/// Segments gathered by one system call.
const GATHER_MAX: usize = 32;

#[derive(Default)]
pub(super) struct Outbound {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that were sent already.
    sent: usize,
    bytes: usize,
    /// A used-up segment, kept for its memory.
    spare: Vec<u8>,
}

enum Segment {
    Small(Vec<u8>),
    Large(Buffer),
}

impl Segment {
    fn as_slice(&self) -> &[u8] {
        match self {
            Segment::Small(v) => v,
            Segment::Large(b) => b,
        }
    }
}

impl Outbound {
    /// Bytes not sent yet.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes += bytes.len();
        if let Some(Segment::Small(last)) = self.segments.back_mut()
            && last.len() + bytes.len() <= SEGMENT_BYTES
        {
            last.extend_from_slice(bytes);
            return;
        }
        let mut segment = std::mem::take(&mut self.spare);
        segment.extend_from_slice(bytes);
        self.segments.push_back(Segment::Small(segment));
    }

    pub fn push_buffer(&mut self, buffer: Buffer) {
        if !buffer.is_empty() {
            self.bytes += buffer.len();
            self.segments.push_back(Segment::Large(buffer));
        }
    }

    /// Takes over bytes that were made for this frame alone.
    pub fn push_owned(&mut self, bytes: Vec<u8>) {
        if bytes.len() <= COPIED_MAX_BYTES {
            return self.push(&bytes);
        }
        self.bytes += bytes.len();
        self.segments.push_back(Segment::Small(bytes));
    }

    /// Sends as much as `to` takes. True when all is out, false when it would block.
    pub fn flush(&mut self, to: &mut impl Write) -> io::Result<bool> {
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); GATHER_MAX];
            let mut count = 0;
            for (slot, segment) in slices.iter_mut().zip(&self.segments) {
                let skip = if count == 0 { self.sent } else { 0 };
                *slot = IoSlice::new(&segment.as_slice()[skip..]);
                count += 1;
            }
            match to.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.advance(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }

    fn advance(&mut self, sent: usize) {
        self.bytes -= sent;
        self.sent += sent;
        while let Some(first) = self.segments.front() {
            let len = first.as_slice().len();
            if self.sent < len {
                return;
            }
            self.sent -= len;
            if let Some(Segment::Small(mut used)) = self.segments.pop_front()
                && used.capacity() <= 2 * SEGMENT_BYTES
            {
                used.clear();
                self.spare = used;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pool;
    use super::*;

    /// Takes `step` bytes a call, and blocks after every other call.
    struct Narrow {
        got: Vec<u8>,
        step: usize,
        calls: usize,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(2) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = bytes.len().min(self.step);
            self.got.extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_leave_in_order_through_a_narrow_socket() {
        let pool = Pool::new();
        let mut out = Outbound::default();
        let mut expected = Vec::new();
        for i in 0..100u8 {
            out.push(&[i; 700]);
            expected.extend([i; 700]);
            let mut large = pool.get(3_000);
            large.fill(!i);
            expected.extend([!i; 3_000]);
            out.push_buffer(large);
            out.push_owned(vec![i; 5_000]);
            expected.extend([i; 5_000]);
        }
        let mut to = Narrow {
            got: Vec::new(),
            step: 4_099,
            calls: 0,
        };
        while !out.flush(&mut to).unwrap() {}
        assert!(to.got == expected);
        assert_eq!(out.bytes(), 0);
    }
}
