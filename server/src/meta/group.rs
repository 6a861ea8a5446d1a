//! One entry of the log: an atomic group of sub-records, each of one partition.
//!
//! A group is encoded while it is filled; applying it to the overlay decodes the very bytes that
//! go to the log, so that a restart does what the first run did. The logical part (sub-records,
//! puts, deletes) is what replication will send; blocks taken, freed and written are this shard's
//! own. Byte table: docs/on-disk-format.md.

use sealfs_protocol::ids::{Epoch, PartitionId, TxnId, VolumeId};

use sealfs_protocol::usage::Charge;
use smallvec::SmallVec;

use super::db::{Db, KEY_MAX_BYTES};
use crate::store::{ChunkChange, ChunkRecord, DeviceExtent};

const TAG_SUB: u8 = 1;
const TAG_PUT: u8 = 2;
const TAG_DELETE: u8 = 3;
const TAG_ALLOCATED: u8 = 4;
const TAG_FREED: u8 = 5;
const TAG_FREED_VOLATILE: u8 = 6;
const TAG_WRITTEN: u8 = 7;
const TAG_USAGE: u8 = 8;

/// One item of a group, as decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// What follows belongs to this partition.
    Sub {
        partition: PartitionId,
        epoch: Epoch,
        /// Position in the partition's own order; one more than the last.
        sequence: u64,
        txn: TxnId,
    },
    Put {
        db: Db,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        db: Db,
        key: &'a [u8],
    },
    Allocated(DeviceExtent),
    Freed {
        extent: DeviceExtent,
        volatile: bool,
    },
    /// Blocks of the chunk of the put before it, whose data replay verifies.
    Written {
        first: u32,
        blocks: u32,
    },
    /// What this sub-record adds to the usage of a volume in its partition.
    Usage(Charge),
}

/// A group under construction: `Meta::group`, fill, `Meta::append`.
#[derive(Default)]
pub struct Group {
    bytes: Vec<u8>,
    /// Where in `bytes` the sub-records begin.
    subs: Vec<(PartitionId, usize)>,
    /// What the last sub-record adds to the usage of volumes, stated at its end.
    charges: SmallVec<[Charge; 2]>,
}

/// Offset of the sequence within an encoded sub-record.
const SUB_SEQUENCE_AT: usize = 7;

impl Group {
    /// Begins the sub-record of a partition. `TxnId(0)`: no transaction over shards.
    pub fn sub(&mut self, partition: PartitionId, epoch: Epoch, txn: TxnId) {
        self.close();
        self.subs.push((partition, self.bytes.len()));
        self.bytes.push(TAG_SUB);
        self.field(&partition.0.to_le_bytes());
        self.field(&epoch.0.to_le_bytes());
        self.field(&0u64.to_le_bytes());
        self.field(&txn.0.to_le_bytes());
    }

    /// `key` begins with the partition of this sub-record.
    pub fn put(&mut self, db: Db, key: &[u8], value: &[u8]) {
        self.put_with(db, key, |bytes| bytes.extend_from_slice(value));
    }

    pub fn delete(&mut self, db: Db, key: &[u8]) {
        self.check_key(db, key);
        self.bytes.extend_from_slice(&[TAG_DELETE, db as u8]);
        self.field(&(key.len() as u16).to_le_bytes());
        self.field(key);
    }

    /// Adds to what this sub-record says of a volume's usage. Chunks charge their own space.
    pub fn charge(&mut self, charge: Charge) {
        if charge.is_nothing() {
            return;
        }
        let mut charges = self.charges.iter_mut();
        match charges.find(|c| c.volume == charge.volume) {
            Some(sum) => {
                sum.bytes += charge.bytes;
                sum.inodes += charge.inodes;
            }
            None => self.charges.push(charge),
        }
    }

    /// Nothing more comes into the last sub-record.
    pub(super) fn close(&mut self) {
        for charge in std::mem::take(&mut self.charges) {
            if !charge.is_nothing() {
                self.bytes.push(TAG_USAGE);
                self.field(&charge.volume.0.to_le_bytes());
                self.field(&charge.bytes.to_le_bytes());
                self.field(&charge.inodes.to_le_bytes());
            }
        }
    }

    /// Logs a change that the block store made of the chunk with this key.
    pub fn put_chunk(&mut self, key: &[u8], change: &ChunkChange) {
        self.put_with(Db::Chunk, key, |bytes| change.record.encode_into(bytes));
        if !change.record.volatile {
            for &(first, blocks) in &change.written {
                self.bytes.push(TAG_WRITTEN);
                self.field(&first.to_le_bytes());
                self.field(&blocks.to_le_bytes());
            }
        }
        for &extent in &change.allocated {
            self.bytes.push(TAG_ALLOCATED);
            self.extent(extent);
        }
        for &extent in &change.freed {
            self.freed(extent, change.record.volatile);
        }
        self.charge(change.charge());
    }

    /// Deletes a chunk, whose record is `record`, and frees its blocks.
    pub fn drop_chunk(&mut self, key: &[u8], record: &ChunkRecord) {
        self.delete(Db::Chunk, key);
        for e in &record.extents {
            let extent = DeviceExtent {
                block: e.device_block,
                blocks: e.blocks,
            };
            self.freed(extent, record.volatile);
        }
        self.charge(record.dropped());
    }

