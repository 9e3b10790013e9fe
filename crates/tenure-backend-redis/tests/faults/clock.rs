//! A server whose clock is set forward and back, and one whose clock is fast or slow.

use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_testkit::history::{Demand, Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Plan};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisSetup;

use crate::chaos::{self, TTL};
use crate::server::troubled;
use crate::stage::{
    LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_all_held, assert_held, did, now,
    pass, rounds, rules, until,
};

const HOUR: i64 = 3600 * 1000;

/// A server's clock that is set by a file.
struct Clock {
    _folder: TempDir,
    file: PathBuf,
}

impl Clock {
    /// A clock that goes at some rate, and the stage of a server that it belongs to.
    fn with_rate(rate: f64) -> (Self, Stage) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Self { file: folder.path().join("clock"), _folder: folder };
        clock.write(0, rate);
        let setup = RedisSetup::new()
            // The server's own allocator asks for the time before the library can tell it; the C
            // library's does not.
            .env("LD_PRELOAD", &format!("{}:libc.so.6", library()))
            .env("FAKETIME_TIMESTAMP_FILE", clock.file.to_str().unwrap())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        (clock, Stage::with(setup))
    }

    fn write(&self, ms: i64, rate: f64) {
        let text = format!("{:+.3} x{rate}\n", ms as f64 / 1e3);
        // At once: a file that is half written is another time.
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Sets it so far from the right time.
    fn set(&self, stage: &Stage, ms: i64) {
        let before = server_ms(stage);
        self.write(ms, 1.0);
        let is = server_ms(stage);
        println!("the server's clock went by {} ms", is - before);
    }
}

fn server_ms(stage: &Stage) -> i64 {
    let time = stage.server.cli(&["--raw", "TIME"]);
    let mut parts = time.lines().map(|part| part.parse::<i64>().unwrap());
    parts.next().unwrap() * 1000 + parts.next().unwrap() / 1000
}

/// Where Debian puts it.
fn library() -> String {
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let below = roots.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten();
    let folders = below.filter_map(|entry| Some(entry.ok()?.path())).chain(roots.clone());
    folders
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|file| file.is_file())
        .expect("it is not installed: apt-get install libfaketime")
        .to_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_server_whose_clock_is_five_percent_fast_or_slow_breaks_no_promise() {
    for rate in [1.05, 0.95] {
        for _ in 0..rounds(1) {
            let (_clock, stage) = Clock::with_rate(rate);
            let job = chaos::job(&stage);
            let mut fleet = stage.fleet(seed("drift"));
            fleet.disturb(&Plan::both(5, Duration::from_secs(3)), &job).unwrap();
            chaos::outlive(&mut fleet, &job);
            let run = fleet.finish().unwrap();
            assert_all_held(&run, &rules(TTL), &stage.left(TTL));
        }
    }
}

#[test]
fn a_server_whose_clock_is_set_forward_by_less_than_what_is_left_of_a_lease_costs_nobody_a_lock() {
    let (clock, stage) = Clock::with_rate(1.0);
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, stage.direct(ttl));
    let waiter = a_waiter(&mut fleet, stage.direct(ttl));
    // At least two thirds are left.
    clock.set(&stage, i64::try_from(ttl.as_millis() / 2).unwrap());
    pass(ttl);
    assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
    let run = fleet.finish().unwrap();
    assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
    assert_held(&run, &rules(ttl), None, &[Promise::Exclusion, Promise::Release]);
}

#[test]
fn after_a_clock_was_set_back_by_an_hour_a_dead_holders_lock_is_free_within_two_ttls() {
    let (clock, stage) = Clock::with_rate(1.0);
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.direct(SHORT * 2));
    let waiter = a_waiter(&mut fleet, stage.direct(LONG));
    clock.set(&stage, -HOUR);
    fleet.kill(&holder).unwrap();
    let killed = now();
    fleet.until(&waiter, Doing::Holding).unwrap();
    println!("free {:?} after the kill", killed.elapsed());
    fleet.kill(&waiter).unwrap();
    fleet.finish().unwrap();
}

#[test]
fn fences_rise_over_a_clock_that_is_set_back() {
    let (clock, stage) = Clock::with_rate(1.0);
    let manager = stage.bystander();
    let mut last = 0;
    for offset in [0, -HOUR, -2 * HOUR, HOUR, 0] {
        clock.set(&stage, offset);
        let guard = acquire(&manager, X, LONG);
        let fence = guard.fencing_token().get();
        assert!(last < fence, "{last}, then {fence}");
        last = fence;
        block_on(guard.release()).unwrap();
        until("it is free", || !block_on(manager.is_locked(X)).unwrap());
    }
}

#[test]
fn a_server_whose_clock_jumps_by_hours_may_break_exclusion_and_nothing_else() {
    for _ in 0..rounds(1) {
        let (clock, stage) = Clock::with_rate(1.0);
        troubled("jumps of the server's clock", &stage, Demand::Measured, |round| {
            clock.set(&stage, [HOUR, -HOUR, 300, 2 * HOUR][round as usize]);
        });
    }
}
