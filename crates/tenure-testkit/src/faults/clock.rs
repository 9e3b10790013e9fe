//! A server whose clock is set forward and back, and one whose clock is fast or slow.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future::block_on;
use tempfile::TempDir;

use super::chaos::{job, outlive};
use super::server::troubled;
use super::{Ground, LONG, SHORT, Setup};
use crate::history::{Demand, Op, Phase, Promise};
use crate::lock_taker::{Doing, Plan};
use crate::seed::seed;
use crate::stage::{X, a_holder, a_waiter, acquire, assert_held, did, now, pass, rounds, until};

const HOUR: i64 = 3600 * 1000;

/// A server's clock that is set by a file.
#[derive(Debug)]
pub struct Clock {
    _folder: TempDir,
    file: PathBuf,
}

impl Clock {
    /// A clock that goes at some rate, and the ground of a server that it belongs to.
    ///
    /// # Panics
    /// If the library that does this is not installed.
    #[must_use]
    pub fn with_rate<G: Ground>(rate: f64) -> (Self, G) {
        let folder = tempfile::tempdir().unwrap();
        // The server may be another user.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        let clock = Self { file: folder.path().join("clock"), _folder: folder };
        clock.write(0, rate);
        let env = [
            // A server's own allocator may ask for the time before the library can tell it; the C
            // library's does not.
            ("LD_PRELOAD", format!("{}:libc.so.6", library())),
            ("FAKETIME_TIMESTAMP_FILE", clock.file.to_str().unwrap().to_owned()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        let env = env.map(|(name, value)| (name.to_owned(), value)).to_vec();
        (clock, G::start(&Setup { env, ..Setup::default() }))
    }

    fn write(&self, ms: i64, rate: f64) {
        let text = format!("{:+.3} x{rate}\n", ms as f64 / 1e3);
        // At once: a file that is half written is another time.
        let new = self.file.with_extension("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Sets it so many ms from the right time.
    pub fn set<G: Ground>(&self, ground: &G, ms: i64) {
        let before = ground.clock_ms();
        self.write(ms, 1.0);
        println!("the server's clock went by {} ms", ground.clock_ms() - before);
    }
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

/// The drift that is allowed, in both directions, with everything at random.
///
/// # Panics
/// If a promise is broken.
pub fn a_server_whose_clock_is_five_percent_fast_or_slow_breaks_no_promise<G: Ground>() {
    for rate in [1.05, 0.95] {
        for _ in 0..rounds(1) {
            let (_clock, ground) = Clock::with_rate::<G>(rate);
            let job = job(&ground);
            let mut fleet = ground.fleet(seed("drift"));
            fleet.disturb(&Plan::both(5, Duration::from_secs(3)), &job).unwrap();
            outlive::<G>(&mut fleet, &job);
            let run = fleet.finish().unwrap();
            let left = ground.left(G::TTL);
            assert_held(&run, &G::rules(G::TTL), Some(&left), G::DRIFT_TRIES);
        }
    }
}

/// A small step forward shortens a lease, and does not end it.
///
/// # Panics
/// If it does.
pub fn a_clock_that_is_set_forward_by_less_than_what_is_left_of_a_lease_costs_nobody_a_lock<
    G: Ground,
>() {
    let (clock, ground) = Clock::with_rate::<G>(1.0);
    let mut fleet = ground.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, ground.direct(ttl));
    let waiter = a_waiter(&mut fleet, ground.direct(ttl));
    // At least two thirds are left.
    clock.set(&ground, i64::try_from(ttl.as_millis() / 2).unwrap());
    pass(ttl);
    assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
    let run = fleet.finish().unwrap();
    assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
    assert_held(&run, &G::rules(ttl), None, &[Promise::Exclusion, Promise::Release]);
}

/// A step back must not make a lease longer by that much, whether it was renewed after it or not.
///
/// # Panics
/// If it does.
pub fn after_a_clock_was_set_back_by_an_hour_a_dead_holders_lock_is_free_within_two_ttls<
    G: Ground,
>() {
    for renews in [false, true] {
        let (clock, ground) = Clock::with_rate::<G>(1.0);
        let mut fleet = ground.fleet(0);
        let ttl = SHORT * 2;
        let holder = a_holder(&mut fleet, ground.direct(ttl));
        let waiter = a_waiter(&mut fleet, ground.direct(LONG));
        if renews {
            clock.set(&ground, -HOUR);
            // The hour must not get into its lease.
            pass(ttl / 2);
        }
        fleet.kill(&holder).unwrap();
        if !renews {
            clock.set(&ground, -HOUR);
        }
        let killed = now();
        fleet.until(&waiter, Doing::Holding).unwrap();
        println!("free {:?} after the kill, ttl {ttl:?}, renewed: {renews}", killed.elapsed());
        fleet.kill(&waiter).unwrap();
        fleet.finish().unwrap();
    }
}

/// Whatever the clock does.
///
/// # Panics
/// If one does not.
pub fn fences_rise_over_a_clock_that_is_set_back<G: Ground>() {
    let (clock, ground) = Clock::with_rate::<G>(1.0);
    let manager = ground.bystander();
    let mut last = 0;
    for offset in [0, -HOUR, -2 * HOUR, HOUR, 0] {
        clock.set(&ground, offset);
        let guard = acquire(&manager, X, LONG);
        let fence = guard.fencing_token().get();
        assert!(last < fence, "{last}, then {fence}");
        last = fence;
        block_on(guard.release()).unwrap();
        until("it is free", || !block_on(manager.is_locked(X)).unwrap());
    }
}

/// What a jump costs is measured; fences hold whatever it costs.
///
/// # Panics
/// If another promise is broken.
pub fn a_clock_that_jumps_by_hours_may_break_exclusion_and_nothing_else<G: Ground>() {
    for _ in 0..rounds(1) {
        let (clock, ground) = Clock::with_rate::<G>(1.0);
        troubled("jumps of the server's clock", &ground, Demand::Measured, |round| {
            clock.set(&ground, [HOUR, -HOUR, 300, 2 * HOUR][round]);
        });
    }
}
