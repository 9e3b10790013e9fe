//! What lies where: on one server and on a cluster, with and without a prefix, and with names that
//! look like something else.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kit;

use std::collections::HashSet;

use futures_util::future::join_all;
use kit::{LONG, cluster_url, manager};
use tenure_core::ErrorKind;
use tenure_testkit::servers::redis::{RedisCluster, RedisServer};

/// Names with everything that means something in a key, a slot, a pattern or a script.
const NAMES: &[&str] = &[
    "orders", "a}b", "{}", "{}a", "}", "{", "a{b", "a{b}", "{b}", "{b}c", "{a}{b}", "{{b}}",
    "a{}b{c}", "b}:a{b}", "*", "?", "[a]", "\\", "a b", "a:b", "tenure", "tenure:", "tenure:{",
    "é", "🔒", "nil",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_lies_where_its_keys_say_that_it_does() {
    let server = RedisServer::start();
    for (query, prefix) in
        [("", ""), ("?prefix=", ""), ("?prefix=locks:", "locks:"), ("?prefix={x}", "{x}")]
    {
        server.cli(&["FLUSHALL"]);
        let locks = manager(&format!("{}{query}", server.url()));
        let mut held = Vec::new();
        for &name in NAMES {
            if format!("{prefix}{name}").starts_with("tenure:{") {
                let error = locks.acquire(name, LONG).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error:?}");
                assert_eq!(locks.keys(name).unwrap(), []);
                continue;
            }
            let guard = locks.acquire(name, LONG).await.unwrap();
            let keys = locks.keys(name).unwrap();
            let [("key", key), ("state", state)] = keys.as_slice() else { panic!("{keys:?}") };
            assert_eq!(*key, format!("{prefix}{name}"));
            assert_eq!(server.cli(&["GET", key]).len(), 64, "the public id of {name}'s holder");
            assert_eq!(server.cli(&["TYPE", state]), "hash", "{name}'s state");
            held.push((name, guard));
        }
        // Two keys for each, and nothing of any other.
        assert_eq!(server.cli(&["DBSIZE"]), (held.len() * 2).to_string());
        let listed = locks.list("", 100).await.unwrap();
        let listed: HashSet<_> = listed.iter().map(|view| view.name.as_str()).collect();
        assert_eq!(listed, held.iter().map(|(name, _)| *name).collect());
        for released in join_all(held.into_iter().map(|(_, guard)| guard.release())).await {
            released.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_keys_of_a_lock_lie_in_one_slot_or_it_is_refused_before_anything_is_sent() {
    let cluster = RedisCluster::start(3);
    let (plain, tagged) =
        (cluster_url(&cluster), format!("{}?prefix={{x}}", cluster_url(&cluster)));
    // Nobody is there: whoever asks for anything fails.
    let nowhere = manager("redis+cluster://127.0.0.1:1");
    for &name in NAMES {
        let keys = nowhere.keys(name).unwrap();
        if keys.is_empty() {
            let error = nowhere.acquire(name, LONG).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{name}: {error:?}");
            assert!(error.help().is_some() && error.changed_nothing());
        } else {
            let slots: HashSet<_> = keys.iter().map(|(_, key)| cluster.slot_of(key)).collect();
            assert_eq!(slots.len(), 1, "{name}: {keys:?}");
            let guard = manager(&plain).acquire(name, LONG).await.unwrap();
            guard.release().await.unwrap();
        }
    }
    let is_refused = |name: &&str| nowhere.keys(*name).unwrap().is_empty();
    let refused: Vec<_> = NAMES.iter().copied().filter(is_refused).collect();
    assert_eq!(refused, ["a}b", "{}", "{}a", "}", "a{}b{c}", "tenure:{"]);
    // With a tag before all of them, all can be had, in one slot.
    let locks = manager(&tagged);
    for &name in NAMES {
        let guard = locks.acquire(name, LONG).await.unwrap();
        assert_eq!(cluster.slot_of(&locks.keys(name).unwrap()[1].1), cluster.slot_of("x"));
        guard.release().await.unwrap();
    }
}
