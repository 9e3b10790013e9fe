//! From shared to exclusive and back, without letting go.

use std::time::Duration;

use futures_util::future::join;
use tenure_core::backend::{Change, Refusal, Release};
use tenure_core::{ErrorKind, Seats};

use super::Store;
use super::kit::{LONG, Wants, claim, fresh, holders, kind, look, manager, raw, until, waiters};

/// It waits for the other holders and gets a new fence.
pub async fn an_upgrade_waits_for_the_others_and_gets_a_new_fence(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("upgrade");
    let (mine, other) = (claim(&name).shared().waiting(), claim(&name).shared());
    let before = a.granted(&mine).await;
    let others = b.granted(&other).await;
    let upgrade = mine.upgrade();
    a.queued(&upgrade).await;
    let view = a.view(&name).await;
    assert_eq!(holders(&view), [mine.member, other.member], "it holds its share while it waits");
    assert!(view.waiters[0].upgrade);
    b.release(&other, others).await;
    let after = a.granted(&upgrade).await;
    assert_eq!(after.seats, Seats::All);
    assert!(before.fence < after.fence && others.fence < after.fence);
    assert_eq!(a.granted(&upgrade).await.fence, after.fence, "asked again it is the same");
    let view = b.view(&name).await;
    assert_eq!(holders(&view), [mine.member]);
    assert_eq!((view.holders[0].seats, view.holders[0].fence), (Seats::All, after.fence));
    b.busy(&claim(&name).shared()).await;
    assert_eq!(a.release(&mine, after).await, Release::Released);
    assert!(!b.view(&name).await.is_locked());
}

/// Two that wait for each other's share would wait for ever.
pub async fn a_second_upgrader_is_refused_at_once(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("upgrade-second");
    let (first, second) = (claim(&name).shared().waiting(), claim(&name).shared().waiting());
    a.granted(&first).await;
    let grant = b.granted(&second).await;
    let upgrade = first.upgrade();
    a.queued(&upgrade).await;
    assert_eq!(b.refused(&second.upgrade()).await, Refusal::UpgradePending);
    assert_eq!(holders(&b.view(&name).await), [first.member, second.member]);
    b.release(&second, grant).await;
    a.granted(&upgrade).await;
}

/// Nobody who waits is served before somebody who holds a share already.
pub async fn an_upgrade_goes_before_everybody_who_waits(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("upgrade-first");
    let (mine, other) = (claim(&name).shared().waiting(), claim(&name).shared());
    a.granted(&mine).await;
    let others = b.granted(&other).await;
    let waiter = claim(&name).waiting();
    b.queued(&waiter).await;
    let upgrade = mine.upgrade();
    a.queued(&upgrade).await;
    assert_eq!(waiters(&a.view(&name).await), [mine.member.holder(), waiter.member.holder()]);
    b.release(&other, others).await;
    let grant = a.granted(&upgrade).await;
    assert_eq!(b.queued(&waiter).await.ahead, 0);
    a.release(&mine, grant).await;
    assert_eq!(holders(&b.view(&name).await), [waiter.member]);
}

/// Giving an upgrade up keeps the share, whether it waited or was granted, and however often it
/// is said.
pub async fn a_withdrawn_upgrade_keeps_the_seats_held(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("upgrade-withdrawn");
    let (mine, other) = (claim(&name).shared().waiting(), claim(&name).shared());
    a.granted(&mine).await;
    let others = b.granted(&other).await;
    let waited = mine.upgrade();
    a.queued(&waited).await;
    for _ in 0..2 {
        a.withdraw(&waited).await;
        let view = a.view(&name).await;
        assert_eq!((holders(&view).len(), view.waiters.len()), (2, 0));
    }
    assert_eq!(a.refused(&waited).await, Refusal::Withdrawn);
    b.release(&other, others).await;
    let granted = mine.upgrade();
    a.granted(&granted).await;
    for _ in 0..3 {
        a.withdraw(&granted).await;
        let view = a.view(&name).await;
        assert_eq!(holders(&view), [mine.member], "withdrawing again took the share along");
        assert_eq!(view.holders[0].seats, Seats::SHARED);
    }
    b.granted(&claim(&name).shared()).await;
}

/// A withdrawal of an earlier upgrade that lands late does not undo a later one.
pub async fn a_late_withdrawal_leaves_a_later_upgrade_alone(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("upgrade-late-withdrawal");
    let mine = claim(&name).shared().waiting();
    a.granted(&mine).await;
    let (first, second) = (mine.upgrade(), mine.upgrade());
    a.granted(&first).await;
    a.granted(&second).await;
    a.withdraw(&first).await;
    assert_eq!(a.view(&name).await.holders[0].seats, Seats::All);
    a.busy(&claim(&name).shared()).await;
    a.withdraw(&second).await;
    assert_eq!(a.view(&name).await.holders[0].seats, Seats::SHARED);
}

/// A downgrade that lands after a later upgrade does not let others in beside it.
pub async fn a_late_downgrade_leaves_a_later_upgrade_alone(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("late-downgrade");
    let mine = claim(&name).waiting();
    let before = a.granted(&mine).await;
    let after = a.granted(&mine.upgrade()).await;
    assert!(before.fence < after.fence);
    let late = a.downgrade(&mine, before, Seats::SHARED).await;
    assert!(matches!(late, Change::NotHeld(_)), "{late:?}");
    assert_eq!(a.view(&name).await.holders[0].seats, Seats::All);
    a.busy(&claim(&name).shared()).await;
}

