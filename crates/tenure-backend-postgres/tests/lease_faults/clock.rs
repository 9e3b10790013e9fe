//! A server whose clock is set forward and back, and one whose clock is fast or slow.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;
use tenure_testkit::history::{Demand, Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Job, Plan};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::postgres::PostgresSetup;

use crate::chaos::{self, TTL};
use crate::server::troubled;
use crate::stage::{
    LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_held, did, now, pass, rounds, rules,
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
        // The server is another user.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let clock = Self { file: folder.path().join("clock"), _folder: folder };
        clock.write(0, rate);
        let setup = PostgresSetup::new()
            .env("LD_PRELOAD", &library())
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
        println!("the server's clock went by {} ms", server_ms(stage) - before);
    }
}

fn server_ms(stage: &Stage) -> i64 {
    let now = "select (extract(epoch from clock_timestamp()) * 1e3)::int8";
    stage.server.psql(now).parse().unwrap()
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
            let mut fleet = stage.fleet(seed("leases, drift"));
            fleet.disturb(&Plan::both(5, Duration::from_secs(3)), &job).unwrap();
            chaos::outlive(&mut fleet, &job);
            let run = fleet.finish().unwrap();
            let tried = [Promise::Fence, Promise::Loss, Promise::Release, Promise::Orphans];
            assert_held(&run, &rules(TTL), Some(&stage.left(TTL)), &tried);
        }
    }
}

#[test]
fn a_server_whose_clock_is_set_forward_by_less_than_what_is_left_of_a_lease_costs_nobody_a_lock() {
    let (clock, stage) = Clock::with_rate(1.0);
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, stage.job(ttl));
    let waiter = a_waiter(&mut fleet, stage.job(ttl));
    // At least two thirds are left.
    clock.set(&stage, i64::try_from(ttl.as_millis() / 2).unwrap());
    pass(ttl);
    assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
    let run = fleet.finish().unwrap();
    assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
    assert_held(&run, &rules(ttl), Some(&[]), &[Promise::Exclusion, Promise::Release]);
}

#[test]
fn after_a_clock_was_set_back_by_an_hour_a_dead_holders_lock_is_free_within_two_ttls() {
    for renews in [false, true] {
        let (clock, stage) = Clock::with_rate(1.0);
        let mut fleet = stage.fleet(0);
        let ttl = SHORT * 2;
        let holder = a_holder(&mut fleet, stage.job(ttl));
        let waiter = a_waiter(&mut fleet, stage.job(LONG));
        if renews {
            clock.set(&stage, -HOUR);
            // The hour must not get into its lease.
            pass(ttl / 2);
        }
        fleet.kill(&holder).unwrap();
        if !renews {
            clock.set(&stage, -HOUR);
        }
        let killed = now();
        fleet.until(&waiter, Doing::Holding).unwrap();
        println!("free {:?} after the kill, ttl {ttl:?}, renewed: {renews}", killed.elapsed());
        fleet.kill(&waiter).unwrap();
        fleet.finish().unwrap();
    }
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
    }
}

#[test]
fn a_server_whose_clock_jumps_by_hours_may_break_exclusion_and_nothing_else() {
    for _ in 0..rounds(1) {
        let (clock, stage) = Clock::with_rate(1.0);
        troubled("leases, jumps of the clock", &stage, Demand::Measured, |round| {
            clock.set(&stage, [HOUR, -HOUR, 300][round as usize]);
        });
    }
}

/// No lease depends on the server's clock there.
#[test]
fn session_locks_do_not_mind_a_clock_that_jumps() {
    let (clock, stage) = Clock::with_rate(1.0);
    let mut fleet = stage.fleet(seed("sessions, jumps of the clock"));
    let ttl = Duration::from_secs(2);
    let store = stage.server.url().replace("postgres://", "postgres+advisory://");
    let hold = (Duration::ZERO, ttl / 10);
    let job = Job { store, hold, ..stage.job(ttl) };
    for _ in 0..4 {
        fleet.start(&job).unwrap();
    }
    for offset in [HOUR, -HOUR, 300, 0] {
        pass(Duration::from_millis(500));
        clock.set(&stage, offset);
    }
    pass(Duration::from_millis(500));
    let run = fleet.finish().unwrap();
    assert!(!run.events.iter().any(|event| event.op == Op::Lost), "somebody lost its lock");
    let tried = [Promise::Exclusion, Promise::Fence, Promise::Order, Promise::Release];
    assert_held(&run, &rules(ttl), Some(&[]), &tried);
}
