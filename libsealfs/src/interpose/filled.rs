//! Memory that holds the bytes of a file as they are now: what private mappings and executables are
//! made of.
//!
//! What must stay true: memory ends where the file ended, so that an access behind it is SIGBUS.
//!
//! # Safety
//! The window through which memory is filled is ours until it is unmapped.

use super::user::Spans;
use crate::kernel;
use crate::process::ClientRef;
use core::ops::Range;
use sealfs_client::FileRef;
use sealfs_protocol::Errno;

/// Most data of a private mapping or executable, in bytes: it is filled when it is made.
const DATA_MAX_BYTES: u64 = 4 << 30;
/// Up to so many bytes are read without asking for holes first.
const PLAIN_BYTES: u64 = 8 << 20;
const PAGE_BYTES: u64 = 4096;

/// A new memfd, closed at exec, with `len` bytes of a file from `offset` on, or as many as there
/// are. What is a hole in the file is one there.
pub fn memory_with(client: &ClientRef, file: FileRef, offset: u64, len: u64) -> Result<u32, Errno> {
    let memory = kernel::memfd(c"sealfs", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)?;
    let part = Part {
        client,
        file,
        offset,
        len,
        memory,
    };
    match kernel::truncate(memory, len).and_then(|()| part.fill()) {
        Ok(()) => Ok(memory),
        Err(errno) => {
            kernel::close(memory);
            Err(errno)
        }
    }
}

/// A part of a file, and the memory that it goes to.
struct Part<'a> {
    client: &'a ClientRef,
    file: FileRef,
    offset: u64,
    len: u64,
    memory: u32,
}

impl Part<'_> {
    fn fill(&self) -> Result<(), Errno> {
        if self.len <= PLAIN_BYTES {
            return self.copy(0..self.len);
        }
        let (mut from, mut left) = (0, DATA_MAX_BYTES);
        while let Some(data) = self.next_data(from)? {
            let len = data.end - data.start;
            left = left.checked_sub(len).ok_or(Errno::ENOMEM)?;
            from = data.end;
            self.copy(data)?;
        }
        Ok(())
    }

    /// The next data from `from` on, counted from the part's start; whole pages.
    fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, Errno> {
        let within = |sought: Result<u64, Errno>| match sought {
            Ok(position) => Ok((position - self.offset).min(self.len)),
            Err(Errno::ENXIO) => Ok(self.len),
            Err(errno) => Err(errno),
        };
        if from >= self.len {
            return Ok(None);
        }
        let start = within(self.client.seek_data(self.file, self.offset + from))?;
        if start >= self.len {
            return Ok(None);
        }
        let end = within(self.client.seek_hole(self.file, self.offset + start))?;
        let start = start / PAGE_BYTES * PAGE_BYTES;
        let end = end.max(start + 1).next_multiple_of(PAGE_BYTES);
        Ok(Some(start..end.min(self.len)))
    }

    fn copy(&self, data: Range<u64>) -> Result<(), Errno> {
        let len = (data.end - data.start) as usize;
        if len == 0 {
            return Ok(());
        }
        let window = kernel::map_for_writing(self.memory, data.start, len)?;
        let at = self.offset + data.start;
        let mut done = 0;
        let result = loop {
            if done == len {
                break Ok(());
            }
            // SAFETY: the window is `len` bytes of memory that only we use.
            let rest =
                unsafe { core::slice::from_raw_parts_mut((window + done) as *mut u8, len - done) };
            let read =
                self.client
                    .read(self.file, at + done as u64, &mut Spans::own(rest).targets());
            match read {
                // It became shorter meanwhile.
                Ok(0) => break kernel::truncate(self.memory, data.start + done as u64),
                Ok(count) => done += count,
                Err(errno) => break Err(errno),
            }
        };
        kernel::unmap(window, len);
        result
    }
}
