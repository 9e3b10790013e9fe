//! Eight processes that are killed and stopped at random, judged by what they wrote down.

use std::time::Duration;

use tenure_testkit::history::{Demand, Promise, Rules};
use tenure_testkit::lock_taker::{Job, Plan};
use tenure_testkit::seed;

use crate::stage::{Stage, X, until};

const TAKERS: usize = 8;
/// The shortest class, so that the server ends nobody later than the ttl.
const TTL: Duration = Duration::from_secs(2);
const LASTS: Duration = Duration::from_secs(6);
/// A lock goes on when a session ends, or is ended for its silence.
const RECOVERY: Duration = Duration::from_millis(3500);
/// How late a busy machine may run the thread that tells of a loss.
const SLACK: Duration = Duration::from_millis(300);

#[test]
fn writers_that_are_killed_and_stopped_at_random_break_no_promise() {
    disturbed("writers", 0, Demand::Must);
}

/// Readers whom the server lets in together draw their fences in no order.
#[test]
fn readers_and_writers_that_are_killed_and_stopped_at_random_break_no_other_promise() {
    disturbed("readers and writers", 30, Demand::Measured);
}

fn disturbed(of: &str, shared: u32, order: Demand) {
    let stage = Stage::new();
    let plan = Plan { stops: vec![0.3, 1.5], ..Plan::both(TAKERS, LASTS) };
    let job = Job {
        names: vec![X.into(), "y".into()],
        shared,
        cancel: 5,
        drop: 10,
        hold: (Duration::ZERO, TTL / 10),
        wait: Some(TTL * 4),
        ..stage.job(TTL)
    };
    let mut fleet = stage.fleet(seed::seed(of));
    fleet.disturb(&plan, &job).unwrap();
    // Whatever was drawn, one outlives its lease.
    let hold = (TTL * 3 / 2, TTL * 2);
    let late =
        Job { auto_renew: false, rounds: Some(1), wait: None, hold, cancel: 0, ..job.clone() };
    let late = fleet.start(&late).unwrap();
    fleet.join(&late).unwrap();
    let run = fleet.finish().unwrap();
    until("no session is left", || stage.sessions().is_empty());
    let rules = Rules { lost_slack: SLACK, ..Rules::new(TTL, RECOVERY) };
    let rules = rules.expect(Promise::Order, order);
    let verdict = run.judge(Some(&stage.holding()), &rules);
    println!("{}\n{verdict}", run.tally);
    assert!(verdict.passed, "{}\n{verdict}", run.tally);
    assert!(0 < run.tally.killed_holding && 0 < run.tally.stopped_holding, "{}", run.tally);
}
