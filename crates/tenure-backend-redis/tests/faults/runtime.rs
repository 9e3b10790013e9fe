//! What users do to themselves: futures dropped half-way, runtimes that end or stand still, panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockGuard, LockManager};
use tenure_testkit::cancel::{Polled, Yielding, polled};
use tokio::runtime::Runtime;

use crate::stage::{LONG, PATIENCE, SHORT, Stage, X, acquire, backend, now, until};

/// More points than any future here has; reaching it means that one never ends.
const MOST_POINTS: usize = 100;
/// What giving back may take.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Polls a future 0, 1, 2 … times and drops it, until it ends by itself. After each time nothing may
/// be left at the server.
fn at_every_point<T>(what: &str, attempt: impl AsyncFn(&LockManager, &LockManager) -> T) {
    let stage = Stage::new();
    let yielding = Arc::new(Yielding::new(backend(&stage.server.url())));
    let (mine, other) = (LockManager::new(yielding).unwrap(), stage.bystander());
    for points in 0..MOST_POINTS {
        let outcome = polled(attempt(&mine, &other), points);
        let over = !matches!(outcome, Polled::Dropped);
        drop(outcome);
        until("nothing is left", || {
            let view = block_on(other.inspect(X)).unwrap();
            !view.is_locked() && view.waiters.is_empty()
        });
        if over {
            return println!("{what}: {points} points");
        }
    }
    panic!("{what} never ends");
}

#[test]
fn futures_that_are_dropped_at_any_point_leave_nothing_at_the_server() {
    at_every_point("acquire", async |mine, _| mine.acquire(X, LONG).await.unwrap());
    at_every_point("try", async |mine, _| mine.try_acquire(X, LONG).await.unwrap());
    at_every_point("acquire and release", async |mine, _| {
        mine.acquire(X, LONG).await.unwrap().release().await.unwrap();
    });
    at_every_point("an acquire that waits and gives up", async |mine, other| {
        let held = block_on(other.acquire(X, LONG)).unwrap();
        let wait = Duration::from_millis(5);
        let waited = mine.lock(X).ttl(LONG).wait_timeout(wait).acquire().await;
        drop(held);
        assert!(waited.is_err());
    });
    at_every_point("an acquire that is handed the lock", async |mine, other| {
        let held = block_on(other.acquire(X, LONG)).unwrap();
        let mine = mine.acquire(X, LONG);
        let release = async { held.release().await.unwrap() };
        let (mine, ()) = futures_lite::future::zip(mine, release).await;
        mine.unwrap()
    });
    at_every_point("an upgrade and a downgrade", async |mine, _| {
        let mut guard = mine.lock(X).ttl(LONG).shared().acquire().await.unwrap();
        guard.upgrade(None).await.unwrap();
        guard.downgrade(tenure_core::Seats::permits(1, 2).unwrap()).await.unwrap();
    });
}

/// Acquires in a runtime, with others that wait there.
async fn one_holds_and_others_wait(manager: &LockManager, other: &LockManager) -> LockGuard {
    let guard = manager.acquire(X, LONG).await.unwrap();
    for _ in 0..3 {
        let manager = manager.clone();
        tokio::runtime::Handle::current().spawn(async move {
            let _never = manager.acquire(X, LONG).await;
        });
    }
    while other.inspect(X).await.unwrap().waiters.len() < 3 {
        tokio::task::yield_now().await;
    }
    guard
}

#[test]
fn a_runtime_that_ends_takes_its_waiters_along_and_a_guard_that_is_dropped_after_it_is_released() {
    let stage = Stage::new();
    let (manager, other) = (stage.bystander(), stage.bystander());
    let runtime = Runtime::new().unwrap();
    let guard = runtime.block_on(one_holds_and_others_wait(&manager, &other));
    runtime.shutdown_background();
    guard.check().unwrap();
    drop(guard);
    let since = now();
    block_on(acquire(&other, X, LONG).release()).unwrap();
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    assert_eq!(block_on(other.inspect(X)).unwrap().waiters.len(), 0);
    // The manager works on in another one, and in none.
    let again = Runtime::new().unwrap();
    again.block_on(async { manager.acquire(X, LONG).await.unwrap().release().await.unwrap() });
    block_on(acquire(&manager, X, LONG).release()).unwrap();
}

#[test]
fn a_lock_is_kept_while_the_only_thread_of_its_users_runtime_is_blocked_for_five_ttls() {
    let stage = Stage::new();
    let (manager, other) = (stage.bystander(), stage.bystander());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let guard = manager.acquire(X, SHORT).await.unwrap();
        let rival = std::thread::spawn(move || {
            let guard = acquire(&other, X, LONG);
            (now(), guard)
        });
        block(SHORT * 5);
        guard.check().unwrap();
        assert!(!rival.is_finished());
        let released = now();
        guard.release().await.unwrap();
        let (granted, guard) = rival.join().unwrap();
        assert!(released <= granted, "{:?} too early", released - granted);
        guard.release().await.unwrap();
    });
}

#[allow(clippy::disallowed_methods, reason = "user code that blocks its thread is under test")]
fn block(time: Duration) {
    std::thread::sleep(time);
}

#[test]
fn a_panic_under_a_lock_releases_it() {
    let stage = Stage::new();
    let (manager, other) = (stage.bystander(), stage.bystander());
    let worker = AssertUnwindSafe(|| {
        let _guard = acquire(&manager, X, LONG);
        std::panic::resume_unwind(Box::new("the work failed"));
    });
    catch_unwind(worker).unwrap_err();
    let since = now();
    let request = other.lock(X).ttl(LONG).wait_timeout(PATIENCE);
    block_on(async { request.acquire().await.unwrap().release().await }).unwrap();
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
}
