//! What makes a device ours: two superblocks, written in turn, so that one is always whole.
//!
//! The copy with the higher sequence and a right checksum is in force. They say which store and
//! shard the device belongs to, where its regions lie, and, on the device with the log, the shard's
//! life, incarnation and boot. Byte table: docs/on-disk-format.md.

use std::io::IoSlice;

use sealfs_protocol::ids::{ClusterId, Incarnation, ShardId};

use super::foreign::refuse_foreign;
use super::{OpenError, Region, crc};
use crate::env::BlockDevice;

const MAGIC: [u8; 8] = *b"SEALFSB\n";
pub const FORMAT_VERSION: u32 = 1;
/// Where the two copies lie, in bytes from the start of the device.
pub const COPIES: [u64; 2] = [0, 64 * 1024];
/// Bytes of one copy.
pub const SUPERBLOCK_BYTES: usize = 512;
/// Regions begin behind this, in bytes.
pub const REGIONS_FROM: u64 = 1 << 20;
/// Smallest log region and smallest data region, in bytes.
pub const LOG_MIN_BYTES: u64 = 4 << 20;
pub const DATA_MIN_BYTES: u64 = 8 << 20;
/// Smallest device that holds both, in bytes.
pub const STORE_MIN_BYTES: u64 = REGIONS_FROM + LOG_MIN_BYTES + DATA_MIN_BYTES;

/// What a device holds, as bits.
pub const ROLE_LOG: u8 = 1;
pub const ROLE_DATA: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Counts the writes of this superblock.
    pub sequence: u64,
    /// Identity of the store, the same on all its devices and in its index.
    pub uuid: u128,
    pub cluster: ClusterId,
    pub shard: ShardId,
    pub role: u8,
    /// False while a store is being made: what it holds then counts as blank.
    pub ready: bool,
    pub log: Region,
    pub data: Region,
    /// Counts the openings of the store; each log record carries that of its time.
    pub life: u32,
    pub incarnation: Incarnation,
    /// `/proc/sys/kernel/random/boot_id` of the last opening.
    pub boot_id: u128,
}

