//! Writing a chunk: copy-on-write to fresh blocks, in place only past the committed length and in
//! blocks that were never written.
//!
//! What must stay true: no byte that a record's checksum covers is ever overwritten while that
//! record could come back after a power cut. A block that is covered in part is therefore written
//! anew as a whole, from its verified old bytes and the new ones; only a pure append continues in
//! the last block, whose checksum covers nothing past the committed length. A block that is
//! allocated and not written has never had a checksum at its place; so it never becomes one that
//! is not written again (`reserve`).

use std::io::IoSlice;

use smallvec::SmallVec;

use super::chunk::{BLOCK_BYTES, CHUNK_MAX_BYTES, ChunkRecord};
use super::extent::{ChunkExtent, State};
use super::{BlockStore, ChunkChange, ChunkName, StoreError, WriteAs, crc};
use crate::env::BlockDevice;

const BLOCK: usize = BLOCK_BYTES as usize;
pub(super) static ZEROS: [u8; BLOCK] = [0; BLOCK];

type Slices<'a> = SmallVec<[IoSlice<'a>; 16]>;
type Extents = SmallVec<[ChunkExtent; 4]>;

/// Bytes in pieces, taken from the front.
#[derive(Clone)]
struct Pieces<'a, 'b> {
    slices: &'b [IoSlice<'a>],
    /// Already taken from the first slice.
    taken: usize,
}

impl<'a, 'b> Pieces<'a, 'b> {
    fn new(slices: &'b [IoSlice<'a>]) -> Pieces<'a, 'b> {
        Pieces { slices, taken: 0 }
    }

    /// The next `len` bytes, in as many slices as they come. They must be there.
    fn take(&mut self, mut len: usize, mut each: impl FnMut(&'b [u8])) {
        while len > 0 {
            let slice = &self.slices[0][self.taken..];
            let taken = slice.len().min(len);
            if taken > 0 {
                each(&slice[..taken]);
            }
            len -= taken;
            self.taken += taken;
            if taken == slice.len() {
                self.slices = &self.slices[1..];
                self.taken = 0;
            }
        }
    }
}

