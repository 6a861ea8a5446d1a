//! Bodies to bytes and back: rkyv with checked access, and the crc that guards headers.
//!
//! What must stay true: `decode` is total. Any bytes give a value or an error.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

/// Bytes that are no message of the expected type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed message body")]
pub struct Malformed;

/// Serialises a body; what it cannot encode (nothing of ours) comes back as an error.
pub fn encode<T>(value: &T) -> Result<AlignedVec, Malformed>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, Error>>,
{
    rkyv::to_bytes::<Error>(value).map_err(|_| Malformed)
}

/// Parses and copies out a body that came from outside.
pub fn decode<T>(bytes: &[u8]) -> Result<T, Malformed>
where
    T: Archive,
    T::Archived:
        for<'a> CheckBytes<HighValidator<'a, Error>> + Deserialize<T, HighDeserializer<Error>>,
{
    rkyv::from_bytes::<T, Error>(bytes).map_err(|_| Malformed)
}

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4). Not by crc-fast, which brings 700 KiB of relocated
/// tables into every program that the library is loaded into (100 µs at each start).
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string_is_the_published_one() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
