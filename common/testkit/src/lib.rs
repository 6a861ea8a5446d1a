//! Test support: shards, their devices and the network between them in memory, under one clock and
//! one seed.
//!
//! [`Cluster`] runs the server's own core ([`sealfs_server::core`]) for every shard over a
//! [`net::SimNet`], a [`clock::SimClock`] and [`CrashDevice`]s, and can break each of them. The same
//! seed gives the same run. [`Client`] speaks the protocol as a program's library does, and no more
//! than the tests need. What clients saw is judged by [`model`] and [`linear`], what is left in the
//! shards by [`audit`].

#![forbid(unsafe_code)]

pub mod audit;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod crash;
mod events;
pub mod linear;
pub mod model;
pub mod net;
pub mod random;
pub mod settings;
pub mod trace;

pub use client::{Client, Outcome};
pub use cluster::Cluster;
pub use crash::CrashDevice;
pub use net::Place;
pub use random::Random;
pub use settings::{Settings, with_fault};
