//! The daemon as a process: what it keeps over a restart, and what it refuses to start on.

#![allow(clippy::unwrap_used, reason = "the failure is the message of a test")]

use sealfs_protocol::attr::Layout;
use sealfs_protocol::manager::{
    ClusterState, Durability, ManagerReply, ManagerRequest, Usage, Volume,
};
use sealfs_protocol::{Incarnation, VolumeId};
use sealfs_transport::{Url, rpc};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

const DEADLINE_MS: u32 = 10_000;

/// A running daemon that dies with the test.
struct Manager {
    child: Child,
    url: Url,
}

impl Manager {
    /// Starts one on `state` at any free port and waits for the line that names it.
    fn start(state: &Path) -> Manager {
        let mut child = command(state, "tcp://127.0.0.1:0")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let mut text = String::new();
        let mut byte = [0];
        while !(text.contains("listening at ") && text.ends_with('\n')) {
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{text}");
            text.push(char::from(byte[0]));
        }
        let after = text.split("listening at ").nth(1).unwrap();
        let url = after.split(',').next().unwrap().parse().unwrap();
        Manager { child, url }
    }

    fn ask(&self, request: &ManagerRequest) -> ManagerReply {
        rpc::manager(&self.url, request, DEADLINE_MS).unwrap()
    }

    fn state(&self) -> ClusterState {
        match self.ask(&ManagerRequest::State { known: 0 }) {
            ManagerReply::State(Some(state)) => state,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn command(state: &Path, listen: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sealfs-manager"));
    command.args(["--listen", listen, "--state-dir"]).arg(state);
    command
}

fn refusal(output: Output) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn join(name: &str, store: u128) -> ManagerRequest {
    ManagerRequest::Heartbeat {
        cluster: None,
        name: name.into(),
        store,
        shard: None,
        addresses: vec!["tcp://127.0.0.1:1".into()],
        weight: 1,
        incarnation: Incarnation(1),
        usage: Usage::default(),
        volumes: Vec::new(),
        known: 0,
    }
}

fn create(name: &str) -> ManagerRequest {
    ManagerRequest::CreateVolume {
        volume: Volume {
            id: VolumeId(0),
            name: name.into(),
            durability: Durability::Fsync,
            layout: Layout::default(),
            root_uid: 0,
            root_gid: 0,
            root_mode: 0o755,
            quota_bytes: 0,
            quota_inodes: 0,
            read_only: false,
        },
    }
}

#[test]
fn a_killed_manager_comes_back_with_members_ring_and_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let first = Manager::start(dir.path());
    first.ask(&join("server-0", 1));
    first.ask(&join("server-1", 2));
    first.ask(&create("main"));
    let before = first.state();
    drop(first);
    assert_eq!(Manager::start(dir.path()).state(), before);
}

#[test]
fn a_port_in_use_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", taken.local_addr().unwrap());
    let state = dir.path().join("state");
    let text = refusal(command(&state, &url).output().unwrap());
    assert!(text.contains(&url) && !state.exists(), "{text}");
}

#[test]
fn a_second_manager_on_one_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Manager::start(dir.path());
    let second = command(dir.path(), "tcp://127.0.0.1:0").output().unwrap();
    let text = refusal(second);
    assert!(text.contains("another manager"), "{text}");
}

#[test]
fn a_directory_with_other_files_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    let text = refusal(command(dir.path(), "tcp://127.0.0.1:0").output().unwrap());
    assert!(text.contains("holds other files"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn another_number_of_partitions_than_the_clusters_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Manager::start(dir.path()));
    let mut again = command(dir.path(), "tcp://127.0.0.1:0");
    let text = refusal(again.args(["--partitions", "64"]).output().unwrap());
    assert!(text.contains("4096 partitions"), "{text}");
}

#[test]
fn garbage_costs_its_sender_the_connection_and_nobody_else_anything() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path());
    let mut peer = std::net::TcpStream::connect(manager.url.address).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(DEADLINE_MS.into())))
        .unwrap();
    peer.write_all(&[0x5a; 400]).unwrap();
    let closed = matches!(peer.read(&mut [0; 16]), Ok(0) | Err(_));
    assert!(closed);
    assert_eq!(manager.state().version, 1);
}
