//! Loss is told in time, and final.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join;
use tenure_core::{ErrorKind, LossReason, NotReleased};

use super::Store;
use super::kit::{LONG, force_release, fresh, kind, look, manager, now, until};

/// How late the keeper's thread may be scheduled on a busy machine.
const SCHEDULING: Duration = Duration::from_millis(500);

/// By its deadline at the latest the guard knows that it is lost, without asking anybody.
pub async fn a_lost_guard_says_so_by_its_deadline(store: &dyn Store) {
    let a = manager(store).await;
    let name = fresh("deadline");
    let request = a.lock(name).ttl(store.short_ttl()).auto_renew(false);
    let guard = request.acquire().await.unwrap();
    let (deadline, end) = guard.deadlines();
    assert!(deadline < end);
    assert!(end <= now().plus(store.short_ttl()));
    assert_eq!(guard.lost().await, LossReason::Expired);
    let told = now();
    assert!(deadline <= told, "told too early");
    assert!(told <= deadline.plus(SCHEDULING), "told {:?} late", told.since(deadline));
    assert_eq!(kind(guard.check()), ErrorKind::Lost);
    assert!(!guard.is_valid());
    assert_eq!(guard.remaining(), Duration::ZERO);
}

/// The guard is lost before anybody else can be granted its lock.
pub async fn a_guard_is_lost_before_the_next_is_granted(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("lost-first");
    let ttl = store.short_ttl();
    for _ in 0..2 {
        let guard = a.lock(name.clone()).ttl(ttl).auto_renew(false).acquire().await.unwrap();
        let watch = guard.watch();
        let next = b.acquire(name.clone(), LONG).await.unwrap();
        assert!(!watch.is_valid(), "two hold at once");
        next.release().await.unwrap();
        drop(guard);
    }
}

/// Nothing brings a lost guard back, and nothing pretends to.
pub async fn loss_is_final(store: &dyn Store) {
    let a = manager(store).await;
    let name = fresh("final");
    let request = a.lock(name.clone()).ttl(store.short_ttl()).auto_renew(false);
    let mut guard = request.acquire().await.unwrap();
    guard.lost().await;
    assert_eq!(kind(guard.extend(LONG).await), ErrorKind::Lost);
    assert_eq!(kind(guard.check()), ErrorKind::Lost);
    assert_eq!(guard.lost().await, LossReason::Expired);
    let watch = guard.watch();
    let released = guard.release().await;
    assert!(matches!(released, Err(NotReleased::AlreadyLost(LossReason::Expired))), "{released:?}");
    assert_eq!(kind(watch.check()), ErrorKind::Lost);
    until(store, "a lost lock is given back", async || {
        (!look(&a, &name).await.is_locked()).then_some(())
    })
    .await;
}

/// What runs under a lock is dropped when the lock is lost.
pub async fn work_under_a_lock_is_dropped_when_it_is_lost(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("with-lock");
    let began = Cell::new(None);
    let work = a.with_lock(name.clone(), store.short_ttl() * 3, |watch| {
        began.set(Some(watch.fencing_token()));
        std::future::pending::<()>()
    });
    let evict = async {
        let fence = until(store, "the work begins", async || began.get()).await;
        force_release(store, &b, &name, fence, "the work hangs").await;
    };
    let (ended, ()) = join(work, evict).await;
    assert_eq!(kind(ended), ErrorKind::Lost);
}

/// An ordinary end of the work releases the lock and answers with its output.
pub async fn work_under_a_lock_ends_with_its_output(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("with-lock-output");
    let output = a.with_lock(name.clone(), LONG, |watch| async move { watch.is_valid() }).await;
    assert!(output.unwrap());
    let guard = b.try_acquire(name, LONG).await.unwrap().expect("it was released");
    guard.release().await.unwrap();
}
