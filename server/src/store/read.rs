//! Reading a chunk: straight into the caller's buffer where whole blocks are wanted, every block
//! verified before it is believed. What was not written is not read: it is zeros.

use super::chunk::{BLOCK_BYTES, ChunkRecord};
use super::extent::ChunkExtent;
use super::{BlockStore, ChunkName, StoreError, crc};
use crate::env::BlockDevice;

impl<D: BlockDevice> BlockStore<D> {
    /// Fills `out` with the chunk's bytes from `offset` on; holes, and what lies past the
    /// committed length, are zeros. A mismatch is `Corrupt` (EIO); `out` is then undefined.
    pub fn read(
        &self,
        name: ChunkName,
        record: &ChunkRecord,
        offset: u32,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let len = u32::try_from(out.len()).map_err(|_| StoreError::TooLarge)?;
        let until = offset.checked_add(len).ok_or(StoreError::TooLarge)?;
        let data_until = until.min(record.end);
        let mut filled = offset;
        let mut crcs = record.crcs.as_slice();
        for extent in record.extents.iter().filter(|e| e.is_written()) {
            let (own, rest) = crcs.split_at(extent.blocks as usize);
            crcs = rest;
            let from = filled.max(extent.first * BLOCK_BYTES);
            let to = data_until.min(extent.until() * BLOCK_BYTES);
            if from >= to {
                continue;
            }
            out[(filled - offset) as usize..(from - offset) as usize].fill(0);
            let target = &mut out[(from - offset) as usize..(to - offset) as usize];
            self.read_extent(name, record, (*extent, own), from, target)?;
            filled = to;
        }
        out[(filled - offset) as usize..].fill(0);
        Ok(())
    }

    /// Fills `out` from byte `from` of the chunk on; all of it lies in one extent.
    fn read_extent(
        &self,
        name: ChunkName,
        record: &ChunkRecord,
        (extent, crcs): (ChunkExtent, &[u32]),
        from: u32,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let mut at = from;
        let mut out = out;
        while !out.is_empty() {
            let block = at / BLOCK_BYTES;
            let index = (block - extent.first) as usize;
            let device_block = extent.device_block + index as u64;
            let within = (at % BLOCK_BYTES) as usize;
            let committed = record.committed_in(block) as usize;
            let taken = if within > 0 || out.len() < committed {
                // A part of a block: all of it is read and verified, the part copied.
                let mut whole = [0; BLOCK_BYTES as usize];
                let covered = &mut whole[..committed];
                let place = (name, block, device_block);
                self.read_verified(place, &crcs[index..=index], covered)?;
                let taken = out.len().min(committed - within);
                out[..taken].copy_from_slice(&covered[within..within + taken]);
                taken
            } else {
                let whole = out.len() / BLOCK_BYTES as usize;
                let mut taken = whole * BLOCK_BYTES as usize;
                if out.len() > taken
                    && record.committed_in(block + whole as u32) as usize == out.len() - taken
                {
                    taken = out.len();
                }
                let blocks = taken.div_ceil(BLOCK_BYTES as usize);
                let place = (name, block, device_block);
                self.read_verified(place, &crcs[index..index + blocks], &mut out[..taken])?;
                taken
            };
            at += taken as u32;
            out = &mut out[taken..];
        }
        Ok(())
    }

    /// Reads whole blocks (the last one up to its committed length) and verifies each.
    pub(super) fn read_verified(
        &self,
        (name, block, device_block): (ChunkName, u32, u64),
        crcs: &[u32],
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        let device_offset = self.device_offset(device_block);
        self.device
            .read_at(out, device_offset)
            .map_err(StoreError::io(self.device.name()))?;
        for (i, (bytes, &crc)) in out.chunks(BLOCK_BYTES as usize).zip(crcs).enumerate() {
            if crc::crc32c(bytes) != crc {
                return Err(StoreError::Corrupt {
                    ino: name.ino,
                    chunk: name.index,
                    offset_bytes: (block + i as u32) * BLOCK_BYTES,
                    device: self.device.name().to_owned(),
                    device_offset_bytes: device_offset + i as u64 * u64::from(BLOCK_BYTES),
                });
            }
        }
        Ok(())
    }
}
