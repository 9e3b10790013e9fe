//! The end of a manager.

use futures_util::future::join;
use tenure_core::{ErrorKind, LossReason};

use super::Store;
use super::kit::{LONG, fresh, kind, look, manager, until, until_waiting};

/// Everything held is released and told, and who waits is sent away.
pub async fn a_shutdown_ends_waiting_and_holding(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let (held, waited) = (fresh("shutdown-held"), fresh("shutdown-waited"));
    let guard = a.acquire(held.clone(), LONG).await.unwrap();
    let other = b.acquire(waited.clone(), LONG).await.unwrap();
    let stop = async {
        if a.capabilities().fifo {
            until_waiting(store, &b, &waited, 1).await;
        } else {
            let has_asked = async || (a.metrics().total_conflicts == 1).then_some(());
            until(store, "it has asked in vain", has_asked).await;
        }
        a.shutdown(store.patience()).await.unwrap();
    };
    let (ended, ()) = join(a.acquire(waited.clone(), LONG), stop).await;
    assert_eq!(kind(ended), ErrorKind::ShutDown);
    assert_eq!(guard.lost().await, LossReason::ShutDown);
    assert_eq!(kind(a.acquire(held.clone(), LONG).await), ErrorKind::ShutDown);
    assert!(!look(&b, &held).await.is_locked());
    until(store, "the waiter left the queue", async || {
        look(&b, &waited).await.waiters.is_empty().then_some(())
    })
    .await;
    other.release().await.unwrap();
    b.acquire(held, LONG).await.unwrap().release().await.unwrap();
}