    /// Bytes of the entry so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.subs.clear();
        self.charges.clear();
    }

    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// Numbers the sub-records; called once, right before the group is logged.
    pub(super) fn number(&mut self, mut next: impl FnMut(PartitionId) -> u64) {
        for &(partition, at) in &self.subs {
            let at = at + SUB_SEQUENCE_AT;
            self.bytes[at..at + 8].copy_from_slice(&next(partition).to_le_bytes());
        }
    }

    fn put_with(&mut self, db: Db, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
        self.check_key(db, key);
        self.bytes.extend_from_slice(&[TAG_PUT, db as u8]);
        self.field(&(key.len() as u16).to_le_bytes());
        let len_at = self.bytes.len();
        self.field(&0u32.to_le_bytes());
        self.field(key);
        let value_at = self.bytes.len();
        value(&mut self.bytes);
        let len = (self.bytes.len() - value_at) as u32;
        self.bytes[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn check_key(&self, db: Db, key: &[u8]) {
        assert!(
            !key.is_empty() && key.len() <= KEY_MAX_BYTES,
            "a key of {} bytes",
            key.len()
        );
        debug_assert!(
            matches!(db, Db::Meta)
                || self
                    .subs
                    .last()
                    .is_some_and(|(p, _)| key.starts_with(&p.0.to_be_bytes())),
            "a key outside its sub-record's partition"
        );
    }

    fn freed(&mut self, extent: DeviceExtent, volatile: bool) {
        self.bytes.push(if volatile {
            TAG_FREED_VOLATILE
        } else {
            TAG_FREED
        });
        self.extent(extent);
    }

    fn extent(&mut self, extent: DeviceExtent) {
        self.field(&extent.block.to_le_bytes());
        self.field(&extent.blocks.to_le_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }
}

/// Decodes the items of a group; yields `Err` once, at the end, if the bytes do not parse.
pub struct Items<'a> {
    bytes: &'a [u8],
}

/// The bytes of a group do not parse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl<'a> Items<'a> {
    pub fn new(bytes: &'a [u8]) -> Items<'a> {
        Items { bytes }
    }

    fn item(&mut self) -> Option<Item<'a>> {
        let [tag] = self.array()?;
        Some(match tag {
            TAG_SUB => Item::Sub {
                partition: PartitionId(u16::from_le_bytes(self.array()?)),
                epoch: Epoch(u32::from_le_bytes(self.array()?)),
                sequence: u64::from_le_bytes(self.array()?),
                txn: TxnId(u128::from_le_bytes(self.array()?)),
            },
            TAG_PUT => {
                let db = self.db()?;
                let key_len = u16::from_le_bytes(self.array()?);
                let value_len = u32::from_le_bytes(self.array()?);
                let key = self.key(key_len)?;
                let value = self.take(value_len as usize)?;
                Item::Put { db, key, value }
            }
            TAG_DELETE => {
                let db = self.db()?;
                let key_len = u16::from_le_bytes(self.array()?);
                let key = self.key(key_len)?;
                Item::Delete { db, key }
            }
            TAG_ALLOCATED => Item::Allocated(self.extent()?),
            TAG_FREED | TAG_FREED_VOLATILE => Item::Freed {
                extent: self.extent()?,
                volatile: tag == TAG_FREED_VOLATILE,
            },
            TAG_WRITTEN => Item::Written {
                first: u32::from_le_bytes(self.array()?),
                blocks: u32::from_le_bytes(self.array()?),
            },
            TAG_USAGE => Item::Usage(Charge {
                volume: VolumeId(u32::from_le_bytes(self.array()?)),
                bytes: i64::from_le_bytes(self.array()?),
                inodes: i64::from_le_bytes(self.array()?),
            }),
            _ => return None,
        })
    }

    fn db(&mut self) -> Option<Db> {
        let [number] = self.array()?;
        Db::try_from(number).ok()
    }

    fn key(&mut self, len: u16) -> Option<&'a [u8]> {
        let len = usize::from(len);
        (1..=KEY_MAX_BYTES).contains(&len).then(|| self.take(len))?
    }

    fn extent(&mut self) -> Option<DeviceExtent> {
        let block = u64::from_le_bytes(self.array()?);
        let blocks = u32::from_le_bytes(self.array()?);
        Some(DeviceExtent { block, blocks })
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Item<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let item = self.item().ok_or(Malformed);
        if item.is_err() {
            self.bytes = &[];
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::db::key;
    use proptest::prelude::*;
    use sealfs_protocol::ids::InodeId;

    #[test]
    fn a_group_reads_back_item_by_item() {
        let p = PartitionId(5);
        let ino = key::ino(p, InodeId(9));
        let mut group = Group::default();
        group.sub(p, Epoch(2), TxnId(77));
        group.put(Db::Ino, &ino, b"value");
        group.delete(Db::Orphan, &ino);
        let charge = |bytes| Charge {
            volume: VolumeId(3),
            bytes,
            inodes: 1,
        };
        group.charge(charge(-4096));
        group.charge(charge(8192));
        group.close();
        group.number(|_| 41);
        let items: Vec<_> = Items::new(group.encoded()).map(Result::unwrap).collect();
        let expected = [
            Item::Sub {
                partition: p,
                epoch: Epoch(2),
                sequence: 41,
                txn: TxnId(77),
            },
            Item::Put {
                db: Db::Ino,
                key: &ino,
                value: b"value",
            },
            Item::Delete {
                db: Db::Orphan,
                key: &ino,
            },
            Item::Usage(Charge {
                volume: VolumeId(3),
                bytes: 4096,
                inodes: 2,
            }),
        ];
        assert_eq!(items, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(0..10u8, 0..200)) {
            let _ = Items::new(&bytes).count();
        }
    }
}
