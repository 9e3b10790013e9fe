//! Several locks as one.

use std::time::Duration;

use futures_lite::future::{or, poll_once};
use futures_util::future::join_all;
use tenure_core::{ErrorKind, LossReason};
use tenure_recipes::MultiLock;

use crate::stage::{LONG, PATIENCE, Store, seen, waiting};

pub(crate) async fn several_locks_are_taken_and_released_as_one(store: &Store) {
    let locks = store.manager();
    let multi = MultiLock::new(&locks, ["multi/c", "multi/a", "multi/b"]).unwrap();
    let names: Vec<_> = multi.names().iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["multi/a", "multi/b", "multi/c"]);
    let guard = multi.acquire().await.unwrap();
    guard.check().unwrap();
    assert!(!guard.remaining().is_zero());
    for lock in guard.locks() {
        assert_eq!(guard.fencing_token(lock.name().as_str()), Some(lock.fencing_token()));
        assert!(store.manager().try_acquire(lock.name(), LONG).await.unwrap().is_none());
    }
    assert_eq!(guard.fencing_token("multi/d"), None);
    let watch = guard.watch();
    guard.release().await.unwrap();
    assert!(!watch.is_valid());
    assert_eq!(watch.check().unwrap_err().kind(), ErrorKind::NotHeld);
    multi.try_acquire().await.unwrap().expect("all are free").release().await.unwrap();
}

pub(crate) async fn equal_names_are_one_lock(store: &Store) {
    let multi = MultiLock::new(&store.manager(), ["multi/same", "multi/same"]).unwrap();
    let guard = multi.acquire_within(PATIENCE).await.unwrap();
    assert_eq!(guard.locks().len(), 1);
    guard.release().await.unwrap();
}

pub(crate) async fn a_failure_half_way_gives_back_what_was_taken(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let in_the_way = a.acquire("multi/fail/2", LONG).await.unwrap();
    let names = ["multi/fail/3", "multi/fail/2", "multi/fail/1"];
    let multi = MultiLock::new(&b, names).unwrap();
    assert!(multi.try_acquire().await.unwrap().is_none());
    let late = multi.acquire_within(Duration::from_millis(20)).await.unwrap_err();
    assert!(late.kind().is_not_acquired(), "{late}");
    assert_eq!(late.lock().unwrap().as_str(), "multi/fail/2");
    for free in ["multi/fail/1", "multi/fail/3"] {
        assert!(!a.is_locked(free).await.unwrap(), "{free}");
    }
    in_the_way.release().await.unwrap();
    multi.try_acquire().await.unwrap().expect("all are free").release().await.unwrap();
}

pub(crate) async fn a_dropped_future_gives_back_what_was_taken(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let in_the_way = a.acquire("multi/drop/2", LONG).await.unwrap();
    let multi = MultiLock::new(&b, ["multi/drop/1", "multi/drop/2"]).unwrap();
    let mut acquire = Box::pin(multi.acquire());
    let waits = async {
        seen(&a, "multi/drop/2", |view| view.waiters.len() == 1).await;
    };
    let acquires = async {
        let _ = acquire.as_mut().await;
        unreachable!("somebody is in the way")
    };
    or(waits, acquires).await;
    assert!(a.is_locked("multi/drop/1").await.unwrap());
    drop(acquire);
    seen(&a, "multi/drop/1", |view| !view.is_locked()).await;
    seen(&a, "multi/drop/2", |view| view.waiters.is_empty()).await;
    in_the_way.release().await.unwrap();
}

#[allow(clippy::disallowed_methods, reason = "a test, on a runtime of its own")]
pub(crate) async fn opposite_orders_never_wait_in_a_circle(store: &Store) {
    let users = (0..6).map(|n| {
        let locks = store.manager();
        tokio::task::spawn(async move {
            let mut names = vec!["multi/circle/1", "multi/circle/2", "multi/circle/3"];
            names.rotate_left(n % 3);
            if n % 2 == 0 {
                names.reverse();
            }
            let multi = MultiLock::new(&locks, names).unwrap();
            for _ in 0..4 {
                let guard = multi.acquire_within(PATIENCE).await.unwrap();
                tokio::task::yield_now().await;
                guard.release().await.unwrap();
            }
        })
    });
    for user in join_all(users).await {
        user.unwrap();
    }
}

pub(crate) async fn the_loss_of_one_is_told_with_its_name(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    // Whoever lost it is told with its next renewal at the latest.
    let ttl = Duration::from_millis(1500);
    let multi = MultiLock::new(&a, ["multi/lost/1", "multi/lost/2"]).unwrap().ttl(ttl);
    let guard = multi.acquire().await.unwrap();
    assert!(poll_once(guard.lost()).await.is_none());
    b.force_release("multi/lost/2", None, "a test").await.unwrap();
    let lost = guard.lost().await;
    assert_eq!(lost.name.as_str(), "multi/lost/2");
    assert!(matches!(lost.reason, LossReason::Evicted { .. }), "{lost}");
    assert!(!guard.is_valid());
    assert!(guard.remaining().is_zero());
    let error = guard.release().await.unwrap_err();
    assert_eq!(error.failed().len(), 1, "{error}");
    assert_eq!(error.failed()[0].0.as_str(), "multi/lost/2");
    assert!(!b.is_locked("multi/lost/1").await.unwrap());
}

pub(crate) async fn the_loss_of_one_ends_the_wait_for_the_next(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let in_the_way = b.acquire("multi/next/2", LONG).await.unwrap();
    let ttl = Duration::from_millis(1500);
    let multi = MultiLock::new(&a, ["multi/next/1", "multi/next/2"]).unwrap().ttl(ttl);
    let acquire = waiting(&b, "multi/next/2", 1, async move { multi.acquire().await }).await;
    b.force_release("multi/next/1", None, "a test").await.unwrap();
    let error = acquire.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost);
    assert_eq!(error.lock().unwrap().as_str(), "multi/next/1");
    assert!(error.store().is_some());
    in_the_way.release().await.unwrap();
}
