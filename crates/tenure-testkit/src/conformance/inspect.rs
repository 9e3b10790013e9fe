//! What anybody may see, and the numbers.

use std::time::Duration;

use serde_json::json;
use tenure_core::{Actor, LockName};

use super::Store;
use super::kit::{
    LONG, Wants, claim, fresh, holders, look, manager, now, raw, until, value, waiters,
};

/// A lock that nobody has is shown without holders, waiters and value.
pub async fn a_free_lock_is_shown_empty(store: &dyn Store) {
    let (a, b) = (raw(store).await, manager(store).await);
    let name = fresh("free");
    let view = a.view(&name).await;
    assert_eq!((view.holders.len(), view.waiters.len(), view.value), (0, 0, None));
    assert_eq!(view.name, name);
    assert!(!b.is_locked(name.clone()).await.unwrap());
    assert!(b.get_lock_info(name).await.unwrap().is_none());
}

/// Holders and waiters are shown with what they hold and want.
pub async fn a_view_shows_holders_and_waiters(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let name = fresh("view");
    let (holder, waiter) = (claim(&name), claim(&name).waiting());
    let grant = a.granted(&holder).await;
    a.queued(&waiter).await;
    let view = b.view(&name).await;
    assert_eq!(holders(&view), [holder.member]);
    assert_eq!(waiters(&view), [waiter.member.holder()]);
    let shown = &view.holders[0];
    assert_eq!((shown.fence, shown.seats, shown.ttl), (grant.fence, holder.seats, holder.ttl));
    assert_eq!(shown.id, holder.member.holder());
    assert!(!shown.detached && shown.quiet_for < Duration::from_secs(30));
    assert!(shown.since <= shown.renewed && shown.renewed < shown.until);
    assert_eq!(view.fence, grant.fence);
    assert!(!view.waiters[0].upgrade);
    // Whoever may look learns nothing that lets it release the lock.
    let text = format!("{view:?}");
    let secret: String = holder.token.expose().iter().map(|b| format!("{b:02x}")).collect();
    assert!(!text.contains(&secret));
}

/// Owner, actor and metadata are seen by others as they were given.
pub async fn owner_and_metadata_are_seen_by_others(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let name = fresh("metadata");
    let metadata =
        json!({"build": 42, "text": "\"<b>é\u{202e}\n", "list": [1, [2, [3]]], "none": null});
    let actor = Actor::new("job/1").unwrap();
    let request = a.lock(name.clone()).ttl(LONG).owner("worker <7>").actor(&actor);
    let guard = request.metadata(metadata.clone()).acquire().await.unwrap();
    let seen = b.get_lock_info(name.clone()).await.unwrap().expect("it is held");
    assert_eq!(seen.id, guard.id());
    assert_eq!(&*seen.details.owner.label, "worker <7>");
    assert_eq!(seen.details.owner.pid, std::process::id());
    assert_eq!(seen.details.actor.as_deref(), Some("job/1"));
    let text = seen.details.metadata.as_deref().expect("it has metadata");
    assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), metadata);
    assert_eq!(&*guard.owner().label, "worker <7>");
    guard.release().await.unwrap();
}

/// The list shows what is held, waited for or kept, under a prefix, by name, so many at most.
pub async fn a_list_shows_what_is_there_by_name(store: &dyn Store) {
    let (a, b) = (raw(store).await, raw(store).await);
    let prefix = fresh("list");
    let name = |tail: &str| LockName::new(format!("{prefix}/{tail}")).expect("a valid name");
    let tails = ["b", "a", "c", "a b", "é", "c/d"];
    for tail in tails {
        a.granted(&claim(&name(tail))).await;
    }
    let free = claim(&name("free"));
    let grant = a.granted(&free).await;
    a.release(&free, grant).await;
    let other = LockName::new(format!("{prefix}-other")).expect("a valid name");
    a.granted(&claim(&other)).await;
    let seen = b.list(&format!("{prefix}/"), 100).await;
    let mut expected: Vec<LockName> = tails.iter().map(|tail| name(tail)).collect();
    expected.sort();
    assert_eq!(seen.iter().map(|v| v.name.clone()).collect::<Vec<_>>(), expected);
    assert!(seen.iter().all(tenure_core::View::is_locked));
    let first: Vec<_> =
        b.list(&format!("{prefix}/"), 2).await.into_iter().map(|v| v.name).collect();
    assert_eq!(first, expected[..2]);
    assert_eq!(b.list(&format!("{prefix}/"), 0).await.len(), 0);
    assert_eq!(b.list(&format!("{prefix}/c"), 100).await.len(), 2);
    assert_eq!(b.list(&format!("{prefix}/x"), 100).await.len(), 0);
}

