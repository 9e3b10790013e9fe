//! An acquire that is given up leaves nothing behind.

use std::pin::pin;
use std::time::Duration;

use futures_lite::future::{or, poll_once};

use super::Store;
use super::kit::{LONG, fresh, look, manager, pause, until_waiting};

/// A wait that is dropped leaves no place in the queue.
pub async fn a_dropped_wait_leaves_no_place(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("cancel-wait");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    for _ in 0..3 {
        let wait = async {
            let _never = b.acquire(name.clone(), LONG).await;
            unreachable!("it is held");
        };
        or(wait, until_waiting(store, &a, &name, 1)).await;
        b.close(store.patience()).await.unwrap();
        assert_eq!(look(&a, &name).await.waiters.len(), 0);
    }
    guard.release().await.unwrap();
    assert!(!look(&a, &name).await.is_locked());
}

/// A wait that is dropped while the lock is handed to it does not keep it.
pub async fn a_wait_dropped_at_its_grant_holds_nothing(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("cancel-grant");
    for _ in 0..3 {
        let guard = a.acquire(name.clone(), LONG).await.unwrap();
        {
            let mut wait = pin!(b.acquire(name.clone(), LONG));
            let waiting = async {
                assert!(wait.as_mut().await.is_err(), "it is held");
            };
            or(waiting, until_waiting(store, &a, &name, 1)).await;
            // Not polled any more, it never learns that it was granted.
            guard.release().await.unwrap();
            assert!(look(&a, &name).await.is_locked());
        }
        b.close(store.patience()).await.unwrap();
        let view = look(&a, &name).await;
        assert!(!view.is_locked() && view.waiters.is_empty());
    }
}

/// An acquire of a free lock that is dropped at any moment holds nothing.
pub async fn a_dropped_acquire_holds_nothing(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("cancel-acquire");
    for micros in [0, 1, 20, 50, 100, 200, 500, 1000, 2000, 5000] {
        let acquired = {
            let mut acquire = pin!(a.acquire(name.clone(), LONG));
            match poll_once(acquire.as_mut()).await {
                Some(guard) => Some(guard),
                None => {
                    let give_up = async {
                        pause(Duration::from_micros(micros)).await;
                        None
                    };
                    or(async { Some(acquire.await) }, give_up).await
                }
            }
        };
        drop(acquired);
        a.close(store.patience()).await.unwrap();
        let view = look(&b, &name).await;
        assert!(
            !view.is_locked() && view.waiters.is_empty(),
            "dropped after {micros} us: {view:?}"
        );
    }
    b.try_acquire(name, LONG).await.unwrap().expect("it is free").release().await.unwrap();
}
