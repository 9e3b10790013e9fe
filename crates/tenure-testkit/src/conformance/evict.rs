//! Force release: conditional, told, and with the queue served.

use std::time::Duration;

use futures_util::future::join;
use tenure_core::backend::{Departure, Evicted, Refusal, Release};
use tenure_core::{Conflict, ErrorKind, LossReason};

use super::Store;
use super::kit::{
    LONG, Wants, claim, eviction, force_release, fresh, holders, kind, look, manager, member,
    pause, raw, reason, until_waiting,
};

/// Only the holder that the operator saw.
pub async fn an_eviction_ends_only_the_holder_with_that_fence(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("evict");
    let claims = [claim(&name).shared(), claim(&name).shared(), claim(&name).shared()];
    let mut fences = Vec::new();
    for claim in &claims {
        fences.push(a.granted(claim).await.fence);
    }
    let evicted = b.evict(&name, &eviction(Some(fences[1]))).await;
    let Evicted::Done(victims) = evicted else { panic!("{evicted:?}") };
    assert_eq!(victims.iter().map(|v| v.member).collect::<Vec<_>>(), [claims[1].member]);
    assert_eq!(holders(&a.view(&name).await), [claims[0].member, claims[2].member]);
}

/// Who came after the one the operator saw is left alone.
pub async fn an_eviction_with_an_old_fence_changes_nothing(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("evict-old");
    let (first, second) = (claim(&name), claim(&name));
    let old = a.granted(&first).await;
    a.release(&first, old).await;
    let grant = a.granted(&second).await;
    let evicted = b.evict(&name, &eviction(Some(old.fence))).await;
    let Evicted::FenceMoved(there) = evicted else { panic!("{evicted:?}") };
    assert_eq!(there.iter().map(|h| h.fence).collect::<Vec<_>>(), [grant.fence]);
    assert_eq!(holders(&a.view(&name).await), [second.member]);
    assert!(a.renew(&member(&second, Some(grant))).await.is_ok());

    let locks = manager(store).await;
    let refused = locks.force_release(name.clone(), Some(old.fence), "too late").await;
    assert_eq!(kind(refused), ErrorKind::NotHeld);
}

/// Nobody there is an answer.
pub async fn an_eviction_of_nobody_says_so(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("evict-nobody");
    assert_eq!(a.evict(&name, &eviction(None)).await, Evicted::NobodyThere);
    let held = claim(&name);
    let grant = a.granted(&held).await;
    a.release(&held, grant).await;
    assert_eq!(a.evict(&name, &eviction(None)).await, Evicted::NobodyThere);
    assert_eq!(a.evict(&name, &eviction(Some(grant.fence))).await, Evicted::NobodyThere);
    let locks = manager(store).await;
    assert_eq!(kind(locks.force_release(name, None, "nobody").await), ErrorKind::NotHeld);
}

/// All holders, if no fence is named.
pub async fn an_eviction_without_a_fence_ends_all_holders(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("evict-all");
    a.granted(&claim(&name).shared()).await;
    a.granted(&claim(&name).shared()).await;
    let evicted = a.evict(&name, &eviction(None)).await;
    assert!(matches!(&evicted, Evicted::Done(victims) if victims.len() == 2), "{evicted:?}");
    assert!(!a.view(&name).await.is_locked());
}

/// Whatever the old holder asks next tells it who did it and why.
pub async fn an_evicted_holder_is_told_who_did_it_and_why(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("evict-told");
    let held = claim(&name);
    let grant = a.granted(&held).await;
    b.evict(&name, &eviction(Some(grant.fence))).await;
    let told = Departure::Evicted(reason());
    assert_eq!(a.renew(&member(&held, Some(grant))).await, Err(told.clone()));
    assert_eq!(a.release(&held, grant).await, Release::NotHeld(told.clone()));
    assert_eq!(a.refused(&held).await, Refusal::Departed(told));
    assert!(!b.view(&name).await.is_locked());
}

