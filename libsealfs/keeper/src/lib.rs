//! The keeper: one small process per user and node that holds what outlives a process.
//!
//! The library starts it unseen when a process first touches a mount, and it ends when nobody needs
//! it. It watches every registered process ([`watch`]); when one ends it tells the servers so and
//! gives back the open descriptions that nobody else holds ([`couriers`]). It renews the node session's
//! lease, keeps the last published state of the cluster for processes that start ([`state`]), holds
//! the memory of files that are mapped shared ([`mappings`]), makes sealed copies of executables
//! ([`images`]), and looks after what inotify(7) watches ([`shadows`]).
//!
//! What must stay true: it may be killed at any moment, and the next one finds everything it needs
//! in the arena; it never makes a program wait for a server longer than the program's own deadline;
//! and there is one of it, by the lock that its starter handed over.

pub mod bell;
pub mod changes;
pub mod cluster;
pub mod courier;
pub mod couriers;
pub mod departures;
pub mod door;
pub mod images;
pub mod links;
pub mod mappings;
pub mod memory;
pub mod options;
pub mod process;
pub mod requests;
pub mod run;
pub mod shadows;
pub mod state;
pub mod watch;

#[cfg(test)]
mod tests;
