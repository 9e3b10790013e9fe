//! Processes that are killed and stopped at random, judged by what they wrote down.

use std::time::Duration;

use futures_lite::future::block_on;

use super::{Ground, manager};
use crate::lock_taker::{Fleet, Job, Plan, Run};
use crate::seed::seed;
use crate::stage::{X, assert_all_held, rounds};

const TAKERS: usize = 6;
const LASTS: Duration = Duration::from_secs(5);
/// How many of the last events are told if a taker does not end.
const TAIL: usize = 60;

/// Somebody who outlives its lease, whatever was drawn: so that a loss is told.
///
/// # Panics
/// If it does not end.
pub fn outlive<G: Ground>(fleet: &mut Fleet, job: &Job) {
    let hold = (job.ttl * 3 / 2, job.ttl * 2);
    let late =
        Job { auto_renew: false, rounds: Some(1), wait: None, hold, cancel: 0, ..job.clone() };
    let late = fleet.start(&late).unwrap();
    if let Err(error) = fleet.join(&late) {
        let view = block_on(manager::<G>(&job.store).inspect(X));
        let events = fleet.events().unwrap();
        let tail: Vec<String> = events[events.len().saturating_sub(TAIL)..]
            .iter()
            .map(|event| format!("{} {event}", event.t_ns / 1_000_000))
            .collect();
        panic!("{error}\n{view:#?}\n{}", tail.join("\n"));
    }
}

/// Users of the lock that also give up, let guards fall and have priorities; past the proxy.
pub fn job<G: Ground>(ground: &G) -> Job {
    let hold = (Duration::ZERO, G::TTL / 4);
    Job { priority: 1, cancel: 5, drop: 10, hold, ..ground.direct(G::TTL) }
}

fn disturbed<G: Ground>(of: &str, plan: &Plan, job: impl Fn(&G) -> Job) -> Vec<Run> {
    let round = |_| {
        let ground = G::new();
        let job = job(&ground);
        let mut fleet = ground.fleet(seed(of));
        fleet.disturb(plan, &job).unwrap();
        outlive::<G>(&mut fleet, &job);
        let run = fleet.finish().unwrap();
        assert_all_held(&run, &G::rules(G::TTL), &ground.left(G::TTL));
        run
    };
    (0..rounds(1)).map(round).collect()
}

/// SIGKILL of holders, waiters and others.
///
/// # Panics
/// If a promise is broken, or nobody was hurt.
pub fn processes_that_are_killed_at_random_break_no_promise<G: Ground>() {
    let job = |ground: &G| Job { wait: Some(G::TTL * 2), ..job(ground) };
    for run in disturbed("kills", &Plan::kills(TAKERS, LASTS), job) {
        assert_eq!(run.complaints, [""; 0]);
        assert!(0 < run.tally.killed_holding && 0 < run.tally.killed_waiting, "{}", run.tally);
    }
}

/// SIGSTOP and SIGCONT of holders, waiters and others.
///
/// # Panics
/// If a promise is broken, or nobody was hurt.
pub fn processes_that_are_stopped_at_random_break_no_promise<G: Ground>() {
    for run in disturbed("stops", &Plan::stops(TAKERS, LASTS), job::<G>) {
        assert!(0 < run.tally.stopped_holding && 0 < run.tally.stopped_waiting, "{}", run.tally);
    }
}

/// Both, with two locks, and holders that share one.
///
/// # Panics
/// If a promise is broken, or nobody was hurt.
pub fn processes_that_are_killed_and_stopped_at_random_break_no_promise<G: Ground>() {
    let job = |ground: &G| {
        let names = vec![X.into(), "y".into()];
        Job { names, shared: 30, wait: Some(G::TTL * 4), ..job(ground) }
    };
    for run in disturbed("kills and stops", &Plan::both(TAKERS, LASTS), job) {
        assert!(0 < run.tally.killed_holding && 0 < run.tally.stopped_holding, "{}", run.tally);
    }
}