/// The seats go to whoever waits, in the same step.
pub async fn an_eviction_hands_over_to_the_waiter(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("evict-hand-over");
    let grant = a.granted(&claim(&name)).await;
    let waiter = claim(&name).waiting();
    b.queued(&waiter).await;
    a.evict(&name, &eviction(Some(grant.fence))).await;
    assert_eq!(holders(&a.view(&name).await), [waiter.member]);
    assert!(grant.fence < b.granted(&waiter).await.fence);
}

/// A guard whose lock was force-released is lost and says who and why.
pub async fn an_evicted_guard_says_who_and_why(store: &dyn Store) {
    let a = manager(store).await;
    let backend = store.open().await.expect("the store can be opened");
    let operator = tenure_core::Owner::labelled("the operator").expect("a valid label");
    let b = tenure_core::LockManager::builder(backend).owner(operator).build().unwrap();
    let name = fresh("evict-guard");
    let guard = a.acquire(name.clone(), store.short_ttl() * 3).await.unwrap();
    force_release(store, &b, &name, guard.fencing_token(), "it hangs").await;
    let LossReason::Evicted { by, reason } = guard.lost().await else {
        panic!("{:?}", guard.lost().await)
    };
    assert_eq!((&*by, &*reason), ("the operator", "it hangs"));
    assert_eq!(kind(guard.check()), ErrorKind::Lost);
    let next = b.try_acquire(name, LONG).await.unwrap().expect("it is free");
    assert!(guard.fencing_token() < next.fencing_token());
    next.release().await.unwrap();
}

/// A holder that gave no sign of life for long enough is taken from; one that did is not.
pub async fn a_stale_holder_is_taken_from_and_a_live_one_is_not(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let (stale, live) = (fresh("stale"), fresh("live"));
    let ttl = store.short_ttl();
    let silent = a.lock(stale.clone()).ttl(LONG).auto_renew(false).acquire().await.unwrap();
    let lively = a.lock(live.clone()).ttl(ttl * 3).acquire().await.unwrap();
    let steal = Conflict::StealStale { after: ttl };
    let stolen = b.lock(stale).ttl(LONG).on_conflict(steal).acquire().await.unwrap();
    assert!(silent.fencing_token() < stolen.fencing_token());
    let renewed = silent.extend_in_vain().await;
    assert!(matches!(renewed, LossReason::Stolen { .. }), "{renewed:?}");
    let wait = b.lock(live).ttl(LONG).on_conflict(steal).wait_timeout(ttl * 3).acquire().await;
    assert_eq!(kind(wait), ErrorKind::WaitTimeout);
    assert!(lively.is_valid());
}

trait InVain {
    async fn extend_in_vain(self) -> LossReason;
}

impl InVain for tenure_core::LockGuard {
    async fn extend_in_vain(mut self) -> LossReason {
        while self.is_valid() {
            let _answer = self.extend(LONG).await;
            pause(Duration::from_millis(20)).await;
        }
        self.lost().await
    }
}

/// An operator's claim takes the lock past the queue, and those who wait stay in it.
pub async fn a_forced_claim_takes_the_lock_past_the_queue(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("force");
    let guard = a.acquire(name.clone(), store.short_ttl() * 3).await.unwrap();
    let force = async {
        until_waiting(store, &b, &name, 1).await;
        let request = b.lock(name.clone()).ttl(LONG).owner("thief").on_conflict(Conflict::Force);
        let taken = request.acquire().await.unwrap();
        assert!(guard.fencing_token() < taken.fencing_token());
        let lost = guard.lost().await;
        assert!(matches!(&lost, LossReason::Stolen { by, .. } if &**by == "thief"), "{lost:?}");
        assert_eq!(look(&b, &name).await.waiters.len(), 1);
        taken.release().await.unwrap();
    };
    let wait = async { a.acquire(name.clone(), LONG).await.unwrap() };
    let ((), next) = join(force, wait).await;
    next.release().await.unwrap();
}
