//! `tenure doctor` on Redis servers that are set up well, badly, and so that they say little.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::time::Duration;

use common::golden::{golden, normal};
use common::{Done, Site};
use regex::Regex;
use serde_json::Value;
use tenure_testkit::proxy::{Fault, FaultProxy};
use tenure_testkit::servers::redis::{RedisCluster, RedisSentinel, RedisServer};

/// Puts words in the place of what is measured, and of what is different from server to server.
fn approved(done: &Done, site: &Site) -> String {
    let mut text = format!("exit {}\n{}", done.code, normal(&done.stdout, site));
    for (pattern, word) in [
        (r"127\.0\.0\.1:\d+", "[SERVER]"),
        (r"(Redis|Valkey) \d+\.\d+\.\d+", "[PRODUCT]"),
        (r#""product":"[a-z]+""#, r#""product":"[PRODUCT]""#),
        (r#""version":"[0-9.]+""#, r#""version":"[VERSION]""#),
        (r"\d+\.\d\d ms", "[MS] ms"),
        (r"of \d+ round trips", "of [N] round trips"),
        (r"back \d+ times", "back [N] times"),
        (r"gone through: \d+", "gone through: [N]"),
        (r"is \d+\.\d{3} s (behind|ahead of)", "is [S] s from"),
        (r"take \d+\.\d{3} s", "take [S] s"),
        (
            r#""(count|p50_us|max_us|took_us|keys|used_memory|ahead_ms|give_or_take_ms)":-?\d+"#,
            r#""$1":[MS]"#,
        ),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
    }
    text
}

/// What is found about each thing: how it stands and what is said.
fn findings(site: &Site, code: i32) -> impl Fn(&str) -> (String, String) + use<> {
    let done = site.tenure(["doctor", "--json"]);
    assert_eq!(done.code, code, "{done:?}");
    let report = done.json();
    assert_eq!(report["ok"], code == 0);
    let all: Vec<Value> = report["stores"][0]["measurements"].as_array().unwrap().clone();
    move |what: &str| {
        let all = all.iter().filter(|finding| finding["what"] == what);
        let found: Vec<_> = all.collect();
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let said = format!("{} {}", text(&found[0]["detail"]), text(&found[0]["help"]));
        (text(&found[0]["standing"]), said)
    }
}

#[track_caller]
fn assert_found(found: (String, String), standing: &str, says: &str) {
    assert!(found.0 == standing && found.1.contains(says), "{found:?}");
}

#[test]
fn what_a_plain_server_guarantees_is_said_in_words_and_as_json() {
    let server = RedisServer::start();
    let site = Site::with(&server.url());
    golden("doctor-redis", &approved(&site.tenure(["doctor"]), &site));
    golden("doctor-redis.json", &approved(&site.tenure(["doctor", "--json"]), &site));
    // It leaves nothing behind.
    assert_eq!(server.cli(&["DBSIZE"]), "0");
}

#[test]
fn a_server_that_throws_keys_away_is_bad_for_locks() {
    let server = RedisServer::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let server = server.start();
    let site = Site::with(&server.url());
    let about = findings(&site, 71);
    assert_found(about("memory"), "bad", "allkeys-lru throws locks away");
    assert_found(about("memory"), "bad", "set maxmemory-policy to noeviction");
    assert_found(about("lock"), "good", "");
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_found(findings(&site, 0)("memory"), "good", "");
}

#[test]
fn what_a_restart_loses_is_told_by_how_the_server_writes_to_its_disk() {
    let server = RedisServer::with(&[]).append_only().start();
    let site = Site::with(&server.url());
    assert_found(findings(&site, 0)("restart"), "good", "loses nothing");
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    assert_found(findings(&site, 0)("restart"), "note", "last second");
    server.cli(&["CONFIG", "SET", "appendonly", "no", "save", "3600 1"]);
    assert_found(findings(&site, 0)("restart"), "note", "last snapshot");
}

#[test]
fn a_full_server_grants_no_lock_and_says_so() {
    let server = RedisServer::with(&["--maxmemory", "1mb"]).start();
    let site = Site::with(&server.url());
    let about = findings(&site, 71);
    assert_found(about("lock"), "bad", "memory limit");
    assert_found(about("memory"), "note", "nearly full");
}

#[test]
fn a_replica_is_no_place_for_locks_and_too_few_of_them_grant_none() {
    let group = RedisSentinel::start();
    let (primary, replica) = (group.primary(), &group.servers()[1]);
    let about = findings(&Site::with(&replica.url()), 71);
    assert_found(about("server"), "bad", "takes no writes");
    let url = primary.url();
    let about = findings(&Site::with(&url), 0);
    assert_found(about("failover"), "note", "1 replica, always a moment behind");
    let about = findings(&Site::with(&format!("{url}?min_replicas=1")), 0);
    assert_found(about("failover"), "note", "1 of them must have a grant");
    assert_found(about("lock"), "good", "");
    let about = findings(&Site::with(&format!("{url}?min_replicas=2")), 71);
    assert_found(about("failover"), "bad", "no lock is granted");
    assert_found(about("lock"), "bad", "1 of 2 replicas have the grant");
    let port = group.sentinels()[0].port();
    let about = findings(&Site::with(&format!("redis+sentinel://127.0.0.1:{port}/tenure")), 0);
    assert_found(about("server"), "good", "the primary that Sentinel names");
}

#[test]
fn a_cluster_is_looked_at_as_a_whole() {
    let cluster = RedisCluster::start(3);
    let port = cluster.node(0).port();
    let about = findings(&Site::with(&format!("redis+cluster://127.0.0.1:{port}")), 0);
    assert_found(about("cluster"), "good", "3 primaries serve all locks");
    assert_found(about("server"), "good", "all 3 primaries: ");
    assert_found(about("messages"), "good", "");
    let about = findings(&Site::with(&cluster.node(0).url()), 71);
    assert_found(about("server"), "bad", "redis+cluster://");
}

#[test]
fn what_may_not_be_asked_is_not_known_and_the_missing_right_is_named() {
    let server = RedisServer::start();
    let rules = "reset on >pw ~locks:* ~tenure:{* &tenure:wake:* +@all -@admin -info -@dangerous";
    let mut set: Vec<&str> = vec!["ACL", "SETUSER", "app"];
    set.extend(rules.split(' '));
    server.cli(&set);
    let url = |user: &str, prefix: &str| {
        format!("redis://{user}:pw@127.0.0.1:{}?prefix={prefix}", server.port())
    };
    let about = findings(&Site::with(&url("app", "locks:")), 0);
    assert_found(about("rights"), "good", "the user app may do all that locks need");
    for (what, right) in [
        ("memory", "+info"),
        ("restart", "+info"),
        ("failover", "+info"),
        ("spikes", "+latency|latest"),
        ("timeouts", "+config|get"),
    ] {
        assert_found(about(what), "unknown", right);
    }
    assert_found(about("server"), "good", "");
    // Keys that it may not touch.
    let about = findings(&Site::with(&url("app", "")), 71);
    assert_found(about("rights"), "bad", "ACL SETUSER app ~*");
    assert_found(about("lock"), "bad", "");
    server.cli(&["ACL", "SETUSER", "app", "resetchannels", "-pexpireat"]);
    let about = findings(&Site::with(&url("app", "locks:")), 71);
    assert_found(about("rights"), "bad", "ACL SETUSER app +pexpireat &tenure:wake:*");
}

#[test]
fn a_ttl_that_the_way_to_the_server_does_not_bear_is_told() {
    let server = RedisServer::start();
    let far = FaultProxy::start(server.port());
    far.set_both(Fault::Delay { by: Duration::from_millis(20), jitter: Duration::ZERO });
    let site = Site::with(&format!("redis://127.0.0.1:{}", far.port()));
    let judged = |ttl: &str| {
        let report = site.tenure(["doctor", "--json", "--ttl", ttl]).json();
        let all = report["stores"][0]["measurements"].as_array().unwrap().clone();
        all.into_iter().find(|finding| finding["what"] == "round_trip").unwrap()
    };
    let short = judged("200ms");
    assert_eq!((&short["standing"], &short["facts"]["ttl_ms"]), (&"bad".into(), &200.into()));
    assert!(40_000 <= short["facts"]["p50_us"].as_u64().unwrap(), "{short}");
    assert_ne!(judged("10m")["standing"], "bad");
}

#[test]
fn a_store_that_cannot_be_used_ends_doctor_as_any_other_command_and_promises_nothing() {
    let server = RedisServer::start();
    let port = server.port();
    let cluster = format!("redis+cluster://127.0.0.1:{port}");
    let far = format!("redis://127.0.0.1:{port}/99");
    assert_eq!(server.cli(&["CONFIG", "SET", "requirepass", "right"]), "OK");
    let plain = format!("redis://127.0.0.1:{port}");
    let wrong = format!("redis://:wrong@127.0.0.1:{port}");
    let with = |url: &str| url.replace("://", "://:right@");
    for (url, code, help) in [
        (plain.clone(), 77, "REDIS_PASSWORD"),
        (wrong, 77, "check user and password"),
        (with(&cluster), 64, "`redis://host:port`"),
        (with(&far), 64, "CONFIG GET databases"),
        ("redis://127.0.0.1:1".to_owned(), 69, "is the server running"),
    ] {
        let site = Site::with(&url);
        let done = site.tenure(["doctor"]);
        assert_eq!(done.code, code, "{url}: {done:?}");
        assert!(done.stdout.contains(help), "{url}: {done:?}");
        assert!(!done.stdout.contains("exclusion"), "{url}: {done:?}");
        let status = site.tenure(["status", "x"]);
        assert_eq!(status.code, code, "{url}: {status:?}");
        assert!(status.stderr.contains(help), "{url}: {status:?}");
    }
    assert_eq!(Site::with(&with(&plain)).tenure(["doctor"]).code, 0);
}
