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
use sealfs_client::FileRef;
use sealfs_protocol::Errno;

/// Largest private mapping or executable, in bytes: it is filled when it is made.
const FILLED_MAX_BYTES: u64 = 4 << 30;

/// A new memfd, closed at exec, with `len` bytes of a file from `offset` on, or as many as there are.
pub fn memory_with(client: &ClientRef, file: FileRef, offset: u64, len: u64) -> Result<u32, Errno> {
    if len > FILLED_MAX_BYTES {
        return Err(Errno::ENOMEM);
    }
    let memory = kernel::memfd(c"sealfs", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)?;
    match fill(client, file, offset, len as usize, memory) {
        Ok(()) => Ok(memory),
        Err(errno) => {
            kernel::close(memory);
            Err(errno)
        }
    }
}

fn fill(
    client: &ClientRef,
    file: FileRef,
    offset: u64,
    len: usize,
    memory: u32,
) -> Result<(), Errno> {
    kernel::truncate(memory, len as u64)?;
    if len == 0 {
        return Ok(());
    }
    let window = kernel::map_for_writing(memory, len)?;
    let mut done = 0;
    let result = loop {
        if done == len {
            break Ok(());
        }
        // SAFETY: the window is `len` bytes of memory that only we use.
        let rest =
            unsafe { core::slice::from_raw_parts_mut((window + done) as *mut u8, len - done) };
        match client.read(file, offset + done as u64, &mut Spans::own(rest).targets()) {
            // It became shorter meanwhile.
            Ok(0) => break kernel::truncate(memory, done as u64),
            Ok(count) => done += count,
            Err(errno) => break Err(errno),
        }
    };
    kernel::unmap(window, len);
    result
}
