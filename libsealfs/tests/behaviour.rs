//! Programs that never touch the mount do the same with the library as without it.

mod support;

use sealfs_client::node::Runtime;
use sealfs_client::node::profile::Profile;
use std::path::Path;
use std::process::Command;
use support::{program, run, same, with_library};

#[test]
fn a_blocked_read_can_be_cancelled_and_backtraces_are_as_deep() {
    let said = same(&program("cancel"), &[]);
    assert!(said.contains("cleanup ran"), "{said}");
}

/// `sealfs profile` has calls seen that are otherwise the kernel's at once.
#[test]
fn calls_that_are_counted_do_the_same() {
    let place = format!("/dev/shm/sealfs-behaviour-{}", std::process::id());
    let runtime = Runtime::open(Some(place.as_bytes())).expect("a runtime directory");
    let counters = Profile::create(&runtime, 1).expect("counters");
    let file = Profile::path(&runtime, 1);
    let path = std::str::from_utf8(file.as_bytes()).expect("a plain path");
    for name in [
        "cancel",
        "seccomp_strict",
        "seccomp_filter",
        "bad_pointers",
        "fault_signals",
        "children",
        "registers",
        "small_stacks",
    ] {
        let plain = run(&mut Command::new(program(name)));
        let counted = run(with_library(program(name)).env("SEALFS_PROFILE", path));
        assert_eq!(plain, counted, "{name}");
    }
    let totals = counters.totals();
    std::fs::remove_dir_all(place).expect("the directory is ours");
    // The only answers of ours are to what nobody can read.
    assert!(totals.iter().all(|t| t.ours == t.failed), "{totals:?}");
    let read = totals.iter().find(|call| call.name == "read");
    assert!(read.is_some_and(|read| read.calls() > 0), "{totals:?}");
}

#[test]
fn a_program_under_strict_seccomp_lives() {
    let said = same(&program("seccomp_strict"), &[]);
    assert!(said.contains("alive"), "{said}");
}

#[test]
fn a_filter_that_kills_unexpected_calls_is_never_hit() {
    let said = same(&program("seccomp_filter"), &[]);
    assert!(said.contains("alive"), "{said}");
}

#[test]
fn bad_pointers_give_efault() {
    let said = same(&program("bad_pointers"), &[]);
    assert!(said.contains("14"), "{said}");
}

#[test]
fn dispositions_of_fault_signals_are_the_programs_own() {
    same(&program("fault_signals"), &[]);
}

#[test]
fn children_by_every_road_get_their_descriptors_and_signals() {
    same(&program("children"), &[]);
}

#[test]
fn vector_registers_and_flags_of_rounding_survive_calls() {
    let said = same(&program("registers"), &[]);
    assert!(said.contains("kept"), "{said}");
}

#[test]
fn small_thread_stacks_and_signal_stacks_suffice() {
    same(&program("small_stacks"), &[]);
}

#[test]
fn a_shell_with_pipes_and_redirections_is_the_same() {
    let script = "cd /; for i in 1 2 3; do echo $i | cat; done; x=$(echo sub | tr s S); echo $x; \
        (exit 3); echo $?; ls /nonexistent; cat < /etc/hostname > /dev/null; \
        { echo a; echo b >&2; } 2>&1 | sort -r; pwd; ls -d /etc /usr";
    same(Path::new("/bin/bash"), &["-c", script]);
}

#[test]
fn python_with_threads_and_subprocesses_is_the_same() {
    let script = "import subprocess, os, threading, signal, tempfile\n\
        print(subprocess.run(['echo', 'hi'], capture_output=True))\n\
        out = []\n\
        threads = [threading.Thread(target=lambda: out.append(len(os.listdir('/etc')))) \
            for _ in range(40)]\n\
        [t.start() for t in threads]; [t.join() for t in threads]\n\
        print(len(set(out)), os.getcwd(), signal.getsignal(signal.SIGSEGV))\n\
        with tempfile.TemporaryFile() as f: f.write(b'x' * 100000); f.seek(0); \
            print(len(f.read()))\n\
        pid = os.fork()\n\
        if pid == 0: os._exit(7)\n\
        print(os.waitpid(pid, 0)[1])\n";
    same(Path::new("python3"), &["-c", script]);
}

#[test]
fn git_and_ls_are_the_same() {
    same(
        Path::new("git"),
        &["-C", env!("CARGO_MANIFEST_DIR"), "--version"],
    );
    same(Path::new("/bin/ls"), &["-la", "/usr", "/etc/passwd"]);
}
