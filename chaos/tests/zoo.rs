//! Every planted bug is found by a walk of the models: a rule without a mutant that is found would be one that nobody
//! checks.

use std::collections::BTreeMap;

use qanat_chaos::model::{Finder, Kind};
use qanat_proto::zoo::Bug;

/// Seeds after which one counts as not found.
const SEEDS: u64 = 20_000;

#[test]
fn each_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL.iter().copied() {
        match Finder::new(bug).find(1..=SEEDS) {
            Some(found) => assert!(found.seeds <= SEEDS && !found.violation.0.is_empty(), "{found:?}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}

/// Each rule of the epoch protocol has one that undoes it.
#[test]
fn each_rule_has_a_bug() {
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    Bug::ALL.iter().for_each(|bug| *rules.entry(bug.rule()).or_default() += 1);
    for rule in 1..=15 {
        assert!(rules.contains_key(format!("P{rule}").as_str()), "P{rule}");
    }
    assert!(Bug::ALL.len() >= 30 && Kind::ALL.iter().all(|kind| Bug::ALL.iter().any(|bug| Kind::of(*bug) == *kind)));
}
