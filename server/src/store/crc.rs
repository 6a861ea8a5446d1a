//! crc32c (Castagnoli, RFC 3720 appendix B.4) over bytes that may come in pieces.

use crc_fast::{CrcAlgorithm, Digest, checksum};

/// The checksum of `bytes`; 0 for none.
pub fn crc32c(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The checksum of what `crc` covers followed by `bytes`.
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_grows_with_its_bytes() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
        for cut in [0, 1, 7, 255, 256, 4096, 5000] {
            assert_eq!(
                extend(crc32c(&bytes[..cut]), &bytes[cut..]),
                crc32c(&bytes),
                "cut at {cut}"
            );
        }
    }
}
