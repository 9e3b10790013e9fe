//! Processes that are killed and stopped at random, judged by what they wrote down.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::LockManager;
use tenure_testkit::history::Rules;
use tenure_testkit::lock_taker::{Fleet, Job, Plan, Run};
use tenure_testkit::seed;

use crate::stage::{Stage, X, assert_all_held, backend, rounds, rules};

const TAKERS: usize = 6;
pub(crate) const TTL: Duration = Duration::from_millis(600);
const LASTS: Duration = Duration::from_secs(4);

/// Somebody who outlives its lease, whatever was drawn: so that a loss is told.
pub(crate) fn outlive(fleet: &mut Fleet, job: &Job) {
    let hold = (job.ttl * 3 / 2, job.ttl * 2);
    let late =
        Job { auto_renew: false, rounds: Some(1), wait: None, hold, cancel: 0, ..job.clone() };
    let late = fleet.start(&late).unwrap();
    if let Err(error) = fleet.join(&late) {
        let view = block_on(LockManager::new(backend(&job.store)).unwrap().inspect(X));
        let events = fleet.events().unwrap();
        let late = events.len().saturating_sub(60);
        let tail: Vec<String> =
            events[late..].iter().map(|e| format!("{} {e}", e.t_ns / 1_000_000)).collect();
        panic!("{error}\n{view:#?}\n{}", tail.join("\n"));
    }
}

/// Users of the lock that also give up, let guards fall and have priorities.
pub(crate) fn job(stage: &Stage) -> Job {
    Job { priority: 1, cancel: 5, drop: 10, hold: (Duration::ZERO, TTL / 4), ..stage.job(TTL) }
}

fn disturbed(of: &str, plan: &Plan, job: impl Fn(&Stage) -> Job, rules: &Rules) -> Vec<Run> {
    let round = |_| {
        let stage = Stage::new();
        let job = job(&stage);
        let mut fleet = stage.fleet(seed::seed(of));
        fleet.disturb(plan, &job).unwrap();
        outlive(&mut fleet, &job);
        let run = fleet.finish().unwrap();
        assert_all_held(&run, rules, &stage.left(TTL));
        run
    };
    (0..rounds(1)).map(round).collect()
}

#[test]
fn processes_that_are_killed_at_random_break_no_promise() {
    let job = |stage: &Stage| Job { wait: Some(TTL * 2), ..job(stage) };
    for run in disturbed("kills", &Plan::kills(TAKERS, LASTS), job, &rules(TTL)) {
        assert_eq!(run.complaints, [""; 0]);
        assert!(0 < run.tally.killed_holding && 0 < run.tally.killed_waiting, "{}", run.tally);
    }
}

#[test]
fn processes_that_are_stopped_at_random_break_no_promise() {
    for run in disturbed("stops", &Plan::stops(TAKERS, LASTS), job, &rules(TTL)) {
        assert!(0 < run.tally.stopped_holding && 0 < run.tally.stopped_waiting, "{}", run.tally);
    }
}

#[test]
fn processes_that_are_killed_and_stopped_at_random_break_no_promise() {
    let job = |stage: &Stage| {
        let names = vec![X.into(), "y".into()];
        Job { names, shared: 30, wait: Some(TTL * 4), ..job(stage) }
    };
    for run in disturbed("kills and stops", &Plan::both(TAKERS, LASTS), job, &rules(TTL)) {
        assert!(0 < run.tally.killed_holding && 0 < run.tally.stopped_holding, "{}", run.tally);
    }
}
