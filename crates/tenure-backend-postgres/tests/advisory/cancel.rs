//! Whoever gives up leaves nothing behind, whenever that is.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use rand::Rng;
use tenure_core::LockManager;
use tenure_testkit::cancel::{Polled, Yielding, polled};
use tenure_testkit::seed::seed;

use crate::stage::{LONG, Stage, X, acquire, attempt, look, now, until};

/// More points than any future here has.
const MOST_POINTS: usize = 100;

fn assert_nothing_left(mine: &LockManager, other: &LockManager, when: &str) {
    block_on(mine.close(Duration::from_secs(10))).unwrap();
    let view = look(other, X);
    assert!(!view.is_locked() && view.waiters.is_empty(), "{when}: {view:?}");
    let free = attempt(other, X).unwrap_or_else(|| panic!("{when}: it is not free"));
    block_on(free.release()).unwrap();
}

#[test]
fn an_acquire_that_is_dropped_at_any_point_leaves_nothing() {
    let stage = Stage::new();
    let mine = LockManager::new(Arc::new(Yielding::new(stage.backend()))).unwrap();
    let other = stage.manager();
    for point in 0..MOST_POINTS {
        let outcome = polled(mine.acquire(X, LONG), point);
        let over = !matches!(outcome, Polled::Dropped);
        drop(outcome);
        assert_nothing_left(&mine, &other, &format!("dropped at {point}"));
        if over {
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_wait_that_is_dropped_at_any_point_leaves_nothing() {
    let stage = Stage::new();
    let mine = LockManager::new(Arc::new(Yielding::new(stage.backend()))).unwrap();
    let other = stage.manager();
    for point in 0..MOST_POINTS {
        let holder = acquire(&other, X, LONG);
        let outcome = polled(mine.acquire(X, LONG), point);
        let over = !matches!(outcome, Polled::Dropped);
        drop(outcome);
        block_on(mine.close(Duration::from_secs(10))).unwrap();
        assert_eq!(look(&other, X).waiters.len(), 0, "dropped at {point}");
        block_on(holder.release()).unwrap();
        assert_nothing_left(&mine, &other, &format!("dropped at {point}"));
        if over {
            return;
        }
    }
    panic!("it never ends");
}

#[test]
fn a_release_that_is_dropped_at_any_point_releases() {
    let stage = Stage::new();
    let mine = LockManager::new(Arc::new(Yielding::new(stage.backend()))).unwrap();
    let other = stage.manager();
    for point in 0..MOST_POINTS {
        let guard = acquire(&mine, X, LONG);
        let outcome = polled(guard.release(), point);
        let over = !matches!(outcome, Polled::Dropped);
        drop(outcome);
        assert_nothing_left(&mine, &other, &format!("dropped at {point}"));
        if over {
            return;
        }
    }
    panic!("it never ends");
}

/// A wait that is cancelled just when it is granted: the server may say that it was cancelled and
/// have granted it all the same.
#[test]
fn a_cancel_that_meets_its_grant_leaves_no_lock() {
    let stage = Stage::new();
    let (mine, other) = (stage.manager(), stage.manager());
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed("cancel"));
    let start = now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(4) {
        rounds += 1;
        let holder = acquire(&other, X, LONG);
        let after = Duration::from_micros(rng.random_range(0..1500));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let wait = mine.lock(X).ttl(LONG).wait_timeout(Duration::from_millis(8));
                drop(block_on(wait.acquire()));
            });
            until("it waits, or has given up", || {
                let waits = !look(&other, X).waiters.is_empty();
                waits || Duration::from_millis(20) < start.elapsed()
            });
            let at = now();
            while at.elapsed() < after {
                std::hint::spin_loop();
            }
            block_on(holder.release()).unwrap();
        });
        block_on(mine.close(Duration::from_secs(10))).unwrap();
        let left = stage.holding();
        assert!(left.is_empty(), "round {rounds}: {left:?}");
    }
    println!("{rounds} rounds");
}
