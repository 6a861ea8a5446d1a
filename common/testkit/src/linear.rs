//! Whether what clients were told can have happened in one order: a search for a linearization, as
//! Wing and Gong describe it ("Testing and verifying concurrent objects", 1993), with the states
//! already seen remembered (Lowe, "Testing for linearizability", 2017).
//!
//! Each process does one thing after the other. What must hold is that there is a moment between
//! the beginning and the end of each call at which it takes place, so that the object answers as the
//! caller was answered. A call that was never answered takes place at any time after its beginning,
//! or never; it is the last one of its process.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

/// An object that calls are made on, small and obviously right.
pub trait Object: Clone + Eq + Hash + Debug {
    type Call: Clone + Debug;
    type Answer: Clone + Debug;

    /// Carries out a call; whether this is an answer that the object gives. Without an answer
    /// nobody was told, and anything is right.
    fn carry_out(&mut self, call: &Self::Call, answer: Option<&Self::Answer>) -> bool;

    /// Whether a call with this answer has changed nothing, whenever it took place.
    fn only_looks(_call: &Self::Call, _answer: &Self::Answer) -> bool {
        false
    }
}

/// A call and its answer, with the moments of asking and of being told.
#[derive(Clone, Debug)]
pub struct Told<O: Object> {
    pub call: O::Call,
    pub begun: u64,
    /// `None`: never answered.
    pub answer: Option<(O::Answer, u64)>,
}

/// Configurations looked at before a search is given up.
const SEARCH_MAX: usize = 3_000_000;

/// `Err` with the story if there is no such order.
pub fn check<O: Object>(start: O, processes: &[Vec<Told<O>>]) -> Result<(), String> {
    let at = vec![0usize; processes.len()];
    let mut seen = HashSet::from([(at.clone(), start.clone())]);
    let mut todo = vec![(at, start)];
    let mut best: Option<(usize, Vec<usize>, O)> = None;
    while let Some((at, state)) = todo.pop() {
        let soonest_end = next_calls(&at, processes)
            .filter_map(|(_, told)| told.answer.as_ref().map(|(_, ended)| *ended))
            .min();
        let Some(soonest_end) = soonest_end else {
            return Ok(());
        };
        let done: usize = at.iter().sum();
        if best.as_ref().is_none_or(|(most, ..)| done > *most) {
            best = Some((done, at.clone(), state.clone()));
        }
        let mut following = Vec::new();
        for (process, told) in next_calls(&at, processes) {
            let mut next = state.clone();
            let answer = told.answer.as_ref().map(|(answer, _)| answer);
            if told.begun > soonest_end || !next.carry_out(&told.call, answer) {
                continue;
            }
            let mut moved = at.clone();
            moved[process] += 1;
            let looks = answer.is_some_and(|answer| O::only_looks(&told.call, answer));
            let looks = looks && next == state;
            if looks {
                // It fits, and is in the way of nothing: it may as well take place at once.
                following.clear();
            }
            following.push((moved, next));
            if looks {
                break;
            }
        }
        for configuration in following {
            if seen.insert(configuration.clone()) {
                todo.push(configuration);
            }
        }
        assert!(seen.len() < SEARCH_MAX, "a history too long to judge");
    }
    Err(story(processes, best))
}

fn next_calls<'a, O: Object>(
    at: &'a [usize],
    processes: &'a [Vec<Told<O>>],
) -> impl Iterator<Item = (usize, &'a Told<O>)> {
    let next = at.iter().zip(processes).enumerate();
    next.filter_map(|(process, (at, calls))| Some((process, calls.get(*at)?)))
}

/// How far it went, and what could not come next.
fn story<O: Object>(processes: &[Vec<Told<O>>], best: Option<(usize, Vec<usize>, O)>) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    let Some((done, at, state)) = best else {
        return text;
    };
    let _ = writeln!(
        text,
        "after {done} calls in order: {state:?}\nnone of these can be next:"
    );
    for (process, told) in next_calls(&at, processes) {
        let _ = writeln!(text, "  process {process}: {told:?}");
    }
    let _ = writeln!(text, "the calls before them:");
    for (process, (at, calls)) in at.iter().zip(processes).enumerate() {
        for told in &calls[at.saturating_sub(4)..*at] {
            let _ = writeln!(text, "  process {process}: {told:?}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is set and read.
    #[derive(Clone, PartialEq, Eq, Hash, Debug)]
    struct Register(u32);

    impl Object for Register {
        type Call = Option<u32>;
        type Answer = u32;

        fn carry_out(&mut self, call: &Option<u32>, answer: Option<&u32>) -> bool {
            if let Some(value) = call {
                self.0 = *value;
            }
            answer.is_none_or(|a| *a == self.0)
        }
    }

    fn told(call: Option<u32>, begun: u64, answer: Option<(u32, u64)>) -> Told<Register> {
        Told {
            call,
            begun,
            answer,
        }
    }

    #[test]
    fn a_read_beside_a_write_sees_the_old_or_the_new_but_never_goes_back() {
        let write = vec![told(Some(1), 1, Some((1, 10)))];
        let reads = |first, second| {
            vec![
                told(None, 2, Some((first, 3))),
                told(None, 4, Some((second, 5))),
            ]
        };
        let judge = |first, second| check(Register(0), &[write.clone(), reads(first, second)]);
        assert_eq!(judge(0, 0), Ok(()));
        assert_eq!(judge(0, 1), Ok(()));
        assert!(judge(1, 0).is_err());
    }

    #[test]
    fn a_call_without_an_answer_may_take_place_late_or_never() {
        let lost = vec![told(Some(1), 1, None)];
        let read = |value| vec![told(None, 50, Some((value, 51)))];
        assert_eq!(check(Register(0), &[lost.clone(), read(0)]), Ok(()));
        assert_eq!(check(Register(0), &[lost.clone(), read(1)]), Ok(()));
        assert!(check(Register(0), &[lost, read(2)]).is_err());
    }
}
