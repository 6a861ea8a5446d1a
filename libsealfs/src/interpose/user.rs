//! The program's memory as types: paths, structures, vectors of buffers. Handlers call these in
//! their first lines and work with owned values from then on; data to read or write stays where it
//! is and is handed to the kernel by reference, which answers `EFAULT` itself.
//!
//! # Safety
//! Everything goes through `guard`, which takes any address.

use crate::guard::{self, Efault, Stage, StringError, UserRange};
use sealfs_client::{IoVec, IoVecMut};
use sealfs_protocol::Errno;
use sealfs_protocol::limits::PATH_MAX_BYTES;

/// Most buffers of one vectored call (`UIO_MAXIOV`).
const IOV_MAX: usize = 1024;
/// Most bytes that one call moves (`MAX_RW_COUNT` of Linux).
pub const RW_MAX_BYTES: usize = 0x7fff_f000;

impl From<Efault> for Errno {
    fn from(_: Efault) -> Errno {
        Errno::EFAULT
    }
}

/// A path, without its NUL. Empty paths are the caller's to judge.
pub fn path(pointer: usize) -> Result<Vec<u8>, Errno> {
    let mut room = [0u8; PATH_MAX_BYTES];
    match guard::strncpy_from_user(&mut room, pointer as *const u8) {
        Ok(text) => Ok(text.to_vec()),
        Err(StringError::Fault) => Err(Errno::EFAULT),
        Err(StringError::TooLong) => Err(Errno::ENAMETOOLONG),
    }
}

/// A string of at most `max` bytes; `too_long` is what the kernel says of longer ones.
pub fn string(pointer: usize, max: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
    let mut room = vec![0u8; max + 1];
    match guard::strncpy_from_user(&mut room, pointer as *const u8) {
        Ok(text) => Ok(text.to_vec()),
        Err(StringError::Fault) => Err(Errno::EFAULT),
        Err(StringError::TooLong) => Err(too_long),
    }
}

/// As [`string`], for texts that are usually short but may be very long.
pub fn string_of_any_length(pointer: usize, max: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
    const SHORT: usize = 512;
    let mut room = [0u8; SHORT];
    match guard::strncpy_from_user(&mut room, pointer as *const u8) {
        Ok(text) => Ok(text.to_vec()),
        Err(StringError::Fault) => Err(Errno::EFAULT),
        Err(StringError::TooLong) => string(pointer, max, too_long),
    }
}

pub fn read<T: Copy>(pointer: usize) -> Result<T, Errno> {
    Ok(guard::read_user(pointer as *const T)?)
}

pub fn write<T: Copy>(pointer: usize, value: &T) -> Result<(), Errno> {
    Ok(guard::write_user(pointer as *mut T, value)?)
}

/// Copies `bytes` to the program.
pub fn copy_out(pointer: usize, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the slice is valid for its length.
    Ok(unsafe { guard::copy_to_user(pointer as *mut u8, bytes.as_ptr(), bytes.len()) }?)
}

/// Copies `len` bytes from the program.
pub fn copy_in(pointer: usize, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0u8; len];
    // SAFETY: the vector has that room.
    unsafe { guard::copy_from_user(bytes.as_mut_ptr(), pointer as *const u8, len) }?;
    Ok(bytes)
}

/// Writes bytes to where data for the program is made: [`Spans::prepare`], or memory of our own.
pub fn put(address: usize, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the slice is valid for its length.
    Ok(unsafe { guard::fill(address as *mut u8, bytes.as_ptr(), bytes.len()) }?)
}

/// Buffers of the program, by address: checked to lie in user space, cut to what one call moves.
/// Where the program's memory is another process's, the data passes through a copy here.
pub struct Spans {
    list: Vec<(usize, usize)>,
    stage: Stage,
}

impl Spans {
    pub fn one(address: usize, len: usize) -> Result<Spans, Errno> {
        let range = UserRange::new(address as *const u8, len.min(RW_MAX_BYTES))?;
        Ok(Spans {
            list: vec![(range.address() as usize, range.len())],
            stage: Stage::of_program(),
        })
    }

    /// The buffers of a vectored call.
    pub fn many(pointer: usize, count: usize) -> Result<Spans, Errno> {
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut list = Vec::with_capacity(count);
        let mut left = RW_MAX_BYTES;
        for n in 0..count {
            let iov: libc::iovec = read(pointer + n * size_of::<libc::iovec>())?;
            if isize::try_from(iov.iov_len).is_err() {
                return Err(Errno::EINVAL);
            }
            let range = UserRange::new(iov.iov_base.cast(), iov.iov_len)?;
            let take = range.len().min(left);
            left -= take;
            if take > 0 {
                list.push((range.address() as usize, take));
            }
        }
        Ok(Spans {
            list,
            stage: Stage::of_program(),
        })
    }

    /// A buffer of our own.
    pub fn own(bytes: &mut [u8]) -> Spans {
        Spans {
            list: vec![(bytes.as_mut_ptr() as usize, bytes.len())],
            stage: Stage::own(),
        }
    }

    /// The bytes are about to be read from the buffers.
    pub fn fetch(&mut self) -> Result<(), Errno> {
        Ok(self.stage.fetch(&mut self.list)?)
    }

    /// The buffers are about to be filled; where the first of them lies.
    pub fn prepare(&mut self) -> usize {
        self.stage.prepare(&mut self.list);
        self.list.first().map_or(0, |(at, _)| *at)
    }

    /// The first `count` bytes of the buffers have been filled.
    pub fn deliver(&self, count: usize) -> Result<(), Errno> {
        Ok(self.stage.deliver(&self.list, count)?)
    }

    /// Bytes of all buffers together.
    pub fn total(&self) -> usize {
        self.list.iter().map(|(_, len)| len).sum()
    }

    /// Cuts the buffers to `max` bytes together.
    pub fn cut(&mut self, max: usize) {
        let mut left = max;
        self.list.retain_mut(|(_, len)| {
            *len = (*len).min(left);
            left -= *len;
            *len > 0
        });
    }

    /// As the client takes them for writing from.
    pub fn sources(&self) -> Vec<IoVec<'_>> {
        // SAFETY: the addresses lie in user space; whether memory is there, the kernel will say.
        self.list
            .iter()
            .map(|(at, len)| unsafe { IoVec::from_raw(*at, *len) })
            .collect()
    }

    /// As the client takes them for reading into.
    pub fn targets(&mut self) -> Vec<IoVecMut<'_>> {
        // SAFETY: as above; the program named them for writing.
        self.list
            .iter()
            .map(|(at, len)| unsafe { IoVecMut::from_raw(*at, *len) })
            .collect()
    }

    /// The raw list, for handing to the kernel.
    pub fn raw(&self) -> Vec<libc::iovec> {
        let one = |(at, len): &(usize, usize)| libc::iovec {
            iov_base: *at as *mut _,
            iov_len: *len,
        };
        self.list.iter().map(one).collect()
    }
}
