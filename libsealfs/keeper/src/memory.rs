//! Memory files: made, filled from the servers, and searched for what they hold.
//!
//! What must stay true: a hole of the file costs neither memory nor requests, here as there.

use crate::cluster::{Cluster, File};
use rustix::fd::IntoRawFd;
use rustix::fs::{MemfdFlags, SeekFrom};
use sealfs_client::node::sys::{self, Fd};
use sealfs_protocol::Errno;
use std::ffi::CStr;
use std::ops::Range;

/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A new memory file of `size` bytes, all of them a hole.
pub fn create(name: &CStr, size: u64) -> Result<Fd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(name, flags).map_err(sys::errno)?;
    let fd = Fd::new(fd.into_raw_fd());
    rustix::fs::ftruncate(sys::borrow(fd.raw()), size).map_err(sys::errno)?;
    Ok(fd)
}

pub fn size(fd: &Fd) -> Result<u64, Errno> {
    sys::fstat(fd.raw()).map(|st| st.st_size as u64)
}

/// Copies the data of a file's first `size` bytes into memory files; ENOMEM if it is more than
/// `data_max_bytes`.
pub fn fill(
    cluster: &dyn Cluster,
    file: File,
    size: u64,
    into: &[&Fd],
    data_max_bytes: u64,
) -> Result<(), Errno> {
    let mut piece = vec![0u8; PIECE_BYTES];
    let mut left = data_max_bytes;
    let mut from = 0;
    while let Some(data) = data_at_servers(cluster, file, from, size)? {
        let len = data.end - data.start;
        left = left.checked_sub(len).ok_or(Errno::ENOMEM)?;
        let mut at = data.start;
        while at < data.end {
            let want = PIECE_BYTES.min((data.end - at) as usize);
            let n = cluster.read(file, at, &mut piece[..want])?;
            if n == 0 {
                return Ok(());
            }
            if piece[..n].iter().any(|b| *b != 0) {
                for fd in into {
                    sys::write_at(fd.raw(), at, &piece[..n]).map_err(|_| Errno::ENOMEM)?;
                }
            }
            at += n as u64;
        }
        from = data.end;
    }
    Ok(())
}

/// The next data of a file in `from..until`. A file that changes meanwhile gives what it can.
fn data_at_servers(
    cluster: &dyn Cluster,
    file: File,
    from: u64,
    until: u64,
) -> Result<Option<Range<u64>>, Errno> {
    let seek = |at: u64, data: bool| match cluster.seek(file, at, data) {
        Ok(position) => Ok(position.min(until)),
        Err(Errno::ENXIO) => Ok(until),
        Err(errno) => Err(errno),
    };
    if from >= until {
        return Ok(None);
    }
    if until <= PIECE_BYTES as u64 {
        // One read costs less than to ask what it will find.
        return Ok(Some(from..until));
    }
    let start = seek(from, true)?;
    if start >= until {
        return Ok(None);
    }
    let end = seek(start, false)?;
    Ok(Some(start..end.max(start + 1)))
}

/// The next range in `from..until` where one of two memory files holds something.
pub fn next_data(of: [&Fd; 2], from: u64, until: u64) -> Result<Option<Range<u64>>, Errno> {
    let mut start = until;
    for fd in of {
        start = start.min(seek(fd, SeekFrom::Data(from), until)?);
    }
    if start >= until {
        return Ok(None);
    }
    let mut end = start;
    for fd in of {
        end = end.max(seek(fd, SeekFrom::Hole(start), start)?);
    }
    Ok(Some(start..end.min(until)))
}

/// `beyond`: what it is when there is nothing of the kind up to the end.
fn seek(fd: &Fd, to: SeekFrom, beyond: u64) -> Result<u64, Errno> {
    match rustix::fs::seek(sys::borrow(fd.raw()), to) {
        Ok(position) => Ok(position),
        Err(rustix::io::Errno::NXIO) => Ok(beyond),
        Err(e) => Err(sys::errno(e)),
    }
}
