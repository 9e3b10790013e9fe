//! Eight processes that are killed and stopped at random, judged by what they wrote down.

use std::time::Duration;

use tenure_testkit::history::Rules;
use tenure_testkit::lock_taker::{Job, Plan, Run};
use tenure_testkit::seed;

use crate::stage::{Stage, X};

const TAKERS: usize = 8;
const TTL: Duration = Duration::from_millis(600);
const LASTS: Duration = Duration::from_secs(6);

/// A free lock goes to a live waiter within a poll of holders that only their ttl can end; the rest
/// is for a machine that has other things to do.
const RECOVERY: Duration = Duration::from_millis(2500);
/// How late a busy machine may run the thread that tells of a loss.
const SLACK: Duration = Duration::from_millis(300);

fn rules() -> Rules {
    Rules {
        lost_slack: SLACK,
        // What was last seen of others stays until somebody sees something new.
        may_stay: vec!["*/obs-*".into()],
        ..Rules::new(TTL, RECOVERY)
    }
}

fn disturbed(of: &str, plan: &Plan, stage: &Stage, job: &Job) -> Run {
    let mut fleet = stage.fleet(seed::seed(of));
    fleet.disturb(plan, job).unwrap();
    // Whatever was drawn, one outlives its lease.
    let hold = (TTL * 3 / 2, TTL * 2);
    let late =
        Job { auto_renew: false, rounds: Some(1), wait: None, hold, cancel: 0, ..job.clone() };
    let late = fleet.start(&late).unwrap();
    fleet.join(&late).unwrap();
    let run = fleet.finish().unwrap();
    let names: Vec<&str> = job.names.iter().map(String::as_str).collect();
    let left = stage.left(&names);
    let verdict = run.judge(Some(&left), &rules());
    println!("{of}: {}\n{verdict}", run.tally);
    assert!(verdict.passed, "{of}: {}\n{verdict}", run.tally);
    run
}

fn job(stage: &Stage) -> Job {
    Job { priority: 1, cancel: 5, drop: 10, hold: (Duration::ZERO, TTL / 4), ..stage.job(TTL) }
}

#[test]
fn processes_that_are_killed_at_random_break_no_promise() {
    let stage = Stage::new();
    let job = Job { wait: Some(TTL * 2), ..job(&stage) };
    let run = disturbed("kills", &Plan::kills(TAKERS, LASTS), &stage, &job);
    assert_eq!(run.complaints, [""; 0]);
    assert!(0 < run.tally.killed_holding && 0 < run.tally.killed_waiting, "{}", run.tally);
}

#[test]
fn processes_that_are_stopped_at_random_break_no_promise() {
    let stage = Stage::new();
    let run = disturbed("stops", &Plan::stops(TAKERS, LASTS), &stage, &job(&stage));
    assert!(0 < run.tally.stopped_holding && 0 < run.tally.stopped_waiting, "{}", run.tally);
}

#[test]
fn processes_that_are_killed_and_stopped_at_random_break_no_promise() {
    let stage = Stage::new();
    let names = vec![X.into(), "y".into()];
    let job = Job { names, shared: 30, wait: Some(TTL * 4), ..job(&stage) };
    let run = disturbed("kills and stops", &Plan::both(TAKERS, LASTS), &stage, &job);
    assert!(0 < run.tally.killed_holding && 0 < run.tally.stopped_holding, "{}", run.tally);
}
