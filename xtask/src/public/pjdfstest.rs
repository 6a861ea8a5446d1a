//! pjdfstest: a public suite of single operations and their errnos, compared with what ext4 does.
//!
//! `c-tests/pjdfstest.tsv` lists every case with its verdict on a local ext4, and for those that end
//! otherwise on the mount the verdict there and the reason. What must stay true: a case that is not in
//! the list, or is in it and did not run, counts as failed.

use super::{Suite, wrapped};
use crate::c_tests::Total;
use clap::Args;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const SUITE: Suite = Suite {
    name: "pjdfstest",
    version: "0.2.2",
};
const LIST: &str = "c-tests/pjdfstest.tsv";
const CONFIGURATION: &str = "c-tests/pjdfstest.toml";
/// Another file system, for what must not work across two.
const SECOND: &str = "/dev/shm";

#[derive(Args, Clone)]
pub struct Options {
    /// Directory on the file system under test (default: a local one)
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Command prefix for everything that touches --root
    #[arg(long, default_value = "")]
    pub wrap: String,
}

pub fn run(root: &Path, options: &Options) -> io::Result<bool> {
    let total = compare(root, options)?;
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

/// Runs the suite and compares each case with the list.
pub fn compare(root: &Path, options: &Options) -> io::Result<Total> {
    let program = SUITE.install(root)?;
    let local = std::env::temp_dir();
    let folder = options.root.as_ref().unwrap_or(&local);
    let expected = expectations(&std::fs::read_to_string(root.join(LIST))?)?;
    let output = wrapped(&options.wrap, &program)
        .arg("-c")
        .arg(root.join(CONFIGURATION))
        .args(["-s", SECOND, "-p"])
        .arg(folder)
        .env("NO_COLOR", "1")
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = verdicts(&output);
    if seen.is_empty() {
        return Err(io::Error::other(format!("no case ran: {}", errors.trim())));
    }
    let mut total = Total::default();
    for (case, expected) in &expected {
        let on_mount = options.root.is_some();
        let wanted = match &expected.on_mount {
            Some(verdict) if on_mount => verdict,
            _ => &expected.on_ext4,
        };
        let got = seen
            .get(case.as_str())
            .map_or("did not run", String::as_str);
        if got == wanted {
            total.passed += 1;
        } else {
            total.failed += 1;
            println!("FAIL pjdfstest {case}: {got}, and {wanted} in {LIST}");
            println!("{}", said_of(&output, case));
        }
    }
    for case in seen.keys().filter(|case| !expected.contains_key(**case)) {
        total.failed += 1;
        println!("FAIL pjdfstest {case}: not in {LIST}");
    }
    Ok(total)
}

/// What the list says of one case.
struct Expected {
    on_ext4: String,
    /// The verdict on the mount, where it is another.
    on_mount: Option<String>,
}

/// Lines of `case`, verdict on ext4 and, where the mount differs, its verdict and why.
fn expectations(text: &str) -> io::Result<BTreeMap<String, Expected>> {
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let (case, on_ext4, on_mount) = match fields[..] {
            [case, verdict] => (case, verdict, None),
            [case, verdict, other, reason] if !reason.is_empty() => (case, verdict, Some(other)),
            _ => return Err(io::Error::other(format!("{LIST}: {line}"))),
        };
        let expected = Expected {
            on_ext4: on_ext4.to_owned(),
            on_mount: on_mount.map(str::to_owned),
        };
        all.insert(case.to_owned(), expected);
    }
    Ok(all)
}

/// Lines of `case   verdict`; everything else explains the line before it.
fn verdicts(output: &str) -> BTreeMap<&str, String> {
    let case = |line| verdict_of(line).map(|(case, verdict)| (case, verdict.to_owned()));
    output.lines().filter_map(case).collect()
}

fn verdict_of(line: &str) -> Option<(&str, &str)> {
    let (case, verdict) = line.split_once("  ")?;
    let verdict = verdict.trim();
    let known = ["ok", "skipped", "FAILED"].contains(&verdict);
    (known && !case.is_empty() && !case.starts_with(char::is_whitespace)).then_some((case, verdict))
}

/// The lines that follow a case's verdict.
fn said_of(output: &str, case: &str) -> String {
    let lines = output
        .lines()
        .skip_while(|line| verdict_of(line).is_none_or(|(name, _)| name != case));
    let said: Vec<&str> = lines
        .skip(1)
        .take_while(|line| verdict_of(line).is_none() && !line.starts_with("Backtrace"))
        .collect();
    said.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "open::eloop                 ok\n\
        rmdir::ebusy            FAILED\n\tmount: not supported\nBacktrace:\n   0: main\n\
        rmdir::erofs            skipped\n\tRemounts\n\nSummary: 1 failed\n";

    #[test]
    fn verdicts_are_read_and_what_follows_explains_them() {
        let seen = verdicts(OUTPUT);
        assert_eq!(seen.len(), 3);
        assert_eq!(seen["rmdir::ebusy"], "FAILED");
        assert_eq!(said_of(OUTPUT, "rmdir::ebusy"), "\tmount: not supported");
    }

    #[test]
    fn a_difference_needs_its_reason() {
        let list = expectations("# x\na::b\tok\nc::d\tok\tFAILED\twhy\n");
        assert!(list.is_ok_and(|l| l["c::d"].on_mount.as_deref() == Some("FAILED")));
        assert!(expectations("c::d\tok\tFAILED\n").is_err());
    }
}
