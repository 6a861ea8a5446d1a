//! What is played, within which bounds, and what planted mistakes break.

use super::{ALONE, Mistake, ONCE, Plan, SERIAL, Transactions, WHOLE};
use crate::bound;

/// A rename over three shards, and another that crosses it; the first only looks at one of them.
fn crossing(crashes: u8, give_ups: u8, mistake: Option<Mistake>) -> Transactions {
    let first = Plan {
        home: 0,
        reads: &[2],
        writes: &[0, 1],
    };
    let second = Plan {
        home: 1,
        reads: &[],
        writes: &[1, 2],
    };
    Transactions {
        plans: vec![first, second],
        shards: 3,
        attempts: 2,
        crashes,
        give_ups,
        mistake,
    }
}

/// Two transactions that want the same two keys in opposite order, both from outside.
fn opposed(crashes: u8, give_ups: u8, mistake: Option<Mistake>) -> Transactions {
    let plan = |home, writes| Plan {
        home,
        reads: &[],
        writes,
    };
    Transactions {
        plans: vec![plan(0, &[0, 1]), plan(1, &[1, 0])],
        shards: 2,
        attempts: 2,
        crashes,
        give_ups,
        mistake,
    }
}

/// Three transactions around three shards, each with the next one's home.
fn ring(crashes: u8, give_ups: u8) -> Transactions {
    let plan = |home, writes| Plan {
        home,
        reads: &[],
        writes,
    };
    Transactions {
        plans: vec![plan(0, &[0, 1]), plan(1, &[1, 2]), plan(2, &[2, 0])],
        shards: 3,
        attempts: 2,
        crashes,
        give_ups,
        mistake: None,
    }
}

/// An operation that only looks at a key which another changes alone.
fn looking(crashes: u8, mistake: Option<Mistake>) -> Transactions {
    let looks = Plan {
        home: 0,
        reads: &[1],
        writes: &[0],
    };
    let changes = Plan {
        home: 1,
        reads: &[],
        writes: &[1],
    };
    Transactions {
        plans: vec![looks, changes],
        shards: 2,
        attempts: 2,
        crashes,
        give_ups: 1,
        mistake,
    }
}

#[test]
fn transactions_that_cross_are_atomic() {
    crate::prove(crossing(bound(1, 2), 0, None));
}

#[test]
fn transactions_that_want_each_others_keys_are_atomic_over_crashes() {
    crate::prove(opposed(bound(2, 3), 0, None));
}

#[test]
fn transactions_may_give_up() {
    crate::prove(opposed(bound(1, 2), 1, None));
}

#[test]
fn what_was_only_looked_at_lasts() {
    crate::prove(looking(bound(2, 3), None));
}

#[test]
fn transactions_in_a_ring_are_atomic() {
    crate::prove(ring(bound(0, 1), 0));
}

#[test]
fn planted_mistakes_are_found() {
    for mistake in [Mistake::VotesUnflushed, Mistake::ForgetsEarly] {
        crate::finds(crossing(1, 0, Some(mistake)), WHOLE);
    }
    for mistake in [Mistake::AcknowledgesUnflushed, Mistake::DecidesAlone] {
        crate::finds(opposed(1, 0, Some(mistake)), WHOLE);
    }
    crate::finds(opposed(1, 0, Some(Mistake::TellsUnflushed)), ALONE);
    crate::finds(crossing(0, 0, Some(Mistake::TakesGhosts)), ONCE);
    crate::finds(opposed(0, 0, Some(Mistake::ReadsUnlocked)), SERIAL);
    crate::finds(looking(1, Some(Mistake::VotesOnUnflushedReads)), SERIAL);
}
