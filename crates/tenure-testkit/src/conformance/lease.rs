//! Leases end when they are not renewed, and only then.

use tenure_core::LossReason;
use tenure_core::backend::{Departure, Kept, Refusal, Verdict};

use super::Store;
use super::kit::{LONG, Wants, claim, fresh, holders, manager, member, now, pause, raw, until};

/// A silent holder's lock is free after its ttl, and not before.
pub async fn an_expired_lease_is_free_and_not_before_its_time(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("expiry");
    let ttl = store.short_ttl();
    let silent = claim(&name).lasting(ttl);
    let sent = now();
    a.granted(&silent).await;
    let next = claim(&name);
    until(store, "the lease ends", async || match b.acquire(&next).await {
        Verdict::Granted(_) => Some(()),
        Verdict::Busy(_) => None,
        other => panic!("{other:?}"),
    })
    .await;
    let after = now().since(sent);
    // No clock is compared with another: one percent is what their rates may differ by.
    assert!(ttl - ttl / 100 <= after, "a lease of {ttl:?} ended after {after:?}");
    assert_eq!(holders(&b.view(&name).await), [next.member]);
}

/// Each renewal counts for a whole ttl.
pub async fn renewing_keeps_a_lease_beyond_its_ttl(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("renew");
    let ttl = store.short_ttl();
    let claim = claim(&name).lasting(ttl);
    let grant = a.granted(&claim).await;
    let end = now().plus(ttl * 3);
    while now() < end {
        let kept = a.renew(&member(&claim, Some(grant))).await;
        let Ok(Kept::Holding(held)) = kept else { panic!("{kept:?}") };
        assert_eq!(held.fence, grant.fence);
        b.busy(&super::kit::claim(&name)).await;
        pause(ttl / 5).await;
    }
    assert_eq!(holders(&b.view(&name).await), [claim.member]);
}

/// What has expired stays so, whether or not somebody else holds by now.
pub async fn renewing_never_brings_an_expired_lease_back(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("renew-late");
    let silent = claim(&name).lasting(store.short_ttl());
    let grant = a.granted(&silent).await;
    let next = claim(&name);
    let held = until(store, "the lease ends", async || match b.acquire(&next).await {
        Verdict::Granted(grant) => Some(grant),
        _ => None,
    })
    .await;
    let renewed = a.renew(&member(&silent, Some(grant))).await;
    assert!(matches!(renewed, Err(Departure::Expired | Departure::Forgotten)), "{renewed:?}");
    assert_eq!(holders(&b.view(&name).await), [next.member]);
    b.release(&next, held).await;
    let renewed = a.renew(&member(&silent, Some(grant))).await;
    assert!(renewed.is_err(), "{renewed:?}");
    assert!(!b.view(&name).await.is_locked());
}

/// Nor does asking again with the token of a lease that expired.
pub async fn an_expired_token_is_never_granted_again(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("expired-token");
    let silent = claim(&name).lasting(store.short_ttl());
    a.granted(&silent).await;
    // Observers of a store without a clock end a lease when they need its seats.
    let next = claim(&name);
    let grant = until(store, "the lease ends", async || match b.acquire(&next).await {
        Verdict::Granted(grant) => Some(grant),
        _ => None,
    })
    .await;
    b.release(&next, grant).await;
    assert_eq!(a.refused(&silent).await, Refusal::Departed(Departure::Expired));
    assert!(!b.view(&name).await.is_locked());
}

/// The answers to several renewals stand in the order of the questions.
pub async fn renewals_are_answered_in_their_order(store: &dyn Store) {
    let a = raw(store).await;
    let (x, y) = (fresh("renew-x"), fresh("renew-y"));
    let (held, waits, stranger) = (claim(&x), claim(&x).waiting(), claim(&y));
    let grant = a.granted(&held).await;
    a.queued(&waits).await;
    let members = [
        member(&stranger, Some(grant)),
        member(&held, Some(grant)),
        member(&stranger, None),
        member(&waits, None),
    ];
    let answers = a.renew_all(&members).await;
    assert!(matches!(answers[0], Err(Departure::Forgotten)), "{answers:?}");
    assert!(matches!(answers[1], Ok(Kept::Holding(g)) if g.fence == grant.fence), "{answers:?}");
    assert!(matches!(answers[2], Err(Departure::Forgotten)), "{answers:?}");
    assert!(matches!(answers[3], Ok(Kept::Waiting)), "{answers:?}");
    assert!(!a.view(&y).await.is_locked(), "renewing created a holder");
}

/// A renewal can change the ttl, and a plain one that lands after it does not undo that.
pub async fn a_late_plain_renewal_does_not_undo_a_change_of_ttl(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("change-ttl");
    let ttl = store.short_ttl();
    let claim = claim(&name).lasting(ttl);
    let grant = a.granted(&claim).await;
    let plain = member(&claim, Some(grant));
    let changed = a.renew(&plain.clone().changed(LONG, false)).await;
    assert!(matches!(changed, Ok(Kept::Holding(_))), "{changed:?}");
    assert!(a.renew(&plain).await.is_ok());
    let end = now().plus(ttl * 2 + ttl / 2);
    while now() < end {
        b.busy(&super::kit::claim(&name)).await;
        pause(ttl / 5).await;
    }
    assert_eq!(b.view(&name).await.holders[0].ttl, LONG);
}

/// A guard renews by itself for as long as it lives.
pub async fn a_guard_is_renewed_while_it_lives(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("guard");
    let ttl = store.short_ttl();
    let guard = a.acquire(name.clone(), ttl).await.unwrap();
    let end = now().plus(ttl * 4);
    while now() < end {
        guard.check().unwrap();
        assert!(b.try_acquire(name.clone(), LONG).await.unwrap().is_none());
        pause(ttl / 5).await;
    }
    assert!(0 < a.metrics().renewals);
    guard.release().await.unwrap();
}

/// A guard that does not renew is lost, and its lock goes to whoever waits.
pub async fn a_guard_without_renewal_ends_after_its_ttl(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("no-renewal");
    let ttl = store.short_ttl();
    let guard = a.lock(name.clone()).ttl(ttl).auto_renew(false).acquire().await.unwrap();
    let next = b.acquire(name.clone(), LONG).await.unwrap();
    assert!(!guard.is_valid(), "two hold at once");
    assert!(guard.fencing_token() < next.fencing_token());
    assert_eq!(guard.lost().await, LossReason::Expired);
    next.release().await.unwrap();
}

/// Extending counts from the call, also for a guard that is not renewed.
pub async fn an_extended_guard_lives_longer(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("extend");
    let ttl = store.short_ttl();
    let mut guard = a.lock(name.clone()).ttl(ttl).auto_renew(false).acquire().await.unwrap();
    let began = now();
    while let Err(error) = a.extend(&mut guard, LONG).await {
        assert!(store.faulty() && now().since(began) < ttl, "{error:?}");
    }
    assert_eq!(guard.ttl(), LONG);
    let end = now().plus(ttl * 2 + ttl / 2);
    while now() < end {
        guard.check().unwrap();
        assert!(b.try_acquire(name.clone(), LONG).await.unwrap().is_none());
        pause(ttl / 5).await;
    }
    guard.release().await.unwrap();
}
