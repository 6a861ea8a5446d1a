//! The manager of a sealfs cluster, and the `sealfs` command.
//!
//! The daemon's parts: [`state`] decides and is pure, [`store`] makes each decision durable,
//! [`serve`] speaks to the world, [`config`] says what to run with, [`daemon`] puts them together.
//! Clients and servers keep working from their last ring while no manager runs.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod names;
pub mod serve;
pub mod state;
pub mod store;
