//! Shared seats: semaphores, readers and writers.

use tenure_core::ErrorKind;
use tenure_core::backend::{Refusal, Release};

use super::Store;
use super::kit::{LONG, Wants, claim, fresh, holders, kind, look, manager, raw, waiters};

/// As many as the limit says, and no more.
pub async fn shared_seats_are_granted_up_to_their_limit(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("permits");
    let claims: Vec<_> = (0..3).map(|_| claim(&name).permits(1, 3)).collect();
    let mut grants = Vec::new();
    for claim in &claims {
        grants.push(a.granted(claim).await);
    }
    let fourth = claim(&name).permits(1, 3);
    assert_eq!(b.busy(&fourth).await.holders.len(), 3);
    assert_eq!(a.release(&claims[1], grants[1]).await, Release::Released);
    b.granted(&fourth).await;
    b.busy(&claim(&name).permits(1, 3)).await;
    assert_eq!(holders(&a.view(&name).await), [claims[0].member, claims[2].member, fourth.member]);
}

/// Several seats of one claim count as several.
pub async fn several_seats_of_one_claim_count(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("permits-many");
    let two = claim(&name).permits(2, 3);
    let grant = a.granted(&two).await;
    a.busy(&claim(&name).permits(2, 3)).await;
    a.granted(&claim(&name).permits(1, 3)).await;
    a.busy(&claim(&name).permits(1, 3)).await;
    a.release(&two, grant).await;
    a.busy(&claim(&name).permits(3, 3)).await;
    a.granted(&claim(&name).permits(2, 3)).await;
}

/// Readers share; a writer has the lock to itself.
pub async fn readers_share_and_a_writer_is_alone(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("readers");
    let readers = [claim(&name).shared(), claim(&name).shared()];
    let grants = [a.granted(&readers[0]).await, b.granted(&readers[1]).await];
    let writer = claim(&name);
    a.busy(&writer).await;
    a.release(&readers[0], grants[0]).await;
    a.busy(&writer).await;
    b.release(&readers[1], grants[1]).await;
    a.granted(&writer).await;
    b.busy(&claim(&name).shared()).await;
    if a.can().permits {
        b.busy(&claim(&name).permits(1, 7)).await;
    }
}

/// Readers that come after a waiting writer wait behind it.
pub async fn a_waiting_writer_is_not_starved(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("writer");
    let early = claim(&name).shared();
    let grant = a.granted(&early).await;
    let writer = claim(&name).waiting();
    a.queued(&writer).await;
    let late = [claim(&name).shared().waiting(), claim(&name).shared().waiting()];
    assert_eq!(a.queued(&late[0]).await.ahead, 1);
    assert_eq!(a.queued(&late[1]).await.ahead, 2);
    a.release(&early, grant).await;
    assert_eq!(holders(&a.view(&name).await), [writer.member]);
    let grant = a.granted(&writer).await;
    a.release(&writer, grant).await;
    let view = a.view(&name).await;
    assert_eq!(holders(&view), [late[0].member, late[1].member], "both come in at once");
    assert_eq!(waiters(&view).len(), 0);
}

/// A waiter that does not fit holds up those behind it, and no longer than that.
pub async fn freed_seats_serve_as_many_as_fit_in_order(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("permits-queue");
    let all = claim(&name).permits(4, 4);
    let grant = a.granted(&all).await;
    let takes = [1, 2, 3, 1];
    let queue: Vec<_> = takes.iter().map(|take| claim(&name).permits(*take, 4).waiting()).collect();
    for waiter in &queue {
        a.queued(waiter).await;
    }
    a.release(&all, grant).await;
    let view = a.view(&name).await;
    assert_eq!(holders(&view), [queue[0].member, queue[1].member]);
    assert_eq!(waiters(&view), [queue[2].member.holder(), queue[3].member.holder()]);
    let two = a.granted(&queue[1]).await;
    a.release(&queue[1], two).await;
    assert_eq!(holders(&a.view(&name).await), [queue[0].member, queue[2].member]);
}

/// All users of one name count the same number of seats.
pub async fn another_limit_is_refused(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("mismatch");
    let held = claim(&name).permits(1, 3);
    let grant = a.granted(&held).await;
    for other in [claim(&name).permits(1, 2), claim(&name).shared().waiting()] {
        assert_eq!(b.refused(&other).await, Refusal::Mismatch { of: 3 });
    }
    assert_eq!(holders(&b.view(&name).await), [held.member]);
    let locks = manager(store).await;
    assert_eq!(kind(locks.lock(name.clone()).permits(1, 4).acquire().await), ErrorKind::Mismatch);
    assert_eq!(look(&locks, &name).await.waiters.len(), 0);
    a.release(&held, grant).await;
    b.granted(&claim(&name).permits(1, 2)).await;
}

/// Waiters count, too: two limits never meet in one queue.
pub async fn another_limit_than_that_of_a_waiter_is_refused(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("mismatch-queue");
    a.granted(&claim(&name)).await;
    let waiter = claim(&name).permits(1, 5).waiting();
    a.queued(&waiter).await;
    let other = claim(&name).permits(1, 6).waiting();
    assert_eq!(a.refused(&other).await, Refusal::Mismatch { of: 5 });
    assert_eq!(waiters(&a.view(&name).await), [waiter.member.holder()]);
}

/// Through managers: a semaphore of three processes.
pub async fn a_semaphore_of_managers(store: &dyn Store) {
    let locks = [manager(store).await, manager(store).await, manager(store).await];
    let name = fresh("semaphore");
    let permit = |n: usize| locks[n].lock(name.clone()).ttl(LONG).permits(1, 2);
    let first = permit(0).try_acquire().await.unwrap().expect("one of two");
    let second = permit(1).try_acquire().await.unwrap().expect("two of two");
    assert!(permit(2).try_acquire().await.unwrap().is_none());
    first.release().await.unwrap();
    let third = permit(2).try_acquire().await.unwrap().expect("one is free again");
    second.release().await.unwrap();
    third.release().await.unwrap();
}
