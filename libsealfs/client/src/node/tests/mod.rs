//! Tests of the node session with real processes.
