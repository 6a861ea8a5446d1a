//! What the library costs programs that never touch the mount. Measures: run on a quiet machine,
//! `cargo test --release -p sealfs --test cost -- --ignored --nocapture`.

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

#[test]
#[ignore = "measures"]
fn a_native_call_costs_no_more_than_three_nanoseconds() {
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
    assert!((0..2).all(|call| loaded[call] - plain[call] <= NATIVE_LIMIT_NS));
}

#[test]
#[ignore = "measures"]
fn a_start_costs_no_more_than_four_tenths_of_a_millisecond() {
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
    assert!(said[2] <= START_LIMIT_US);
}
