//! From a stream of bytes to frames, on the server's side.
//!
//! Small frames are parsed where they were received. A large payload goes straight from the socket
//! into a pooled buffer, while header and body stay in the receive buffer, and what follows the
//! payload lands behind them in the same system call. What must stay true: memory for a frame is
//! taken only after its header was checked and its length found allowed for this peer.

use super::pool::{Buffer, Pool};
use crate::error::TransportError;
use sealfs_protocol::header::{HEADER_BYTES, Header};
use std::io::{self, IoSliceMut, Read};
use std::ops::Range;

/// Receive buffer of a connection, in bytes; it grows for a long body and shrinks again.
const BUFFER_BYTES: usize = 32 << 10;
/// Payloads beyond this go into a buffer of their own, in bytes.
const DIRECT_MIN_BYTES: usize = 16 << 10;

pub(super) struct Inbound {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The checked header at `start`, so that it is checked once.
    head: Option<Header>,
    large: Option<Large>,
    pool: Pool,
}

struct Large {
    payload: Buffer,
    filled: usize,
}

/// A frame in the receive buffer; the ranges stay valid until the next call of `parse` or `read`.
pub(super) struct Parsed {
    pub header: Header,
    pub body: Range<usize>,
    pub payload: ParsedPayload,
}

pub(super) enum ParsedPayload {
    Here(Range<usize>),
    Apart(Buffer),
}

/// How a read from the socket ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadEnd {
    /// As many bytes as there was room for: there may be more.
    Full,
    /// Fewer bytes than asked: the socket is empty for now.
    Drained,
    Closed,
}

impl Inbound {
    pub fn new(pool: Pool) -> Inbound {
        Inbound {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            head: None,
            large: None,
            pool,
        }
    }

    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The next whole frame, or `None` when more bytes are needed. `limit` bounds body and payload
    /// together, in bytes.
    pub fn parse(&mut self, limit: usize) -> Result<Option<Parsed>, TransportError> {
        if self.start == self.end {
            self.rewind();
            return Ok(None);
        }
        let Some(header) = self.header(limit)? else {
            return Ok(None);
        };
        let body_at = self.start + HEADER_BYTES;
        let payload_at = body_at + header.body_bytes as usize;
        let payload_len = header.payload_bytes as usize;
        if payload_len <= DIRECT_MIN_BYTES {
            let frame_end = payload_at + payload_len;
            if self.end < frame_end {
                self.make_room(frame_end - self.start);
                return Ok(None);
            }
            self.start = frame_end;
            self.head = None;
            return Ok(Some(Parsed {
                header,
                body: body_at..payload_at,
                payload: ParsedPayload::Here(payload_at..frame_end),
            }));
        }
        if self.large.is_none() {
            if self.end < payload_at {
                self.make_room(payload_at - self.start);
                return Ok(None);
            }
            self.begin_large(payload_at, payload_len);
        }
        match self.large.take_if(|l| l.filled == payload_len) {
            None => Ok(None),
            Some(large) => {
                self.start = payload_at;
                self.head = None;
                Ok(Some(Parsed {
                    header,
                    body: body_at..payload_at,
                    payload: ParsedPayload::Apart(large.payload),
                }))
            }
        }
    }

    fn header(&mut self, limit: usize) -> Result<Option<Header>, TransportError> {
        if self.head.is_none() {
            let Some(raw) = self.buffer[self.start..self.end].first_chunk() else {
                self.make_room(HEADER_BYTES);
                return Ok(None);
            };
            let header = Header::decode(raw)?;
            if header.rest_bytes() > limit {
                return Err(TransportError::Oversized {
                    bytes: header.rest_bytes(),
                    limit,
                });
            }
            self.head = Some(header);
        }
        Ok(self.head)
    }

    /// Moves what has arrived of a large payload into a buffer of its own.
    fn begin_large(&mut self, payload_at: usize, payload_len: usize) {
        let mut payload = self.pool.get(payload_len);
        let here = (self.end - payload_at).min(payload_len);
        payload[..here].copy_from_slice(&self.buffer[payload_at..payload_at + here]);
        self.buffer
            .copy_within(payload_at + here..self.end, payload_at);
        self.end -= here;
        self.large = Some(Large {
            payload,
            filled: here,
        });
    }

