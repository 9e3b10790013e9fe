//! Nodes of a cluster that are killed or stand still: nobody hangs, holders are told in time, fences
//! do not fall, and the other nodes' locks go on.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::time::Duration;

use kit::storm::{self, Storm};
use kit::{
    IN_THE_END, LONG, SOON, cluster_url, lives_on, manager, until, until_waiting, waits, within,
};
use tenure_core::LossReason;
use tenure_core::clock::{Clock, SystemClock};
use tenure_testkit::servers::redis::{RedisCluster, RedisSetup};

const TTL: Duration = Duration::from_secs(3);

/// What befalls a node.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// It stands still: connections are open, and nobody answers.
    Stop,
    Kill,
}

/// A lock of each node.
fn names(cluster: &RedisCluster) -> Vec<String> {
    let of = |node| {
        let mut names = (0..).map(|n| format!("lock-{n}"));
        names.find(|name| cluster.owner(cluster.slot_of(name)) == node).unwrap()
    };
    (0..cluster.nodes().len()).map(of).collect()
}

async fn a_node_without_replica_is_cut_off(fault: Fault) {
    let setup = RedisSetup::new().with(&["--cluster-require-full-coverage", "no"]);
    let cluster = RedisCluster::start_as(3, &setup);
    let names = names(&cluster);
    let (locks, other) = (manager(&cluster_url(&cluster)), manager(&cluster_url(&cluster)));
    let mut guards = Vec::new();
    for name in &names {
        guards.push(locks.acquire(name.as_str(), TTL).await.unwrap());
    }
    let cut_off = guards.remove(1);
    let fence = cut_off.fencing_token();
    let waits = waits(&other, &names[1], LONG);
    until_waiting(&locks, &names[1], 1).await;

    let node = cluster.node(1);
    match fault {
        Fault::Stop => node.stop(),
        Fault::Kill => node.kill(),
    }
    let told = within(IN_THE_END, "the holder is told", cut_off.lost()).await;
    let late = SystemClock.now().since(cut_off.deadlines().0);
    assert!(late < Duration::from_millis(500), "told {late:?} after its deadline");
    assert!(matches!(told, LossReason::StoreUnreachable | LossReason::Expired), "{told:?}");
    let tried = locks.lock(names[1].as_str()).wait_timeout(Duration::from_secs(1)).acquire();
    let refused = within(IN_THE_END, "an answer", tried).await.unwrap_err();
    assert!(refused.kind().is_transient(), "{refused:?}");
    for guard in &guards {
        lives_on(guard, TTL).await;
    }
    for (name, guard) in [&names[0], &names[2]].into_iter().zip(guards) {
        let next = other.acquire(name.as_str(), TTL);
        within(SOON, "a release", guard.release()).await.unwrap();
        let next = within(SOON, "a lock of a healthy node", next).await.unwrap();
        next.release().await.unwrap();
    }

    match fault {
        Fault::Stop => node.cont(),
        // It has forgotten everything; the time is the floor of its fences.
        Fault::Kill => node.restart(),
    }
    let next = within(IN_THE_END, "the waiter", waits).await.unwrap();
    // Forgotten with everything else, it may have to ask again.
    let next = match next {
        Ok(next) => next,
        Err(error) => {
            assert!(error.kind().is_transient(), "{error:?}");
            within(IN_THE_END, "the lock", other.acquire(names[1].as_str(), TTL)).await.unwrap()
        }
    };
    assert!(fence < next.fencing_token());
    next.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stands_still_holds_up_its_own_locks_only() {
    a_node_without_replica_is_cut_off(Fault::Stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_takes_its_own_locks_along_only() {
    a_node_without_replica_is_cut_off(Fault::Kill).await;
}

async fn a_replica_takes_over(fault: Fault) {
    let cluster = RedisCluster::start_replicated(3, &RedisSetup::new());
    let names = names(&cluster);
    let url = cluster_url(&cluster);
    let (locks, other) = (manager(&url), manager(&url));
    let name = names[1].as_str();
    // Longer than it takes the nodes to agree.
    let ttl = Duration::from_secs(9);
    let held = locks.acquire(name, ttl).await.unwrap();
    let fence = held.fencing_token();
    let waits = waits(&other, name, ttl);
    until_waiting(&locks, name, 1).await;
    until(SOON, "the replica has it", async || cluster.node(1).cli(&["WAIT", "1", "100"]) == "1")
        .await;
    match fault {
        Fault::Stop => cluster.node(1).stop(),
        Fault::Kill => cluster.node(1).kill(),
    }
    until(IN_THE_END, "the replica is a primary", async || {
        cluster.replica(1).cli(&["ROLE"]).starts_with("master")
    })
    .await;
    lives_on(&held, ttl / 3).await;
    within(IN_THE_END, "a release", held.release()).await.unwrap();
    let next = within(IN_THE_END, "the waiter", waits).await.unwrap().unwrap();
    assert!(fence < next.fencing_token());
    let fence = next.fencing_token();
    match fault {
        Fault::Stop => cluster.node(1).cont(),
        Fault::Kill => cluster.node(1).restart(),
    }
    lives_on(&next, ttl / 2).await;
    next.release().await.unwrap();
    let last = within(SOON, "one more", manager(&url).acquire(name, ttl)).await.unwrap();
    assert!(fence < last.fencing_token());
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_and_waiters_follow_to_the_replica_of_a_node_that_was_killed() {
    a_replica_takes_over(Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_and_waiters_follow_to_the_replica_of_a_node_that_stands_still() {
    a_replica_takes_over(Fault::Stop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_rise_in_a_storm_in_which_a_node_is_killed_and_comes_back() {
    let cluster = RedisCluster::start_replicated(3, &RedisSetup::new());
    let names = names(&cluster);
    let storm = Storm::on(&cluster_url(&cluster), &names);
    storm.rages(100).await;
    let broken = SystemClock.now();
    cluster.node(1).kill();
    until(IN_THE_END, "the replica is a primary", async || {
        cluster.replica(1).cli(&["ROLE"]).starts_with("master")
    })
    .await;
    storm.rages(100).await;
    cluster.node(1).restart();
    // What the old primary granted last has ended.
    let mended = SystemClock.now().plus(storm::TTL);
    storm.rages(300).await;
    storm.calm((broken, mended)).await;
}
