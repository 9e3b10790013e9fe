//! Waiters are served in their order, by whoever frees the seats.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tenure_core::ErrorKind;
use tenure_core::backend::{Kept, Release, Verdict};

use super::Store;
use super::kit::{
    LONG, Wants, claim, fresh, holders, kind, look, manager, member, now, pause, raw, twin, until,
    until_waiting, waiters,
};

/// The step that frees the seats is the one that gives them on.
pub async fn a_release_grants_to_the_next_in_the_same_step(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("hand-over");
    let (first, second) = (claim(&name), claim(&name).waiting());
    let grant = a.granted(&first).await;
    assert_eq!(b.queued(&second).await.ahead, 0);
    assert_eq!(a.release(&first, grant).await, Release::Released);
    let view = a.view(&name).await;
    assert_eq!((holders(&view), view.waiters.len()), (vec![second.member], 0));
    b.granted(&second).await;
}

/// First come, first served.
pub async fn waiters_are_served_in_the_order_they_came(store: &dyn Store) {
    let a = raw(store).await;
    let b = twin(store, &a).await;
    let name = fresh("order");
    let mut holder = claim(&name);
    let mut grant = a.granted(&holder).await;
    let queue: Vec<_> = (0..6).map(|_| claim(&name).waiting()).collect();
    for (ahead, waiter) in queue.iter().enumerate() {
        let process = [&a, &b][ahead % 2];
        assert_eq!(process.queued(waiter).await.ahead, ahead);
    }
    for waiter in queue {
        assert_eq!(a.release(&holder, grant).await, Release::Released);
        assert_eq!(holders(&a.view(&name).await), [waiter.member]);
        grant = b.granted(&waiter).await;
        holder = waiter;
    }
}

/// Asking again keeps a place and takes no second one.
pub async fn asking_again_keeps_the_place(store: &dyn Store) {
    let a = raw(store).await;
    let b = twin(store, &a).await;
    let name = fresh("place");
    a.granted(&claim(&name)).await;
    let (first, second) = (claim(&name).waiting(), claim(&name).waiting());
    a.queued(&first).await;
    b.queued(&second).await;
    for _ in 0..3 {
        assert_eq!(b.queued(&first).await.ahead, 0);
        assert_eq!(a.queued(&second).await.ahead, 1);
    }
    let queue = waiters(&a.view(&name).await);
    assert_eq!(queue, [first.member.holder(), second.member.holder()]);
}

/// A claim that does not wait never passes those who do, not even for seats that are free.
pub async fn a_try_never_overtakes_a_waiter(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("barge");
    let (first, waiter) = (claim(&name), claim(&name).waiting());
    let grant = a.granted(&first).await;
    b.queued(&waiter).await;
    a.busy(&claim(&name)).await;
    a.release(&first, grant).await;
    a.busy(&claim(&name)).await;
    assert_eq!(holders(&a.view(&name).await), [waiter.member]);
}

/// Free seats that the first waiter cannot use are kept for it.
pub async fn a_try_for_free_seats_does_not_pass_a_waiter(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("barge-shared");
    let reader = claim(&name).shared();
    let grant = a.granted(&reader).await;
    let writer = claim(&name).waiting();
    a.queued(&writer).await;
    a.busy(&claim(&name).shared()).await;
    a.release(&reader, grant).await;
    assert_eq!(holders(&a.view(&name).await), [writer.member]);
}

/// A point of priority counts as time waited: it goes before those who came a moment earlier.
pub async fn a_priority_point_is_a_head_start(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("priority");
    let first = claim(&name);
    let grant = a.granted(&first).await;
    let wants = [0, -1, 2, 1, 0, 2];
    let queue: Vec<_> = wants.iter().map(|p| claim(&name).waiting().priority(*p)).collect();
    for waiter in &queue {
        a.queued(waiter).await;
    }
    let expected: Vec<_> = [2, 5, 3, 0, 4, 1].map(|n: usize| queue[n].member.holder()).to_vec();
    assert_eq!(waiters(&a.view(&name).await), expected);
    a.release(&first, grant).await;
    assert_eq!(holders(&a.view(&name).await), [queue[2].member]);
}

/// A waiter that gives no sign of life loses its place.
pub async fn a_place_that_is_not_refreshed_is_given_up(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("place-silent");
    a.granted(&claim(&name)).await;
    let mut silent = claim(&name).waiting();
    silent.wait_ttl = store.short_ttl();
    a.queued(&silent).await;
    let patient = claim(&name).waiting();
    until(store, "the silent waiter is gone", async || {
        (b.queued(&patient).await.ahead == 0).then_some(())
    })
    .await;
    assert_eq!(waiters(&b.view(&name).await), [patient.member.holder()]);
}