impl Superblock {
    fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&FORMAT_VERSION.to_le_bytes());
        put(&[self.role, u8::from(self.ready), 0, 0]);
        put(&self.sequence.to_le_bytes());
        put(&self.uuid.to_le_bytes());
        put(&self.cluster.0.to_le_bytes());
        put(&self.shard.0.to_le_bytes());
        put(&self.life.to_le_bytes());
        for region in [self.log, self.data] {
            put(&region.offset.to_le_bytes());
            put(&region.len.to_le_bytes());
        }
        put(&self.incarnation.0.to_le_bytes());
        put(&self.boot_id.to_le_bytes());
        let crc = crc::crc32c(&bytes[..SUPERBLOCK_BYTES - 4]);
        bytes[SUPERBLOCK_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SUPERBLOCK_BYTES]) -> Copy {
        if bytes[..8] != MAGIC {
            return Copy::None;
        }
        let (body, crc) = bytes.split_at(SUPERBLOCK_BYTES - 4);
        if crc::crc32c(body).to_le_bytes() != crc {
            return Copy::Torn;
        }
        let mut at = 8;
        let mut take = |len: usize| {
            at += len;
            &body[at - len..at]
        };
        let version = le(take(4)) as u32;
        if version != FORMAT_VERSION {
            return Copy::Version(version);
        }
        let flags = take(4);
        let (role, ready) = (flags[0], flags[1] != 0);
        let sequence = le(take(8)) as u64;
        let (uuid, cluster) = (le(take(16)), ClusterId(le(take(16))));
        let (shard, life) = (ShardId(le(take(4)) as u32), le(take(4)) as u32);
        let mut region = || Region {
            offset: le(take(8)) as u64,
            len: le(take(8)) as u64,
        };
        let (log, data) = (region(), region());
        Copy::Whole(Superblock {
            sequence,
            uuid,
            cluster,
            shard,
            role,
            ready,
            log,
            data,
            life,
            incarnation: Incarnation(le(take(8)) as u64),
            boot_id: le(take(16)),
        })
    }

    /// Writes the copy that is not in force, and flushes. The other one stays until the next time.
    pub fn write(&mut self, device: &impl BlockDevice) -> std::io::Result<()> {
        self.sequence += 1;
        let at = COPIES[(self.sequence % 2) as usize];
        device.write_at(&[IoSlice::new(&self.encode())], at)?;
        device.flush()
    }

    /// The superblock in force; `None` on a blank device. A device that holds something else is
    /// refused.
    pub fn read(device: &impl BlockDevice) -> Result<Option<Superblock>, OpenError> {
        let name = || device.name().to_owned();
        let mut newest: Option<Superblock> = None;
        let mut torn = 0;
        for at in COPIES {
            let mut bytes = [0; SUPERBLOCK_BYTES];
            if at + SUPERBLOCK_BYTES as u64 > device.size_bytes() {
                continue;
            }
            device
                .read_at(&mut bytes, at)
                .map_err(OpenError::io(device.name()))?;
            match Superblock::decode(&bytes) {
                Copy::None => {}
                Copy::Torn => torn += 1,
                Copy::Version(version) => {
                    return Err(OpenError::Version {
                        name: name(),
                        version,
                        known: FORMAT_VERSION,
                    });
                }
                Copy::Whole(s) => {
                    if newest.is_none_or(|n| n.sequence < s.sequence) {
                        newest = Some(s);
                    }
                }
            }
        }
        match newest {
            Some(s) if !s.inside(device.size_bytes()) => Err(OpenError::Damaged {
                name: name(),
                what: "its superblock names regions outside the device",
            }),
            Some(s) => Ok(Some(s)),
            // The first superblock of all was torn: nothing else was ever written.
            None if torn == 1 => Ok(None),
            None if torn > 1 => Err(OpenError::Damaged {
                name: name(),
                what: "both its superblocks are damaged",
            }),
            None => refuse_foreign(device).map(|()| None),
        }
    }

    fn inside(&self, size_bytes: u64) -> bool {
        [self.log, self.data].iter().all(|r| {
            r.len == 0
                || r.offset >= REGIONS_FROM
                    && r.offset.checked_add(r.len).is_some_and(|e| e <= size_bytes)
        })
    }
}

/// What one copy's place holds.
enum Copy {
    None,
    Torn,
    Version(u32),
    Whole(Superblock),
}

/// A little-endian number of up to 16 bytes.
fn le(bytes: &[u8]) -> u128 {
    let mut wide = [0; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryDevice;

    fn superblock() -> Superblock {
        Superblock {
            sequence: 0,
            uuid: 1 << 100,
            cluster: ClusterId(2 << 100),
            shard: ShardId(3),
            role: ROLE_LOG | ROLE_DATA,
            ready: true,
            log: Region {
                offset: REGIONS_FROM,
                len: 1 << 20,
            },
            data: Region {
                offset: 2 << 20,
                len: 1 << 20,
            },
            life: 9,
            incarnation: Incarnation(8),
            boot_id: 7 << 100,
        }
    }

    #[test]
    fn it_reads_back_and_survives_the_loss_of_the_newer_copy() {
        let device = MemoryDevice::new("d", 4 << 20);
        let mut s = superblock();
        s.write(&device).unwrap();
        let first = s;
        s.life = 10;
        s.write(&device).unwrap();
        assert_eq!(Superblock::read(&device).unwrap(), Some(s));
        let torn = [IoSlice::new(&[0xff; 100])];
        device
            .write_at(&torn, COPIES[(s.sequence % 2) as usize] + 100)
            .unwrap();
        assert_eq!(Superblock::read(&device).unwrap(), Some(first));
    }

    #[test]
    fn regions_outside_the_device_are_refused() {
        let device = MemoryDevice::new("d", 2 << 20);
        superblock().write(&device).unwrap();
        let refused = Superblock::read(&device).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    }
}
