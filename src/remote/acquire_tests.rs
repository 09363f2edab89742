//! Searches all worlds of the model: half a million, and many more in the test that is ignored by default.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use model::{ModelEvent, ModelTransitions, ProtocolRule};
use world::{FaultAllowance, ModelWorld, wrong_with};

#[path = "acquire_model.rs"]
mod model;
#[path = "acquire_world.rs"]
mod world;

/// The result of a search.
struct ModelSearchResult {
    worlds: usize,
    /// What went wrong, and the events that led to it.
    wrong: Option<String>,
}

/// Searches all worlds that can be reached for the fault `wanted`, or for any fault. Only a fingerprint is kept of
/// worlds that were already seen.
fn explore(rule: ProtocolRule, adversity: FaultAllowance, wanted: Option<&str>) -> ModelSearchResult {
    let first = ModelWorld::new(adversity).canonical();
    let mut known = HashMap::from([(first.fingerprint(), 0)]);
    let mut settled = vec![first.is_settled()];
    let mut came_by: Vec<(usize, ModelEvent)> = vec![(0, (0, "begins", 0))];
    let mut edges: Vec<(usize, usize)> = Vec::new();
    let mut left = VecDeque::from([first]);
    let mut from = 0;
    while let Some(world) = left.pop_front() {
        if let Some(what) = wrong_with(&world).filter(|what| wanted.is_none_or(|wanted| wanted == *what)) {
            let wrong = Some(format!("{what}:\n{}\n{world:#?}", way_to(from, &came_by)));
            return ModelSearchResult { worlds: settled.len(), wrong };
        }
        for (event, next) in ModelTransitions::of(&world, rule) {
            let next = next.canonical();
            let to = match known.entry(next.fingerprint()) {
                Entry::Occupied(there) => *there.get(),
                Entry::Vacant(new) => {
                    new.insert(settled.len());
                    settled.push(next.is_settled());
                    came_by.push((from, event));
                    left.push_back(next);
                    settled.len() - 1
                }
            };
            edges.push((from, to));
        }
        from += 1;
    }
    let wrong =
        stuck(&settled, &edges).map(|at| format!("nobody can get the lock any more:\n{}", way_to(at, &came_by)));
    ModelSearchResult { worlds: settled.len(), wrong }
}

/// Returns a world from which no process can get the lock, although one needs it.
fn stuck(settled: &[bool], edges: &[(usize, usize)]) -> Option<usize> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); settled.len()];
    for (from, to) in edges {
        before[*to].push(*from);
    }
    let mut good = settled.to_vec();
    let mut left: Vec<usize> = (0..good.len()).filter(|at| good[*at]).collect();
    while let Some(at) = left.pop() {
        for from in &before[at] {
            if !std::mem::replace(&mut good[*from], true) {
                left.push(*from);
            }
        }
    }
    good.iter().position(|good| !good)
}

/// Describes how a world was reached. In each world, processes are numbered anew, by what they do.
fn way_to(mut at: usize, came_by: &[(usize, ModelEvent)]) -> String {
    let mut lines = Vec::new();
    while at != 0 {
        let (from, (process, what, number)) = came_by[at];
        let process = if process == usize::MAX { String::new() } else { format!("{process} ") };
        lines.push(format!("{process}{what} {number}"));
        at = from;
    }
    lines.reverse();
    lines.join("\n")
}

const CALM: FaultAllowance = FaultAllowance { lost: 0, silenced: 0, conflicts: 0, lockless_pushes: 0 };

#[track_caller]
fn holds(adversity: FaultAllowance) {
    let found = explore(ProtocolRule::Shipped, adversity, None);
    assert!(found.wrong.is_none(), "{adversity:?}: {}", found.wrong.unwrap_or_default());
    assert!(found.worlds > 5000, "{adversity:?}: {} worlds are too few to be all", found.worlds);
}

#[track_caller]
fn fails(rule: ProtocolRule, adversity: FaultAllowance, how: &str) {
    let found = explore(rule, adversity, Some(how));
    let wrong = found.wrong.unwrap_or_default();
    assert!(wrong.starts_with(how), "{rule:?} under {adversity:?}: {} worlds, and {wrong:?}", found.worlds);
}

#[test]
fn whatever_happens_one_holds_the_lock_and_another_can_get_it() {
    holds(CALM);
    holds(FaultAllowance { lost: 1, ..CALM });
    holds(FaultAllowance { conflicts: 1, ..CALM });
    holds(FaultAllowance { silenced: 1, ..CALM });
    holds(FaultAllowance { lockless_pushes: 1, ..CALM });
}

#[test]
#[ignore = "millions of worlds: it takes minutes without optimization"]
fn whatever_happens_together_one_holds_the_lock_and_another_can_get_it() {
    holds(FaultAllowance { lost: 1, conflicts: 1, ..CALM });
    holds(FaultAllowance { lost: 2, ..CALM });
    holds(FaultAllowance { lost: 1, silenced: 1, ..CALM });
    holds(FaultAllowance { lost: 1, lockless_pushes: 1, ..CALM });
    holds(FaultAllowance { silenced: 1, lockless_pushes: 1, ..CALM });
}

#[test]
fn the_rule_of_before_lets_two_hold_the_lock() {
    fails(ProtocolRule::NumberFromLaterListing, CALM, "two hold the lock");
}

#[test]
fn no_part_of_the_rule_can_be_left_out() {
    let pushed = FaultAllowance { lockless_pushes: 1, ..CALM };
    fails(ProtocolRule::HeadsAfterLocks, CALM, "a holder loses the lock");
    fails(ProtocolRule::NotVerified, FaultAllowance { silenced: 1, ..CALM }, "two hold the lock");
    fails(ProtocolRule::OnlyLaterLocksCount, pushed, "two hold the lock");
    fails(ProtocolRule::ReleasedWhenBeaten, pushed, "two hold the lock");
    fails(ProtocolRule::RemovedWhenBeaten, FaultAllowance { lost: 1, ..pushed }, "two hold the lock");
}
