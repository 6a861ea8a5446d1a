//! Everything `make test` runs, stage after stage, with one total at the end.
//!
//! A stage counts what its own lines say: cargo's `test result: …`, or `N passed, N failed`. A stage that ends badly
//! without having counted a failure counts one, so the total cannot hide it. No stage stops the next.

use crate::c_tests::{self, Total, target_folder};
use crate::cluster::Cluster;
use crate::public::{fsx, pjdfstest};
use crate::storm::{self, Suite};
use clap::Args;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Args)]
pub struct Options {
    /// Only stages whose name contains this text
    #[arg(long, default_value = "")]
    pub only: String,
}

/// Clusters that every c-test and script must pass on.
const CLUSTER_SIZES: &[usize] = &[1, 3];
const FSX_OPERATIONS: u64 = 20_000;
const FSX_SEED: u32 = 1;
/// A short storm, with kills that come the faster.
const STORM_EVERY_MS: u64 = 1_000;
const STORM_FSX_OPERATIONS: u64 = 4_000;
/// Seconds a c-test may take on a busy machine.
const TIME_LIMIT_S: u32 = 30;

pub fn run(root: &Path, options: &Options) -> bool {
    let mut total = Total::default();
    let mut stage = |name: &str, work: &dyn Fn() -> io::Result<Total>| {
        if !name.contains(&options.only) {
            return;
        }
        println!("== {name}");
        let start = Instant::now();
        let counted = work().unwrap_or_else(|error| {
            println!("{name}: {error}");
            Total {
                passed: 0,
                failed: 1,
            }
        });
        let seconds = start.elapsed().as_secs();
        println!(
            "== {name}: {} good, {} bad, {seconds} s",
            counted.passed, counted.failed
        );
        total.add(counted);
    };
    stage("format", &|| cargo_tool(root, &FORMAT));
    stage("clippy", &|| cargo_tool(root, &CLIPPY));
    stage("unit tests", &|| {
        counted(root, Command::new("cargo").args(UNIT_TESTS))
    });
    stage("library shape", &|| library_shape(root));
    for servers in CLUSTER_SIZES {
        stage(&format!("c-tests on {servers} servers"), &|| {
            c_tests_on(root, *servers)
        });
    }
    for servers in CLUSTER_SIZES {
        stage(&format!("static c-tests on {servers} servers"), &|| {
            static_c_tests_on(root, *servers)
        });
    }
    stage("c-tests beside the mount", &|| {
        c_tests_beside_the_mount(root)
    });
    for servers in CLUSTER_SIZES {
        stage(&format!("pjdfstest on {servers} servers"), &|| {
            pjdfstest_on(root, *servers)
        });
    }
    stage("fsx", &|| fsx_on(root));
    stage("storm", &|| storm_on(root));
    for script in SCRIPTS {
        stage(script, &|| script_on(root, script));
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.failed == 0 && total.passed > 0
}

const FORMAT: [&str; 3] = ["fmt", "--all", "--check"];
const CLIPPY: [&str; 7] = [
    "clippy",
    "--quiet",
    "--workspace",
    "--all-targets",
    "--",
    "-D",
    "warnings",
];
const UNIT_TESTS: [&str; 2] = ["test", "--workspace"];
/// Each runs on a cluster of its own.
const SCRIPTS: [&str; 9] = [
    "examples/demo/run.sh",
    "c-tests/no-touch.sh",
    "c-tests/cli.sh",
    "c-tests/volumes.sh",
    "c-tests/oracle.sh",
    "c-tests/kill.sh",
    "c-tests/profile.sh",
    "c-tests/supervisor.sh",
    "c-tests/namespaces.sh",
];
const SCRIPT_SERVERS: usize = 3;
/// What the library may need at load time: nothing that a program did not have already.
const LIBRARIES_ALLOWED: [&str; 2] = ["libc.so.6", "ld-linux-x86-64.so.2"];

/// `cargo TOOL …` is one test; a toolchain without the tool (a minimal one) skips it and says so.
fn cargo_tool(root: &Path, arguments: &[&str]) -> io::Result<Total> {
    let tool = arguments[0];
    if !Command::new("cargo")
        .args([tool, "--version"])
        .stdout(Stdio::null())
        .status()?
        .success()
    {
        println!("skipped: this toolchain has no cargo {tool}");
        return Ok(Total::default());
    }
    check(root, "cargo", arguments)
}

/// The preload library needs no library but libc and its loader, and is initialised before all others.
fn library_shape(root: &Path) -> io::Result<Total> {
    let library = target_folder(root).join("release/libsealfs.so");
    let output = Command::new("readelf").arg("-d").arg(&library).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut complaints = Vec::new();
    for line in text.lines().filter(|line| line.contains("(NEEDED)")) {
        if !LIBRARIES_ALLOWED
            .iter()
            .any(|allowed| line.contains(allowed))
        {
            complaints.push(line.trim().to_owned());
        }
    }
    if !text.contains("INITFIRST") {
        complaints.push(format!(
            "{} is not linked with -z initfirst",
            library.display()
        ));
    }
    for complaint in &complaints {
        println!("{complaint}");
    }
    Ok(Total::of(complaints.is_empty()))
}

/// A command that is one test.
fn check(root: &Path, program: &str, arguments: &[&str]) -> io::Result<Total> {
    Ok(Total::of(
        Command::new(program)
            .args(arguments)
            .current_dir(root)
            .status()?
            .success(),
    ))
}

fn c_tests_on(root: &Path, servers: usize) -> io::Result<Total> {
    let cluster = cluster(root, servers)?;
    c_tests::compare_all(root, &c_tests_options(cluster.folder("c-tests"), &cluster))
}

/// The same programs linked statically: a supervisor answers for them, where it may.
fn static_c_tests_on(root: &Path, servers: usize) -> io::Result<Total> {
    let supervisor = target_folder(root).join("release/sealfs-supervisor");
    let checked = Command::new(supervisor).arg("--check").output()?;
    if !checked.status.success() {
        let why = String::from_utf8_lossy(&checked.stdout);
        println!("skipped: no program can be supervised here: {}", why.trim());
        return Ok(Total::default());
    }
    let cluster = cluster(root, servers)?;
    let mut options = c_tests_options(cluster.folder("static"), &cluster);
    "gcc -static".clone_into(&mut options.cc);
    // What a covered program executes is supervised; what the prefix itself does is not covered.
    options.wrap.push_str(" env");
    c_tests::compare_all(root, &options)
}

/// The programs on a local directory with the library loaded: it changes nothing.
fn c_tests_beside_the_mount(root: &Path) -> io::Result<Total> {
    let cluster = cluster(root, 1)?;
    c_tests::compare_all(root, &c_tests_options(std::env::temp_dir(), &cluster))
}

fn c_tests_options(root: PathBuf, cluster: &Cluster) -> c_tests::Options {
    c_tests::Options {
        root: Some(root),
        wrap: cluster.prefix().to_owned(),
        filter: String::new(),
        jobs: 2,
        cc: c_tests::COMPILER.to_owned(),
        time_limit: TIME_LIMIT_S,
        local: None,
        verbose: false,
    }
}

/// It changes users, so it needs root; anybody else is told.
fn pjdfstest_on(root: &Path, servers: usize) -> io::Result<Total> {
    if !is_root()? {
        println!("skipped: pjdfstest needs root");
        return Ok(Total::default());
    }
    let cluster = cluster(root, servers)?;
    let options = pjdfstest::Options {
        root: Some(cluster.new_folder("pjdfstest")?),
        wrap: cluster.prefix().to_owned(),
    };
    pjdfstest::compare(root, &options)
}

fn is_root() -> io::Result<bool> {
    let output = Command::new("id").arg("-u").output()?;
    Ok(output.stdout.trim_ascii() == b"0")
}

/// Three servers and small chunks: one operation goes to several of them.
fn fsx_on(root: &Path) -> io::Result<Total> {
    let cluster = cluster_with(root, 3, &["--chunk-size", "64K"])?;
    let options = fsx::Options {
        root: Some(cluster.new_folder("fsx")?),
        wrap: cluster.prefix().to_owned(),
        operations: FSX_OPERATIONS,
        seed: FSX_SEED,
    };
    fsx::exercise(root, &options)
}

/// What passes while nothing happens passes while a server is killed each second.
fn storm_on(root: &Path) -> io::Result<Total> {
    let options = storm::Options {
        suites: if is_root()? {
            vec![Suite::Pjdfstest, Suite::Fsx]
        } else {
            vec![Suite::Fsx]
        },
        seed: None,
        every: STORM_EVERY_MS,
        rounds: 1,
        operations: STORM_FSX_OPERATIONS,
        filter: String::new(),
        command: Vec::new(),
    };
    storm::exercise(root, &options)
}

fn script_on(root: &Path, script: &str) -> io::Result<Total> {
    let cluster = cluster(root, SCRIPT_SERVERS)?;
    let mut command = Command::new("bash");
    cluster.describe_to(command.arg(script));
    if let Ok(ourselves) = std::env::current_exe() {
        command.env("XTASK", ourselves);
    }
    counted(root, &mut command)
}

fn cluster(root: &Path, servers: usize) -> io::Result<Cluster> {
    cluster_with(root, servers, &[])
}

fn cluster_with(root: &Path, servers: usize, more: &[&str]) -> io::Result<Cluster> {
    Cluster::up_for_tests(&target_folder(root), servers, more)
}

/// Runs a command, passes its output on, and adds up what its lines count.
pub fn counted(root: &Path, command: &mut Command) -> io::Result<Total> {
    let mut child = command
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut total = Total::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            println!("{line}");
            if let Some(more) = parse_count(&line) {
                total.add(more);
            }
        }
    }
    if !child.wait()?.success() && total.failed == 0 {
        total.failed = 1;
    }
    Ok(total)
}

/// `test result: ok. 3 passed; 0 failed; …` or `3 passed, 0 failed`.
fn parse_count(line: &str) -> Option<Total> {
    let line = line.trim();
    let text = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line,
    };
    let (passed, rest) = text.split_once(" passed")?;
    let failed = rest
        .trim_start_matches([';', ','])
        .trim_start()
        .split_once(" failed")?
        .0;
    Some(Total {
        passed: passed.parse().ok()?,
        failed: failed.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_cargo_and_from_our_own_line() {
        let cargo = parse_count("test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured");
        assert_eq!(cargo.map(|t| (t.passed, t.failed)), Some((3, 1)));
        assert_eq!(
            parse_count("12 passed, 0 failed").map(|t| (t.passed, t.failed)),
            Some((12, 0))
        );
        assert!(parse_count("what passed, who failed").is_none());
    }
}
