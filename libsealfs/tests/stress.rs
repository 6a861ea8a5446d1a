//! Calls that the library answers itself, under everything that can go wrong around them. Needs the
//! feature `selftest`: a private system call number stands for the mount.

mod support;

use support::{program, run, with_library};

fn stress(part: &str) {
    let said = run(with_library(program("stress")).arg(part));
    assert!(said.starts_with("good"), "{part}: {said}");
}

#[test]
fn threads_and_handlers_get_their_own_answers() {
    stress("signals");
}

#[test]
fn handlers_that_jump_away_leak_no_stacks() {
    stress("jumps");
}

#[test]
fn threads_that_end_leak_no_stacks() {
    stress("threads");
}

#[test]
fn forks_in_the_middle_of_calls_leave_no_lock_behind() {
    stress("forks");
}

#[test]
fn a_panic_is_an_error_of_the_call() {
    stress("panic");
}

#[test]
fn a_rewritten_call_is_issued_by_the_programs_instruction() {
    stress("rewritten");
}

#[test]
fn vector_registers_survive_answered_calls() {
    let said = run(&mut with_library(program("registers")));
    assert!(said.starts_with("kept"), "{said}");
}
