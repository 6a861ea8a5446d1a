//! A device in memory, for tests and the simulator: nothing survives the process.

use std::io::{self, IoSlice};

use parking_lot::RwLock;

use crate::env::BlockDevice;

pub struct MemoryDevice {
    bytes: RwLock<Vec<u8>>,
    name: String,
}

impl MemoryDevice {
    /// A device of zeros.
    pub fn new(name: &str, size_bytes: usize) -> MemoryDevice {
        MemoryDevice::from_bytes(name, vec![0; size_bytes])
    }

    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> MemoryDevice {
        MemoryDevice {
            bytes: RwLock::new(bytes),
            name: name.to_owned(),
        }
    }

    /// What it holds now.
    pub fn contents(&self) -> Vec<u8> {
        self.bytes.read().clone()
    }
}

/// The range as indices, if it lies within `size` bytes.
fn range(offset: u64, len: usize, size: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).ok();
    let until = start.and_then(|s| s.checked_add(len));
    match (start, until) {
        (Some(start), Some(until)) if until <= size => Ok(start..until),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

impl BlockDevice for MemoryDevice {
    fn size_bytes(&self) -> u64 {
        self.bytes.read().len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let bytes = self.bytes.read();
        buf.copy_from_slice(&bytes[range(offset, buf.len(), bytes.len())?]);
        Ok(())
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes = self.bytes.write();
        let mut at = offset;
        for buf in bufs {
            let range = range(at, buf.len(), bytes.len())?;
            bytes[range].copy_from_slice(buf);
            at += buf.len() as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        range(offset, len as usize, self.bytes.read().len()).map(|_| ())
    }

    fn name(&self) -> &str {
        &self.name
    }
}
