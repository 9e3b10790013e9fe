//! A cluster keeps every rule while its slots move, and a node that is cut off takes nobody along.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tenure_backend_redis::RedisBackend;
use tenure_core::Result;
use tenure_core::backend::DynBackend;
use tenure_testkit::conformance::{BoxFuture, Store, run};
use tenure_testkit::servers::redis::RedisCluster;

struct Nodes(RedisCluster);

fn url(cluster: &RedisCluster) -> String {
    let hosts: Vec<_> =
        cluster.nodes().iter().map(|n| format!("127.0.0.1:{}", n.port())).collect();
    format!("redis+cluster://{}", hosts.join(","))
}

impl Store for Nodes {
    fn name(&self) -> &str {
        "redis cluster"
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn DynBackend>>> {
        Box::pin(async { Ok(Arc::new(RedisBackend::open(&url(&self.0))?) as Arc<dyn DynBackend>) })
    }

    fn short_ttl(&self) -> Duration {
        Duration::from_millis(1500)
    }
}

/// Moves the slots of keys that are in use from node to node, until it is told to stop; answers how
/// many it moved.
fn moves_slots(cluster: &RedisCluster, stop: &AtomicBool) -> usize {
    let moved = AtomicUsize::new(0);
    let mut from = 0;
    while !stop.load(Ordering::Relaxed) {
        from = (from + 1) % 3;
        let key = cluster.node(from).cli(&["RANDOMKEY"]);
        if key.is_empty() {
            continue;
        }
        let (slot, to) = (cluster.slot_of(&key), (from + 1) % 3);
        if cluster.owner(slot) != from {
            continue;
        }
        cluster.begin_move(slot, to);
        // One key at a time, so that a lock is on both sides for a while.
        while 0 < cluster.move_keys(slot, to, 1) {}
        cluster.finish_move(slot, to);
        moved.fetch_add(1, Ordering::Relaxed);
    }
    moved.into_inner()
}

#[test]
fn a_cluster_keeps_every_rule_while_its_slots_move() {
    let store = Nodes(RedisCluster::start(3));
    let stop = AtomicBool::new(false);
    let (report, moved) = std::thread::scope(|scope| {
        let mover = scope.spawn(|| moves_slots(&store.0, &stop));
        let report = run(&store);
        stop.store(true, Ordering::Relaxed);
        (report, mover.join().unwrap())
    });
    println!("{moved} slots moved");
    report.assert_holds_but_for(&[]);
    assert!(20 < moved, "too few slots moved to prove anything: {moved}");
}
