//! Real devices: a block device, or a preallocated file, through the page cache.
//!
//! One process at a time: `flock` on the file, `O_EXCL` on a block device (which also refuses a
//! mounted one). A file is given all its space when it is made, so that a write cannot run out of
//! space below us.
//!
//! # Safety
//! The unsafe blocks are system calls that std has no safe form of, on descriptors that are open
//! for as long as the call lasts, with pointers from slices.
#![allow(unsafe_code, reason = "system calls without a safe form in std")]

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::OpenError;
use super::superblock::STORE_MIN_BYTES;
use crate::env::BlockDevice;

/// Most pieces of one `pwritev` (`IOV_MAX`).
const PIECES_MAX: usize = 1024;

pub struct FileDevice {
    file: File,
    size_bytes: u64,
    name: String,
    is_block_device: bool,
}

impl FileDevice {
    /// Opens `path` for this process alone. A file that does not exist is made with `create_bytes`
    /// bytes, if that is given; one that exists keeps its size.
    pub fn open(path: &Path, create_bytes: Option<u64>) -> Result<FileDevice, OpenError> {
        let name = path.display().to_string();
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(e) if e.kind() == io::ErrorKind::NotFound && create_bytes.is_some() => None,
            Err(source) => return Err(OpenError::Io { name, source }),
        };
        let is_block_device = metadata
            .as_ref()
            .is_some_and(|m| m.file_type().is_block_device());
        let new = metadata
            .as_ref()
            .is_none_or(|m| m.is_file() && m.len() == 0);
        if metadata.is_some_and(|m| !is_block_device && !m.is_file()) {
            let what = "something that is neither a file nor a block device";
            return Err(OpenError::Foreign { name, what });
        }
        if let Some(size_bytes) = create_bytes.filter(|_| new)
            && size_bytes < STORE_MIN_BYTES
        {
            let least_bytes = STORE_MIN_BYTES;
            return Err(OpenError::TooSmall {
                name,
                size_bytes,
                least_bytes,
            });
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if is_block_device {
            options.custom_flags(libc::O_EXCL);
        } else {
            options.create(create_bytes.is_some()).mode(0o600);
        }
        let mut file = options.open(path).map_err(|e| match e.raw_os_error() {
            Some(libc::EBUSY) => OpenError::Mounted { name: name.clone() },
            _ => OpenError::Io {
                name: name.clone(),
                source: e,
            },
        })?;
        if !lock(&file).map_err(OpenError::io(&*name))? {
            return Err(OpenError::InUse { name });
        }
        let mut size_bytes = file.seek(SeekFrom::End(0)).map_err(OpenError::io(&*name))?;
        if size_bytes == 0
            && !is_block_device
            && let Some(wanted) = create_bytes
        {
            preallocate(&file, wanted).map_err(OpenError::io(&*name))?;
            size_bytes = wanted;
        }
        Ok(FileDevice {
            file,
            size_bytes,
            name,
            is_block_device,
        })
    }
}

/// Gives a new file its space, so far as the file system below can promise space at all. The size
/// comes last: a file of size 0 is one that was not finished.
fn preallocate(file: &File, size_bytes: u64) -> io::Result<()> {
    match fallocate(file, libc::FALLOC_FL_KEEP_SIZE, 0, size_bytes) {
        Err(e) if !not_supported(&e) => return Err(e),
        _ => {}
    }
    file.set_len(size_bytes)?;
    file.sync_all()
}

/// Takes the file's lock for this process, as flock(2) has it; false if another one holds it.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    // SAFETY: no pointer; see the header.
    let taken = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    match check(taken as isize) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        other => other.map(|_| true),
    }
}

fn fallocate(file: &File, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
    let (offset, len) = (offset as libc::off_t, len as libc::off_t);
    // SAFETY: no pointer; see the header.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) };
    check(done as isize).map(|_| ())
}

/// pwritev(2): how many bytes were written, in order, from `offset` on.
fn pwritev(file: &File, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let pieces = bufs.as_ptr().cast::<libc::iovec>();
    let count = bufs.len().min(PIECES_MAX) as libc::c_int;
    // SAFETY: `IoSlice` has the layout of `iovec` (std promises it), and `count` of them are valid.
    let done = unsafe { libc::pwritev(file.as_raw_fd(), pieces, count, offset as libc::off_t) };
    check(done)
}

fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

fn not_supported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
}

impl BlockDevice for FileDevice {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let end = bufs.iter().map(|b| b.len() as u64).sum::<u64>() + offset;
        if end > self.size_bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        for group in bufs.chunks(PIECES_MAX) {
            let wanted: usize = group.iter().map(|b| b.len()).sum();
            let mut done = match pwritev(&self.file, group, at) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
                done => done.unwrap_or(0),
            };
            at += done as u64;
            if done == wanted {
                continue;
            }
            // A short write (a signal in the middle): the rest piece by piece.
            for buf in group {
                let skip = done.min(buf.len());
                done -= skip;
                self.file.write_all_at(&buf[skip..], at)?;
                at += (buf.len() - skip) as u64;
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        if !self.is_block_device {
            // A hole in a preallocated file would give up the space that it was promised.
            return Ok(());
        }
        let punch = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, punch, offset, len) {
            Err(e) if !not_supported(&e) => Err(e),
            _ => Ok(()),
        }
    }

    fn wants_discard(&self) -> bool {
        self.is_block_device
    }

    fn name(&self) -> &str {
        &self.name
    }
}
