//! The manager over the memory store: what a user sees.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test, on a runtime of its own"
)]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::clock::{Clock, Moment, TestClock};
use tenure_core::{Conflict, ErrorKind, LockManager, LossReason, Micros, NotReleased, Seats};

const TTL: Duration = Duration::from_secs(30);

fn manager() -> LockManager {
    LockManager::new(Arc::new(MemoryBackend::new())).unwrap()
}

/// A manager on a clock that stands still, its clock and its store.
fn still() -> (LockManager, TestClock, Arc<MemoryBackend>) {
    let clock = TestClock::new();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let manager = LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
    (manager, clock, backend)
}

#[tokio::test]
async fn a_lock_excludes_until_it_is_released() {
    let locks = manager();
    let guard = locks.acquire("x", TTL).await.unwrap();
    assert!(guard.is_valid());
    assert!(locks.try_acquire("x", TTL).await.unwrap().is_none());
    assert!(locks.is_locked("x").await.unwrap());
    let first = guard.fencing_token();
    guard.release().await.unwrap();
    assert!(!locks.is_locked("x").await.unwrap());
    let again = locks.try_acquire("x", TTL).await.unwrap().unwrap();
    assert!(first < again.fencing_token());
}

#[tokio::test]
async fn waiters_are_served_in_order() {
    let locks = manager();
    let guard = locks.acquire("x", TTL).await.unwrap();
    let (sent, order) = std::sync::mpsc::channel();
    let seen = locks.clone();
    let mut tasks = Vec::new();
    for n in 0..8 {
        let (locks, sent) = (locks.clone(), sent.clone());
        tasks.push(tokio::task::spawn(async move {
            let guard = locks.acquire("x", TTL).await.unwrap();
            sent.send(n).unwrap();
            guard.release().await.unwrap();
        }));
        while seen.inspect("x").await.unwrap().waiters.len() <= n {
            tokio::task::yield_now().await;
        }
    }
    guard.release().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(order.try_iter().collect::<Vec<usize>>(), (0..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_lease_is_lost_at_its_deadline_when_it_is_not_renewed() {
    let (locks, clock, _) = still();
    let guard = locks.lock("x").ttl(TTL).auto_renew(false).acquire().await.unwrap();
    clock.advance(Duration::from_secs(26));
    assert!(guard.is_valid());
    clock.advance(Duration::from_secs(1));
    assert!(!guard.is_valid());
    assert_eq!(guard.lost().await, LossReason::Expired);
    assert!(matches!(guard.release().await, Err(NotReleased::AlreadyLost(LossReason::Expired))));
}

#[tokio::test]
async fn a_lease_is_renewed_for_as_long_as_its_guard_lives() {
    let (locks, clock, _) = still();
    let guard = locks.acquire("x", TTL).await.unwrap();
    for round in 1..=10 {
        clock.advance(Duration::from_secs(12));
        while locks.metrics().renewals < round {
            tokio::task::yield_now().await;
        }
    }
    assert!(guard.is_valid());
    guard.release().await.unwrap();
}

#[tokio::test]
async fn a_dropped_guard_is_released_by_the_janitor() {
    let locks = manager();
    drop(locks.acquire("x", TTL).await.unwrap());
    locks.close(Duration::from_secs(5)).await.unwrap();
    assert!(!locks.is_locked("x").await.unwrap());
}

#[tokio::test]
async fn a_store_that_hangs_loses_the_lock_at_the_deadline_and_not_before() {
    let (locks, clock, backend) = still();
    let guard = locks.acquire("x", TTL).await.unwrap();
    backend.failures().always(Operation::Renew, Failure::Hang);
    clock.advance(Duration::from_secs(16));
    guard.at_risk().await;
    assert!(guard.is_valid());
    clock.advance(Duration::from_secs(11));
    guard.lost().await;
}

#[tokio::test]
async fn a_lock_whose_release_is_not_answered_is_lost_at_its_deadline_for_all_who_watch_it() {
    for dropped in [false, true] {
        let (locks, clock, backend) = still();
        let guard = locks.acquire("x", TTL).await.unwrap();
        backend.failures().always(Operation::Release, Failure::Hang);
        let watch = guard.watch();
        let leave = async {
            if dropped {
                drop(guard);
            } else {
                assert!(tokio::time::timeout(Duration::ZERO, guard.release()).await.is_err());
            }
            clock.advance(TTL);
        };
        let (reason, ()) = tokio::join!(watch.lost(), leave);
        assert_eq!(reason.as_str(), "expired");
    }
}

#[tokio::test]
async fn a_lost_reply_of_an_acquire_leaves_nothing_held() {
    let locks_backend = Arc::new(MemoryBackend::new());
    let locks = LockManager::new(locks_backend.clone()).unwrap();
    locks_backend.failures().once(Operation::Acquire, Failure::LostReply);
    let error = locks.acquire("x", TTL).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    locks.close(Duration::from_secs(5)).await.unwrap();
    assert!(!locks.is_locked("x").await.unwrap());
}

#[tokio::test]
async fn force_and_steal_tell_the_old_holder_who_and_why() {
    let locks = manager();
    let guard = locks.acquire("x", TTL).await.unwrap();
    let thief =
        locks.lock("x").owner("thief").on_conflict(Conflict::Force).acquire().await.unwrap();
    assert!(guard.fencing_token() < thief.fencing_token());
    assert!(matches!(guard.lost().await, LossReason::Stolen { by, .. } if &*by == "thief"));
    locks.force_release("x", Some(thief.fencing_token()), "operator's wish").await.unwrap();
    assert!(
        matches!(thief.lost().await, LossReason::Evicted { reason, .. } if &*reason == "operator's wish")
    );
}

#[tokio::test]
async fn an_upgrade_gets_a_new_fence_and_a_second_one_is_refused_at_once() {
    let locks = manager();
    let mut a = locks.lock("x").shared().acquire().await.unwrap();
    let mut b = locks.lock("x").shared().acquire().await.unwrap();
    let before = a.fencing_token();
    let mut upgrade = Box::pin(a.upgrade(None));
    assert!(futures_poll(&mut upgrade).await.is_none());
    assert_eq!(b.upgrade(None).await.unwrap_err().kind(), ErrorKind::Deadlock);
    b.release().await.unwrap();
    upgrade.await.unwrap();
    assert!(before < a.fencing_token());
    a.downgrade(Seats::SHARED).await.unwrap();
    assert!(locks.lock("x").shared().try_acquire().await.unwrap().is_some());

    async fn futures_poll<F: Future + Unpin>(f: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match std::pin::Pin::new(&mut *f).poll(cx) {
                std::task::Poll::Ready(v) => Some(v),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}

#[tokio::test]
async fn a_token_moves_a_lock_to_another_manager() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (LockManager::new(backend.clone()).unwrap(), LockManager::new(backend).unwrap());
    let guard = a.acquire("x", TTL).await.unwrap();
    let fence = guard.fencing_token();
    let token = guard.into_token().await.unwrap();
    assert!(b.is_locked("x").await.unwrap());
    let guard = b.resume(&token).await.unwrap();
    assert_eq!(guard.fencing_token(), fence);
    guard.release().await.unwrap();
    assert_eq!(b.resume(&token).await.unwrap_err().kind(), ErrorKind::NotHeld);
}

#[tokio::test]
async fn shutdown_ends_waiting_and_holding() {
    let locks = manager();
    let guard = locks.acquire("x", TTL).await.unwrap();
    let waiting = tokio::task::spawn({
        let locks = locks.clone();
        async move { locks.acquire("x", TTL).await }
    });
    while locks.inspect("x").await.unwrap().waiters.is_empty() {
        tokio::task::yield_now().await;
    }
    locks.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(guard.lost().await, LossReason::ShutDown);
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::ShutDown);
    assert_eq!(locks.acquire("y", TTL).await.unwrap_err().kind(), ErrorKind::ShutDown);
}

/// A clock whose sleepers are never woken: nobody but the user notices what time it is.
#[derive(Clone, Debug)]
struct Unheard(TestClock);

impl Clock for Unheard {
    fn now(&self) -> Moment {
        self.0.now()
    }

    fn wall(&self) -> Micros {
        self.0.wall()
    }

    fn sleep_until(&self, _: Moment) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

/// What a task ends with, which has nothing to wait for any more.
async fn soon<T>(task: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(TTL, task).await.expect("it is told").unwrap()
}

#[tokio::test]
async fn whoever_watches_a_lock_is_told_of_a_loss_that_its_release_or_drop_found_first() {
    let clock = TestClock::new();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let locks = LockManager::builder(backend).clock(Unheard(clock.clone())).build().unwrap();
    let watched = async |name: &str| {
        let guard = locks.lock(name).ttl(TTL).auto_renew(false).acquire().await.unwrap();
        let watch = guard.watch();
        let told = tokio::task::spawn(async move { watch.lost().await });
        // It listens before the loss.
        tokio::task::yield_now().await;
        (guard, told)
    };
    let (released, told_release) = watched("x").await;
    let (dropped, told_drop) = watched("y").await;
    clock.advance(TTL);
    let answer = released.release().await;
    assert!(matches!(answer, Err(NotReleased::AlreadyLost(LossReason::Expired))), "{answer:?}");
    assert_eq!(soon(told_release).await, LossReason::Expired);
    drop(dropped);
    assert_eq!(soon(told_drop).await, LossReason::Expired);
}

#[tokio::test]
async fn whoever_watches_a_lock_is_told_of_a_loss_that_the_store_told_to_its_release() {
    let (here, there) = (TestClock::new(), TestClock::new());
    let backend = Arc::new(MemoryBackend::with_clock(there.clone()));
    let locks = LockManager::builder(backend).clock(here).build().unwrap();
    let guard = locks.acquire("x", TTL).await.unwrap();
    let watch = guard.watch();
    let told = tokio::task::spawn(async move { watch.lost().await });
    tokio::task::yield_now().await;
    there.advance(TTL * 2);
    guard.check().unwrap();
    let answer = guard.release().await;
    assert!(matches!(answer, Err(NotReleased::AlreadyLost(LossReason::Expired))), "{answer:?}");
    assert_eq!(soon(told).await, LossReason::Expired);
}

#[tokio::test]
async fn a_lost_lock_is_given_back_when_its_lease_is_over_or_its_guard_is_dropped_and_not_before() {
    let (locks, clock, backend) = still();
    let lost = async |name: &str| {
        let mut guard = locks.lock(name).ttl(TTL).auto_renew(false).acquire().await.unwrap();
        let (deadline, end) = guard.deadlines();
        // It arrives, and nobody knows: the lease lasts longer at the store.
        clock.advance(TTL / 2);
        backend.failures().once(Operation::Renew, Failure::LostReply);
        guard.extend(TTL).await.unwrap_err();
        clock.advance(deadline.since(clock.now()));
        guard.lost().await;
        // Whatever the loss set going is done.
        for _ in 0..100 {
            locks.close(TTL).await.unwrap();
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        assert!(locks.is_locked(name).await.unwrap(), "{name}: its user is still stopping");
        (guard, end)
    };
    let free = async |name: &str| {
        let seen = async {
            while locks.is_locked(name).await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TTL, seen).await.unwrap();
    };
    let (guard, end) = lost("x").await;
    drop(guard);
    free("x").await;
    assert!(clock.now() < end);

    let (_guard, end) = lost("y").await;
    clock.advance(end.since(clock.now()));
    assert!(locks.is_locked("y").await.unwrap(), "its user is being killed");
    clock.advance(TTL / 10 + Duration::from_millis(2));
    free("y").await;
}
