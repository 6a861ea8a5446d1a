//! The program's memory, which is another process's: every byte passes through a copy.
//!
//! The file that the library has in this place says what the functions are for.
//!
//! # Safety
//! The kernel checks the program's side; callers vouch for ours.

use crate::subject;
use crate::sys;
pub use crate::values::{read_user, write_user};

/// The pointer does not name memory that can be used so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efault;

const USER_END: usize = 0x7fff_ffff_f000;
const PAGE_BYTES: usize = 4096;

/// Buffers as (address, bytes).
type List = [(usize, usize)];

fn transfer(nr: i64, (own, bytes): (usize, usize), theirs: &List) -> usize {
    let part = |(at, len): &(usize, usize)| libc::iovec {
        iov_base: *at as *mut _,
        iov_len: *len,
    };
    let local = part(&(own, bytes));
    let remote: Vec<libc::iovec> = theirs.iter().map(part).collect();
    // SAFETY: the vectors live until the call is over; our side is the caller's word.
    let moved = unsafe {
        sys::syscall6(
            nr as usize,
            subject::tid() as usize,
            (&raw const local) as usize,
            1,
            remote.as_ptr() as usize,
            remote.len(),
            0,
        )
    };
    sys::check(moved).unwrap_or(0)
}

fn all(moved: usize, bytes: usize) -> Result<(), Efault> {
    if moved == bytes { Ok(()) } else { Err(Efault) }
}

/// Copies `bytes` from the program's address `from`.
///
/// # Safety
/// `to` must be valid for that many bytes.
pub unsafe fn copy_from_user(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Efault> {
    let theirs = [(from as usize, bytes)];
    all(
        transfer(libc::SYS_process_vm_readv, (to as usize, bytes), &theirs),
        bytes,
    )
}

/// Copies `bytes` to the program's address `to`.
///
/// # Safety
/// `from` must be valid for that many bytes.
pub unsafe fn copy_to_user(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Efault> {
    let theirs = [(to as usize, bytes)];
    all(
        transfer(libc::SYS_process_vm_writev, (from as usize, bytes), &theirs),
        bytes,
    )
}

/// Writes to where data for the program is made, which is memory of ours.
///
/// # Safety
/// Both sides must be valid for that many bytes.
#[allow(clippy::unnecessary_wraps, reason = "the library's may fault")]
pub unsafe fn fill(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Efault> {
    // SAFETY: the caller's word.
    unsafe { core::ptr::copy_nonoverlapping(from, to, bytes) };
    Ok(())
}

/// Why a string could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringError {
    Fault,
    /// No NUL within the room.
    TooLong,
}

/// Copies the C string at the program's address `from` into `to`, page by page, so that one that
/// ends before a hole is read; returns it without its NUL.
pub fn strncpy_from_user(to: &mut [u8], from: *const u8) -> Result<&[u8], StringError> {
    let mut done = 0;
    while done < to.len() {
        let at = (from as usize).wrapping_add(done);
        let bytes = (PAGE_BYTES - at % PAGE_BYTES).min(to.len() - done);
        let piece = &mut to[done..done + bytes];
        // SAFETY: the piece has that room.
        unsafe { copy_from_user(piece.as_mut_ptr(), at as *const u8, bytes) }
            .map_err(|Efault| StringError::Fault)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            return Ok(&to[..done + end]);
        }
        done += bytes;
    }
    Err(StringError::TooLong)
}

/// A range of the program's memory that lies in user space.
#[derive(Clone, Copy, Debug)]
pub struct UserRange {
    address: usize,
    bytes: usize,
}

impl UserRange {
    pub fn new(address: *const u8, bytes: usize) -> Result<Self, Efault> {
        let address = address as usize;
        match address.checked_add(bytes) {
            Some(end) if end <= USER_END => Ok(Self { address, bytes }),
            _ => Err(Efault),
        }
    }

    pub fn address(self) -> *mut u8 {
        self.address as *mut u8
    }

    pub fn len(self) -> usize {
        self.bytes
    }
}

/// Where the bytes of a transfer lie between the program and us: in a copy.
#[derive(Default)]
pub struct Stage {
    own: bool,
    /// The program's buffers that are to be filled.
    program: Vec<(usize, usize)>,
    memory: Vec<u8>,
}

impl Stage {
    /// The buffers are the program's.
    pub fn of_program() -> Stage {
        Stage::default()
    }

    /// The buffers are our own.
    pub fn own() -> Stage {
        Stage {
            own: true,
            ..Stage::default()
        }
    }

    fn stand_in(&mut self, list: &mut Vec<(usize, usize)>) -> Vec<(usize, usize)> {
        let total = list.iter().map(|(_, len)| len).sum();
        self.memory = vec![0; total];
        core::mem::replace(list, vec![(self.memory.as_mut_ptr() as usize, total)])
    }

    pub fn fetch(&mut self, list: &mut Vec<(usize, usize)>) -> Result<(), Efault> {
        if self.own {
            return Ok(());
        }
        let program = self.stand_in(list);
        let own = (self.memory.as_mut_ptr() as usize, self.memory.len());
        // What lies before a bad page is written, as by the kernel.
        let moved = transfer(libc::SYS_process_vm_readv, own, &program);
        if moved == 0 && own.1 > 0 {
            return Err(Efault);
        }
        list[0].1 = moved;
        Ok(())
    }

    pub fn prepare(&mut self, list: &mut Vec<(usize, usize)>) {
        if !self.own && self.program.is_empty() {
            self.program = self.stand_in(list);
        }
    }

    pub fn deliver(&self, _list: &List, count: usize) -> Result<(), Efault> {
        if self.program.is_empty() {
            return Ok(());
        }
        let own = (self.memory.as_ptr() as usize, count);
        all(
            transfer(libc::SYS_process_vm_writev, own, &self.program),
            count,
        )
    }
}
