//! A device that loses power: what was written and not flushed may be kept, lost, torn or
//! reordered, sector by sector or block by block.
//!
//! Only what was ever written takes memory, so that a seed may have many large devices.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::random::Random;
use sealfs_server::env::BlockDevice;

const SECTOR_BYTES: usize = 512;
const BLOCK_BYTES: usize = 4096;
const SECTORS_PER_BLOCK: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;

type Sector = [u8; SECTOR_BYTES];

pub struct CrashDevice {
    name: String,
    size_bytes: u64,
    state: Mutex<State>,
    fail_flush: AtomicBool,
    writes_left: AtomicUsize,
    torn_after: AtomicUsize,
}

#[derive(Clone, Default)]
struct State {
    /// Blocks that were ever written; the others are zeros.
    blocks: HashMap<u64, Box<[u8; BLOCK_BYTES]>>,
    /// Older contents of sectors written since the last flush, oldest first.
    unflushed: BTreeMap<u64, Vec<Sector>>,
}

impl State {
    fn read(&self, mut at: u64, mut buf: &mut [u8]) {
        while !buf.is_empty() {
            let (block, within) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
            let len = buf.len().min(BLOCK_BYTES - within);
            let (part, rest) = buf.split_at_mut(len);
            match self.blocks.get(&block) {
                Some(bytes) => part.copy_from_slice(&bytes[within..within + len]),
                None => part.fill(0),
            }
            buf = rest;
            at += len as u64;
        }
    }

    fn write(&mut self, mut at: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (block, within) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
            let len = bytes.len().min(BLOCK_BYTES - within);
            let into = self.blocks.entry(block);
            let into = into.or_insert_with(|| Box::new([0; BLOCK_BYTES]));
            into[within..within + len].copy_from_slice(&bytes[..len]);
            bytes = &bytes[len..];
            at += len as u64;
        }
    }

    fn sector(&self, sector: u64) -> Sector {
        let mut bytes = [0; SECTOR_BYTES];
        self.read(sector * SECTOR_BYTES as u64, &mut bytes);
        bytes
    }

    /// Takes back some of what was not flushed.
    fn lose(&mut self, random: &mut Random) {
        // Sometimes everything is lost or kept, which a mix hardly ever is.
        let mode = random.below(5);
        let mut choice_of_block = BTreeMap::new();
        for (sector, versions) in std::mem::take(&mut self.unflushed) {
            let choices = versions.len() as u64 + 1;
            let choice = match mode {
                0 => 0,
                1 => choices - 1,
                // A device with atomic blocks: its sectors share a fate.
                2 | 3 => {
                    let block = sector / SECTORS_PER_BLOCK;
                    *choice_of_block
                        .entry(block)
                        .or_insert_with(|| random.number())
                        % choices
                }
                _ => random.below(choices),
            };
            if let Some(old) = versions.get(choice as usize) {
                self.write(sector * SECTOR_BYTES as u64, old);
            }
        }
    }
}

impl CrashDevice {
    /// A device of zeros.
    pub fn new(name: &str, size_bytes: usize) -> Arc<CrashDevice> {
        Arc::new(CrashDevice::with(name, size_bytes as u64, State::default()))
    }

    fn with(name: &str, size_bytes: u64, state: State) -> CrashDevice {
        CrashDevice {
            name: name.to_owned(),
            size_bytes,
            state: Mutex::new(state),
            fail_flush: AtomicBool::new(false),
            writes_left: AtomicUsize::new(usize::MAX),
            torn_after: AtomicUsize::new(usize::MAX),
        }
    }

    /// What a killed process leaves: everything written.
    pub fn after_kill(&self) -> Arc<CrashDevice> {
        let state = self.state.lock().clone();
        Arc::new(CrashDevice::with(&self.name, self.size_bytes, state))
    }

    /// What a power cut leaves: of each sector any of its contents since the last flush.
    pub fn after_power_cut(&self, random: &mut Random) -> Arc<CrashDevice> {
        let device = self.after_kill();
        device.power_cut(random);
        device
    }

    /// The same, of this very device.
    pub fn power_cut(&self, random: &mut Random) {
        self.state.lock().lose(random);
    }

    pub fn fail_flushes(&self) {
        self.fail_flush.store(true, Ordering::Relaxed);
    }

    /// Every write after the next `writes` fails.
    pub fn fail_writes_after(&self, writes: usize) {
        self.writes_left.store(writes, Ordering::Relaxed);
    }

    /// The next write stops after `bytes` bytes, as when the process is killed in it.
    pub fn tear_next_write(&self, bytes: usize) {
        self.torn_after.store(bytes, Ordering::Relaxed);
    }

    /// All bytes as they are now.
    pub fn contents(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size_bytes as usize];
        self.state.lock().read(0, &mut bytes);
        bytes
    }

    fn check(&self, offset: u64, len: usize) -> io::Result<()> {
        let end = offset.checked_add(len as u64);
        if end.is_some_and(|end| end <= self.size_bytes) {
            return Ok(());
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

impl BlockDevice for CrashDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(offset, buf.len())?;
        self.state.lock().read(offset, buf);
        Ok(())
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let left = self.writes_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.writes_left.store(left - 1, Ordering::Relaxed);
        let mut bytes: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
        let torn_after = self.torn_after.swap(usize::MAX, Ordering::Relaxed);
        bytes.truncate(torn_after);
        self.check(offset, bytes.len())?;
        let mut state = self.state.lock();
        let until = offset + bytes.len() as u64;
        let sectors = offset / SECTOR_BYTES as u64..until.div_ceil(SECTOR_BYTES as u64);
        for sector in sectors {
            let old = state.sector(sector);
            state.unflushed.entry(sector).or_default().push(old);
        }
        state.write(offset, &bytes);
        if torn_after < usize::MAX {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if self.fail_flush.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.state.lock().unflushed.clear();
        Ok(())
    }

    /// Whoever still needed the bytes will notice.
    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let garbage = vec![0xdd; len as usize];
        self.write_at(&[IoSlice::new(&garbage)], offset)
    }

    fn wants_discard(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_at(device: &CrashDevice, offset: u64) -> u8 {
        let mut byte = [0];
        device.read_at(&mut byte, offset).expect("it is inside");
        byte[0]
    }

    #[test]
    fn a_power_cut_takes_only_what_was_not_flushed() {
        let mut lost = 0;
        for seed in 0..40 {
            let device = CrashDevice::new("disk", 1 << 20);
            let write = |byte: u8, at| device.write_at(&[IoSlice::new(&[byte; 600])], at);
            write(1, 5000).expect("it writes");
            device.flush().expect("it flushes");
            write(2, 5200).expect("it writes");
            device.power_cut(&mut Random::new(seed));
            assert_eq!(byte_at(&device, 5000), 1);
            lost += u32::from(byte_at(&device, 5300) == 1);
        }
        assert!(lost > 5 && lost < 35, "{lost}");
    }
}
