//! What users do to themselves, in both rooms: futures dropped half-way, runtimes that end or stand
//! still, panics, and hosts with too much to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::LockManager;
use tenure_testkit::cancel::{Polled, Yielding, polled};
use tenure_testkit::history::Promise;
use tenure_testkit::lock_taker::Doing;
use tokio::runtime::Runtime;

use crate::stage::{
    AT_ONCE, LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_held, did, now, pass,
    rules, until,
};

/// More points than any future here has; reaching it means that one never ends.
const MOST_POINTS: usize = 200;
/// A ttl that both rooms can be held to: the shortest class of sessions.
const TTL: Duration = Duration::from_secs(2);

fn manager(url: &str) -> LockManager {
    LockManager::new(tenure_backend_postgres::open(url).unwrap()).unwrap()
}

/// The addresses of both rooms.
fn rooms(stage: &Stage) -> [String; 2] {
    let url = stage.server.url();
    [url.clone(), url.replace("postgres://", "postgres+advisory://")]
}

#[test]
fn futures_that_are_dropped_at_any_point_leave_nothing_at_the_server() {
    let stage = Stage::new();
    let yielding = Yielding::new(tenure_backend_postgres::open(&stage.server.url()).unwrap());
    let (mine, other) = (LockManager::new(Arc::new(yielding)).unwrap(), stage.bystander());
    let at_every_point = |what: &str, attempt: &dyn Fn(usize) -> bool| {
        for points in 0..MOST_POINTS {
            let over = attempt(points);
            until("nothing is left", || {
                let view = block_on(other.inspect(X)).unwrap();
                !view.is_locked() && view.waiters.is_empty()
            });
            if over {
                return println!("{what}: {points} points");
            }
        }
        panic!("{what} never ends");
    };
    let ended = |is_over: bool| is_over;
    at_every_point("acquire and release", &|points| {
        let cycle = async { mine.acquire(X, LONG).await.unwrap().release().await.unwrap() };
        ended(!matches!(polled(cycle, points), Polled::Dropped))
    });
    at_every_point("an acquire that is handed the lock", &|points| {
        let held = block_on(other.acquire(X, LONG)).unwrap();
        let release = async { held.release().await.unwrap() };
        let both = futures_lite::future::zip(mine.acquire(X, LONG), release);
        ended(!matches!(polled(both, points), Polled::Dropped))
    });
}

#[test]
fn a_lock_is_kept_while_the_only_thread_of_its_users_runtime_is_blocked_for_five_ttls() {
    let stage = Stage::new();
    for (url, ttl) in rooms(&stage).into_iter().zip([SHORT, TTL]) {
        let (mine, other) = (manager(&url), manager(&url));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let guard = mine.acquire(X, ttl).await.unwrap();
            let rival = std::thread::spawn(move || {
                let guard = acquire(&other, X, LONG);
                (now(), guard)
            });
            block(ttl * 5);
            guard.check().unwrap();
            assert!(!rival.is_finished());
            let released = now();
            guard.release().await.unwrap();
            let (granted, guard) = rival.join().unwrap();
            assert!(released <= granted, "{:?} too early", released - granted);
            guard.release().await.unwrap();
        });
    }
}

#[allow(clippy::disallowed_methods, reason = "user code that blocks its thread is under test")]
fn block(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn a_runtime_that_ends_takes_its_waiters_along_and_a_guard_that_is_dropped_after_it_is_released() {
    let stage = Stage::new();
    for url in rooms(&stage) {
        let (mine, other) = (manager(&url), manager(&url));
        let runtime = Runtime::new().unwrap();
        let guard = runtime.block_on(mine.acquire(X, LONG)).unwrap();
        for _ in 0..3 {
            let mine = mine.clone();
            runtime.spawn(async move {
                let _never = mine.acquire(X, LONG).await;
            });
        }
        // One at the server stands for those of its process that stand behind it.
        until("they wait", || !block_on(other.inspect(X)).unwrap().waiters.is_empty());
        runtime.shutdown_background();
        guard.check().unwrap();
        drop(guard);
        let since = now();
        block_on(acquire(&other, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE * 3, "{:?}", since.elapsed());
        until("nobody waits", || block_on(other.inspect(X)).unwrap().waiters.is_empty());
        // The manager works on in another one, and in none.
        let again = Runtime::new().unwrap();
        again.block_on(async { mine.acquire(X, LONG).await.unwrap().release().await.unwrap() });
        block_on(acquire(&mine, X, LONG).release()).unwrap();
    }
}

#[test]
fn a_panic_under_a_lock_releases_it() {
    let stage = Stage::new();
    for url in rooms(&stage) {
        let (mine, other) = (manager(&url), manager(&url));
        let worker = AssertUnwindSafe(|| {
            let _guard = acquire(&mine, X, LONG);
            std::panic::resume_unwind(Box::new("the work failed"));
        });
        catch_unwind(worker).unwrap_err();
        let since = now();
        block_on(acquire(&other, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
    }
}

/// Processes that take all the time that nobody else wants; gone with this.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start() -> Self {
        let hog = |_| {
            let mut nice = Command::new("nice");
            nice.args(["-n", "19", "sh", "-c", "while :; do :; done"]).spawn().unwrap()
        };
        Self((0..8).map(hog).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[test]
fn a_host_with_too_much_to_do_costs_no_healthy_holder_its_lock() {
    let stage = Stage::new();
    for url in rooms(&stage) {
        let mut fleet = stage.fleet(0);
        let job = tenure_testkit::lock_taker::Job { store: url, ..stage.job(TTL) };
        let hogs = Hogs::start();
        let holder = a_holder(&mut fleet, job.clone());
        let waiter = a_waiter(&mut fleet, job);
        pass(TTL * 2);
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
        drop(hogs);
        fleet.kill(&holder).unwrap();
        fleet.until(&waiter, Doing::Holding).unwrap();
        let run = fleet.finish().unwrap();
        assert!(!did(
            &run,
            &holder,
            tenure_testkit::history::Op::Lost,
            tenure_testkit::history::Phase::Ok
        ));
        assert_held(
            &run,
            &rules(TTL),
            Some(&stage.left(TTL)),
            &[Promise::Exclusion, Promise::Recovery],
        );
    }
}
