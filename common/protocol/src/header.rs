//! The fixed head of every frame, written and read by hand: 128 bytes, little-endian.
//!
//! What must stay true: a header is believed only after magic, version, crc and every length were
//! checked. `docs/protocol.md` shows the same table.

use crate::ids::{ClientId, Incarnation, RenameVersion, RingVersion, Sequence};
use crate::limits::{BODY_MAX_BYTES, PAYLOAD_MAX_BYTES};

pub const MAGIC: u32 = u32::from_le_bytes(*b"SEAL");
/// Raised when a peer of the version before could misread a frame.
pub const VERSION: u16 = 1;
pub const HEADER_BYTES: usize = 128;

/// What the body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Kind {
    /// First frame of a connection: [`crate::message::Hello`].
    Hello = 1,
    HelloReply = 2,
    /// [`crate::message::Request`] and its [`crate::message::Reply`].
    Request = 3,
    Reply = 4,
    /// [`crate::peer::PeerRequest`] and [`crate::peer::PeerReply`], between servers.
    PeerRequest = 5,
    PeerReply = 6,
    /// [`crate::manager::ManagerRequest`] and [`crate::manager::ManagerReply`].
    ManagerRequest = 7,
    ManagerReply = 8,
    /// Refusal of a frame as such: the body is a [`crate::message::FrameError`].
    Error = 9,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Hello,
        Kind::HelloReply,
        Kind::Request,
        Kind::Reply,
        Kind::PeerRequest,
        Kind::PeerReply,
        Kind::ManagerRequest,
        Kind::ManagerReply,
        Kind::Error,
    ];

    fn from_u16(v: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| *k as u16 == v)
    }
}

/// No reply is sent (a close that nobody waits for).
pub const FLAG_ONE_WAY: u32 = 1;
/// The request was sent before, perhaps over another connection.
pub const FLAG_RETRY: u32 = 2;

/// A decoded header. Zero stands for "does not apply" in every field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: Kind,
    pub flags: u32,
    pub client: ClientId,
    /// Request slot, 0..64.
    pub slot: u16,
    /// Index of a credential set registered on this connection.
    pub credential: u16,
    pub sequence: Sequence,
    pub rename_version: RenameVersion,
    pub ring_version: RingVersion,
    /// Time the sender is still willing to wait, in ms.
    pub deadline_ms: u32,
    /// Credits granted by a reply: requests that may be under way on this connection.
    pub credits: u16,
    pub incarnation: Incarnation,
    pub body_bytes: u32,
    pub payload_bytes: u32,
    /// Correlates a reply with its request on one connection.
    pub tag: u64,
}

/// Why bytes are no header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("not a sealfs frame (magic {0:#x})")]
    Magic(u32),
    #[error("protocol version {0} is not spoken here (this is version {VERSION})")]
    Version(u16),
    #[error("frame header is damaged (crc)")]
    Crc,
    #[error("unknown frame kind {0}")]
    Kind(u16),
    #[error("frame too long: body {body} bytes, payload {payload} bytes")]
    Length { body: u32, payload: u32 },
}

impl Header {
    pub fn new(kind: Kind) -> Header {
        Header {
            kind,
            flags: 0,
            client: ClientId(0),
            slot: 0,
            credential: 0,
            sequence: Sequence(0),
            rename_version: RenameVersion(0),
            ring_version: RingVersion(0),
            deadline_ms: 0,
            credits: 0,
            incarnation: Incarnation(0),
            body_bytes: 0,
            payload_bytes: 0,
            tag: 0,
        }
    }

    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut b = [0u8; HEADER_BYTES];
        b[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[4..6].copy_from_slice(&VERSION.to_le_bytes());
        b[6..8].copy_from_slice(&(self.kind as u16).to_le_bytes());
        b[8..12].copy_from_slice(&self.flags.to_le_bytes());
        b[16..32].copy_from_slice(&self.client.0.to_le_bytes());
        b[32..34].copy_from_slice(&self.slot.to_le_bytes());
        b[34..36].copy_from_slice(&self.credential.to_le_bytes());
        b[36..40].copy_from_slice(&self.deadline_ms.to_le_bytes());
        b[40..48].copy_from_slice(&self.sequence.0.to_le_bytes());
        b[48..56].copy_from_slice(&self.rename_version.0.to_le_bytes());
        b[56..64].copy_from_slice(&self.ring_version.0.to_le_bytes());
        b[64..72].copy_from_slice(&self.incarnation.0.to_le_bytes());
        b[72..76].copy_from_slice(&self.body_bytes.to_le_bytes());
        b[76..80].copy_from_slice(&self.payload_bytes.to_le_bytes());
        b[80..88].copy_from_slice(&self.tag.to_le_bytes());
        b[88..90].copy_from_slice(&self.credits.to_le_bytes());
        let crc = crate::codec::crc32c(&b);
        b[12..16].copy_from_slice(&crc.to_le_bytes());
        b
    }

    pub fn decode(b: &[u8; HEADER_BYTES]) -> Result<Header, HeaderError> {
        let magic = u32_at(b, 0);
        if magic != MAGIC {
            return Err(HeaderError::Magic(magic));
        }
        let version = u16_at(b, 4);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let mut zeroed = *b;
        zeroed[12..16].fill(0);
        if crate::codec::crc32c(&zeroed) != u32_at(b, 12) {
            return Err(HeaderError::Crc);
        }
        let raw_kind = u16_at(b, 6);
        let kind = Kind::from_u16(raw_kind).ok_or(HeaderError::Kind(raw_kind))?;
        let (body, payload) = (u32_at(b, 72), u32_at(b, 76));
        if body > BODY_MAX_BYTES || payload > PAYLOAD_MAX_BYTES {
            return Err(HeaderError::Length { body, payload });
        }
        Ok(Header {
            kind,
            flags: u32_at(b, 8),
            client: ClientId(u128::from(u64_at(b, 16)) | u128::from(u64_at(b, 24)) << 64),
            slot: u16_at(b, 32),
            credential: u16_at(b, 34),
            deadline_ms: u32_at(b, 36),
            sequence: Sequence(u64_at(b, 40)),
            rename_version: RenameVersion(u64_at(b, 48)),
            ring_version: RingVersion(u64_at(b, 56)),
            incarnation: Incarnation(u64_at(b, 64)),
            body_bytes: body,
            payload_bytes: payload,
            tag: u64_at(b, 80),
            credits: u16_at(b, 88),
        })
    }

    /// Length of what follows the header, in bytes.
    pub fn rest_bytes(&self) -> usize {
        self.body_bytes as usize + self.payload_bytes as usize
    }
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32_at(b, at)) | u64::from(u32_at(b, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_as_it_was_written() {
        let h = Header {
            flags: 3,
            client: ClientId(1 << 100 | 7),
            slot: 63,
            sequence: Sequence(9),
            body_bytes: 12,
            payload_bytes: 4096,
            tag: 77,
            credits: 64,
            ..Header::new(Kind::Request)
        };
        assert_eq!(Header::decode(&h.encode()), Ok(h));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = Header::new(Kind::Hello).encode();
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
