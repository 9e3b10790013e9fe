//! Leases that no process stands behind.

use tenure_core::{ErrorKind, LockToken, NotReleased};

use super::Store;
use super::kit::{LONG, fresh, handed_out, insist, kind, look, manager, now, pause, until};

/// Another process takes it over and renews it from then on; fence and holder stay.
pub async fn a_token_moves_a_lock_to_another_process(store: &dyn Store) {
    let name = fresh("token");
    let ttl = store.short_ttl() * 2;
    let a = manager(store).await;
    let text = handed_out(store, &a, &name, ttl).await.expose();
    let held = look(&a, &name).await.holders;
    let (fence, id) = (held[0].fence, held[0].id);
    a.close(store.patience()).await.unwrap();
    drop(a);
    let b = manager(store).await;
    let token: LockToken = text.parse().unwrap();
    let guard = insist(store, async || b.resume(&token).await).await;
    assert_eq!((guard.fencing_token(), guard.id(), guard.ttl()), (fence, id, ttl));
    assert!(guard.seats().is_all());
    let end = now().plus(ttl * 2);
    let c = manager(store).await;
    while now() < end {
        guard.check().unwrap();
        assert!(c.try_acquire(name.clone(), LONG).await.unwrap().is_none());
        pause(ttl / 6).await;
    }
    guard.release().await.unwrap();
    assert!(!look(&c, &name).await.is_locked());
}

/// It lives for its ttl without any process, and no longer.
pub async fn a_detached_lease_lives_for_its_ttl_without_a_process(store: &dyn Store) {
    let name = fresh("detached");
    let ttl = store.short_ttl() * 2;
    let a = manager(store).await;
    let b = manager(store).await;
    let before = now();
    let token = handed_out(store, &a, &name, ttl).await;
    drop(a);
    assert!(look(&b, &name).await.holders[0].detached);
    let next =
        until(store, "the lease ends", async || b.try_acquire(name.clone(), LONG).await.unwrap())
            .await;
    let after = now().since(before);
    assert!(ttl - ttl / 100 <= after, "a detached lease of {ttl:?} ended after {after:?}");
    until(store, "it is not resumed", async || match kind(b.resume(&token).await) {
        ErrorKind::Lost | ErrorKind::NotHeld => Some(()),
        other => {
            assert!(store.faulty(), "{other:?}");
            None
        }
    })
    .await;
    assert!(next.is_valid());
    next.release().await.unwrap();
}

/// Whoever has the token keeps the lock by it.
pub async fn a_token_is_renewed_by_whoever_has_it(store: &dyn Store) {
    let name = fresh("token-renewed");
    let ttl = store.short_ttl();
    let (a, b) = (manager(store).await, manager(store).await);
    let token = handed_out(store, &a, &name, ttl).await;
    let longer = insist(store, async || b.renew_token(&token, LONG).await).await;
    assert_eq!((longer.ttl(), longer.fencing_token()), (LONG, token.fencing_token()));
    let end = now().plus(ttl * 2 + ttl / 2);
    while now() < end {
        assert!(b.try_acquire(name.clone(), LONG).await.unwrap().is_none());
        pause(ttl / 5).await;
    }
    a.release_token(&longer).await.unwrap();
    assert!(!look(&b, &name).await.is_locked());
}

/// Whoever has the token releases the lock by it, once.
pub async fn a_released_token_is_good_for_nothing(store: &dyn Store) {
    let name = fresh("token-released");
    let (a, b) = (manager(store).await, manager(store).await);
    let token = handed_out(store, &a, &name, LONG).await;
    b.release_token(&token).await.unwrap();
    let refused = async || {
        let kinds = [kind(a.resume(&token).await), kind(a.renew_token(&token, LONG).await)];
        let known = kinds.iter().all(|kind| !kind.is_transient());
        (known || !store.faulty()).then_some(kinds)
    };
    let refused = until(store, "the store answers", refused).await;
    assert_eq!(refused, [ErrorKind::NotHeld; 2]);
    let next = b.try_acquire(name.clone(), LONG).await.unwrap().expect("it is free");
    // The same release again is the same answer, and ends nobody else's lock.
    let again = b.release_token(&token).await;
    assert!(matches!(again, Ok(()) | Err(NotReleased::AlreadyLost(_))), "{again:?}");
    assert!(look(&a, &name).await.is_locked());
    next.release().await.unwrap();
}
