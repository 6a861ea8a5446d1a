//! Test support: shards, their devices and the network between them in memory, under one clock and
//! one seed.
//!
//! [`Cluster`] runs the server's own core ([`sealfs_server::core`]) for every shard, carries their
//! messages with delays and out of order, and kills and restarts them. The same seed gives the same
//! run. [`Client`] speaks the protocol as a program's library does, and no more than the tests need.

#![forbid(unsafe_code)]

pub mod client;
pub mod cluster;
pub mod random;

pub use client::{Client, Outcome};
pub use cluster::{Cluster, Settings};
pub use random::Random;
