//! Behind Sentinel every rule is kept, and holders and waiters follow to the new primary.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::storm::{self, Storm};
use kit::{
    IN_THE_END, LONG, SOON, backend, lives_on, manager, sentinel_url, until, until_waiting, waits,
    within,
};
use tenure_core::backend::DynBackend;
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::{ErrorKind, LockGuard, NotReleased, Result};
use tenure_testkit::conformance::{BoxFuture, Store, run};
use tenure_testkit::servers::redis::{RedisSentinel, RedisServer};

struct Group {
    group: RedisSentinel,
    url: String,
}

impl Store for Group {
    fn name(&self) -> &str {
        "redis behind Sentinel"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(backend(&self.url)) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(1500)
    }
}

#[test]
fn every_rule_is_kept_behind_sentinel_with_grants_that_a_replica_has() {
    let group = RedisSentinel::start();
    let url = format!("{}?min_replicas=1", sentinel_url(&group));
    let store = Group { group, url };
    run(&store).assert_holds_but_for(&[]);
    // The first sentinel that is asked says nothing: the next one is.
    store.group.sentinels()[0].stop();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ttl = Duration::from_secs(2);
        let guard = manager(&store.url).acquire("sentinel", ttl).await.unwrap();
        lives_on(&guard, ttl * 2).await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_with_a_password_of_their_own_are_asked_with_it() {
    let group = RedisSentinel::start();
    for sentinel in group.sentinels() {
        let rights = ["+sentinel|master", "+subscribe", "&+switch-master"];
        sentinel.cli(&[&["ACL", "SETUSER", "asks", "on", ">canary:2"], &rights[..]].concat());
    }
    let url = sentinel_url(&group);
    let takes = async |right: &str| {
        let locks = manager(&format!("{url}?{right}"));
        let guard = within(SOON, "a lock", locks.acquire("x", LONG)).await.unwrap();
        guard.release().await.unwrap();
        locks
    };
    let locks = takes("sentinel_username=asks&sentinel_password=canary:2").await;
    until(SOON, "it listens for a switch", async || {
        let listens = |s: &RedisServer| s.cli(&["PUBSUB", "CHANNELS", "+switch-master"]);
        group.sentinels().iter().any(|sentinel| listens(sentinel).contains("switch"))
    })
    .await;
    drop(locks);
    for sentinel in group.sentinels() {
        sentinel.cli(&["ACL", "SETUSER", "default", ">canary@1"]);
    }
    takes("sentinel_password=canary%401").await;
    for wrong in ["", "?sentinel_password=canary%2F3", "?sentinel_username=asks"] {
        let locks = manager(&format!("{url}{wrong}"));
        let error = within(SOON, "an answer", locks.acquire("x", LONG)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{wrong}: {error:?}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
}

/// Longer than it takes the sentinels to agree.
const TTL: Duration = Duration::from_secs(12);

/// A holder, and someone who waits for it.
struct Scene {
    url: String,
    held: LockGuard,
    waits: tokio::task::JoinHandle<Result<LockGuard>>,
}

impl Scene {
    async fn set(group: &RedisSentinel) -> Self {
        let url = sentinel_url(group);
        let (locks, other) = (manager(&url), manager(&url));
        let held = locks.acquire("lock", TTL).await.unwrap();
        let waits = waits(&other, "lock", TTL);
        until_waiting(&locks, "lock", 1).await;
        let primary = group.primary();
        until(SOON, "the replica has it", async || primary.cli(&["WAIT", "1", "100"]) == "1").await;
        Self { url, held, waits }
    }

    /// Holder and waiter are on the new primary, one after the other, and then somebody else.
    async fn goes_on(self, new: &RedisServer) {
        let fence = self.held.fencing_token();
        within(IN_THE_END, "a release", self.held.release()).await.unwrap();
        let next = within(IN_THE_END, "the waiter", self.waits).await.unwrap().unwrap();
        assert!(fence < next.fencing_token());
        assert_eq!(new.cli(&["EXISTS", "lock"]), "1");
        let fence = next.fencing_token();
        next.release().await.unwrap();
        let locks = manager(&self.url);
        let last = within(SOON, "one more", locks.acquire("lock", TTL));
        let last = last.await.unwrap();
        assert!(fence < last.fencing_token());
        assert_eq!(new.cli(&["EXISTS", "lock"]), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_and_waiters_follow_when_the_primary_is_killed() {
    let group = RedisSentinel::start();
    let scene = Scene::set(&group).await;
    let old = group.kill_primary();
    let new = group.primary_after(old);
    // The lease was longer than it took.
    lives_on(&scene.held, TTL / 3).await;
    scene.goes_on(new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_and_waiters_follow_when_the_primary_stands_still() {
    let group = RedisSentinel::start();
    let scene = Scene::set(&group).await;
    let old = group.primary();
    old.stop();
    let new = group.primary_after(old);
    lives_on(&scene.held, TTL / 3).await;
    scene.goes_on(new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_and_waiters_follow_a_failover_that_was_planned() {
    let group = RedisSentinel::start();
    let scene = Scene::set(&group).await;
    let new = group.failover();
    // At once, and not when the old primary is made a replica, which takes sentinels ten seconds.
    lives_on(&scene.held, TTL / 3).await;
    scene.goes_on(new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_no_replica_has_does_not_count() {
    let group = RedisSentinel::start();
    let primary = group.primary();
    let url = format!("{}?min_replicas=1", sentinel_url(&group));
    let locks = manager(&url);
    let first = locks.acquire("lock", LONG).await.unwrap();
    let waits = waits(&manager(&url), "lock", LONG);
    until_waiting(&locks, "lock", 1).await;
    let replica = group.replicas_of(primary)[0];
    replica.stop();
    let error = within(IN_THE_END, "an answer", locks.acquire("other", LONG)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    until(SOON, "it is given back", async || primary.cli(&["EXISTS", "other"]) == "0").await;
    // A lease that is handed over counts as little.
    first.release().await.unwrap();
    assert!(!waits.is_finished());
    replica.cont();
    let next = within(IN_THE_END, "the waiter", waits).await.unwrap().unwrap();
    match next.release().await {
        Ok(()) => {}
        Err(NotReleased::Unknown { .. }) => panic!("the primary answers"),
        Err(error) => panic!("{error}"),
    }
}

async fn fences_rise_in_a_storm(fault: impl Fn(&RedisSentinel) -> &RedisServer) {
    let group = RedisSentinel::start();
    let names: Vec<String> = (0..3).map(|n| format!("lock-{n}")).collect();
    let storm = Storm::on(&sentinel_url(&group), &names);
    storm.rages(100).await;
    let broken = SystemClock.now();
    let old = group.primary();
    fault(&group);
    assert_ne!(group.primary_after(old).port(), old.port());
    // What the old primary granted last has ended.
    let mended = SystemClock.now().plus(storm::TTL);
    storm.rages(300).await;
    storm.calm((broken, mended)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_rise_in_a_storm_in_which_the_primary_is_killed() {
    fences_rise_in_a_storm(RedisSentinel::kill_primary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_rise_in_a_storm_through_a_failover_that_was_planned() {
    fences_rise_in_a_storm(RedisSentinel::failover).await;
}
