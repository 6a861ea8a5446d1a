//! `cargo xtask VERB`: the project's own checks and its test runner.
//!
//! Each verb is one module: `tidy` (taste enforced by a tool), `c_tests` (the POSIX contract, run locally and on
//! sealfs), `coverage` (docs/posix-coverage.md from its table), `oracle` (no path below the mount in
//! an strace output), `public` (pjdfstest and fsx), `storm` (suites while servers are killed), `suite` (everything `make test` runs, with one total).
//! Verbs print facts on stdout and leave with 0 (good) or 1 (something failed); 2 is a usage error.

mod c_tests;
mod cluster;
mod coverage;
mod oracle;
mod public;
mod storm;
mod suite;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Checks and tests of the sealfs tree")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Checks file and function length, headers, leftovers, links, unsafe and paths.
    Tidy,
    /// Runs the C programs on a local directory and, wrapped, on sealfs; outputs must be equal.
    CTests(c_tests::Options),
    /// Writes docs/posix-coverage.md from c-tests/coverage.tsv.
    Coverage,
    /// Fails if a system call of an strace output has a path below the mount.
    Oracle(oracle::Options),
    /// Runs the public suite pjdfstest and compares each case with the list of what ext4 does.
    Pjdfstest(public::pjdfstest::Options),
    /// Runs fsx: random operations on one file, verified.
    Fsx(public::fsx::Options),
    /// Runs suites on three servers of which a random one is killed and started again every few seconds.
    Storm(storm::Options),
    /// Runs every test and ends with one line `N passed, N failed`.
    Test(suite::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = repository();
    let outcome = match arguments.verb {
        Verb::Tidy => tidy::run(&root),
        Verb::CTests(options) => c_tests::run(&root, &options),
        Verb::Coverage => coverage::write(&root),
        Verb::Oracle(options) => oracle::run(&options),
        Verb::Pjdfstest(options) => public::pjdfstest::run(&root, &options),
        Verb::Fsx(options) => public::fsx::run(&root, &options),
        Verb::Storm(options) => storm::run(&root, &options),
        Verb::Test(options) => Ok(suite::run(&root, &options)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The top folder of the tree this binary was built in.
fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}
