//! The parts of the library that ask nobody anything, tested apart from it: a test binary that held
//! the library's exported symbols would call itself.
#![allow(
    dead_code,
    reason = "only what the tests of these files use is called here"
)]

#[path = "../src/exec.rs"]
mod exec;
#[path = "../src/path.rs"]
mod path;
