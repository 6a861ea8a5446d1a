//! What the library's files ask of the ways in, where there are none: calls arrive from the kernel.
//!
//! # Safety
//! A native call is the program's own, made by itself.

#[path = "../../src/patch/call.rs"]
pub mod call;
#[path = "../../src/patch/class.rs"]
pub mod class;

/// Which ways in are open; the library has more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Full,
}

pub fn mode() -> Mode {
    Mode::Full
}

/// The program's signals: it waits while a call is answered, and none reach a twin.
pub mod signals {
    use super::call::Call;
    use crate::drive;

    pub fn block() {}

    /// Has the program make a call.
    ///
    /// # Safety
    /// None is needed: the kernel checks what the program passes.
    pub unsafe fn native_unmasked(call: &Call) -> isize {
        drive::native(call)
    }
}
