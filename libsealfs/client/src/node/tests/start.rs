//! Registration over exec, and the start of a keeper.

use super::*;
use crate::node::keeper_link::{self, Announced, KeeperCommand};
use sealfs_protocol::Errno;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::{Duration, Instant};

pub fn exec_once(runtime: &Runtime, phase: &str) {
    let (_arena, me) = join(runtime);
    say(
        phase,
        format!("{} {} {}", me.client, me.image, me.process.pid),
    );
    if phase == "before" {
        let error = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "node::tests::actor",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(super::ROLE, "exec after")
            .exec();
        panic!("{error}");
    }
}

#[test]
fn exec_keeps_the_client_and_starts_above_its_sequences() {
    let place = Place::new();
    let mut actor = place.start("exec before");
    let (before, after) = (actor.expect("before"), actor.expect("after"));
    let fields = |s: &str| s.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (before, after) = (fields(&before), fields(&after));
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    assert_eq!((before[1].as_str(), after[1].as_str()), ("1", "2"));
}

/// Starts `program` as a keeper twice, and looks whether the program's own `wait` can see it.
pub fn start_keeper(runtime: &Runtime, program: &str) {
    let (_arena, me) = join(runtime);
    let program = CString::new(program).unwrap();
    let environment = [
        c"SEALFS_LOG=debug",
        c"LD_PRELOAD=/nowhere",
        c"SEALFS_MANAGER=x",
    ];
    let command = KeeperCommand {
        program: &program,
        environment: &environment,
    };
    let first = keeper_link::announce(runtime, &me, Some(command));
    say("first", format!("{first:?}"));
    let second = keeper_link::announce(runtime, &me, Some(command));
    say("second", format!("{second:?}"));
    let wait = rustix::process::wait(rustix::process::WaitOptions::empty());
    say(
        "wait",
        format!("{:?}", wait.map(|_| ()).map_err(crate::node::sys::errno)),
    );
    listen();
}

/// Waits for a file with a line of its own at the end.
fn contents(path: &std::path::Path) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.contains("END") => return text,
            _ => std::thread::yield_now(),
        }
        assert!(Instant::now() < until, "{} was not written", path.display());
    }
}

#[test]
fn a_keeper_is_started_once_unseen_and_with_nothing_but_its_lock() {
    let place = Place::new();
    drop(place.runtime());
    let script = place.path.join("keeper.sh");
    let out = place.path.join("out");
    let fifo = place.path.join("fifo");
    let text = format!(
        "#!/bin/sh\nmkfifo {1}\n{{ echo \"args $@\"; env; ls /proc/$$/fd | tr '\\n' ' '; \
         echo; echo END; }} > {0}\nread line < {1}\n",
        out.display(),
        fifo.display(),
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut actor = place.start(&format!("keeper {}", script.display()));
    assert_eq!(
        actor.expect("first"),
        format!("{:?}", Ok::<_, ()>(Announced::Started))
    );
    assert_eq!(
        actor.expect("second"),
        format!("{:?}", Ok::<_, ()>(Announced::BeingStarted))
    );
    assert_eq!(
        actor.expect("wait"),
        format!("{:?}", Err::<(), _>(Errno::ECHILD))
    );
    let told = contents(&out);
    assert!(told.contains(&format!(
        "args --runtime-dir {} --lock-fd 3",
        place.path.display()
    )));
    assert!(
        told.contains("SEALFS_LOG=debug") && !told.contains("LD_PRELOAD"),
        "{told}"
    );
    // 255 and 10 are the shell's own.
    let open = told
        .lines()
        .find(|l| l.starts_with("0 1"))
        .unwrap_or_default();
    assert!(open.starts_with("0 1 ") && open.contains(" 3"), "{told}");
    std::fs::write(&fifo, "\n").unwrap();
}

#[test]
fn a_keeper_that_is_not_there_is_named() {
    let place = Place::new();
    let runtime = place.runtime();
    let (_arena, me) = join(&runtime);
    let command = KeeperCommand {
        program: c"/nowhere/sealfs-keeper",
        environment: &[],
    };
    let error = keeper_link::announce(&runtime, &me, Some(command)).unwrap_err();
    assert_eq!(error.errno, Errno::ENOENT);
    assert!(error.text.contains("/nowhere/sealfs-keeper"));
}

#[test]
fn a_runtime_directory_that_is_no_tmpfs_or_open_to_others_is_refused_by_name() {
    let place = Place::new();
    std::fs::create_dir(&place.path).unwrap();
    std::fs::set_permissions(&place.path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = Runtime::open(Some(place.path.as_os_str().as_encoded_bytes())).unwrap_err();
    assert_eq!(open.errno, Errno::EPERM);
    let missing = Runtime::open(Some(b"/proc/self")).unwrap_err();
    assert!(missing.text.contains("/proc/self"));
}
