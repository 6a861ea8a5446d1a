//! The node session under several real processes: each test starts this test binary again as
//! many times as it needs, with a role in the environment, and kills them where the story says so.

mod arena;
mod closers;
mod profile;
mod start;
mod watched;

use super::arena::ManagerIndex;
use super::processes::{self, Registration};
use super::slot::{OpenedFile, SlotId, SlotInit};
use super::{Arena, Runtime, placeholder};
use sealfs_protocol::{ClusterId, InodeId, VolumeId};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const URL: &str = "tcp://127.0.0.1:1";
const ROLE: &str = "SEALFS_TEST_ROLE";
const DIRECTORY: &str = "SEALFS_TEST_DIR";

/// A runtime directory of its own, removed at the end.
pub struct Place {
    pub path: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        let name = format!(
            "sealfs-test-{:x}",
            super::sys::random_u128().unwrap() as u64
        );
        Place {
            path: PathBuf::from("/dev/shm").join(name),
        }
    }

    pub fn runtime(&self) -> Runtime {
        Runtime::open(Some(self.path.as_os_str().as_encoded_bytes())).unwrap()
    }

    /// This test binary in another process, playing `role`.
    pub fn start(&self, role: &str) -> Actor {
        start_in(&self.path, role)
    }
}

/// This test binary in another process, playing `role` in a runtime directory, with pipes to its
/// stdin and stdout.
pub fn start_in(path: &Path, role: &str) -> Actor {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "node::tests::actor",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, role)
        .env(DIRECTORY, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Actor { child, output }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A process that plays a role.
pub struct Actor {
    pub child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Actor {
    /// The rest of the next line that starts with `word`; the end of the output is a failure.
    pub fn expect(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let n = self.output.read_line(&mut line).unwrap();
            assert!(n > 0, "the actor ended before it said {word}");
            // The test harness may have written the start of the line.
            if let Some(at) = line.find(&format!("@{word}")) {
                return line[at + word.len() + 1..].trim().to_owned();
            }
        }
    }

    pub fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the roles are played; without a role it is an empty test.
#[test]
fn actor() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let place = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let runtime = Runtime::open(Some(place.as_os_str().as_encoded_bytes())).unwrap();
    match role.split_once(' ').unwrap_or((&role, "")) {
        ("hold-offset", id) => arena::hold_offset(&runtime, id),
        ("allocate", count) => arena::allocate_many(&runtime, count),
        ("exec", phase) => start::exec_once(&runtime, phase),
        ("race", what) => closers::race(&runtime, what),
        ("close", id) => closers::close_inherited(&runtime, id),
        ("keeper", program) => start::start_keeper(&runtime, program),
        other => panic!("no such role: {other:?}"),
    }
}

/// Says a word to the test.
pub fn say(word: &str, rest: impl std::fmt::Display) {
    println!("@{word} {rest}");
}

/// Waits for the test's word.
pub fn listen() -> String {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

pub fn join(runtime: &Runtime) -> (Arena, Registration) {
    processes::join(runtime, URL).unwrap()
}

/// An open description of inode `ino`.
pub fn open_slot(runtime: &Runtime, arena: &Arena, me: &Registration, ino: u64) -> SlotId {
    let init = SlotInit {
        cluster: ClusterId(7),
        manager: ManagerIndex(0),
        volume: VolumeId(3),
        mount: 0,
        open: arena.mint_open(),
        flags: 2,
    };
    let id = arena.allocate(runtime, me.index, &init).unwrap();
    let file = OpenedFile {
        ino: InodeId(ino),
        kind: 0o100_000,
        parent: InodeId(1),
        name: b"name",
    };
    arena.publish(id, &file).unwrap();
    id
}

/// An open description with a descriptor.
pub fn open_file(runtime: &Runtime, arena: &Arena, me: &Registration, ino: u64) -> (SlotId, i32) {
    let id = open_slot(runtime, arena, me, ino);
    (id, placeholder::open(runtime, arena, id, true).unwrap())
}

pub fn id_text(id: SlotId) -> String {
    format!("{}/{}", id.index, id.generation)
}

pub fn parse_id(text: &str) -> SlotId {
    let (index, generation) = text.split_once('/').unwrap();
    SlotId {
        index: index.parse().unwrap(),
        generation: generation.parse().unwrap(),
    }
}
