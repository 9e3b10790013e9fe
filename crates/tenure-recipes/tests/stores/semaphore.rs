//! Permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tenure_core::ErrorKind;
use tenure_recipes::Semaphore;

use crate::stage::{PATIENCE, Store, waiting};

#[allow(clippy::disallowed_methods, reason = "a test, on a runtime of its own")]
pub(crate) async fn no_more_permits_are_held_than_there_are(store: &Store) {
    let managers = [store.manager(), store.manager()];
    let held = Arc::new(AtomicU32::new(0));
    let users = (0..12).map(|n| {
        let semaphore = Semaphore::new(&managers[n % 2], "permits/bound", 3).unwrap();
        let held = held.clone();
        tokio::task::spawn(async move {
            for _ in 0..3 {
                let permit = semaphore.acquire_within(PATIENCE).await.unwrap();
                assert!(held.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                permit.check().unwrap();
                held.fetch_sub(1, Ordering::SeqCst);
                permit.release().await.unwrap();
            }
        })
    });
    for user in join_all(users).await {
        user.unwrap();
    }
    let semaphore = Semaphore::new(&managers[0], "permits/bound", 3).unwrap();
    assert_eq!(semaphore.available().await.unwrap(), 3);
}

pub(crate) async fn many_permits_are_taken_at_once_or_not_at_all(store: &Store) {
    let locks = store.manager();
    let semaphore = Semaphore::new(&locks, "permits/many", 5).unwrap();
    let three = semaphore.acquire_many(3).await.unwrap();
    assert_eq!((three.count(), semaphore.available().await.unwrap()), (3, 2));
    assert!(semaphore.try_acquire_many(3).await.unwrap().is_none());
    assert_eq!(semaphore.available().await.unwrap(), 2);
    let two = semaphore.try_acquire_many(2).await.unwrap().expect("two are free");
    let wait = Duration::from_millis(20);
    let late = semaphore.acquire_many_within(1, wait).await.unwrap_err();
    assert_eq!((late.kind(), late.holders().len()), (ErrorKind::WaitTimeout, 2));
    three.release().await.unwrap();
    assert_eq!(semaphore.available().await.unwrap(), 3);
    two.release().await.unwrap();
    for wrong in [0, 6] {
        let error = semaphore.acquire_many(wrong).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

pub(crate) async fn those_who_count_otherwise_are_refused(store: &Store) {
    let locks = store.manager();
    let permit = Semaphore::new(&locks, "permits/count", 5).unwrap().acquire().await.unwrap();
    let other = Semaphore::new(&locks, "permits/count", 4).unwrap();
    assert_eq!(other.try_acquire().await.unwrap_err().kind(), ErrorKind::Mismatch);
    permit.release().await.unwrap();
    other.try_acquire().await.unwrap().expect("nobody else counts").release().await.unwrap();
}

pub(crate) async fn who_wants_many_is_not_starved(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let here = Semaphore::new(&a, "permits/starve", 4).unwrap();
    let there = Semaphore::new(&b, "permits/starve", 4).unwrap();
    let one = here.acquire().await.unwrap();
    let all = waiting(&a, "permits/starve", 1, async move { there.acquire_many(4).await }).await;
    assert!(here.try_acquire().await.unwrap().is_none(), "three are free, but somebody waits");
    one.release().await.unwrap();
    all.await.unwrap().unwrap().release().await.unwrap();
}
