//! Frames over TCP: always available, on the same node and between nodes.

pub mod client;
mod inbound;
pub mod loopback;
mod outbound;
pub mod pool;
pub mod server;