    /// Reads once. The caller has parsed all whole frames before.
    pub fn read(&mut self, from: &mut impl Read) -> io::Result<ReadEnd> {
        if self.buffer.is_empty() {
            self.buffer = vec![0; BUFFER_BYTES];
        }
        let room = self.buffer.len() - self.end;
        let (asked, got) = if let Some(large) = &mut self.large {
            let rest = &mut large.payload[large.filled..];
            let asked = rest.len() + room;
            let rest_len = rest.len();
            let got = from.read_vectored(&mut [
                IoSliceMut::new(rest),
                IoSliceMut::new(&mut self.buffer[self.end..]),
            ])?;
            let into_payload = got.min(rest_len);
            large.filled += into_payload;
            self.end += got - into_payload;
            (asked, got)
        } else {
            let got = from.read(&mut self.buffer[self.end..])?;
            self.end += got;
            (room, got)
        };
        Ok(match got {
            0 => ReadEnd::Closed,
            n if n == asked => ReadEnd::Full,
            _ => ReadEnd::Drained,
        })
    }

    /// Nothing is kept: start again at the front, and give a grown buffer back.
    fn rewind(&mut self) {
        self.start = 0;
        self.end = 0;
        if self.buffer.len() > BUFFER_BYTES {
            self.buffer = Vec::new();
        }
    }

    /// Makes sure that `len` bytes from `start` on fit, and that at least one can be read.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sealfs_protocol::header::Kind;

    /// Hands out its bytes in pieces of the given sizes.
    struct Trickle<'a> {
        bytes: &'a [u8],
        pieces: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    }

    impl Read for Trickle<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let piece = *self.pieces.next().unwrap_or(&1);
            let len = piece.min(into.len());
            self.bytes.read(&mut into[..len])
        }
    }

    fn frame(tag: u64, body: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = Header {
            tag,
            body_bytes: body.len() as u32,
            payload_bytes: payload.len() as u32,
            ..Header::new(Kind::Request)
        };
        [&header.encode()[..], body, payload].concat()
    }

    fn receive_all(
        bytes: &[u8],
        pieces: &[usize],
    ) -> Result<Vec<(u64, usize, usize)>, TransportError> {
        let mut inbound = Inbound::new(Pool::new());
        let mut from = Trickle {
            bytes,
            pieces: pieces.iter().cycle(),
        };
        let mut frames = Vec::new();
        loop {
            while let Some(p) = inbound.parse(usize::MAX)? {
                let body = inbound.bytes(p.body.clone());
                assert!(body.iter().all(|b| *b == p.header.tag as u8));
                let payload_len = match p.payload {
                    ParsedPayload::Here(r) => {
                        assert!(
                            inbound
                                .bytes(r.clone())
                                .iter()
                                .all(|b| *b == !p.header.tag as u8)
                        );
                        r.len()
                    }
                    ParsedPayload::Apart(b) => {
                        assert!(b.iter().all(|b| *b == !p.header.tag as u8));
                        b.len()
                    }
                };
                frames.push((p.header.tag, p.body.len(), payload_len));
            }
            if inbound.read(&mut from).unwrap() == ReadEnd::Closed {
                return Ok(frames);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            sizes in prop::collection::vec((0usize..70_000, 0usize..200_000), 1..6),
            pieces in prop::collection::vec(1usize..100_000, 1..6),
        ) {
            let mut stream = Vec::new();
            let mut sent = Vec::new();
            for (i, (body, payload)) in sizes.into_iter().enumerate() {
                let tag = i as u64 + 1;
                stream.extend(frame(tag, &vec![tag as u8; body], &vec![!tag as u8; payload]));
                sent.push((tag, body, payload));
            }
            prop_assert_eq!(receive_all(&stream, &pieces).unwrap(), sent);
        }

        #[test]
        fn foreign_bytes_never_panic_and_take_no_memory(
            bytes in prop::collection::vec(any::<u8>(), 0..2_000),
            pieces in prop::collection::vec(1usize..500, 1..4),
        ) {
            let whole_header = bytes.len() >= HEADER_BYTES;
            prop_assert_eq!(receive_all(&bytes, &pieces).is_err(), whole_header);
        }
    }

    #[test]
    fn a_frame_beyond_the_peers_limit_is_refused_at_its_header() {
        let mut inbound = Inbound::new(Pool::new());
        let bytes = frame(1, &[1; 10], &vec![!1; 100_000]);
        inbound.read(&mut &bytes[..HEADER_BYTES]).unwrap();
        assert!(matches!(
            inbound.parse(64 << 10),
            Err(TransportError::Oversized { bytes: 100_010, .. })
        ));
    }
}
