//! An embedded cluster with the real daemons: up, trouble, down.
//!
//! The daemons and the library have to lie beside the command; they are built if they do not.

#![allow(clippy::unwrap_used, reason = "the failure is the message of a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use tempfile::TempDir;

const COMMAND: &str = env!("CARGO_BIN_EXE_sealfs");

/// Builds what `sealfs` needs beside it, once, in the profile of this test.
fn build_the_rest() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(COMMAND).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "-p",
            "sealfs",
            "-p",
            "sealfs-server",
            "-p",
            "sealfs-keeper",
        ]);
        cargo.arg("--target-dir").arg(dir.parent().unwrap());
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
    });
}

/// A cluster in a directory of its own and with a node of its own; gone when dropped.
struct Cluster {
    dir: TempDir,
    runtime: TempDir,
}

impl Cluster {
    fn new() -> Cluster {
        build_the_rest();
        Cluster {
            dir: tempfile::tempdir().unwrap(),
            runtime: tempfile::tempdir_in("/dev/shm").unwrap(),
        }
    }

    fn up(options: &[&str]) -> Cluster {
        let cluster = Cluster::new();
        cluster.good(&[&["dev", "up", "--size", "256M"], options].concat());
        cluster
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Runs a verb; those of `dev` on this cluster's state.
    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(COMMAND);
        let split = args.iter().position(|a| *a == "--").unwrap_or(args.len());
        command.args(&args[..split]);
        if args[0] == "dev" {
            command.arg("--state").arg(self.state());
        } else if let Ok(url) = std::fs::read_to_string(self.state().join("run/manager.url")) {
            command.env("SEALFS_MANAGER", url.trim());
        }
        command.args(&args[split..]);
        command.env("SEALFS_RUNTIME_DIR", self.runtime.path().join("node"));
        command.output().unwrap()
    }

    /// Standard output of a verb that has to succeed.
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one line of a verb that has to fail.
    fn bad(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    fn pids(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.state().join("srv.pids")).unwrap();
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.run(&["dev", "down", "--wipe"]);
    }
}

/// Whether a process runs; one that has ended and was not yet waited for does not.
fn runs(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim().starts_with('Z'))
}

#[test]
fn up_starts_all_daemons_and_down_ends_them_and_wipes_what_up_made() {
    let cluster = Cluster::up(&["--servers", "2"]);
    let pids = cluster.pids();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(*pid)));
    cluster.good(&["dev", "down", "--wipe"]);
    assert!(!pids.iter().any(|pid| runs(*pid)));
    assert!(!cluster.state().exists());
}

#[test]
fn a_second_up_changes_nothing_and_other_options_are_refused() {
    let cluster = Cluster::up(&[]);
    let pids = cluster.pids();
    assert!(cluster.good(&["dev", "up"]).contains("already up"));
    assert_eq!(cluster.pids(), pids);
    assert!(
        cluster
            .bad(&["dev", "up", "--servers", "2"])
            .contains("other options")
    );
}

#[test]
fn a_killed_daemon_is_told_and_comes_back_at_its_address() {
    let cluster = Cluster::up(&[]);
    for name in ["server-0", "manager"] {
        let before = cluster.good(&["dev", "status"]);
        let url = before
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap()
            .rsplit(' ')
            .next()
            .unwrap();
        cluster.good(&["dev", "kill", name]);
        assert_eq!(cluster.run(&["dev", "status"]).status.code(), Some(3));
        cluster.good(&["dev", "start", name]);
        assert!(cluster.good(&["dev", "status"]).contains(url));
        cluster.good(&["status"]);
    }
}

