//! What every daemon of a cluster does alike: its configuration file, where it listens, the file
//! that says it is ready, its log lines.
//!
//! What must stay true: what is refused is refused in one line that names the thing and the remedy.

pub mod config;
pub mod listen;
pub mod logging;
