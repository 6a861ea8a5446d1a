//! The seeded simulator: three to five shards and four clients, over a network that loses, repeats,
//! delays and parts, on machines that are killed, stopped and lose power.
//!
//! What clients see is compared with what they must see (`home`), and where they compete it is
//! judged whether one order explains it all (`shared`, `history`), and quotas hold (`limits`). Directories
//! split with a few names, where the seed says so. In the end the shards' records
//! must make a sound file system with nothing left over.
//!
//! A seed that fails is printed; run it again with `SEED=n cargo test -p sealfs-server --test sim`.
//! `SEEDS=n` runs more of them (`make sim`), `FROM=n` begins elsewhere, `CALLS=n` makes them longer,
//! `TRACE=1` prints every frame, and `DEEP=1` checks directories at every step.

mod change;
mod chaos;
mod faults;
mod history;
mod home;
mod limits;
mod listing;
mod run;
mod shared;
mod tree;
mod wire;
mod work;

use chaos::Plan;
use run::Run;

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;

/// Seeds of an ordinary `cargo test`.
const SEEDS: u64 = 200;
/// Calls of each client.
const CALLS: u32 = 100;
/// Tests that share the seeds, to run beside each other.
const SHARES: u64 = 4;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Runs a seed; the calls that were judged.
fn run(seed: u64) -> usize {
    let calls = setting("CALLS").map_or(CALLS, |n| n as u32);
    let mut run = Run::new(Plan::of(seed, calls));
    run.play();
    run.judge();
    run.calls()
}

/// Says how to run a seed again if it fails.
fn run_or_tell(seed: u64) -> Option<usize> {
    let result = std::panic::catch_unwind(|| run(seed));
    if result.is_err() {
        eprintln!("seed {seed} fails: SEED={seed} cargo test -p sealfs-server --test sim");
    }
    result.ok()
}

fn run_share(share: u64) {
    let (from, count) = match setting("SEED") {
        Some(seed) => (seed, 1),
        None => (
            setting("FROM").unwrap_or(0),
            setting("SEEDS").unwrap_or(SEEDS),
        ),
    };
    let seeds = (from..from + count).filter(|seed| seed % SHARES == share);
    let (mut clean, mut calls, mut failed) = (0, 0, Vec::new());
    for seed in seeds {
        match run_or_tell(seed) {
            Some(judged) => {
                clean += 1;
                calls += judged;
            }
            None => failed.push(seed),
        }
    }
    println!(
        "{clean} seeds of {from}..{} are clean; {calls} calls were judged",
        from + count
    );
    assert!(failed.is_empty(), "these seeds fail: {failed:?}");
}

#[test]
fn seeds_keep_every_promise_first_quarter() {
    run_share(0);
}

#[test]
fn seeds_keep_every_promise_second_quarter() {
    run_share(1);
}

#[test]
fn seeds_keep_every_promise_third_quarter() {
    run_share(2);
}

#[test]
fn seeds_keep_every_promise_last_quarter() {
    run_share(3);
}
