//! The server: storage of shards, operations, and the runtime around them.

pub mod config;
pub mod core;
pub mod env;
pub mod membership;
pub mod meta;
pub mod net;
pub mod ops;
pub mod records;
pub mod runtime;
pub mod signals;
pub mod store;
pub mod txn;
