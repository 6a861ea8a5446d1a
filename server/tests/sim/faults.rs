//! Mistakes planted in the shards: each must be noticed within a bounded number of seeds.

use sealfs_server::core::Fault;
use sealfs_testkit::with_fault;

use crate::chaos::Plan;
use crate::run::Run;

/// Seeds in which a mistake must show.
const SEEDS: u64 = 300;

/// Whether a seed goes through although the shards make a mistake.
fn passes(seed: u64, fault: Fault) -> bool {
    let run = || {
        let mut run = Run::new(Plan::of(seed, crate::CALLS));
        run.play();
        run.judge();
    };
    std::panic::catch_unwind(|| with_fault(fault, run)).is_ok()
}

fn is_noticed(fault: Fault) {
    let noticed = (0..SEEDS).find(|seed| !passes(*seed, fault));
    let seed = noticed.unwrap_or_else(|| panic!("{fault:?} went unnoticed"));
    println!("{fault:?} shows with seed {seed}");
}

#[test]
fn a_prepare_record_that_is_left_out_is_noticed() {
    is_noticed(Fault::SkipPrepareRecord);
}

#[test]
fn a_request_executed_twice_is_noticed() {
    is_noticed(Fault::ApplyDuplicate);
}

#[test]
fn a_key_that_is_read_without_its_lock_is_noticed() {
    is_noticed(Fault::ForgetKey);
}

#[test]
fn an_original_that_a_part_does_not_know_is_noticed() {
    is_noticed(Fault::ForgetOriginal);
}

#[test]
fn a_lock_given_back_early_is_noticed() {
    is_noticed(Fault::ReleaseEarly);
}
