//! What fault tests of every store share: how long things may take, users of a lock that are known to
//! hold it or to wait for it, and the reading of what they wrote down.
//!
//! What differs (the server, the way to it, what may be left on it) is the stage of each store's own.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tenure_core::{LockGuard, LockManager};

use crate::history::{Demand, Event, Op, Phase, Promise, Rules, Status};
use crate::lock_taker::{Doing, Fleet, Job, Run};
use crate::servers::patience;

/// How long a state is waited for that has to come.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The lock of most tests.
pub const X: &str = "x";
/// The variable that asks for more rounds of everything that chance decides.
const ROUNDS: &str = "TENURE_FAULT_ROUNDS";

/// How often what chance decides is done: `few` times, or as the environment says.
///
/// # Panics
/// If the environment says no number.
#[must_use]
pub fn rounds(few: u64) -> u64 {
    std::env::var(ROUNDS).map_or(few, |rounds| rounds.parse().unwrap())
}

/// This program again, a test binary, as its test `another_process`: which does what the environment
/// tells it to, and is no test of its own.
///
/// # Panics
/// If the program's file is gone.
#[must_use]
pub fn this_program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "another_process", "--nocapture"]);
    command
}

/// A fleet of this program, with a history of its own in `dir`.
///
/// # Panics
/// If nothing can be written there.
#[must_use]
pub fn fleet_in(dir: &Path, seed: u64) -> Fleet {
    let history = tempfile::tempdir_in(dir).unwrap().keep();
    Fleet::new(&history, seed, this_program).unwrap()
}

/// Starts somebody who is seen to hold the lock, and keeps it.
///
/// # Panics
/// If it does not get the lock.
pub fn a_holder(fleet: &mut Fleet, job: Job) -> String {
    let holder = fleet.start(&job.holding()).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    holder
}

/// Starts somebody who is seen to have a place in the queue, and who keeps the lock if it comes.
///
/// # Panics
/// If it gets no place.
pub fn a_waiter(fleet: &mut Fleet, job: Job) -> String {
    let waiter = fleet.start(&job.holding()).unwrap();
    until("it has a place in the queue", || {
        fleet.last_event(&waiter).unwrap().is_some_and(|event| event.op == Op::Wait)
    });
    waiter
}

/// What one process wrote down, and what was noted of it.
pub fn events_of<'a>(run: &'a Run, proc: &'a str) -> impl Iterator<Item = &'a Event> + 'a {
    run.events.iter().filter(move |event| event.proc == proc)
}

/// When a process was first granted the lock.
///
/// # Panics
/// If it never was.
#[must_use]
pub fn granted_at(run: &Run, proc: &str) -> u64 {
    let is_grant = |event: &&Event| (event.op, event.phase) == (Op::Acquire, Phase::Ok);
    events_of(run, proc).find(is_grant).expect("it was granted the lock").t_ns
}

/// Until when a process last said that it held the lock.
///
/// # Panics
/// If it never said so.
#[must_use]
pub fn deadline_of(run: &Run, proc: &str) -> u64 {
    let stated = events_of(run, proc).filter_map(|event| event.deadline_ns);
    stated.max().expect("it held the lock")
}

/// Whether a process wrote this down.
#[must_use]
pub fn did(run: &Run, proc: &str, op: Op, phase: Phase) -> bool {
    events_of(run, proc).any(|event| (event.op, event.phase) == (op, phase))
}

/// Sees that a run broke nothing, and that it tried these promises.
///
/// # Panics
/// If it did break one, or did not try one.
pub fn assert_held(run: &Run, rules: &Rules, left: Option<&[String]>, tried: &[Promise]) {
    let verdict = run.judge(left, rules);
    println!("{}\n{verdict}", run.tally);
    let is_broken = verdict
        .promises
        .iter()
        .any(|promise| promise.status == Status::Broken && promise.demand == Demand::Must);
    assert!(!is_broken, "{verdict}\n{:#?}", run.complaints);
    for &promise in tried {
        assert_eq!(verdict.status(promise), Some(Status::Held), "{promise}: {verdict}");
    }
}

/// Sees that a run tried and held every promise, and left nothing.
///
/// # Panics
/// If it did not.
pub fn assert_all_held(run: &Run, rules: &Rules, left: &[String]) {
    assert_held(run, rules, Some(left), &Promise::ALL);
}

/// Acquires a lock that comes.
///
/// # Panics
/// If it does not.
pub fn acquire(manager: &LockManager, name: &str, ttl: Duration) -> LockGuard {
    block_on(manager.lock(name).ttl(ttl).wait_timeout(PATIENCE).acquire()).unwrap()
}

/// The time, as tests measure it.
#[allow(clippy::disallowed_methods, reason = "tests measure real time")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until something is seen to be so.
///
/// # Panics
/// If it never is.
pub fn until(what: &str, is_so: impl FnMut() -> bool) {
    patience::until(PATIENCE, what, is_so);
}

/// Lets time pass that is part of a fault.
pub fn pass(time: Duration) {
    let since = now();
    until("the time has passed", || time <= since.elapsed());
}
