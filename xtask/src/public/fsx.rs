//! fsx: random reads, writes, mappings, truncations and copies of one file, each result verified.
//!
//! The sequence of operations follows from the seed, so a failure is repeated by its seed alone.

use super::{Suite, wrapped};
use crate::c_tests::{Total, target_folder};
use clap::Args;
use std::io;
use std::path::{Path, PathBuf};

const SUITE: Suite = Suite {
    name: "fsx",
    version: "0.3.2",
};
const CONFIGURATION: &str = "c-tests/fsx.toml";

#[derive(Args, Clone)]
pub struct Options {
    /// Directory on the file system under test (default: a local one)
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Command prefix for everything that touches --root
    #[arg(long, default_value = "")]
    pub wrap: String,
    /// Operations to do
    #[arg(long, default_value_t = 20_000)]
    pub operations: u64,
    /// What the sequence of operations follows from
    #[arg(long, default_value_t = 1)]
    pub seed: u32,
}

pub fn run(root: &Path, options: &Options) -> io::Result<bool> {
    let total = exercise(root, options)?;
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0)
}

/// One run is one test.
pub fn exercise(root: &Path, options: &Options) -> io::Result<Total> {
    let program = SUITE.install(root)?;
    let local = std::env::temp_dir();
    let folder = options.root.as_ref().unwrap_or(&local);
    let file = folder.join(format!("sealfs-fsx-{}", std::process::id()));
    // A copy of the good bytes and the file as it should be are left there after a failure.
    let artifacts = target_folder(root).join("fsx");
    std::fs::create_dir_all(&artifacts)?;
    let (operations, seed) = (options.operations.to_string(), options.seed.to_string());
    let status = wrapped(&options.wrap, &program)
        .arg("-f")
        .arg(root.join(CONFIGURATION))
        .args(["-N", &operations, "-S", &seed, "-P"])
        .arg(&artifacts)
        .arg(&file)
        .status()?;
    let good = status.success();
    let verdict = if good { "ok  " } else { "FAIL" };
    println!("{verdict} fsx {operations} operations, seed {seed}: {status}");
    if good {
        let removed = wrapped(&options.wrap, Path::new("rm"))
            .arg(&file)
            .status()?;
        return Ok(Total::of(removed.success()));
    }
    Ok(Total::of(false))
}
