//! Frames between processes: one protocol, several carriers, chosen by the scheme of a [`Url`].
//!
//! The client's side ([`link`], [`rpc`], [`tcp::client`]) lives inside other people's programs: it
//! runs on raw system calls alone, starts no thread, and takes no lock but [`sync`]'s. The server's
//! side ([`tcp::server`]) stands on mio. What must stay true on both: a frame arrives whole or not
//! at all, nothing that a peer sends can panic or allocate beyond a named limit, and every wait has
//! a deadline.

pub mod error;
pub mod link;
pub mod memory;
mod patience;
pub mod rpc;
pub mod sync;
pub mod tcp;
pub mod time;
pub mod url;
pub mod world;

pub use error::TransportError;
pub use url::Url;
