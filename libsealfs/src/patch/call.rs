//! One intercepted system call, as the kernel would have seen it, and what became of it.

pub use super::signals::native_unmasked;
use crate::sys;

/// A system call by number with its six arguments in the kernel's order.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub nr: usize,
    pub args: [usize; 6],
}

/// What the dispatcher decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The kernel's: it is issued by the program's own instruction, with `Call` as the dispatcher
    /// left it.
    Native,
    /// A path call that is the kernel's by all that is known: the entry gives it to the kernel, on the
    /// program's own stack, and if it finds nothing asks [`crate::interpose::dispatch_after_kernel`].
    Try,
    /// Answered: a value, or `-errno`, as the kernel returns it.
    Done(isize),
}

/// Issues the call itself, past every patched site.
///
/// # Safety
/// The arguments must be valid for that call: they are when they came from the program unchanged.
pub unsafe fn native(call: &Call) -> isize {
    let [a, b, c, d, e, f] = call.args;
    // SAFETY: the caller vouches for the arguments.
    unsafe { sys::syscall6(call.nr, a, b, c, d, e, f) }
}
