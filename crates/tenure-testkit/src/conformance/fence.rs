//! Fencing tokens only grow.

use tenure_core::Fence;
use tenure_core::backend::{Evicted, Release};

use super::Store;
use super::kit::{Wants, claim, eviction, fresh, raw, twin};

/// From grant to grant, from process to process.
pub async fn fences_rise_from_grant_to_grant(store: &dyn Store) {
    let processes = [raw(store).await, raw(store).await];
    let name = fresh("fence");
    let mut last = Fence::ZERO;
    for round in 0..10 {
        let process = &processes[round % 2];
        let claim = claim(&name);
        let grant = process.granted(&claim).await;
        assert!(last < grant.fence, "{:?} is not above {last:?}", grant.fence);
        last = grant.fence;
        assert_eq!(process.release(&claim, grant).await, Release::Released);
    }
}

/// Also when the store has forgotten the name in between, and is opened anew.
pub async fn a_name_made_anew_continues_its_fences(store: &dyn Store) {
    let name = fresh("anew");
    let mut last = Fence::ZERO;
    for _ in 0..4 {
        let process = raw(store).await;
        let claim = claim(&name);
        let grant = process.granted(&claim).await;
        assert!(last < grant.fence, "{:?} is not above {last:?}", grant.fence);
        last = grant.fence;
        assert_eq!(process.release(&claim, grant).await, Release::Released);
        let view = process.view(&name).await;
        assert!(!view.is_locked() && view.waiters.is_empty());
    }
}

/// Across the end of a lease that nobody renewed.
pub async fn a_fence_rises_across_expiry(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("fence-expiry");
    let silent = claim(&name).lasting(store.short_ttl());
    let first = a.granted(&silent).await;
    b.until_free(store, &name).await;
    let second = b.granted(&claim(&name)).await;
    assert!(first.fence < second.fence);
}

/// An eviction raises the fence by itself, before anybody else is granted.
pub async fn an_eviction_raises_the_fence(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("fence-eviction");
    let first = a.granted(&claim(&name)).await;
    let evicted = b.evict(&name, &eviction(Some(first.fence))).await;
    assert!(matches!(evicted, Evicted::Done(_)), "{evicted:?}");
    let raised = b.view(&name).await.fence;
    assert!(first.fence < raised);
    let second = b.granted(&claim(&name)).await;
    assert!(raised < second.fence);
}

/// The same claim sent again, by whichever process, is the same grant.
pub async fn a_duplicate_acquire_gets_the_same_grant(store: &dyn Store) {
    let a = raw(store).await;
    let b = twin(store, &a).await;
    let name = fresh("duplicate");
    let claim = claim(&name);
    let grant = a.granted(&claim).await;
    for process in [&a, &b, &a] {
        let again = process.granted(&claim).await;
        assert_eq!((again.fence, again.seats), (grant.fence, grant.seats));
    }
    assert_eq!(b.view(&name).await.holders.len(), 1);
    assert_eq!(a.release(&claim, grant).await, Release::Released);
    assert!(!b.view(&name).await.is_locked(), "one release ends all copies of a grant");
}

/// The same shared claim sent again takes its seats once.
pub async fn a_duplicate_shared_acquire_takes_its_seats_once(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("duplicate-shared");
    let claim_a = claim(&name).permits(1, 2);
    let grant = a.granted(&claim_a).await;
    for _ in 0..3 {
        assert_eq!(a.granted(&claim_a).await.fence, grant.fence);
    }
    a.granted(&claim(&name).permits(1, 2)).await;
    a.busy(&claim(&name).permits(1, 2)).await;
}

/// Each of several holders has a fence of its own.
pub async fn shared_grants_have_fences_of_their_own(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("fence-shared");
    let mut last = Fence::ZERO;
    for _ in 0..5 {
        let grant = a.granted(&claim(&name).shared()).await;
        assert!(last < grant.fence);
        last = grant.fence;
    }
    assert_eq!(a.view(&name).await.fence, last);
}

/// A grant by hand-over has a higher fence than the one it follows.
pub async fn a_handed_over_grant_has_a_higher_fence(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("fence-hand-over");
    let (first, second) = (claim(&name), claim(&name).waiting());
    let grant = a.granted(&first).await;
    b.queued(&second).await;
    assert_eq!(a.release(&first, grant).await, Release::Released);
    assert!(grant.fence < b.granted(&second).await.fence);
}
