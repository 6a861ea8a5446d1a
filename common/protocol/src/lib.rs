//! The words that clients, servers and the manager exchange: identities, errors, the frame header,
//! message bodies, the ring and the layout of files.
//!
//! Nothing here does I/O, holds a lock or reads a clock, so every other crate can lean on it and
//! the simulator can run it unchanged. What must stay true: bytes from outside are parsed here,
//! once, into types, and parsing them can neither panic nor allocate without bound.
//!
//! A frame is [`header::Header`], then an rkyv body ([`message`], [`manager`], [`peer`]), then the
//! payload by reference. `docs/protocol.md` has the byte tables and the version rule.

#![forbid(unsafe_code)]

pub mod attr;
pub mod codec;
pub mod dirent;
pub mod errno;
pub mod hash;
pub mod header;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod lock;
pub mod manager;
pub mod message;
pub mod peer;
pub mod reply;
pub mod ring;
pub mod usage;

pub use errno::Errno;
pub use ids::*;