/// A lock with nothing but a value is listed, too.
pub async fn a_list_shows_values(store: &dyn Store) {
    let a = raw(store).await;
    let name = fresh("list-value");
    let writer = claim(&name);
    let grant = a.granted(&writer).await;
    a.release_with(&writer, grant, Some(&value(b"kept", LONG))).await;
    let seen = a.list(name.as_str(), 10).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(&*seen[0].value.as_ref().expect("it is kept").bytes, b"kept");
}

/// A watch shows what is there, then what changes.
pub async fn a_watch_shows_changes(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let prefix = fresh("watch");
    let name = LockName::new(format!("{prefix}/x")).expect("a valid name");
    let guard = a.acquire(name.clone(), LONG).await.unwrap();
    let mut watch = b.watch(prefix.as_str()).unwrap();
    let first = watch.next().await.unwrap();
    assert!(first.is_locked() && first.name == name);
    let fence = guard.fencing_token();
    guard.release().await.unwrap();
    let give_up = now().plus(store.patience());
    loop {
        let view = watch.next().await.unwrap();
        if !view.is_locked() {
            assert!(fence <= view.fence);
            break;
        }
        assert!(now() < give_up);
    }
}

/// A store that is there says so.
pub async fn a_store_that_is_there_is_healthy(store: &dyn Store) {
    let locks = manager(store).await;
    let health = until(store, "the store is up", async || {
        let health = locks.health().await;
        health.up.then_some(health)
    })
    .await;
    assert_eq!(health.error, None);
    assert_eq!(*health.store, *locks.store());
    assert!(!locks.store().is_empty());
}

/// The numbers of a manager count what happened in it.
pub async fn the_metrics_count_what_happened(store: &dyn Store) {
    let (a, b) = (manager(store).await, manager(store).await);
    let (x, y, z) = (fresh("metrics-x"), fresh("metrics-y"), fresh("metrics-z"));
    let first = a.acquire(x.clone(), LONG).await.unwrap();
    let second = a.acquire(y.clone(), LONG).await.unwrap();
    let short = a.lock(z).ttl(store.short_ttl()).auto_renew(false).acquire().await.unwrap();
    assert!(b.try_acquire(x.clone(), LONG).await.unwrap().is_none());
    let seen = a.metrics();
    assert_eq!((seen.total_acquisitions, seen.held), (3, 3));
    assert!(0.0 <= seen.average_acquisition_time_ms);
    let seen = b.metrics();
    assert_eq!((seen.total_conflicts, seen.failed_acquisitions, seen.held), (1, 1, 0));
    first.release().await.unwrap();
    drop(second);
    short.lost().await;
    until(store, "the keeper notices", async || (a.metrics().lost == 1).then_some(())).await;
    a.close(store.patience()).await.unwrap();
    let seen = a.metrics();
    assert_eq!(seen.total_releases, 1, "only what was released by its guard");
    assert_eq!((seen.lost, seen.held, seen.waiting), (1, 0, 0), "a lost lock is not held");
    drop(short);
    assert_eq!(a.metrics().held, 0);
    assert!(!look(&b, &x).await.is_locked() && !look(&b, &y).await.is_locked());
}
