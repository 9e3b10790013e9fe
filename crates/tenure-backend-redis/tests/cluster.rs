//! A cluster keeps every rule while its slots move, and a node that is cut off takes nobody along.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use futures_util::future::join_all;
use kit::{
    IN_THE_END, LONG, SOON, backend, cluster_url, lives_on, manager, until_waiting, waits, within,
};
use tenure_core::backend::DynBackend;
use tenure_core::{ErrorKind, LockName, Result};
use tenure_testkit::conformance::{BoxFuture, Store, run};
use tenure_testkit::servers::redis::RedisCluster;

struct Nodes(RedisCluster);

impl Store for Nodes {
    fn name(&self) -> &str {
        "redis cluster"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(backend(&cluster_url(&self.0))) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(1500)
    }

    fn takes(&self, name: &LockName) -> bool {
        // A key with a `}` and without a hash tag has no neighbours in its slot.
        let name = name.as_str();
        let tagged = name.split_once('{').and_then(|(_, rest)| rest.find('}'));
        !name.contains('}') || tagged.is_some_and(|end| 0 < end)
    }
}

/// Moves the slots of keys that are in use from node to node, until it is told to stop; answers how
/// many it moved.
fn moves_slots(cluster: &RedisCluster, stop: &AtomicBool) -> usize {
    let (mut moved, mut from) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        from = (from + 1) % 3;
        let key = cluster.node(from).cli(&["RANDOMKEY"]);
        let (slot, to) = (cluster.slot_of(&key), (from + 1) % 3);
        if key.is_empty() || cluster.owner(slot) != from {
            continue;
        }
        cluster.begin_move(slot, to);
        // One key at a time, so that a lock is on both sides for a while.
        while 0 < cluster.move_keys(slot, to, 1) {}
        cluster.finish_move(slot, to);
        moved += 1;
    }
    moved
}

/// Does this while slots move, and answers how many moved.
fn while_slots_move(cluster: &RedisCluster, work: impl FnOnce()) -> usize {
    struct Stops<'a>(&'a AtomicBool);
    impl Drop for Stops<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| moves_slots(cluster, &stop));
        let stops = Stops(&stop);
        work();
        drop(stops);
        mover.join().unwrap()
    })
}

#[test]
fn a_cluster_keeps_every_rule_while_its_slots_move() {
    let store = Nodes(RedisCluster::start(3));
    let mut report = None;
    let moved = while_slots_move(&store.0, || report = Some(run(&store)));
    report.unwrap().assert_holds_but_for(&[]);
    assert!(20 < moved, "too few slots moved to prove anything: {moved}");
}

#[test]
fn hundreds_of_leases_are_kept_while_slots_move() {
    let cluster = RedisCluster::start(3);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let moved = while_slots_move(&cluster, || {
        runtime.block_on(async {
            let locks = manager(&cluster_url(&cluster));
            // Calls have an eighth of it: on a machine that is busy otherwise, three nodes, the one that
            // moves slots and this have to get through 400 scripts in that time.
            let ttl = Duration::from_secs(6);
            let all = (0..400).map(|n| locks.acquire(format!("job-{n}"), ttl));
            let guards: Vec<_> = join_all(all).await.into_iter().map(Result::unwrap).collect();
            join_all(guards.iter().map(|guard| lives_on(guard, ttl * 3 / 2))).await;
            let listed = locks.list("job-", 1000).await.unwrap();
            assert_eq!(listed.len(), guards.len(), "none is missed, and none is listed twice");
            for released in join_all(guards.into_iter().map(|guard| guard.release())).await {
                released.unwrap();
            }
        });
    });
    assert!(20 < moved, "too few slots moved to prove anything: {moved}");
    let locked = |node: &str| node.lines().filter(|key| key.starts_with("job-")).count();
    let left: usize = cluster.nodes().iter().map(|n| locked(&n.cli(&["KEYS", "job-*"]))).sum();
    assert_eq!(left, 0, "released locks leave no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_told_after_the_slot_went_to_another_node() {
    let cluster = RedisCluster::start(3);
    let url = cluster_url(&cluster);
    let (holder, waiter) = (manager(&url), manager(&url));
    let slot = cluster.slot_of("moving");
    let held = holder.acquire("moving", LONG).await.unwrap();
    let fence = held.fencing_token();
    let waits = waits(&waiter, "moving", LONG);
    until_waiting(&holder, "moving", 1).await;
    let to = (cluster.owner(slot) + 1) % 3;
    cluster.move_slot(slot, to);
    held.release().await.unwrap();
    // Without a message it would look when the lease of a minute ends.
    let next = within(SOON, "the waiter is told", waits).await.unwrap().unwrap();
    assert!(fence < next.fencing_token());
    assert_eq!(cluster.owner(slot), to);
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_stays_half_moved_holds_up_its_new_locks_only() {
    let cluster = RedisCluster::start(3);
    let locks = manager(&cluster_url(&cluster));
    let slot = cluster.slot_of("a{x}");
    let held = locks.acquire("a{x}", Duration::from_secs(2)).await.unwrap();
    cluster.begin_move(slot, (cluster.owner(slot) + 1) % 3);
    // There are no keys of this one that either node could find.
    let refused = within(IN_THE_END, "an answer", locks.acquire("b{x}", LONG)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unreachable, "{refused:?}");
    assert!(refused.to_string().contains("is being moved"), "{refused}");
    within(SOON, "another slot", locks.acquire("c{y}", LONG))
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
    lives_on(&held, Duration::from_secs(2)).await;
    cluster.finish_move(slot, (cluster.owner(slot) + 1) % 3);
    lives_on(&held, Duration::from_secs(2)).await;
    held.release().await.unwrap();
    let free = within(SOON, "the slot has moved", locks.acquire("b{x}", LONG)).await.unwrap();
    free.release().await.unwrap();
}

#[test]
fn a_program_without_a_runtime_uses_a_cluster() {
    let cluster = RedisCluster::start(3);
    let (locks, other) = (manager(&cluster_url(&cluster)), manager(&cluster_url(&cluster)));
    for n in 0..8 {
        let name = format!("lock-{n}");
        let guard = block_on(locks.acquire(name.as_str(), LONG)).unwrap();
        let waiter = std::thread::spawn({
            let (other, name) = (other.clone(), name.clone());
            move || block_on(block_on(other.acquire(name, LONG)).unwrap().release()).unwrap()
        });
        while block_on(locks.inspect(name.as_str())).unwrap().waiters.is_empty() {}
        block_on(guard.release()).unwrap();
        waiter.join().unwrap();
    }
    block_on(locks.list("", 8)).unwrap();
    assert!(block_on(locks.health()).up);
}