#[test]
fn files_written_before_a_server_was_killed_are_there_afterwards() {
    let cluster = Cluster::up(&[]);
    let local = cluster.dir.path().join("local");
    std::fs::write(&local, "kept\n").unwrap();
    cluster.good(&["mkdir", "-p", "/sealfs/a/b"]);
    cluster.good(&["cp", local.to_str().unwrap(), "/sealfs/a/b/file"]);
    cluster.good(&["dev", "kill", "server-0"]);
    cluster.good(&["dev", "start", "server-0"]);
    assert_eq!(cluster.good(&["cat", "main:/a/b/file"]), "kept\n");
}

#[test]
fn a_tree_copied_to_a_volume_and_back_is_the_same() {
    let cluster = Cluster::up(&[]);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let back = cluster.dir.path().join("back");
    cluster.good(&["cp", "-r", "-p", from.to_str().unwrap(), "/sealfs/src"]);
    cluster.good(&["cp", "-r", "-p", "/sealfs/src", back.to_str().unwrap()]);
    let same = Command::new("diff")
        .arg("-r")
        .args([&from, &back])
        .status()
        .unwrap();
    assert!(same.success());
    cluster.good(&["rm", "-r", "/sealfs/src"]);
    assert_eq!(cluster.good(&["ls", "/sealfs"]), "");
}

#[test]
fn volumes_are_created_listed_and_deleted() {
    let cluster = Cluster::up(&[]);
    cluster.good(&["volume", "create", "scratch", "--durability", "memory"]);
    assert!(
        cluster
            .bad(&["volume", "create", "scratch"])
            .contains("exists already")
    );
    let listed: String = cluster.good(&["volume", "list", "--json"]);
    assert!(
        listed.contains("\"scratch\"") && listed.contains("\"memory\""),
        "{listed}"
    );
    cluster.good(&["volume", "rename", "scratch", "attic"]);
    assert!(
        cluster
            .bad(&["volume", "rename", "attic", "main"])
            .contains("exists already")
    );
    cluster.good(&[
        "volume", "resize", "attic", "--quota", "1G", "--inodes", "1000",
    ]);
    cluster.good(&["volume", "set", "attic", "--read-only"]);
    let listed = cluster.good(&["volume", "list"]);
    let line = listed.lines().find(|l| l.starts_with("attic")).unwrap();
    let told = ["1.0 GiB", "1000", "ro,memory"].map(|text| line.contains(text));
    assert_eq!(told, [true; 3], "{line}");
    assert_eq!(
        cluster.run(&["volume", "resize", "attic"]).status.code(),
        Some(2)
    );
    cluster.good(&["volume", "delete", "attic"]);
    assert!(!cluster.good(&["volume", "list"]).contains("attic"));
    assert!(
        cluster
            .bad(&["volume", "delete", "attic"])
            .contains("does not exist")
    );
}

#[test]
fn an_unknown_volume_is_refused_before_the_program_starts() {
    let cluster = Cluster::up(&[]);
    let line = cluster.bad(&["run", "--volume", "nope", "--", "touch", "started"]);
    assert!(
        line.contains("nope") && line.contains("sealfs volume create"),
        "{line}"
    );
}

#[test]
fn dev_run_exits_as_its_program_does_and_leaves_nothing_running() {
    let cluster = Cluster::new();
    let print = "echo $SEALFS_VOLUME $SEALFS_MANAGER; exit 7";
    let args = ["dev", "run", "--size", "256M", "--", "sh", "-c", print];
    let output = cluster.run(&args);
    assert_eq!(
        output.status.code(),
        Some(7),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("main#1 tcp://127.0.0.1:"));
    assert_eq!(cluster.run(&["dev", "status"]).status.code(), Some(3));
    let killed = cluster.run(&["dev", "run", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(128 + 9));
    let missing = cluster.run(&["dev", "run", "--", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(127));
}

#[test]
fn a_server_that_cannot_start_is_told_in_its_own_words_and_nothing_stays() {
    let cluster = Cluster::new();
    let line = cluster.bad(&["dev", "up", "--size", "4096"]);
    assert!(line.contains("server-0"), "{line}");
    assert!(!cluster.state().exists());
}
