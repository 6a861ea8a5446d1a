//! How calls get in: every `syscall` instruction of libc and ld.so jumps to a stub (`image` maps
//! them), the stub asks the number class and the descriptor map (`class`), and what is not
//! provably the kernel's enters through `entry` and ends in `interpose::dispatch`.
//!
//! What must stay true: a native call runs the program's own `syscall` instruction with every
//! register but rcx and r11 as it was, and uses no stack.

pub mod call;
pub mod class;
pub mod signals;

pub use call::{Call, Route, native};