impl<D: BlockDevice> BlockStore<D> {
    /// Writes `data` at `offset` of a chunk whose record is `old` (`None`: it has none yet). The
    /// data is on the device when this returns; `out` holds the new record, to be logged now.
    /// After an error `out` holds nothing.
    pub fn write(
        &mut self,
        name: ChunkName,
        old: Option<&ChunkRecord>,
        offset: u32,
        data: &[IoSlice<'_>],
        how: WriteAs,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        let len: usize = data.iter().map(|d| d.len()).sum();
        let end = end_of(offset, len)?;
        out.begin(old, how);
        let mut data = Pieces::new(data);
        let result = self
            .append_in_place(offset, end, &mut data, out)
            .and_then(|at| self.write_fresh(name, (at, end), &mut data, out));
        self.settle(result, out)
    }

    /// Cuts a chunk to `len` bytes, with all blocks behind, or (`spare`) those alone that were
    /// written. Also installs `how.generation` where nothing is cut.
    pub fn truncate(
        &mut self,
        name: ChunkName,
        old: &ChunkRecord,
        (len, spare): (u32, bool),
        how: WriteAs,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        out.begin(Some(old), how);
        let behind = len.div_ceil(BLOCK_BYTES);
        let goes = |e: &ChunkExtent| e.is_written() || !spare;
        for e in old.extents_in(behind, u32::MAX).filter(goes) {
            out.record.remove(e.first, e.until(), &mut out.freed);
        }
        if len >= old.end {
            return Ok(());
        }
        let result = self.cut(name, len, out);
        self.settle(result, out)
    }

    fn cut(&mut self, name: ChunkName, len: u32, out: &mut ChunkChange) -> Result<(), StoreError> {
        let record = &mut out.record;
        let block = len / BLOCK_BYTES;
        let kept = (len % BLOCK_BYTES) as usize;
        let mut last = [0; BLOCK];
        let cow = kept > 0 && record.locate(block).is_some();
        if cow {
            // The part that is kept moves: appends may go over the rest of its block later, which
            // the old record still covers.
            self.read_block(name, record, block, &mut last)?;
        }
        record.end = len;
        if cow {
            let slices = [IoSlice::new(&last[..kept])];
            let span = (block * BLOCK_BYTES, len);
            self.write_fresh(name, span, &mut Pieces::new(&slices), out)?;
        }
        Ok(())
    }

    /// Writes zeros where the bytes `from..until`, all in one block, were written.
    pub(super) fn write_zeros(
        &mut self,
        name: ChunkName,
        (from, until): (u32, u32),
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        if from >= until || out.record.locate(from / BLOCK_BYTES).is_none() {
            return Ok(());
        }
        let slices = [IoSlice::new(&ZEROS[..(until - from) as usize])];
        self.write_fresh(name, (from, until), &mut Pieces::new(&slices), out)
    }

    pub(super) fn settle(
        &mut self,
        result: Result<(), StoreError>,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        if result.is_err() {
            self.abandon(out);
        }
        result
    }

    /// If the write begins at or past the committed length, and that lies inside an allocated
    /// block: continues there in place, with zeros up to `offset`. Returns where to go on.
    fn append_in_place(
        &mut self,
        offset: u32,
        end: u32,
        data: &mut Pieces<'_, '_>,
        out: &mut ChunkChange,
    ) -> Result<u32, StoreError> {
        let committed = out.record.end;
        let block = committed / BLOCK_BYTES;
        if offset < committed || end <= committed || committed.is_multiple_of(BLOCK_BYTES) {
            return Ok(offset);
        }
        let Some((device_block, old_crc)) = out.record.locate(block) else {
            return Ok(offset);
        };
        let block_end = (block + 1) * BLOCK_BYTES;
        let zeros = (offset.min(block_end) - committed) as usize;
        let taken = end.min(block_end).saturating_sub(offset.min(block_end)) as usize;
        let mut slices = Slices::new();
        slices.push(IoSlice::new(&ZEROS[..zeros]));
        let mut crc = crc::extend(old_crc, &ZEROS[..zeros]);
        data.take(taken, |piece| {
            crc = crc::extend(crc, piece);
            slices.push(IoSlice::new(piece));
        });
        let at = self.device_offset(device_block) + u64::from(committed % BLOCK_BYTES);
        self.dirty = true;
        self.device
            .write_at(&slices, at)
            .map_err(StoreError::io(self.device.name()))?;
        out.record.set_crc(block, crc);
        out.record.end = offset.min(block_end) + taken as u32;
        out.written.push((block, 1));
        Ok(offset + taken as u32)
    }

    /// Writes the bytes `from..until` of the chunk to fresh blocks; what those blocks hold besides
    /// is taken along.
    fn write_fresh(
        &mut self,
        name: ChunkName,
        (from, until): (u32, u32),
        data: &mut Pieces<'_, '_>,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        if from >= until {
            return Ok(());
        }
        let record = &mut out.record;
        let (first, last) = (from / BLOCK_BYTES, (until - 1) / BLOCK_BYTES);
        let (before, after) = (
            (from % BLOCK_BYTES) as usize,
            (until % BLOCK_BYTES) as usize,
        );
        let (mut head, mut tail) = ([0; BLOCK], [0; BLOCK]);
        if before > 0 {
            self.read_block(name, record, first, &mut head)?;
        }
        if after > 0 && until < record.end {
            self.read_block(name, record, last, &mut tail)?;
        }
        let mut slices = Slices::new();
        slices.push(IoSlice::new(&head[..before]));
        data.take((until - from) as usize, |piece| {
            slices.push(IoSlice::new(piece));
        });
        if after > 0 {
            slices.push(IoSlice::new(&tail[after..]));
        }
        record.end = record.end.max(until);
        let blocks = last + 1 - first;
        let placed = self.place_blocks(first, last + 1, out)?;
        self.dirty = true;
        self.write_extents(&placed, &slices)?;

        let record = &mut out.record;
        let crcs = checksums(
            Pieces::new(&slices),
            blocks,
            record.committed_in(last) as usize,
        );
        for extent in placed {
            let index = (extent.first - first) as usize;
            record.insert(extent, &crcs[index..index + extent.blocks as usize]);
        }
        out.written.push((first, blocks));
        Ok(())
    }

    /// Takes the blocks `from..until` out of the record, and finds where they are to be written: in
    /// their places if those were never written, else in fresh ones. In the order of the chunk.
    fn place_blocks(
        &mut self,
        from: u32,
        until: u32,
        out: &mut ChunkChange,
    ) -> Result<Extents, StoreError> {
        let mut placed = Extents::new();
        let (mut replaced, mut in_place) = (0, 0);
        for e in out.record.extents_in(from, until) {
            if e.is_written() {
                replaced += e.blocks;
                out.freed.push(e.place());
            } else {
                in_place += e.blocks;
                let state = State::Written;
                placed.push(ChunkExtent { state, ..e });
            }
        }
        let fresh = until - from - in_place;
        let before = from.checked_sub(1).and_then(|b| out.record.place_of(b));
        out.record.take_out(from, until);
        if fresh > 0 {
            self.admit(fresh, fresh.saturating_sub(replaced))?;
            let goal = before.map(|block| block + 1);
            self.fill_gaps((from, until, goal), &mut placed, out)?;
        }
        Ok(placed)
    }

    /// Fresh blocks for what of `from..until` is not in `placed`, which is in order and stays so.
    fn fill_gaps(
        &mut self,
        (from, until, mut goal): (u32, u32, Option<u64>),
        placed: &mut Extents,
        out: &mut ChunkChange,
    ) -> Result<(), StoreError> {
        let (mut at, mut i) = (from, 0);
        while at < until {
            let next = placed.get(i).map_or(until, |e| e.first);
            if at < next {
                let begun = out.allocated.len();
                if !self.alloc.allocate(next - at, goal, &mut out.allocated) {
                    return Err(StoreError::Full);
                }
                for fresh in &out.allocated[begun..] {
                    let extent = ChunkExtent {
                        first: at,
                        blocks: fresh.blocks,
                        device_block: fresh.block,
                        state: State::Written,
                    };
                    placed.insert(i, extent);
                    at += fresh.blocks;
                    i += 1;
                }
            }
            if let Some(e) = placed.get(i) {
                at = e.until();
                goal = Some(e.device_block + u64::from(e.blocks));
                i += 1;
            }
        }
        Ok(())
    }

    fn write_extents(
        &self,
        extents: &[ChunkExtent],
        slices: &[IoSlice<'_>],
    ) -> Result<(), StoreError> {
        let failed = || StoreError::io(self.device.name());
        if let [extent] = extents {
            let at = self.device_offset(extent.device_block);
            return self.device.write_at(slices, at).map_err(failed());
        }
        let mut pieces = Pieces::new(slices);
        for extent in extents {
            let mut own = Slices::new();
            let len = extent.blocks as usize * BLOCK;
            pieces.take(len, |piece| own.push(IoSlice::new(piece)));
            let at = self.device_offset(extent.device_block);
            self.device.write_at(&own, at).map_err(failed())?;
        }
        Ok(())
    }

    /// The committed bytes of one block, verified; the rest of `out`, zeros before, stays so.
    fn read_block(
        &self,
        name: ChunkName,
        record: &ChunkRecord,
        block: u32,
        out: &mut [u8; BLOCK],
    ) -> Result<(), StoreError> {
        let Some((device_block, crc)) = record.locate(block) else {
            return Ok(());
        };
        let covered = &mut out[..record.committed_in(block) as usize];
        self.read_verified((name, block, device_block), &[crc], covered)
    }
}

/// A checksum for each of `blocks` blocks; that of the last one covers `last` bytes.
fn checksums(mut pieces: Pieces<'_, '_>, blocks: u32, last: usize) -> SmallVec<[u32; 256]> {
    (0..blocks)
        .map(|block| {
            let covered = if block + 1 == blocks { last } else { BLOCK };
            let mut crc = None;
            pieces.take(covered, |piece| {
                crc = Some(match crc {
                    None => crc::crc32c(piece),
                    Some(crc) => crc::extend(crc, piece),
                });
            });
            crc.unwrap_or(0)
        })
        .collect()
}

/// The end of a write, if a chunk can be that long.
fn end_of(offset: u32, len: usize) -> Result<u32, StoreError> {
    u32::try_from(len)
        .ok()
        .and_then(|len| offset.checked_add(len))
        .filter(|&end| end <= CHUNK_MAX_BYTES)
        .ok_or(StoreError::TooLarge)
}
