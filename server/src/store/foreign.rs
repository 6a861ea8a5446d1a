//! Whether a device holds something that is not ours: the signatures of what is usually found.
//!
//! Offsets and values follow the file systems' own headers, as libblkid(3) has them. What matches
//! none but is not blank either is somebody's too.

use super::OpenError;
use crate::env::BlockDevice;

/// How much of the start is looked at; signatures farther in are asked for one by one.
const START_BYTES: usize = 68 * 1024;

/// (offset, signature, what it means)
const SIGNATURES: &[(usize, &[u8], &str)] = &[
    (0x438, &[0x53, 0xef], "an ext2/3/4 file system"),
    (0, b"XFSB", "an XFS file system"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (0x400, &[0x10, 0x20, 0xf5, 0xf2], "an F2FS file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4086, b"SWAP-SPACE", "swap space"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0x1000, &[0xfc, 0x4e, 0x2b, 0xa9], "a RAID member"),
    (0, &[0xfc, 0x4e, 0x2b, 0xa9], "a RAID member"),
    (0, b"LABELONE", "an LVM physical volume"),
    (512, b"LABELONE", "an LVM physical volume"),
    (1024, b"LABELONE", "an LVM physical volume"),
    (1536, b"LABELONE", "an LVM physical volume"),
    (0x8001, b"CD001", "an ISO 9660 image"),
    (0, b"hsqs", "a squashfs image"),
    (3, b"NTFS    ", "an NTFS file system"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (4096, b"EFI PART", "a partition table (GPT)"),
    (510, &[0x55, 0xaa], "a partition table or a FAT file system"),
];

/// Refuses a device that is not blank. Call it when the device has no superblock of ours.
pub(super) fn refuse_foreign(device: &impl BlockDevice) -> Result<(), OpenError> {
    let mut start = vec![0; START_BYTES.min(device.size_bytes() as usize)];
    device
        .read_at(&mut start, 0)
        .map_err(OpenError::io(device.name()))?;
    let matches = |&&(offset, signature, _): &&(usize, &[u8], &str)| {
        start
            .get(offset..)
            .is_some_and(|s| s.starts_with(signature))
    };
    let what = match SIGNATURES.iter().find(matches) {
        Some((_, _, what)) => what,
        None if start.iter().any(|&b| b != 0) => "data of an unknown kind",
        None => return Ok(()),
    };
    Err(OpenError::Foreign {
        name: device.name().to_owned(),
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryDevice;

    #[test]
    fn each_signature_is_refused_by_name_and_a_blank_device_is_not() {
        assert!(refuse_foreign(&MemoryDevice::new("blank", 1 << 20)).is_ok());
        for (offset, signature, what) in SIGNATURES {
            let mut bytes = vec![0; 1 << 20];
            bytes[*offset..offset + signature.len()].copy_from_slice(signature);
            let refused = refuse_foreign(&MemoryDevice::from_bytes("x", bytes)).unwrap_err();
            assert!(refused.to_string().contains(what), "{refused}");
        }
    }
}
