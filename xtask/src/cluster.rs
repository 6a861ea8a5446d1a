//! An embedded cluster for tests, by the project's own command: `sealfs dev up` … `dev down --wipe`.
//!
//! It is taken down when the value is dropped, whatever happened in between.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Cluster {
    program: PathBuf,
    state: PathBuf,
    mount: String,
    prefix: String,
}

impl Cluster {
    /// Where scripts work, below the mount.
    pub const SCRIPTS: &str = "scripts";

    /// With its state below the target folder and the programs that were built there.
    pub fn up_for_tests(target: &Path, servers: usize, more: &[&str]) -> io::Result<Self> {
        let state = target.join(format!("test-state-{}", std::process::id()));
        Self::up(&target.join("release/sealfs"), state, servers, more)
    }

    /// Starts a manager and `servers` servers with one volume, mounted at a prefix of its own; `more`
    /// are further options of `sealfs dev up`.
    pub fn up(program: &Path, state: PathBuf, servers: usize, more: &[&str]) -> io::Result<Self> {
        let mount = format!("/sealfs-test-{}", std::process::id());
        let mut cluster = Self {
            program: program.to_owned(),
            state,
            mount,
            prefix: String::new(),
        };
        let servers = servers.to_string();
        let mount = cluster.mount.clone();
        crate::c_tests::must_succeed(
            cluster
                .command("up")
                .args(["--servers", &servers, "--mount", &mount, "--volume", "test"])
                .args(more)
                .stdout(Stdio::null()),
        )?;
        let output = cluster
            .command("env")
            .arg("--prefix")
            .stderr(Stdio::inherit())
            .output()?;
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .clone_into(&mut cluster.prefix);
        if !output.status.success() || !cluster.prefix.starts_with("env ") {
            return Err(io::Error::other(format!(
                "dev env --prefix gave {:?}",
                cluster.prefix
            )));
        }
        cluster.refuse_to_test_the_kernel()?;
        Ok(cluster)
    }

    /// A library that did not load would leave everything on the kernel's own file system.
    fn refuse_to_test_the_kernel(&self) -> io::Result<()> {
        let seen = self
            .wrapped("test")
            .args(["-d", &self.mount])
            .status()?
            .success();
        if !seen || Path::new(&self.mount).exists() {
            let why = if seen {
                "the kernel has it"
            } else {
                "a program does not see it"
            };
            return Err(io::Error::other(format!("mount {}: {why}", self.mount)));
        }
        Ok(())
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["dev", verb, "--state"]).arg(&self.state);
        command
    }

    /// The command prefix under which a program sees the mount.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A program that sees the mount.
    pub fn wrapped(&self, program: &str) -> Command {
        let mut words = self.prefix.split_whitespace();
        let mut wrapped = Command::new(words.next().unwrap_or("env"));
        wrapped.args(words).arg(program);
        wrapped
    }

    /// Kills a daemon as a crash would, and waits for its end.
    pub fn kill(&self, name: &str) -> io::Result<()> {
        crate::c_tests::must_succeed(self.command("kill").arg(name))
    }

    /// Starts a daemon that was killed; returns when it says that it serves.
    pub fn start(&self, name: &str) -> io::Result<()> {
        crate::c_tests::must_succeed(self.command("start").arg(name))
    }

    /// A directory below the mount.
    pub fn folder(&self, name: &str) -> PathBuf {
        Path::new(&self.mount).join(name)
    }

    /// What the volume takes of `what`, as the list of volumes calls it.
    pub fn used(&self, what: &str) -> io::Result<u64> {
        let output = self
            .wrapped(&self.program.to_string_lossy())
            .args(["volume", "list", "--json"])
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text
            .split_once(&format!("\"{what}\":"))
            .map_or("", |(_, rest)| rest);
        let digits = |c: char| !c.is_ascii_digit();
        let number = number.trim_start().split(digits).next().unwrap_or("");
        let unread = || io::Error::other(format!("volume list --json gave {text}"));
        number.parse().map_err(|_| unread())
    }

    /// A new directory below the mount that everybody may enter.
    pub fn new_folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder(name);
        let mut mkdir = self.wrapped("mkdir");
        crate::c_tests::must_succeed(mkdir.args(["-m", "755"]).arg(&folder))?;
        Ok(folder)
    }

    /// Tells a test script where the cluster is.
    pub fn describe_to(&self, script: &mut Command) {
        script
            .env("SEALFS_BIN", &self.program)
            .env("SEALFS_STATE", &self.state)
            .env("SEALFS_ROOT", self.folder(Self::SCRIPTS))
            .env("SEALFS_WRAP", &self.prefix);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let down = self
            .command("down")
            .arg("--wipe")
            .stdout(Stdio::null())
            .status();
        if !down.is_ok_and(|status| status.success()) {
            eprintln!(
                "xtask: could not take down the cluster in {}",
                self.state.display()
            );
        }
    }
}
