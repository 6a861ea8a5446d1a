//! A file system as it should be: names, bytes and locks, each an [`crate::linear::Object`].

mod content;
mod locks;
mod names;

pub use content::{Content, ContentAnswer, ContentCall};
pub use locks::{LockAnswer, LockCall, Locks};
pub use names::{NameAnswer, NameCall, Names, Place};
