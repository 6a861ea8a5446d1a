//! Reusable buffers for large payloads, on the server's side.
//!
//! What must stay true: idle buffers of one pool never hold more than [`IDLE_MAX_BYTES`] together,
//! and a buffer goes back by itself when its holder drops it. Its bytes are whatever was there
//! before: a holder writes before it shows them to anybody.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Most memory that idle buffers of one pool keep, in bytes.
pub const IDLE_MAX_BYTES: usize = 16 << 20;

/// Smallest buffer; shorter requests get one of this size.
const SMALLEST_BYTES: usize = 64 << 10;

#[derive(Clone, Default)]
pub struct Pool(Arc<Mutex<Idle>>);

#[derive(Default)]
struct Idle {
    /// Sorted by size, smallest first.
    buffers: Vec<Box<[u8]>>,
    bytes: usize,
}

/// `len` bytes of a pooled buffer; dereferences to them.
pub struct Buffer {
    bytes: Box<[u8]>,
    len: usize,
    pool: Pool,
}

impl Pool {
    pub fn new() -> Pool {
        Pool::default()
    }

    /// A buffer of `len` bytes with unspecified content.
    pub fn get(&self, len: usize) -> Buffer {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.buffers.partition_point(|b| b.len() < len);
        let bytes = if at < idle.buffers.len() {
            let b = idle.buffers.remove(at);
            idle.bytes -= b.len();
            b
        } else {
            drop(idle);
            vec![0; len.next_power_of_two().max(SMALLEST_BYTES)].into_boxed_slice()
        };
        Buffer {
            bytes,
            len,
            pool: self.clone(),
        }
    }

    fn give_back(&self, buffer: Box<[u8]>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.is_empty() || idle.bytes + buffer.len() > IDLE_MAX_BYTES {
            return;
        }
        idle.bytes += buffer.len();
        let at = idle.buffers.partition_point(|b| b.len() < buffer.len());
        idle.buffers.insert(at, buffer);
    }
}

impl Buffer {
    /// Makes the buffer shorter; a longer `len` changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_serves_the_next_request() {
        let pool = Pool::new();
        let first = pool.get(100_000);
        let place = first.as_ptr();
        drop(first);
        assert_eq!(pool.get(70_000).as_ptr(), place);
    }

    #[test]
    fn idle_memory_is_bounded() {
        let pool = Pool::new();
        let many: Vec<Buffer> = (0..64).map(|_| pool.get(1 << 20)).collect();
        drop(many);
        assert!(pool.0.lock().unwrap().bytes <= IDLE_MAX_BYTES);
    }
}
