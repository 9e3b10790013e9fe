//! A claim that was given up holds nothing and never will.

use tenure_core::backend::{Refusal, Release};

use super::Store;
use super::kit::{Wants, claim, fresh, holders, member, raw, twin, waiters};

/// A request that lands after its withdrawal is refused.
pub async fn a_withdrawn_claim_is_never_granted_later(store: &dyn Store) {
    let a = raw(store).await;
    let b = twin(store, &a).await;
    let name = fresh("withdraw-first");
    let mut kinds = vec![claim(&name), claim(&name).waiting()];
    if a.can().value_max.is_some() {
        kinds.push(claim(&name).or_value());
    }
    for late in kinds {
        a.withdraw(&late).await;
        assert_eq!(b.refused(&late).await, Refusal::Withdrawn);
        assert!(!b.view(&name).await.is_locked());
    }
}

/// What it was granted goes to the next.
pub async fn withdrawing_gives_back_what_was_granted(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("withdraw-granted");
    let (first, waiter) = (claim(&name), claim(&name).waiting());
    let grant = a.granted(&first).await;
    b.queued(&waiter).await;
    for _ in 0..3 {
        a.withdraw(&first).await;
        assert_eq!(holders(&b.view(&name).await), [waiter.member]);
    }
    assert_eq!(a.refused(&first).await, Refusal::Withdrawn);
    assert!(a.renew(&member(&first, Some(grant))).await.is_err());
    assert!(matches!(a.release(&first, grant).await, Release::NotHeld(_)));
    assert_eq!(holders(&b.view(&name).await), [waiter.member]);
}

/// A place in the queue is given up, and those behind it move up.
pub async fn withdrawing_leaves_the_queue(store: &dyn Store) {
    let a = raw(store).await;
    let b = twin(store, &a).await;
    let name = fresh("withdraw-queue");
    let holder = claim(&name);
    let grant = a.granted(&holder).await;
    let queue = [claim(&name).waiting(), claim(&name).waiting(), claim(&name).waiting()];
    for waiter in &queue {
        b.queued(waiter).await;
    }
    a.withdraw(&queue[1]).await;
    let left = [queue[0].member.holder(), queue[2].member.holder()];
    assert_eq!(waiters(&a.view(&name).await), left);
    assert_eq!(a.queued(&queue[2]).await.ahead, 1);
    a.withdraw(&queue[0]).await;
    a.release(&holder, grant).await;
    assert_eq!(holders(&a.view(&name).await), [queue[2].member]);
    assert_eq!(b.refused(&queue[0]).await, Refusal::Withdrawn);
}

/// A waiting writer that gives up lets those in who waited behind it.
pub async fn withdrawing_serves_those_who_were_held_up(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("withdraw-writer");
    let early = claim(&name).shared();
    a.granted(&early).await;
    let (writer, late) = (claim(&name).waiting(), claim(&name).shared().waiting());
    a.queued(&writer).await;
    a.queued(&late).await;
    a.withdraw(&writer).await;
    assert_eq!(holders(&a.view(&name).await), [early.member, late.member]);
}

/// Nobody else is touched.
pub async fn withdrawing_touches_nobody_else(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("withdraw-others");
    let (holder, waiter) = (claim(&name), claim(&name).waiting());
    let grant = a.granted(&holder).await;
    a.queued(&waiter).await;
    b.withdraw(&claim(&name)).await;
    let view = a.view(&name).await;
    assert_eq!(holders(&view), [holder.member]);
    assert_eq!(waiters(&view), [waiter.member.holder()]);
    assert!(a.renew(&member(&holder, Some(grant))).await.is_ok());
}
