//! Valid histories pass, spoiled ones do not.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::spoil::SPOILERS;
use super::{Fate, Job, Jobs, Run, rules, simulate};
use crate::history::checker::{Check, Finding};
use crate::history::event::Mode;
use crate::history::verdict::findings;

fn job() -> impl Strategy<Value = Job> {
    let mode = prop_oneof![
        4 => Just((0, Mode::Exclusive)),
        2 => Just((0, Mode::READER)),
        2 => Just((1, Mode::Exclusive)),
        4 => (1_u32..=3).prop_map(|take| (1, Mode::Shared { take, of: 3 })),
    ];
    let fate = prop_oneof![
        10 => Just(Fate::Release),
        1 => Just(Fate::Drop),
        1 => Just(Fate::Lapse),
        1 => Just(Fate::Stall),
        1 => Just(Fate::Crash),
        1 => Just(Fate::CrashWaiting),
        1 => Just(Fate::Cancel),
    ];
    let patience =
        prop_oneof![6 => Just(None), 1 => Just(Some(0)), 3 => (1_u64..40_000).prop_map(Some)];
    let priority = prop_oneof![3 => Just(0), 1 => -2..=2];
    (mode, priority, 0_u64..20_000, 0_u64..30_000, patience, fate).prop_map(
        |((lock, mode), priority, think, hold, patience, fate)| Job {
            lock,
            mode,
            priority,
            think,
            hold,
            patience,
            fate,
        },
    )
}

fn procs() -> impl Strategy<Value = Vec<Jobs>> {
    prop::collection::vec(prop::collection::vec(job(), 1..8), 1..8)
}

fn judge(run: &Run) -> Vec<Finding> {
    findings(run.evidence(), &rules()).unwrap()
}

fn breaks(run: &Run, check: Check) -> bool {
    judge(run).iter().any(|finding| finding.check == check && !finding.violations.is_empty())
}

/// Cases come from `PROPTEST_CASES`, or 256; every `one_in`-th of them is run.
fn cases(one_in: u32) -> ProptestConfig {
    let all = ProptestConfig::default();
    ProptestConfig { failure_persistence: None, cases: (all.cases / one_in).max(1), ..all }
}

proptest! {
    #![proptest_config(cases(1))]

    #[test]
    fn every_check_holds_on_a_valid_history(procs in procs(), seed: u64) {
        let run = simulate(&procs, seed);
        for finding in judge(&run) {
            prop_assert!(finding.violations.is_empty(), "{finding:#?}");
        }
    }
}

proptest! {
    // Each case is a dozen histories.
    #![proptest_config(cases(4))]

    #[test]
    fn a_spoiled_history_breaks_its_check(procs in procs(), seed: u64) {
        let run = simulate(&procs, seed);
        for (deed, check, spoil) in SPOILERS {
            let mut spoiled = run.clone();
            if spoil(&mut spoiled).is_some() {
                prop_assert!(breaks(&spoiled, check), "{deed}: {check:?} did not notice");
            }
        }
    }
}

#[test]
fn the_simulation_exercises_every_check_and_leaves_room_for_every_spoiler() {
    let mut runner = TestRunner::deterministic();
    let mut exercised: BTreeMap<Check, u64> = BTreeMap::new();
    let mut spoiled: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..100 {
        let run = simulate(&procs().new_tree(&mut runner).unwrap().current(), seed);
        for finding in judge(&run) {
            *exercised.entry(finding.check).or_default() += u64::from(0 < finding.exercised);
        }
        for (deed, _, spoil) in SPOILERS {
            *spoiled.entry(deed).or_default() += u64::from(spoil(&mut run.clone()).is_some());
        }
    }
    assert_eq!(exercised.len(), 8);
    assert!(exercised.values().all(|&runs| 20 <= runs), "{exercised:?}");
    assert_eq!(spoiled.len(), SPOILERS.len());
    assert!(spoiled.values().all(|&runs| 5 <= runs), "{spoiled:?}");
}
