//! The caller's memory: what a program passes to read(2) and write(2), and how we touch it.
//!
//! # Safety
//! [`IoVec`] and [`IoVecMut`] have the layout of `struct iovec` and may name any address: a program
//! may pass a bad one and must get EFAULT, so its memory is touched by system calls or by the
//! [`Hooks`] of the library, never by plain loads and stores. Those made from slices carry the
//! slice's lifetime; those made from raw addresses are the unsafe caller's word.

#![allow(unsafe_code, reason = "raw addresses of the program that we live in")]

use core::marker::PhantomData;

/// Memory to send from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct IoVec<'a> {
    address: *const u8,
    len: usize,
    _memory: PhantomData<&'a [u8]>,
}

/// Memory to receive into.
#[repr(C)]
pub struct IoVecMut<'a> {
    address: *mut u8,
    len: usize,
    _memory: PhantomData<&'a mut [u8]>,
}

// SAFETY: they stand for `&[u8]` and `&mut [u8]`, which are Send and Sync.
unsafe impl Send for IoVec<'_> {}
// SAFETY: as above.
unsafe impl Sync for IoVec<'_> {}
// SAFETY: as above.
unsafe impl Send for IoVecMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for IoVecMut<'_> {}

/// The caller's memory could not be touched (EFAULT).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

impl<'a> IoVec<'a> {
    pub const EMPTY: IoVec<'static> = IoVec {
        address: core::ptr::null(),
        len: 0,
        _memory: PhantomData,
    };

    pub fn new(bytes: &'a [u8]) -> IoVec<'a> {
        IoVec {
            address: bytes.as_ptr(),
            len: bytes.len(),
            _memory: PhantomData,
        }
    }

    /// Memory of the program.
    ///
    /// # Safety
    /// The range belongs to the program, or is no memory at all, for all of `'a`; it is nothing
    /// that this process's Rust code holds a unique reference to.
    pub unsafe fn from_raw(address: usize, len: usize) -> IoVec<'a> {
        IoVec {
            address: core::ptr::with_exposed_provenance(address),
            len,
            _memory: PhantomData,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes `from..to` of this memory, as far as it reaches.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> IoVec<'a> {
        let from = from.min(self.len);
        IoVec {
            address: self.address.wrapping_add(from),
            len: to.min(self.len).saturating_sub(from),
            _memory: PhantomData,
        }
    }
}

impl<'a> IoVecMut<'a> {
    pub fn new(bytes: &'a mut [u8]) -> IoVecMut<'a> {
        IoVecMut {
            address: bytes.as_mut_ptr(),
            len: bytes.len(),
            _memory: PhantomData,
        }
    }

    /// Memory of the program.
    ///
    /// # Safety
    /// As for [`IoVec::from_raw`]; and no Rust reference to the range is alive during `'a`.
    pub unsafe fn from_raw(address: usize, len: usize) -> IoVecMut<'a> {
        IoVecMut {
            address: core::ptr::with_exposed_provenance_mut(address),
            len,
            _memory: PhantomData,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same memory for a shorter time.
    pub fn reborrow(&mut self) -> IoVecMut<'_> {
        self.part(0, self.len)
    }

    /// Bytes `from..to` of this memory, as far as it reaches.
    #[must_use]
    pub fn part(&mut self, from: usize, to: usize) -> IoVecMut<'_> {
        let from = from.min(self.len);
        IoVecMut {
            address: self.address.wrapping_add(from),
            len: to.min(self.len).saturating_sub(from),
            _memory: PhantomData,
        }
    }

    /// Cuts off the first `at` bytes (or all) and returns them.
    pub fn split_off_front(&mut self, at: usize) -> IoVecMut<'a> {
        let at = at.min(self.len);
        let front = IoVecMut {
            address: self.address,
            len: at,
            _memory: PhantomData,
        };
        self.address = self.address.wrapping_add(at);
        self.len -= at;
        front
    }

    /// For the receiving thread, which is not always the one that owns the memory: the caller
    /// makes sure that the owner waits.
    pub(crate) fn raw_part(&self, from: usize, to: usize) -> IoVecMut<'static> {
        let from = from.min(self.len);
        IoVecMut {
            address: self.address.wrapping_add(from),
            len: to.min(self.len).saturating_sub(from),
            _memory: PhantomData,
        }
    }
}

/// Length of all of `list`, in bytes.
pub fn total(list: &[IoVec<'_>]) -> usize {
    list.iter().fold(0, |sum, v| sum.saturating_add(v.len))
}

/// Length of all of `list`, in bytes.
pub fn total_mut(list: &[IoVecMut<'_>]) -> usize {
    list.iter().fold(0, |sum, v| sum.saturating_add(v.len))
}

/// Appends to `out` the pieces that cover bytes `from..from + len` of `list`.
pub fn slice<'a>(list: &[IoVec<'a>], from: usize, len: usize, out: &mut Vec<IoVec<'a>>) {
    let (mut at, end) = (0usize, from + len);
    for v in list {
        let piece = v.part(from.saturating_sub(at), end.saturating_sub(at));
        if !piece.is_empty() {
            out.push(piece);
        }
        at += v.len;
        if at >= end {
            return;
        }
    }
}

