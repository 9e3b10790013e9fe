//! The program on a majority of independent Redis servers.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::Site;
use serde_json::Value;
use tenure_testkit::servers::redis::RedisServer;

fn servers() -> Vec<RedisServer> {
    (0..3).map(|_| RedisServer::start()).collect()
}

fn url(servers: &[RedisServer]) -> String {
    let hosts: Vec<_> = servers.iter().map(|s| format!("127.0.0.1:{}", s.port())).collect();
    format!("redlock://{}?max_ttl=1s", hosts.join(","))
}

/// How each thing stands that doctor looked at, and what it says.
fn findings(site: &Site, code: i32) -> impl Fn(&str) -> (String, String) + use<> {
    let done = site.tenure(["doctor", "--json"]);
    assert_eq!(done.code, code, "{done:?}");
    let all = done.json()["stores"][0]["measurements"].as_array().cloned().unwrap_or_default();
    move |what| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found = all.iter().find(|f| f["what"] == what).unwrap_or_else(|| panic!("{all:?}"));
        (text(&found["standing"]), text(&found["detail"]))
    }
}

#[track_caller]
fn assert_found(found: (String, String), standing: &str, says: &str) {
    assert!(found.0 == standing && found.1.contains(says), "{found:?}");
}

#[test]
fn a_command_runs_under_a_lock_of_a_majority() {
    let servers = servers();
    let site = Site::with(&url(&servers));
    // New servers give no votes for a second; whoever waits does not notice more than that.
    let done =
        site.tenure(["run", "--ttl", "1s", "x", "--", "sh", "-c", "echo $TENURE_FENCING_TOKEN"]);
    assert_eq!(done.code, 0, "{done:?}");
    let first: u64 = done.stdout.trim().parse().unwrap();
    servers[0].kill();
    let done =
        site.tenure(["run", "--ttl", "1s", "x", "--", "sh", "-c", "echo $TENURE_FENCING_TOKEN"]);
    assert!(first < done.stdout.trim().parse().unwrap(), "{done:?}");
    let done = site.tenure(["run", "--ttl", "2s", "x", "--", "true"]);
    assert_ne!(done.code, 0);
    assert!(done.stderr.contains("max_ttl"), "{done:?}");
}

#[test]
fn doctor_says_whether_the_servers_are_a_majority_of_independent_ones() {
    let servers = servers();
    let site = Site::with(&url(&servers));
    let about = findings(&site, 0);
    assert_found(about("majority"), "good", "all 3 servers answer");
    assert_found(about("independence"), "good", "different masters");
    assert_found(about("votes"), "note", "3 of 3 were restarted or are new");
    assert_found(about("clock"), "good", "apart at most");
    assert_found(about("restart"), "good", "gives no votes for 1s");
    assert_found(about("restart"), "good", "3 of 3 keep nothing, and learn `max_ttl` anew");
    servers[0].kill();
    assert_found(findings(&site, 0)("majority"), "note", "locks outlive 0 more");
    servers[1].kill();
    assert_ne!(site.tenure(["doctor"]).code, 0);
}

#[test]
fn doctor_finds_a_server_that_is_named_twice() {
    let servers = servers();
    let twice = url(&servers).replace(
        &format!(",127.0.0.1:{}", servers[1].port()),
        &format!(",localhost:{}", servers[0].port()),
    );
    let done = Site::with(&twice).tenure(["doctor", "--json"]);
    assert_ne!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("one server is named more than once"), "{done:?}");
}

#[test]
fn an_address_that_names_no_majority_is_refused() {
    for (hosts, says) in [("a,b", "3, 5 or 7"), ("a,b,a", "3, 5 or 7"), ("a,b,c,d", "3, 5 or 7")] {
        let done = Site::with(&format!("redlock://{hosts}")).tenure(["status", "x"]);
        assert!(done.code != 0 && done.stderr.contains(says), "{done:?}");
    }
}
