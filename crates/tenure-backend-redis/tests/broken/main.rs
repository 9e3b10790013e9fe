//! Deliberately broken locks on a Redis server, each of which the harness must find out.
//!
//! A harness that finds nothing wrong is worth what its negative controls are worth: the same fleet,
//! faults and judge as in `faults`, with a lock as it is often written, and one flaw in it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod naive;

use std::process::Command;
use std::time::Duration;

use naive::Flaw;
use tenure_testkit::history::{Demand, Promise, Rules, Status, Verdict};
use tenure_testkit::lock_taker::{Doing, Fleet, Job, Plan};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisServer;

const TTL: Duration = Duration::from_millis(500);
/// In how many runs a flaw has to be found.
const RUNS: usize = 20;

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        naive::take(&job, naive::flaw_of_this_process());
    }
}

/// Runs takers that are hurt.
fn run(flaw: Flaw, hurt: &dyn Fn(&mut Fleet, &Job)) -> Verdict {
    let server = RedisServer::start();
    let history = tempfile::tempdir().unwrap();
    let start = move || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "another_process", "--nocapture"]);
        flaw.give_to(&mut command);
        command
    };
    let mut fleet = Fleet::new(history.path(), seed(flaw.name()), start).unwrap();
    let hold = (Duration::ZERO, TTL / 2);
    hurt(&mut fleet, &Job { ttl: TTL, hold, ..Job::new(&server.url(), "x") });
    let run = fleet.finish().unwrap();
    println!("{}", run.tally);
    let rules = Rules { lost_slack: Duration::from_millis(300), ..Rules::new(TTL, TTL * 3) };
    run.judge(None, &rules.expect(Promise::Order, Demand::NotOffered))
}

/// Runs it until it is found out, which has to be for this.
fn caught(flaw: Flaw, broken: Promise, hurt: impl Fn(&mut Fleet, &Job)) {
    let found = (0..RUNS).find_map(|round| {
        let verdict = run(flaw, &hurt);
        (verdict.status(broken) == Some(Status::Broken)).then_some((round, verdict))
    });
    let (round, verdict) = found.unwrap_or_else(|| panic!("{} is never found out", flaw.name()));
    println!("{}: found out in run {}\n{verdict}", flaw.name(), round + 1);
}

/// Stops takers for so many ttls.
fn stops(ttls: &[f64]) -> impl Fn(&mut Fleet, &Job) {
    let every = Duration::from_millis(400);
    let plan = Plan { stops: ttls.to_vec(), every, ..Plan::stops(4, Duration::from_secs(2)) };
    move |fleet, job| fleet.disturb(&plan, job).unwrap()
}

#[test]
fn the_same_lock_without_a_flaw_is_not_accused() {
    let plan = Plan { kill_one_in: 3, ..Plan::both(4, Duration::from_secs(3)) };
    let verdict = run(Flaw::None, &|fleet, job| fleet.disturb(&plan, job).unwrap());
    let broken = verdict.promises.iter().filter(|promise| promise.status == Status::Broken);
    assert_eq!(broken.count(), 0, "{verdict}");
}

#[test]
fn a_release_without_a_token_frees_the_lock_of_the_next_holder() {
    caught(Flaw::ReleaseWithoutToken, Promise::Exclusion, stops(&[1.5, 2.0]));
}

#[test]
fn a_lock_that_is_taken_and_given_its_ttl_in_two_commands_is_stuck_when_its_taker_dies() {
    caught(Flaw::TwoCommands, Promise::Recovery, |fleet, job| {
        let job = Job { hold: (Duration::ZERO, TTL / 25), ..job.clone() };
        let mut takers = [0; 2].map(|_| fleet.start(&job).unwrap());
        for round in 0..6 {
            pass(TTL / 8);
            let victim = &mut takers[round % 2];
            fleet.until(victim, Doing::Waiting).unwrap();
            fleet.kill(victim).unwrap();
            *victim = fleet.start(&job).unwrap();
        }
        pass(TTL * 12);
    });
}

#[test]
fn a_renewal_that_sets_the_key_takes_the_lock_from_the_next_holder() {
    caught(Flaw::RenewalSets, Promise::Exclusion, stops(&[1.5, 2.0]));
}

#[test]
fn a_renewal_after_the_deadline_brings_a_lost_lock_back() {
    caught(Flaw::RenewalAfterDeadline, Promise::Loss, stops(&[0.7, 0.8]));
}

#[allow(clippy::disallowed_methods, reason = "a time in which nothing is done to anybody")]
fn pass(time: Duration) {
    std::thread::sleep(time);
}