/// Copies slices' bytes into one buffer; simulated programs hand over valid memory only.
#[cfg(feature = "sim")]
pub(crate) fn gather(list: &[IoVec<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(total(list));
    for v in list.iter().filter(|v| v.len > 0) {
        // SAFETY: an IoVec of a simulated program was made from a slice that outlives it.
        out.extend_from_slice(unsafe { core::slice::from_raw_parts(v.address, v.len) });
    }
    out
}

/// What the library that contains us does in our stead.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// Moves a new socket to where the program does not see it; returns its new number.
    pub place_fd: fn(i32) -> i32,
    /// Copies `len` bytes to an address of the program; false for a fault.
    pub copy_to_user: unsafe fn(*mut u8, *const u8, usize) -> bool,
    /// Zeroes `len` bytes at an address of the program; false for a fault.
    pub zero_user: unsafe fn(*mut u8, usize) -> bool,
    /// Called about once a second while a call waits.
    pub long_wait: fn(),
}

impl Default for Hooks {
    /// For programs that hand over valid slices only.
    fn default() -> Hooks {
        Hooks {
            place_fd: |fd| fd,
            copy_to_user: |to, from, len| {
                // SAFETY: `IoVecMut`s of such programs come from `&mut [u8]`.
                unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
                true
            },
            zero_user: |to, len| {
                // SAFETY: as above.
                unsafe { core::ptr::write_bytes(to, 0, len) };
                true
            },
            long_wait: || {},
        }
    }
}

impl Hooks {
    /// Copies `bytes` to byte `from` of `list` and what follows; what does not fit is left out.
    pub fn copy_to(
        &self,
        list: &mut [IoVecMut<'_>],
        from: usize,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let mut left = bytes;
        each_part(list, from, bytes.len(), |address, len| {
            let (now, later) = left.split_at(len);
            left = later;
            // SAFETY: the part lies in an IoVecMut, which is ours to write; a bad address is what
            // the hook is for.
            unsafe { (self.copy_to_user)(address, now.as_ptr(), len) }
        })
    }

    /// Zeroes `len` bytes from byte `from` of `list` on.
    pub fn zero(&self, list: &mut [IoVecMut<'_>], from: usize, len: usize) -> Result<(), Fault> {
        each_part(list, from, len, |address, len| {
            // SAFETY: as in `copy_to`.
            unsafe { (self.zero_user)(address, len) }
        })
    }
}

fn each_part(
    list: &mut [IoVecMut<'_>],
    from: usize,
    len: usize,
    mut act: impl FnMut(*mut u8, usize) -> bool,
) -> Result<(), Fault> {
    let (mut at, end) = (0usize, from + len);
    for v in list {
        let part = v.part(from.saturating_sub(at), end.saturating_sub(at));
        if part.len > 0 && !act(part.address, part.len) {
            return Err(Fault);
        }
        at += v.len;
        if at >= end {
            break;
        }
    }
    Ok(())
}

/// The same list in rustix's form.
pub(crate) fn as_io_slices<'a>(list: &'a [IoVec<'a>]) -> &'a [rustix::io::IoSlice<'a>] {
    const { assert!(size_of::<IoVec>() == size_of::<rustix::io::IoSlice>()) };
    // SAFETY: both are `struct iovec`: a pointer and a length, in this order (repr(C) here, a
    // transparent wrapper of the C struct there), and neither is dereferenced before the kernel
    // has checked it.
    unsafe { core::slice::from_raw_parts(list.as_ptr().cast(), list.len()) }
}

/// The same list in rustix's form.
pub(crate) fn as_io_slices_mut<'a>(
    list: &'a mut [IoVecMut<'_>],
) -> &'a mut [rustix::io::IoSliceMut<'a>] {
    const { assert!(size_of::<IoVecMut>() == size_of::<rustix::io::IoSliceMut>()) };
    // SAFETY: as in `as_io_slices`; the list is borrowed uniquely.
    unsafe { core::slice::from_raw_parts_mut(list.as_mut_ptr().cast(), list.len()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_of_a_list_cross_its_seams() {
        let (a, b, c) = ([1u8; 3], [2u8; 0], [3u8; 5]);
        let list = [IoVec::new(&a), IoVec::new(&b), IoVec::new(&c)];
        let lens = |from, len| {
            let mut out = Vec::new();
            slice(&list, from, len, &mut out);
            out.iter().map(IoVec::len).collect::<Vec<_>>()
        };
        assert_eq!(lens(0, 8), [3, 5]);
        assert_eq!(lens(2, 2), [1, 1]);
        assert_eq!(lens(3, 5), [5]);
        assert_eq!(lens(1, 1), [1]);
        assert_eq!(lens(0, 0), [0usize; 0]);
    }

    #[test]
    fn copies_and_zeroes_land_where_they_should() {
        let (mut a, mut b) = ([9u8; 3], [9u8; 4]);
        let mut list = [IoVecMut::new(&mut a), IoVecMut::new(&mut b)];
        let hooks = Hooks::default();
        hooks.copy_to(&mut list, 2, &[1, 2, 3]).unwrap();
        hooks.zero(&mut list, 6, 1).unwrap();
        assert_eq!((a, b), ([9, 9, 1], [2, 3, 9, 0]));
    }
}
