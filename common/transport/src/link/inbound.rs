//! Replies as they come in: parsed where they were received, payloads straight to their places.
//!
//! The machine can stop after any byte and go on later, perhaps by another thread: whoever holds it
//! is the leader. What must stay true: a reply that nobody waits for, or whose payload is longer
//! than its place, is passed over without harm to the replies behind it.

use super::table::{Table, Targets};
use crate::error::TransportError;
use crate::memory::{Hooks, IoVecMut};
use crate::world::Stream;
use sealfs_protocol::header::{HEADER_BYTES, Header};

/// Receive buffer, in bytes; it grows for long bodies.
const BUFFER_BYTES: usize = 32 << 10;
/// Places of one reply's payload that one system call fills.
const SCATTER_MAX: usize = 16;

pub(super) struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    current: Option<Current>,
}

/// A reply whose body is in the buffer at `start` and whose payload is under way.
struct Current {
    header: Header,
    /// `None`: nobody waits for it.
    entry: Option<(usize, Targets)>,
    /// Payload bytes taken from the stream so far, and those of them that landed.
    taken: usize,
    landed: usize,
    fault: bool,
}

impl Inbound {
    pub fn new() -> Inbound {
        Inbound {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            current: None,
        }
    }

    /// The entry that this machine holds claimed, if any.
    pub fn claimed(&self) -> Option<usize> {
        self.current.as_ref()?.entry.map(|(index, _)| index)
    }

    /// Receives once and delivers every reply that is complete by then. False: nothing had come.
    pub fn advance(
        &mut self,
        stream: &Stream,
        table: &Table,
        hooks: &Hooks,
    ) -> Result<bool, TransportError> {
        if !self.receive(stream)? {
            return Ok(false);
        }
        while self.parse(table, hooks)? {}
        Ok(true)
    }

    /// One system call; payload of the current reply first, then whatever follows.
    fn receive(&mut self, stream: &Stream) -> Result<bool, TransportError> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_BYTES];
        }
        let room = &mut self.buffer[self.end..];
        let mut places: [IoVecMut<'_>; SCATTER_MAX + 1] =
            core::array::from_fn(|_| IoVecMut::new(&mut []));
        let (count, direct) = match &self.current {
            Some(current) => current.places(&mut places[..SCATTER_MAX]),
            None => (0, 0),
        };
        places[count] = IoVecMut::new(room);
        let got = match stream.receive(&mut places[..=count]) {
            Ok(Some(n)) => n,
            Ok(None) => return Ok(false),
            Err(TransportError::Fault) => {
                if let Some(current) = &mut self.current {
                    current.fault = true;
                }
                return Ok(true);
            }
            Err(e) => return Err(e),
        };
        let into_places = got.min(direct);
        if let Some(current) = &mut self.current {
            current.taken += into_places;
            current.landed += into_places;
        }
        self.end += got - into_places;
        Ok(true)
    }

    /// Takes one step; false when more bytes are needed.
    fn parse(&mut self, table: &Table, hooks: &Hooks) -> Result<bool, TransportError> {
        if self.current.is_none() && !self.begin(table)? {
            return Ok(false);
        }
        let Some(current) = &mut self.current else {
            return Ok(false);
        };
        let body_at = self.start + HEADER_BYTES;
        let payload_at = body_at + current.header.body_bytes as usize;
        let payload_len = current.header.payload_bytes as usize;
        let here = (self.end - payload_at).min(payload_len - current.taken);
        current.absorb(&self.buffer[payload_at..payload_at + here], hooks);
        if current.taken < payload_len {
            // What was here has moved on: the place behind the body is free again.
            self.end = payload_at;
            self.make_room_behind_body();
            return Ok(false);
        }
        if let Some((index, _)) = current.entry {
            let body = &self.buffer[body_at..payload_at];
            table.deliver(index, current.header, body, current.landed, current.fault);
        }
        self.current = None;
        self.start = payload_at + here;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            self.buffer.truncate(BUFFER_BYTES);
        }
        Ok(true)
    }

    /// With header and body in the buffer, makes their reply the current one.
    fn begin(&mut self, table: &Table) -> Result<bool, TransportError> {
        let Some(raw) = self.buffer[self.start..self.end].first_chunk() else {
            self.make_room(HEADER_BYTES);
            return Ok(false);
        };
        let header = Header::decode(raw)?;
        let head_len = HEADER_BYTES + header.body_bytes as usize;
        if self.end - self.start < head_len {
            self.make_room(head_len);
            return Ok(false);
        }
        self.current = Some(Current {
            header,
            entry: table.claim(header.tag),
            taken: 0,
            landed: 0,
            fault: false,
        });
        Ok(true)
    }

    /// A payload comes next: something of what follows it must find room, too.
    fn make_room_behind_body(&mut self) {
        if self.end == self.buffer.len() {
            let len = self.end - self.start;
            self.make_room(len + HEADER_BYTES);
        }
    }

    /// Makes sure that `len` bytes from `start` on fit.
    fn make_room(&mut self, len: usize) {
        if self.start + len <= self.buffer.len() {
            return;
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if len > self.buffer.len() {
            self.buffer.resize(len.next_multiple_of(BUFFER_BYTES), 0);
        }
    }
}

#[allow(
    unsafe_code,
    reason = "writes to the memory of the thread that waits for the reply"
)]
impl Current {
    /// Where the rest of the payload goes: places filled in, and their length together.
    fn places(&self, out: &mut [IoVecMut<'_>]) -> (usize, usize) {
        let Some((_, targets)) = self.entry else {
            return (0, 0);
        };
        if self.fault || self.landed < self.taken {
            return (0, 0);
        }
        // SAFETY: the entry is claimed: its owner waits until we deliver or fail it.
        let list = unsafe { targets.list() };
        let (mut at, mut count, mut sum) = (0, 0, 0);
        let end = self.header.payload_bytes as usize;
        for v in list {
            let part = v.raw_part(self.taken.saturating_sub(at), end.saturating_sub(at));
            at += v.len();
            if part.is_empty() {
                continue;
            }
            if count == out.len() {
                break;
            }
            sum += part.len();
            out[count] = part;
            count += 1;
        }
        (count, sum)
    }

    /// Takes payload bytes that came into the receive buffer.
    fn absorb(&mut self, bytes: &[u8], hooks: &Hooks) {
        if bytes.is_empty() {
            return;
        }
        if let Some((_, targets)) = self.entry
            && !self.fault
            && self.landed == self.taken
        {
            // SAFETY: as in `places`.
            let list = unsafe { targets.list() };
            let room: usize = list.iter().map(IoVecMut::len).sum();
            let fits = room.saturating_sub(self.landed).min(bytes.len());
            self.fault = !copy_to(list, self.landed, &bytes[..fits], hooks);
            if !self.fault {
                self.landed += fits;
            }
        }
        self.taken += bytes.len();
    }
}

/// Copies to the places from byte `from` of them on; false for a fault.
fn copy_to(list: &[IoVecMut<'static>], from: usize, bytes: &[u8], hooks: &Hooks) -> bool {
    let (mut at, mut left) = (0usize, bytes);
    for v in list {
        let skip = (from.saturating_sub(at)).min(v.len());
        at += v.len();
        let now = (v.len() - skip).min(left.len());
        if now > 0 {
            let part = v.raw_part(skip, skip + now);
            if hooks.copy_to(&mut [part], 0, &left[..now]).is_err() {
                return false;
            }
            left = &left[now..];
        }
        if left.is_empty() {
            break;
        }
    }
    true
}
