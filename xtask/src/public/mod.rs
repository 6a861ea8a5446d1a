//! Public test suites of other people, under the library: `pjdfstest` and `fsx`, both Rust crates.
//!
//! What must stay true: a suite is the version named here, installed by cargo below the target folder;
//! it runs as it is, and nothing of it is left out without standing in a list of the repository.

pub mod fsx;
pub mod pjdfstest;

use crate::c_tests::target_folder;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A crate with one binary of the same name.
struct Suite {
    name: &'static str,
    version: &'static str,
}

impl Suite {
    /// The binary; installed first unless this version is there.
    fn install(&self, root: &Path) -> io::Result<PathBuf> {
        let folder = target_folder(root).join("tools");
        let program = folder.join("bin").join(self.name);
        if self.is_installed(&program) {
            return Ok(program);
        }
        let version = format!("={}", self.version);
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", self.name, "--version", &version])
            .args(["--locked", "--force", "--quiet", "--root"])
            .arg(&folder);
        crate::c_tests::must_succeed(&mut cargo)?;
        if self.is_installed(&program) {
            return Ok(program);
        }
        let name = program.display();
        Err(io::Error::other(format!("{name} is not {}", self.version)))
    }

    fn is_installed(&self, program: &Path) -> bool {
        let output = Command::new(program)
            .arg("--version")
            .stderr(Stdio::null())
            .output();
        let wanted = format!("{} {}", self.name, self.version);
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted)
    }
}

/// `program` behind a command prefix, which may be empty.
fn wrapped(prefix: &str, program: &Path) -> Command {
    let mut words = prefix.split_whitespace();
    match words.next() {
        None => Command::new(program),
        Some(first) => {
            let mut command = Command::new(first);
            command.args(words).arg(program);
            command
        }
    }
}
