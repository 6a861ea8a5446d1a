//! The program itself, started by hand as its starter would.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, whose failure is the message"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        Place(PathBuf::from(format!(
            "/dev/shm/sealfs-prog-{name}-{}",
            std::process::id()
        )))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealfs-keeper"));
        command
            .arg("--default-dir")
            .arg(&self.0)
            .env_remove("SEALFS_STATE");
        command
    }

    /// A keeper, and that it is there.
    fn start(&self, idle_ms: &str) -> Keeper {
        let mut command = self.command();
        command.args(["--idle-ms", idle_ms]).stderr(Stdio::piped());
        let keeper = Keeper(command.spawn().unwrap());
        until("it listens", || self.0.join("keeper.sock").exists());
        keeper
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Keeper(Child);

impl Keeper {
    fn end(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

fn pid_file(place: &Place) -> String {
    let path = place.0.join("keeper.pid");
    until("keeper.pid is written", || {
        std::fs::read_to_string(&path).is_ok_and(|t| t.ends_with('\n'))
    });
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn it_says_its_pid_and_takes_every_file_away_when_nobody_comes() {
    let place = Place::new("idle");
    let keeper = place.start("300");
    assert_eq!(pid_file(&place), keeper.0.id().to_string());
    std::fs::write(place.0.join("fifo-1"), "").unwrap();
    assert!(keeper.end());
    assert!(!place.0.exists(), "{:?}", list(&place.0));
}

#[test]
fn a_signal_ends_it_at_once() {
    let place = Place::new("signal");
    let keeper = place.start("1000000");
    let pid = pid_file(&place);
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(keeper.end());
    assert!(!place.0.exists(), "{:?}", list(&place.0));
}

#[test]
fn a_second_keeper_refuses_in_one_line() {
    let place = Place::new("second");
    let _first = place.start("1000000");
    let Output { status, stderr, .. } = place.command().output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(text.starts_with("sealfs-keeper: a keeper runs already") && text.lines().count() == 1);
}

#[test]
fn its_pid_is_noted_for_the_development_cluster() {
    let place = Place::new("state");
    let state = Place::new("dev");
    std::fs::create_dir(&state.0).unwrap();
    std::fs::write(state.0.join("cli.pids"), "1").unwrap();
    let mut command = place.command();
    command
        .args(["--idle-ms", "300"])
        .env("SEALFS_STATE", &state.0);
    let mut keeper = command.spawn().unwrap();
    let pid = keeper.id().to_string();
    assert!(keeper.wait().unwrap().success());
    let noted = std::fs::read_to_string(state.0.join("cli.pids")).unwrap();
    assert_eq!(noted.split_whitespace().collect::<Vec<_>>(), ["1", &pid]);
}

fn list(path: &Path) -> Vec<String> {
    std::fs::read_dir(path)
        .map(|d| {
            d.flatten()
                .map(|e| e.file_name().to_string_lossy().into_owned())
                .collect()
        })
        .unwrap_or_default()
}
