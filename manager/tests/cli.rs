//! The command as people and scripts meet it: exit codes, one-line errors, help with examples.

#![allow(clippy::unwrap_used, reason = "the failure is the message of a test")]

use std::process::{Command, Output};

/// Runs `sealfs` with an environment that names no cluster.
fn sealfs(args: &[&str]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_sealfs"))
        .args(args)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", nowhere.path())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one line of a command that failed with `code`.
fn refusal(args: &[&str], code: i32) -> String {
    let output = sealfs(args);
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {line}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line}");
    assert!(output.stdout.is_empty(), "{args:?}");
    line
}

/// Every verb with its sub-verbs, as the help lists them.
fn verbs(prefix: &[&str]) -> Vec<Vec<String>> {
    let help = text(&sealfs(&[prefix, &["--help"]].concat()).stdout);
    let Some((_, commands)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let names = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let mut all = Vec::new();
    for name in names {
        let path = [prefix, &[name]].concat();
        all.push(path.iter().map(|s| (*s).to_owned()).collect());
        all.extend(verbs(&path));
    }
    all
}

#[test]
fn every_verb_has_examples_in_its_help() {
    let all = verbs(&[]);
    assert!(all.len() >= 15, "{all:?}");
    for verb in all {
        let mut args: Vec<&str> = verb.iter().map(String::as_str).collect();
        args.push("--help");
        let help = text(&sealfs(&args).stdout);
        assert!(help.contains("Examples:"), "sealfs {}", verb.join(" "));
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for args in [
        &["frobnicate"][..],
        &["dev", "up", "--servers", "0"],
        &["dev", "up", "--size", "many"],
        &["volume", "create"],
        &["dev", "kill", "server-0", "--signal", "NOPE"],
    ] {
        assert_eq!(sealfs(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_manager_that_is_not_there_is_named_with_the_remedy() {
    let url = "--manager=tcp://127.0.0.1:1";
    for args in [
        &["status", url][..],
        &["volume", "list", url],
        &["volume", "create", "x", url],
        &["server", "list", url],
        &["run", url, "--", "true"],
    ] {
        let line = refusal(args, 1);
        assert!(
            line.contains("tcp://127.0.0.1:1") && line.contains("--manager"),
            "{line}"
        );
    }
}

#[test]
fn a_wrong_url_is_refused() {
    let line = refusal(&["status", "--manager", "http://example.org"], 1);
    assert!(
        line.contains("http://example.org") && line.contains("tcp://"),
        "{line}"
    );
}

#[test]
fn a_mount_that_exists_in_the_kernel_is_refused() {
    let line = refusal(&["run", "--mount", "/tmp", "--", "true"], 1);
    assert!(
        line.contains("/tmp") && line.contains("does not exist"),
        "{line}"
    );
}

#[test]
fn verbs_on_a_state_that_is_not_there_say_how_to_start_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("none");
    let state = state.to_str().unwrap();
    for verb in [
        &["env"][..],
        &["status"],
        &["kill", "manager"],
        &["start", "manager"],
    ] {
        let args = [&["dev"], verb, &["--state", state]].concat();
        let line = refusal(&args, 1);
        assert!(line.contains("sealfs dev up"), "{line}");
    }
    assert!(!std::path::Path::new(state).exists());
}

#[test]
fn a_state_directory_with_other_files_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "x").unwrap();
    let state = dir.path().to_str().unwrap();
    let output = sealfs(&["dev", "up", "--state", state]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn completions_and_manual_pages_are_made() {
    assert!(text(&sealfs(&["completions", "bash"]).stdout).contains("sealfs"));
    let dir = tempfile::tempdir().unwrap();
    let made = sealfs(&["man", dir.path().to_str().unwrap()]);
    assert!(made.status.success() && dir.path().join("sealfs-dev-up.1").is_file());
}
