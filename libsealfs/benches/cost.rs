//! What the library costs programs that never touch the mount: `cargo bench -p sealfs`, on a quiet
//! machine. Fails when a limit is missed.

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::Command;
use support::{MOUNT, images, library, program, run, with_library};

const PAIRS: usize = 5;
const CALLS: [&str; 5] = ["getppid", "read", "stat", "missing", "open+close"];
const NATIVE_LIMIT_NS: f64 = 3.0;
const START_LIMIT_US: f64 = 400.0;

fn figures(said: &str) -> Vec<f64> {
    said.split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

fn least(into: &mut [f64], said: &str) {
    for (least, now) in into.iter_mut().zip(figures(said)) {
        *least = least.min(now);
    }
}

fn main() {
    let calls = native_calls();
    let start = starts();
    if !(calls && start) {
        std::process::exit(1);
    }
}

/// Pairs of runs, interleaved; the least of each call. True when within the limit.
fn native_calls() -> bool {
    let (mut plain, mut loaded) = ([f64::MAX; CALLS.len()], [f64::MAX; CALLS.len()]);
    for _ in 0..PAIRS {
        least(&mut plain, &run(&mut Command::new(program("native_cost"))));
        least(&mut loaded, &run(&mut with_library(program("native_cost"))));
    }
    for (name, (plain, loaded)) in CALLS.iter().zip(plain.iter().zip(&loaded)) {
        println!(
            "{name}: {plain:.1} ns, with the library {:+.1}",
            loaded - plain
        );
    }
    (0..2).all(|call| loaded[call] - plain[call] <= NATIVE_LIMIT_NS)
}

/// Medians over interleaved starts of `/bin/true`. True when within the limit.
fn starts() -> bool {
    let mut command = Command::new(program("start_cost"));
    command
        .arg(library())
        .env("SEALFS_MOUNT", MOUNT)
        .env("SEALFS_SITES", images());
    let said = figures(&run(&mut command));
    println!(
        "/bin/true: {} µs, inert {:+} µs, active {:+} µs",
        said[0], said[1], said[2]
    );
    said[2] <= START_LIMIT_US
}
