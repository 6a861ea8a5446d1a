//! The server: storage of shards, operations, and the runtime around them.

pub mod env;
pub mod meta;
pub mod store;
