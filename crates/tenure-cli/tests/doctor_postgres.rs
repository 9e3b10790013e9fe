//! `tenure doctor` on PostgreSQL servers that are set up well, badly, and so that they say little.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::golden::{golden, normal};
use common::{Done, Site};
use regex::Regex;
use serde_json::Value;
use tenure_testkit::servers::patience;
use tenure_testkit::servers::postgres::{PgBouncer, PostgresServer, PostgresSetup};

/// A server as one is that people keep data on.
fn sound() -> PostgresSetup {
    PostgresSetup::new().durable().set("autovacuum", "on")
}

fn advisory(url: &str) -> String {
    url.replace("postgres://", "postgres+advisory://")
}

/// As another user, who is made here and has these rights.
fn as_app(server: &PostgresServer, rights: &str) -> String {
    server.psql(&format!("create user app; {rights}"));
    server.url().replace("postgres@", "app@")
}

/// Puts words in the place of what is measured, and of what is different from server to server.
fn approved(done: &Done, site: &Site) -> String {
    let mut text = format!("exit {}\n{}", done.code, normal(&done.stdout, site));
    for (pattern, word) in [
        (r"127\.0\.0\.1:\d+", "[SERVER]"),
        (r"PostgreSQL \d+(\.\d+)?", "PostgreSQL [VERSION]"),
        (r#""version":"[0-9.]+""#, r#""version":"[VERSION]""#),
        (r"\d+\.\d\d ms", "[MS] ms"),
        (r"of \d+ round trips", "of [N] round trips"),
        (r"back \d+ times", "back [N] times"),
        (r"\d+ of the server's", "[N] of the server's"),
        (
            r"sessions, \d+ are taken: this process takes up to \d+",
            "sessions, [N] are taken: this process takes up to [N]",
        ),
        (r"is \d+\.\d{3} s (behind|ahead of)", "is [S] s from"),
        (r"take \d+\.\d{3} s", "take [S] s"),
        (
            r#""(count|p50_us|max_us|took_us|free|taken|most|ahead_ms|give_or_take_ms)":-?\d+"#,
            r#""$1":[MS]"#,
        ),
        (r#""oldest_transaction_s":(\d+|null)"#, r#""oldest_transaction_s":[MS]"#),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, word).into_owned();
    }
    text
}

/// What is found about each thing: how it stands and what is said.
fn findings(url: &str, code: i32) -> impl Fn(&str) -> (String, String) + use<> {
    let done = Site::with(url).tenure(["doctor", "--json"]);
    assert_eq!(done.code, code, "{done:?}");
    let report = done.json();
    assert_eq!(report["ok"], code == 0);
    let all: Vec<Value> = report["stores"][0]["measurements"].as_array().unwrap().clone();
    move |what: &str| {
        let found: Vec<_> = all.iter().filter(|finding| finding["what"] == what).collect();
        assert_eq!(found.len(), 1, "{what}: {found:?} of {all:?}");
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
    let server = sound().start();
    let site = Site::with(&server.url());
    // Looking installs nothing.
    assert_found(findings(&server.url(), 0)("rights"), "note", "the first use does that");
    assert_found(findings(&server.url(), 0)("lock"), "unknown", "that would install something");
    assert_eq!(server.psql("select to_regnamespace('tenure') is null"), "t");
    assert_eq!(site.tenure(["install"]).code, 0);
    golden("doctor-postgres", &approved(&site.tenure(["doctor"]), &site));
    golden("doctor-postgres.json", &approved(&site.tenure(["doctor", "--json"]), &site));
    let site = Site::with(&advisory(&server.url()));
    assert_eq!(site.tenure(["install"]).code, 0);
    golden("doctor-postgres-advisory", &approved(&site.tenure(["doctor"]), &site));
    golden("doctor-postgres-advisory.json", &approved(&site.tenure(["doctor", "--json"]), &site));
}

#[test]
fn what_a_crash_of_the_host_forgets_is_told_by_how_the_server_waits_for_its_disk() {
    let server = sound().set("fsync", "off").start();
    let site = Site::with(&server.url());
    assert_eq!(site.tenure(["install"]).code, 0);
    let about = findings(&server.url(), 71);
    assert_found(about("restart"), "bad", "set fsync to on");
    assert_found(about("lock"), "good", "");
    assert_found(findings(&advisory(&server.url()), 71)("restart"), "bad", "fencing tokens again");
    server.psql("alter system set fsync = on; ");
    server.psql("alter system set synchronous_commit = off");
    server.psql("select pg_reload_conf()");
    patience::until(std::time::Duration::from_secs(10), "it has read its settings", || {
        server.psql("show fsync") == "on"
    });
    let about = findings(&server.url(), 0);
    assert_found(about("restart"), "good", "although synchronous_commit is off for others");
}

#[test]
fn a_pooler_is_seen_and_named() {
    let server = sound().start();
    let pooler = PgBouncer::by_transaction(&server);
    let url = server.url_at(pooler.port());
    assert_eq!(Site::with(&server.url()).tenure(["install"]).code, 0);
    let about = findings(&url, 0);
    assert_found(about("pooler"), "good", "leases in a table do not mind");
    assert_found(about("messages"), "note", "?listen=");
    assert_found(about("lock"), "good", "");
    let direct = server.url().replace('?', "%3F");
    assert_found(findings(&format!("{url}?listen={direct}"), 0)("messages"), "good", "");
    let about = findings(&advisory(&url), 71);
    assert_found(about("pooler"), "bad", "are refused");
    assert_found(about("lock"), "unknown", "see what is bad");
}

#[test]
fn the_rights_that_are_missing_are_named_as_statements() {
    let server = sound().start();
    let app = as_app(&server, "");
    let about = findings(&app, 71);
    assert_found(about("rights"), "bad", "tenure install --print");
    assert_found(about("rights"), "bad", "GRANT USAGE ON SCHEMA tenure TO app;");
    let install = |url: &str| assert_eq!(Site::with(url).tenure(["install"]).code, 0);
    install(&server.url());
    install(&advisory(&server.url()));
    assert_found(findings(&app, 71)("rights"), "bad", "GRANT USAGE ON SCHEMA tenure TO app;");
    server.psql("grant usage on schema tenure to app");
    let about = findings(&app, 0);
    assert_found(about("rights"), "good", "the user app may do all that locks need");
    assert_found(about("lock"), "good", "");
    server.psql("revoke execute on all functions in schema tenure from public");
    let missing = "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenure TO app;";
    assert_found(findings(&app, 71)("rights"), "bad", missing);
    let app = advisory(&app);
    let about = findings(&app, 71);
    assert_found(about("rights"), "bad", "GRANT USAGE ON SEQUENCE tenure.fence TO app;");
    server.psql("grant usage on sequence tenure.fence to app");
    let about = findings(&app, 0);
    assert_found(about("lock"), "good", "");
    assert_found(about("visibility"), "note", "GRANT pg_read_all_stats TO app");
}

#[test]
fn what_a_failover_forgets_is_told_by_whether_commits_wait() {
    let server = sound().start();
    assert_eq!(Site::with(&server.url()).tenure(["install"]).code, 0);
    let standby = server.standby_by(server.port());
    let about = findings(&standby.url(), 71);
    assert_found(about("server"), "bad", "name the primary");
    assert_found(findings(&server.url(), 0)("failover"), "note", "always a moment behind");
    let about = findings(&advisory(&server.url()), 0);
    assert_found(about("failover"), "note", "session locks are not copied");
    let wait_for = |names: &str| {
        server.psql(&format!("alter system set synchronous_standby_names = '{names}'"));
        server.psql("select pg_reload_conf()");
    };
    wait_for("*");
    patience::until(std::time::Duration::from_secs(20), "commits wait", || {
        server.psql("select count(*) from pg_stat_replication where sync_state = 'sync'") == "1"
    });
    let about = findings(&server.url(), 0);
    assert_found(about("failover"), "good", "no grant is forgotten");
    assert_found(about("lock"), "good", "");
    let app = as_app(&server, "grant usage on schema tenure to app");
    assert_found(findings(&app, 0)("failover"), "unknown", "pg_read_all_stats");
}

#[test]
fn a_server_that_is_nearly_full_is_told() {
    let server =
        sound().set("max_connections", "12").set("max_locks_per_transaction", "10").start();
    let url = advisory(&server.url());
    assert_eq!(Site::with(&url).tenure(["install"]).code, 0);
    let about = findings(&url, 0);
    assert_found(about("head_room"), "note", "room for 120 locks");
    assert_found(about("connections"), "note", "of the server's 12 sessions are free");
}
