//! The file system as seen from a process: connections, path walks, open files, data.

pub mod node;