/// A waiter that gives signs of life keeps it.
pub async fn a_place_that_is_refreshed_stays(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("place-kept");
    a.granted(&claim(&name)).await;
    let ttl = store.short_ttl();
    let mut first = claim(&name).waiting();
    first.wait_ttl = ttl;
    a.queued(&first).await;
    let second = claim(&name).waiting();
    let end = now().plus(ttl * 3);
    while now() < end {
        let kept = a.renew(&member(&first, None)).await;
        assert_eq!(kept, Ok(Kept::Waiting));
        assert_eq!(b.queued(&second).await.ahead, 1);
        pause(ttl / 5).await;
    }
}

/// A lock handed to a waiter that has died goes on to the next after the pick-up term.
pub async fn a_hand_over_that_nobody_picks_up_goes_on(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("pick-up");
    let first = claim(&name);
    let grant = a.granted(&first).await;
    let mut dead = claim(&name).waiting();
    dead.pick_up = store.short_ttl();
    a.queued(&dead).await;
    let next = claim(&name).waiting();
    b.queued(&next).await;
    a.release(&first, grant).await;
    assert_eq!(holders(&a.view(&name).await), [dead.member]);
    until(store, "the next waiter holds", async || match b.acquire(&next).await {
        Verdict::Granted(_) => Some(()),
        Verdict::Queued(_) => None,
        other => panic!("{other:?}"),
    })
    .await;
    assert_eq!(holders(&b.view(&name).await), [next.member]);
}

/// The end of a lease hands over as a release does.
pub async fn an_expired_lease_is_handed_to_the_waiter(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("expiry-hand-over");
    a.granted(&claim(&name).lasting(store.short_ttl())).await;
    let (first, second) = (claim(&name).waiting(), claim(&name).waiting());
    b.queued(&first).await;
    a.queued(&second).await;
    until(store, "the first waiter holds", async || {
        matches!(b.acquire(&first).await, Verdict::Granted(_)).then_some(())
    })
    .await;
    assert_eq!(a.queued(&second).await.ahead, 0);
}

/// Managers that wait are served in their order, too.
pub async fn waiting_managers_are_served_in_their_order(store: &dyn Store) {
    let name = fresh("order-managers");
    let locks = [manager(store).await, manager(store).await, manager(store).await];
    let guard = locks[0].acquire(name.clone(), LONG).await.unwrap();
    let served = RefCell::new(Vec::new());
    let waiter = |n: usize| {
        let (name, served, locks) = (&name, &served, &locks);
        async move {
            // Queues up behind those before it.
            until_waiting(store, &locks[0], name, n).await;
            let guard = locks[n % 3].acquire(name.clone(), LONG).await.unwrap();
            served.borrow_mut().push(n);
            guard.release().await.unwrap();
        }
    };
    let release = async {
        until_waiting(store, &locks[0], &name, 5).await;
        guard.release().await.unwrap();
    };
    join(join_all((0..5).map(waiter)), release).await;
    assert_eq!(*served.borrow(), [0, 1, 2, 3, 4]);
}

/// A waiter is woken, and not only at the end of some term.
pub async fn a_waiter_is_woken_soon(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("woken");
    for _ in 0..3 {
        let guard = a.acquire(name.clone(), LONG).await.unwrap();
        let release = async {
            until_waiting(store, &a, &name, 1).await;
            guard.release().await.unwrap();
            now()
        };
        let wait = async { (b.acquire(name.clone(), LONG).await.unwrap(), now()) };
        let (released, (guard, granted)) = join(release, wait).await;
        let waited = granted.since(released);
        assert!(waited < Duration::from_secs(4), "it held {waited:?} after the release");
        guard.release().await.unwrap();
    }
}

/// Who waited too long is told who holds it, and leaves no place behind.
pub async fn a_wait_timeout_leaves_nothing(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("wait-timeout");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    let wait = b.lock(name.clone()).wait_timeout(Duration::from_millis(100)).acquire().await;
    let error = wait.expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::WaitTimeout);
    assert_eq!(error.holders().iter().map(|h| h.id).collect::<Vec<_>>(), [guard.id()]);
    b.close(store.patience()).await.unwrap();
    assert_eq!(look(&a, &name).await.waiters.len(), 0);
    guard.release().await.unwrap();
    assert!(!look(&a, &name).await.is_locked());
}

/// Who tries a number of times ends busy, and leaves no place behind.
pub async fn a_retry_ends_busy_and_leaves_nothing(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("retry");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    let retry = tenure_core::RetryConfig {
        max_attempts: 3,
        initial_delay: Duration::from_millis(5),
        ..tenure_core::RetryConfig::default()
    };
    let tried = b.lock(name.clone()).retry(retry).acquire().await;
    assert_eq!(kind(tried), ErrorKind::Busy);
    assert_eq!(b.metrics().total_retries, 2);
    let failed = b.lock(name.clone()).on_conflict(tenure_core::Conflict::Fail).acquire().await;
    assert_eq!(kind(failed), ErrorKind::Busy);
    b.close(store.patience()).await.unwrap();
    assert_eq!(look(&a, &name).await.waiters.len(), 0);
    guard.release().await.unwrap();
    b.lock(name).retry(retry).acquire().await.unwrap().release().await.unwrap();
}
