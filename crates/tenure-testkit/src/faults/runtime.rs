//! What users do to themselves: futures dropped half-way, runtimes that end or stand still, panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockManager, Seats};
use tokio::runtime::{Builder, Runtime};

use super::{AT_ONCE, Ground, LONG, manager};
use crate::cancel::{Polled, Yielding, polled};
use crate::servers::patience;
use crate::stage::{X, acquire, now, until};

/// More points than any future here has; reaching it means that one never ends.
const MOST_POINTS: usize = 200;

/// Polls a future 0, 1, 2 … times and drops it, until it ends by itself. After each time nothing may
/// be left at the server.
fn at_every_point<G: Ground, T>(
    what: &str,
    attempt: impl AsyncFn(&LockManager, &LockManager) -> T,
) {
    let ground = G::new();
    let yielding = Arc::new(Yielding::new(G::open(&ground.near())));
    let (mine, other) = (LockManager::new(yielding).unwrap(), ground.bystander());
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

/// Cancel safety, at the server.
///
/// # Panics
/// If something is left.
pub fn futures_that_are_dropped_at_any_point_leave_nothing_at_the_server<G: Ground>() {
    at_every_point::<G, _>("acquire", async |mine, _| mine.acquire(X, LONG).await.unwrap());
    at_every_point::<G, _>("try", async |mine, _| mine.try_acquire(X, LONG).await.unwrap());
    at_every_point::<G, _>("acquire and release", async |mine, _| {
        mine.acquire(X, LONG).await.unwrap().release().await.unwrap();
    });
    at_every_point::<G, _>("an acquire that waits and gives up", async |mine, other| {
        let held = block_on(other.acquire(X, LONG)).unwrap();
        let wait = Duration::from_millis(5);
        let waited = mine.lock(X).ttl(LONG).wait_timeout(wait).acquire().await;
        drop(held);
        assert!(waited.is_err());
    });
    at_every_point::<G, _>("an acquire that is handed the lock", async |mine, other| {
        let held = block_on(other.acquire(X, LONG)).unwrap();
        let mine = mine.acquire(X, LONG);
        let release = async { held.release().await.unwrap() };
        let (mine, ()) = futures_lite::future::zip(mine, release).await;
        mine.unwrap()
    });
    at_every_point::<G, _>("an upgrade and a downgrade", async |mine, _| {
        let mut guard = mine.lock(X).ttl(LONG).shared().acquire().await.unwrap();
        guard.upgrade(None).await.unwrap();
        guard.downgrade(Seats::permits(1, 2).unwrap()).await.unwrap();
    });
}

/// How many wait in the runtime that ends.
const WAITERS: u64 = 3;

/// The manager's thread is nobody's runtime.
///
/// # Panics
/// If something of the runtime is left, or the manager does not go on.
pub fn a_runtime_that_ends_takes_its_waiters_along_and_a_guard_dropped_after_it_is_released<
    G: Ground,
>() {
    let ground = G::new();
    for (address, _) in ground.rooms() {
        let (mine, other) = (manager::<G>(&address), manager::<G>(&address));
        let runtime = Runtime::new().unwrap();
        let guard = runtime.block_on(mine.acquire(X, LONG)).unwrap();
        for _ in 0..WAITERS {
            let mine = mine.clone();
            runtime.spawn(async move {
                let _never = mine.acquire(X, LONG).await;
            });
        }
        until("they wait", || mine.metrics().waiting == WAITERS);
        runtime.shutdown_background();
        guard.check().unwrap();
        drop(guard);
        let since = now();
        block_on(acquire(&other, X, LONG).release()).unwrap();
        assert!(since.elapsed() < G::AT_ONCE + AT_ONCE, "{:?}", since.elapsed());
        patience::until(G::AT_ONCE, "nobody waits", || {
            block_on(other.inspect(X)).unwrap().waiters.is_empty()
        });
        // The manager works on in another one, and in none.
        let again = Runtime::new().unwrap();
        again.block_on(async { mine.acquire(X, LONG).await.unwrap().release().await.unwrap() });
        block_on(acquire(&mine, X, LONG).release()).unwrap();
    }
}

/// Renewal does not need the user's runtime.
///
/// # Panics
/// If it does.
pub fn a_lock_is_kept_while_the_only_thread_of_its_users_runtime_is_blocked_for_five_ttls<
    G: Ground,
>() {
    let ground = G::new();
    for (address, ttl) in ground.rooms() {
        let (mine, other) = (manager::<G>(&address), manager::<G>(&address));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
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

/// Unwinding drops the guard.
///
/// # Panics
/// If the lock is not free after it.
pub fn a_panic_under_a_lock_releases_it<G: Ground>() {
    let ground = G::new();
    for (address, _) in ground.rooms() {
        let (mine, other) = (manager::<G>(&address), manager::<G>(&address));
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
