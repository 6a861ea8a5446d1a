//! Exhaustive checks of the rules that several processes keep together: every interleaving within a
//! bound, where the simulator plays a random sample of the real code.
//!
//! A model states the rules of the code in small, and names the function of the code that each of
//! its steps stands for; who changes one changes the other. What must stay true: a planted mistake
//! in a rule is found (a model that finds nothing proves nothing), and all models together stay
//! below three minutes on two cores. `make model` checks them at larger bounds.

mod sessions;
mod transactions;

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::fmt::Debug;
use std::hash::Hash;

/// Two at a time: what CI has.
const THREADS: usize = 2;

/// The bound of a model: in every run, and when there is time (`make model`).
fn bound(always: u8, large: u8) -> u8 {
    match std::env::var_os("SEALFS_MODELS_LARGE") {
        Some(_) => large,
        None => always,
    }
}

/// Visits every state; fails with the shortest story of a property that does not hold, or if
/// something that has to be possible never happens.
fn prove<M>(model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync + 'static,
{
    let done = model.checker().threads(THREADS).spawn_bfs().join();
    eprintln!(
        "{} states, {} deep",
        done.unique_state_count(),
        done.max_depth()
    );
    let found = done.discoveries();
    for property in done.model().properties() {
        let story = found.get(property.name);
        if property.expectation == Expectation::Sometimes {
            assert!(story.is_some(), "never possible: {}", property.name);
        } else if let Some(story) = story {
            panic!("{} is broken by {}", property.name, told(story));
        }
    }
}

/// The property that a planted mistake breaks must be this one.
fn finds<M>(model: M, broken: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync + 'static,
{
    let wanted = HasDiscoveries::AllOf([broken].into());
    let checker = model.checker().threads(THREADS).finish_when(wanted);
    let done = checker.spawn_bfs().join();
    let story = done.discovery(broken);
    assert!(
        story.is_some(),
        "the planted mistake does not break: {broken}"
    );
}

fn told<S, A>(story: &stateright::Path<S, A>) -> String
where
    S: Debug + Clone + PartialEq,
    A: Debug + Clone + PartialEq,
{
    let steps = story.clone().into_vec();
    let last = steps.last().map(|(state, _)| format!("{state:#?}"));
    let steps = steps.into_iter().filter_map(|(_, action)| action);
    let steps: Vec<String> = steps.map(|action| format!("\n  {action:?}")).collect();
    format!(
        "{}\nand ends in {}",
        steps.concat(),
        last.unwrap_or_default()
    )
}
