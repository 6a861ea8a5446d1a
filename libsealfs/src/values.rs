//! Values of a known size in the program's memory, which `guard` reaches: ours, or another process's.
//!
//! # Safety
//! `guard` answers for the program's side; this side is a value of ours.

use crate::guard::{Efault, copy_from_user, copy_to_user};

/// Reads a value at the program's address `from`.
pub fn read_user<T: Copy>(from: *const T) -> Result<T, Efault> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    // SAFETY: the value has room for itself. Callers use types for which any bytes are a value.
    unsafe {
        copy_from_user(value.as_mut_ptr().cast(), from.cast(), size_of::<T>())?;
        Ok(value.assume_init())
    }
}

/// Writes a value to the program's address `to`.
pub fn write_user<T: Copy>(to: *mut T, value: &T) -> Result<(), Efault> {
    // SAFETY: the value is readable for its size.
    unsafe { copy_to_user(to.cast(), core::ptr::from_ref(value).cast(), size_of::<T>()) }
}
