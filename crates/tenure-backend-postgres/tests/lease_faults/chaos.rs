//! Processes that are killed and stopped at random, judged by what they wrote down.

use std::time::Duration;

use tenure_testkit::lock_taker::{Fleet, Job, Plan};
use tenure_testkit::seed;

use crate::stage::{Stage, X, assert_all_held, rules};

const TAKERS: usize = 6;
pub(crate) const TTL: Duration = Duration::from_millis(800);
const LASTS: Duration = Duration::from_secs(5);

/// Somebody who outlives its lease, whatever was drawn: so that a loss is told.
pub(crate) fn outlive(fleet: &mut Fleet, job: &Job) {
    let hold = (job.ttl * 3 / 2, job.ttl * 2);
    let late =
        Job { auto_renew: false, rounds: Some(1), wait: None, hold, cancel: 0, ..job.clone() };
    let late = fleet.start(&late).unwrap();
    fleet.join(&late).unwrap();
}

/// Users of the lock that also give up, let guards fall and have priorities.
pub(crate) fn job(stage: &Stage) -> Job {
    Job { priority: 1, cancel: 5, drop: 10, hold: (Duration::ZERO, TTL / 4), ..stage.job(TTL) }
}

#[test]
fn processes_that_are_killed_and_stopped_at_random_break_no_promise() {
    let stage = Stage::new();
    let names = vec![X.into(), "y".into()];
    let job = Job { names, shared: 30, wait: Some(TTL * 4), ..job(&stage) };
    let mut fleet = stage.fleet(seed::seed("leases, kills and stops"));
    fleet.disturb(&Plan::both(TAKERS, LASTS), &job).unwrap();
    outlive(&mut fleet, &job);
    let run = fleet.finish().unwrap();
    assert_all_held(&run, &rules(TTL), &stage.left(TTL));
    assert!(0 < run.tally.killed_holding && 0 < run.tally.stopped_holding, "{}", run.tally);
}
