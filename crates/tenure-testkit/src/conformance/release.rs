//! Releases tell the truth and never end another grant.

use tenure_core::backend::{Departure, Grant, Refusal, Release, Verdict};
use tenure_core::{Fence, LossReason, NotReleased, Seats};

use super::Store;
use super::kit::{
    LONG, Wants, claim, eviction, force_release, fresh, holders, look, manager, member, raw, twin,
    until,
};

/// Whoever asks next has it.
pub async fn a_released_lock_is_free_at_once(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("release");
    for _ in 0..5 {
        let guard = a.acquire(name.clone(), LONG).await.unwrap();
        let watch = guard.watch();
        guard.release().await.unwrap();
        assert!(!watch.is_valid());
        assert!(!look(&b, &name).await.is_locked());
        let guard = b.try_acquire(name.clone(), LONG).await.unwrap().expect("it is free");
        guard.release().await.unwrap();
    }
}

/// A release whose answer was lost can be sent again.
pub async fn a_release_sent_twice_is_released_twice(store: &dyn Store) {
    let a = raw(store).await;
    let b = twin(store, &a).await;
    let name = fresh("release-twice");
    let claim = claim(&name);
    let grant = a.granted(&claim).await;
    for process in [&a, &b, &a] {
        assert_eq!(process.release(&claim, grant).await, Release::Released);
    }
}

/// However late or often it lands.
pub async fn a_release_never_ends_another_grant(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("release-other");
    let (first, second) = (claim(&name), claim(&name));
    let old = a.granted(&first).await;
    a.release(&first, old).await;
    let grant = b.granted(&second).await;
    a.release(&first, old).await;
    assert_eq!(holders(&b.view(&name).await), [second.member]);
    // Nor does one that knows the other's fence, but not its token.
    let guess = Grant::new(grant.fence, Seats::All, grant.at, grant.term);
    a.release(&first, guess).await;
    let stranger = claim(&name);
    assert!(matches!(a.release(&stranger, guess).await, Release::NotHeld(_)));
    assert_eq!(holders(&b.view(&name).await), [second.member]);
    let kept = b.renew(&member(&second, Some(grant))).await;
    assert!(kept.is_ok(), "{kept:?}");
}

/// Somebody who never held releases nothing and is told so.
pub async fn a_token_that_never_held_releases_nothing(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("release-stranger");
    let stranger = claim(&name);
    let never = Grant::new(Fence::new(1), Seats::All, tenure_core::Micros(0), LONG);
    assert_eq!(a.release(&stranger, never).await, Release::NotHeld(Departure::Forgotten));
    let held = claim(&name);
    a.granted(&held).await;
    assert_eq!(a.release(&stranger, never).await, Release::NotHeld(Departure::Forgotten));
    assert_eq!(holders(&a.view(&name).await), [held.member]);
}

/// What expired before is not a success.
pub async fn a_release_after_expiry_says_so(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("release-late");
    let silent = claim(&name).lasting(store.short_ttl());
    let grant = a.granted(&silent).await;
    let next = claim(&name);
    until(store, "the lease ends", async || {
        matches!(b.acquire(&next).await, Verdict::Granted(_)).then_some(())
    })
    .await;
    assert_eq!(a.release(&silent, grant).await, Release::NotHeld(Departure::Expired));
    assert_eq!(holders(&b.view(&name).await), [next.member]);
}

/// What was released is over for ever.
pub async fn a_released_token_is_never_granted_again(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("released-token");
    let claim = claim(&name);
    let grant = a.granted(&claim).await;
    a.release(&claim, grant).await;
    assert_eq!(a.refused(&claim).await, Refusal::Departed(Departure::Released));
    let renewed = a.renew(&member(&claim, Some(grant))).await;
    assert_eq!(renewed, Err(Departure::Released));
    assert!(!a.view(&name).await.is_locked());
}

/// Dropping a guard releases it without anybody waiting for that.
pub async fn a_dropped_guard_is_released(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("drop");
    drop(a.acquire(name.clone(), LONG).await.unwrap());
    a.close(store.patience()).await.unwrap();
    assert!(!look(&b, &name).await.is_locked());
}

/// Also on a thread without any runtime.
pub async fn a_guard_dropped_outside_a_runtime_is_released(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("drop-thread");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    std::thread::spawn(move || drop(guard)).join().expect("dropping does not panic");
    a.close(store.patience()).await.unwrap();
    assert!(!look(&b, &name).await.is_locked());
}

/// Also when the manager goes at the same time.
pub async fn a_guard_dropped_with_its_manager_is_released(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("drop-manager");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    drop(a);
    assert!(guard.is_valid(), "a guard outlives the handle it was made with");
    drop(guard);
    until(store, "the last guard is released", async || {
        (!look(&b, &name).await.is_locked()).then_some(())
    })
    .await;
}

/// A panic in the holder releases, as any drop does.
pub async fn a_panicking_holder_releases(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("panic");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    let work = std::thread::Builder::new().name("a holder that panics on purpose".into());
    let work = work.spawn(move || {
        let _guard = guard;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(work.expect("a thread starts").join().is_err());
    a.close(store.patience()).await.unwrap();
    assert!(!look(&b, &name).await.is_locked());
}

/// The store's word counts, not what the guard believes.
pub async fn a_release_after_an_eviction_says_so(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("release-evicted");
    let held = claim(&name);
    let grant = a.granted(&held).await;
    b.evict(&name, &eviction(Some(grant.fence))).await;
    let released = a.release(&held, grant).await;
    assert!(matches!(released, Release::NotHeld(Departure::Evicted(_))), "{released:?}");

    let (a, b) = (manager(store).await, manager(store).await);
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    force_release(store, &b, &name, guard.fencing_token(), "it is in the way").await;
    let released = guard.release().await;
    let told = matches!(released, Err(NotReleased::AlreadyLost(LossReason::Evicted { .. })));
    assert!(told, "{released:?}");
}
