//! The server: storage of shards, operations, and the runtime around them.

pub mod config;
pub mod env;
pub mod logging;
pub mod membership;
pub mod meta;
pub mod store;