/// A holder whose upgrade was cancelled, and not yet withdrawn, may ask for another.
pub async fn a_cancelled_upgrade_does_not_stand_in_the_way_of_the_next(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("upgrade-again");
    let (mine, other) = (claim(&name).shared().waiting(), claim(&name).shared());
    a.granted(&mine).await;
    let others = b.granted(&other).await;
    let (cancelled, next) = (mine.upgrade(), mine.upgrade());
    a.queued(&cancelled).await;
    a.queued(&next).await;
    a.withdraw(&cancelled).await;
    assert_eq!(a.view(&name).await.waiters.len(), 1);
    b.release(&other, others).await;
    a.granted(&next).await;
    assert_eq!(a.view(&name).await.waiters.len(), 0);
}

/// Whoever stood behind an upgrade that was given up for a try gets the free seat in the same step.
pub async fn a_try_in_place_of_an_upgrade_lets_in_those_behind_it(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("upgrade-try");
    let (mine, other) = (claim(&name).shared(), claim(&name).shared());
    a.granted(&mine).await;
    b.granted(&other).await;
    a.queued(&mine.upgrade().waiting()).await;
    let behind = claim(&name).shared().waiting();
    b.queued(&behind).await;
    let there = a.busy(&mine.upgrade()).await.holders;
    let there: Vec<_> = there.iter().map(|h| h.member).collect();
    assert_eq!(there, [mine.member, other.member, behind.member]);
}

/// A copy of an upgrade that lands after the downgrade it was followed by takes nothing.
pub async fn a_late_upgrade_after_a_downgrade_is_refused(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("late-upgrade");
    let mine = claim(&name).shared().waiting();
    a.granted(&mine).await;
    let upgrade = mine.upgrade();
    let grant = a.granted(&upgrade).await;
    assert!(matches!(a.downgrade(&mine, grant, Seats::SHARED).await, Change::Done(_)));
    assert_eq!(a.refused(&upgrade).await, Refusal::Withdrawn);
    assert_eq!(a.view(&name).await.holders[0].seats, Seats::SHARED);
    a.granted(&claim(&name).shared()).await;
}

/// Nobody upgrades what it does not hold.
pub async fn an_upgrade_without_seats_is_refused(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("upgrade-nothing");
    assert_eq!(a.refused(&claim(&name).upgrade()).await, Refusal::NotHeld);
    assert!(!a.view(&name).await.is_locked());
}

/// It lets readers in, those who wait and those who come, and keeps its fence.
pub async fn a_downgrade_lets_readers_in_and_keeps_its_fence(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("downgrade");
    let mine = claim(&name);
    let grant = a.granted(&mine).await;
    let reader = claim(&name).shared().waiting();
    b.queued(&reader).await;
    for _ in 0..2 {
        let change = a.downgrade(&mine, grant, Seats::SHARED).await;
        let Change::Done(after) = change else { panic!("{change:?}") };
        assert_eq!((after.fence, after.seats), (grant.fence, Seats::SHARED));
    }
    assert_eq!(holders(&b.view(&name).await), [mine.member, reader.member]);
    b.granted(&claim(&name).shared()).await;
    b.busy(&claim(&name)).await;
}

/// Only all seats can be turned into some, and not into some of another number.
pub async fn a_downgrade_that_does_not_fit_changes_nothing(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("downgrade-refused");
    let mine = claim(&name).permits(2, 3);
    let grant = a.granted(&mine).await;
    let to = |take, of| Seats::permits(take, of).expect("valid permits");
    assert_eq!(a.downgrade(&mine, grant, to(1, 3)).await, Change::NeedsAllSeats);
    a.release(&mine, grant).await;
    let change = a.downgrade(&mine, grant, to(1, 3)).await;
    assert!(matches!(change, Change::NotHeld(_)), "{change:?}");
    let writer = claim(&name);
    let grant = a.granted(&writer).await;
    a.queued(&claim(&name).permits(1, 5).waiting()).await;
    assert_eq!(a.downgrade(&writer, grant, to(1, 3)).await, Change::Mismatch { of: 5 });
    assert_eq!(a.view(&name).await.holders[0].seats, Seats::All);
    assert!(matches!(a.downgrade(&writer, grant, to(1, 5)).await, Change::Done(_)));
}

/// Through guards: up, down, and a wait that ends.
pub async fn a_guard_upgrades_and_downgrades(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("upgrade-guard");
    let mut mine = a.lock(name.clone()).ttl(LONG).shared().acquire().await.unwrap();
    let other = b.lock(name.clone()).ttl(LONG).shared().acquire().await.unwrap();
    let timed_out = mine.upgrade(Some(Duration::from_millis(100))).await;
    assert_eq!(kind(timed_out), ErrorKind::WaitTimeout);
    a.close(store.patience()).await.unwrap();
    assert!(mine.is_valid() && !mine.seats().is_all());
    assert_eq!(look(&b, &name).await.waiters.len(), 0);
    let before = mine.fencing_token();
    let release = async {
        until(store, "the upgrade waits", async || {
            look(&b, &name).await.waiters.first().map(|w| assert!(w.upgrade))
        })
        .await;
        other.release().await.unwrap();
    };
    let (upgraded, ()) = join(mine.upgrade(None), release).await;
    upgraded.unwrap();
    assert!(mine.seats().is_all() && before < mine.fencing_token());
    assert!(b.lock(name.clone()).shared().try_acquire().await.unwrap().is_none());
    mine.downgrade(Seats::SHARED).await.unwrap();
    let other = b.lock(name.clone()).ttl(LONG).shared().try_acquire().await.unwrap();
    other.expect("readers come in").release().await.unwrap();
    mine.release().await.unwrap();
    assert!(!look(&b, &name).await.is_locked());
}
