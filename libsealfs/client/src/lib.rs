//! The file system as seen from a process: connections, path walks, open files, data.
//!
//! [`Client`] is the whole of it: what the interposed calls of a program, the keeper, and the
//! command line do on a volume. `Client::open` asks the owner of the path's directory (`walk`);
//! `Client::write` cuts a range into spans of chunks (`write`), sends one request to each owner
//! involved with the bytes by reference, waits for all (`call`), and returns the contiguous prefix
//! that landed.
//!
//! It lives inside other people's programs: no libc, no thread, no global, no environment; time,
//! random bits and connections come through `sealfs_transport::world`, so a simulator can run it.
//! What must stay true: every call ends by its deadline but for lock waits, which signals end; every
//! error is the errno that the kernel would give.

#![deny(unsafe_code)]

mod attr;
mod cache;
mod call;
mod client;
mod cluster;
mod config;
mod connect;
mod copy;
mod credentials;
mod deferred;
mod descriptors;
mod dir;
mod durable;
mod files;
mod hash;
mod lock;
mod names;
pub mod node;
mod open;
mod part;
mod path;
mod plan;
pub mod reach;
mod read;
mod reassert;
mod room;
mod seek;
mod sent;
mod session;
mod slots;
mod walk;
mod write;

pub use client::Client;
pub use config::{At, Config, ConnectError, CredentialIndex, Failure, FileRef, Identity, Outcome};
pub use dir::{DirEntry, PAGE_MAX_BYTES, Page};
pub use open::Opened;
pub use sealfs_transport::memory::{Hooks, IoVec, IoVecMut};
pub use sealfs_transport::sync;
pub use sealfs_transport::time::Instant;
pub use session::Standing;
