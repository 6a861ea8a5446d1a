//! Builds small C programs and runs them without and with the library.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Where the mount would be; no test here touches it.
pub const MOUNT: &str = "/sealfs-test-mount";

/// The library as it stands, built for this test run: cargo does not build a C library for tests
/// by itself.
pub fn library() -> &'static Path {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--lib", "--manifest-path"]);
        build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        if cfg!(feature = "selftest") {
            build.args(["--features", "selftest"]);
        }
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo runs").success());
        let deps = env::current_exe().expect("a test knows itself");
        let profile = deps
            .ancestors()
            .nth(2)
            .expect("tests lie below the profile's directory");
        profile.join("libsealfs.so")
    });
    &LIBRARY
}

fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The images of this machine's libc and ld.so, prepared once per test program.
pub fn images() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = scratch().join("images");
        sealfs_sites::prepare(&sealfs_sites::system_objects(), &dir).expect("images are made");
        dir
    })
}

/// Compiles `tests/c/NAME.c` unless that was done before.
pub fn program(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/c/{name}.c"));
    let binary = scratch().join(format!("{name}-{}", std::process::id()));
    let newer = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    if newer(&binary) > newer(&source) {
        return binary;
    }
    // Whole at once: another test may run it already.
    static MADE: AtomicU32 = AtomicU32::new(0);
    let made = MADE.fetch_add(1, Ordering::Relaxed);
    let fresh = binary.with_extension(made.to_string());
    let status = Command::new("gcc")
        .args(["-O2", "-Wall", "-Werror", "-fexceptions", "-pthread", "-o"])
        .arg(&fresh)
        .arg(source)
        .status()
        .expect("gcc is installed");
    assert!(status.success());
    fs::rename(fresh, &binary).expect("the program gets its name");
    binary
}

/// A command that runs with the library and an untouched mount.
pub fn with_library(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("LD_PRELOAD", library())
        .env("SEALFS_MOUNT", MOUNT)
        .env("SEALFS_SITES", images());
    command
}

/// Output and status, for people and for comparing.
pub fn told(output: &Output) -> String {
    format!(
        "{}{}{:?}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status
    )
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> String {
    told(&command.output().expect("the program starts"))
}

/// Asserts that a program does the same with and without the library, and returns what it said.
#[track_caller]
pub fn same(program: &Path, arguments: &[&str]) -> String {
    let plain = run(Command::new(program).args(arguments));
    let loaded = run(with_library(program).args(arguments));
    assert_eq!(plain, loaded, "{} {arguments:?}", program.display());
    plain
}
