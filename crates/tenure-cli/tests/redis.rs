//! Every command on a real Redis server.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::process::Command;
use std::thread;

use common::{Done, Running, Site, done};
use serde_json::Value;
use tenure_testkit::servers::redis::RedisServer;

/// What nobody must ever read.
const CANARY: &str = "kanarienvogel";

fn serve() -> (RedisServer, Site) {
    let server = RedisServer::start();
    let site = Site::with(&server.url());
    (server, site)
}

fn with_token(site: &Site, token: &str, arguments: &[&str]) -> Done {
    done(site.command(arguments).env("TENURE_TOKEN", token))
}

#[test]
fn the_command_knows_its_lock_and_later_holders_have_higher_fencing_tokens() {
    let (_server, site) = serve();
    let script = "echo $TENURE_STORE_KIND $TENURE_LOCK $TENURE_FENCING_TOKEN; exit 3";
    let fence = || {
        let done = site.tenure(["run", "orders/42", "--", "sh", "-c", script]);
        assert_eq!(done.code, 3, "{}", done.stderr);
        assert_eq!(done.stderr, "");
        let said = done.stdout.trim().strip_prefix("redis orders/42 ").unwrap().to_owned();
        said.parse::<u64>().unwrap()
    };
    let first = fence();
    assert!(first < fence());
    assert!(site.is_free("orders/42"));
}

#[test]
fn a_token_renews_and_releases_what_outlives_its_process() {
    let (_server, site) = serve();
    let done = site.tenure(["acquire", "x", "--owner", "ann"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let token = done.stdout.trim();
    assert_eq!(site.json(["status", "--json", "x"])["holders"][0]["detached"], true);
    assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 75);
    let renewed = with_token(&site, token, &["renew", "--ttl", "1h", "--json", "x"]);
    assert_eq!(renewed.json()["ttl_ms"], 3_600_000, "{}", renewed.stderr);
    assert_eq!(with_token(&site, token, &["release", "x"]).code, 0);
    assert!(site.is_free("x"));
    assert_eq!(with_token(&site, token, &["renew", "x"]).code, 79);
    assert_eq!(with_token(&site, token, &["release", "x"]).code, 0);
}

#[test]
fn who_holds_and_who_waits_is_shown_listed_and_watched() {
    let (_server, site) = serve();
    let holder = site.hold("a/1", &["--owner", "ann", "--metadata", r#"{"build":42}"#]);
    let _reader = site.hold("a/2", &["-s"]);
    let _other = site.hold("b", &["--permits", "3"]);
    let mut waiter = site.start(["run", "--owner", "eve", "a/1", "--", "echo", "mine"]);
    let seen = site.until("a/1", |x| !x["waiters"].as_array().unwrap().is_empty());
    assert_eq!(
        (&seen["holders"][0]["owner"], &seen["waiters"][0]["owner"]),
        (&"ann".into(), &"eve".into())
    );
    assert_eq!(seen["holders"][0]["metadata"]["build"], 42);
    let list = site.json(["list", "--json", "a/"]);
    let names: Vec<_> = list["locks"].as_array().unwrap().iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["a/1", "a/2"]);
    // Handed over, not left behind.
    assert_eq!(holder.end().code, 7);
    assert_eq!(waiter.line(), "mine");
    assert_eq!(waiter.wait().code, 0);
}

#[test]
fn a_lock_that_is_taken_away_ends_its_command() {
    let (_server, site) = serve();
    let holder = site.hold("x", &["--ttl", "3s"]);
    let words = ["force-release", "x", "--yes", "--owner", "bob", "--reason", "too slow"];
    assert_eq!(site.tenure(words).code, 0);
    let lost = holder.wait();
    assert_eq!(lost.code, 79);
    assert!(lost.stderr.contains("bob") && lost.stderr.contains("too slow"), "{}", lost.stderr);
}

#[test]
fn a_server_that_goes_down_is_told_and_its_locks_are_lost() {
    let (server, site) = serve();
    let holder = site.hold("x", &["--ttl", "1s"]);
    server.kill();
    let lost = holder.wait();
    assert_eq!(lost.code, 79, "{}", lost.stderr);
    for arguments in [
        &["run", "-w", "100ms", "x", "--", "true"][..],
        &["status", "x"],
        &["list"],
        &["acquire", "x"],
        &["force-release", "x", "--yes", "--any", "--reason", "test"],
        &["doctor"],
    ] {
        let done = site.tenure(arguments);
        assert_eq!(done.code, 69, "{arguments:?}: {}", done.stderr);
    }
}

#[test]
fn a_wrong_password_is_no_permission() {
    let server = RedisServer::with(&[]).password("right").start();
    let site = Site::with(&format!("redis://:{CANARY}@127.0.0.1:{}", server.port()));
    for arguments in [&["run", "x", "--", "true"][..], &["status", "x"], &["list"]] {
        let done = site.tenure(arguments);
        assert_eq!(done.code, 77, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("help: "), "{}", done.stderr);
        assert!(!done.stderr.contains(CANARY), "{}", done.stderr);
    }
}

/// Everything that a program may say, at its most talkative.
fn all_that_is_said(site: &Site, url: &str) -> String {
    let mut said = String::new();
    for arguments in [
        &["run", "x", "--", "true"][..],
        &["run", "--quiet", "-n", "x", "--", "/no/such/program"],
        &["acquire", "-n", "y"],
        &["acquire", "-n", "y"],
        &["renew", "y"],
        &["release", "y"],
        &["status", "y"],
        &["list"],
        &["force-release", "y", "--yes", "--reason", "test"],
        &["key", "y"],
        &["key", "tenure:{y"],
        &["doctor"],
        &["doctor", "--no-measure"],
        &["run", "--help"],
    ] {
        for json in [None, Some("--json")] {
            let (first, rest) = arguments.split_first().unwrap();
            let mut command =
                site.command([*first].into_iter().chain(json).chain(rest.iter().copied()));
            command.env("TENURE_LOG", "trace").env("TENURE_STORE", url);
            let done = done(&mut command);
            said += &format!("{arguments:?} {}{}\n", done.stdout, done.stderr);
        }
    }
    said
}

#[test]
fn a_password_is_never_said() {
    let server = RedisServer::with(&[]).password(CANARY).start();
    let site = Site::new();
    let port = server.port();
    let good = format!("redis://:{CANARY}@127.0.0.1:{port}/");
    let said = all_that_is_said(&site, &good);
    assert!(said.contains(&format!("redis://127.0.0.1:{port}")), "{said}");
    assert!(!said.contains(CANARY), "{said}");
    for (at, url) in [
        format!("redis://{CANARY}:{CANARY}@127.0.0.1:{port}/"),
        format!("redis://:{CANARY}@127.0.0.1:{port}/x"),
        format!("redis://:{CANARY}@127.0.0.1:1/"),
        format!("redis+sentinel://:{CANARY}@127.0.0.1:{port}/main"),
        format!("redis+cluster://:{CANARY}@127.0.0.1:{port}"),
        format!("redis+unix:///no/such/socket?pass={CANARY}"),
    ]
    .iter()
    .enumerate()
    {
        let site = Site::with(url);
        let done = site.tenure(["status", "x"]);
        assert_ne!(done.code, 0, "{at}");
        assert!(
            !format!("{done:?}").contains(CANARY),
            "{at}: {}",
            done.stderr.replace(CANARY, "!!!")
        );
    }
}

#[test]
fn the_environment_says_where_redis_is() {
    let server = RedisServer::with(&[]).password("a@b/c").start();
    let site = Site::with("redis://");
    let with = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.env("REDIS_URL", format!("redis://127.0.0.1:{}?prefix=p:", server.port()));
        command.env("REDIS_PASSWORD", "a@b/c").env("REDIS_DB", "3");
        done(&mut command)
    };
    let acquired = with(&["acquire", "x", "--json"]);
    assert_eq!(acquired.code, 0, "{}", acquired.stderr);
    assert_eq!(acquired.json()["store"], format!("redis://127.0.0.1:{}/3", server.port()));
    let keys = server.cli(&["-n", "3", "KEYS", "*"]);
    assert!(keys.contains("p:x") && keys.contains("tenure:{p:x}"), "{keys}");
    assert_eq!(with(&["run", "-n", "x", "--", "true"]).code, 75);
    let key = with(&["key", "--json", "x"]).json();
    assert_eq!(key["key"], "p:x");
}

#[test]
fn a_password_from_the_environment_counts_for_an_address_and_options_for_the_bare_one() {
    let server = RedisServer::with(&[]).password("a@b/c").start();
    let address = format!("redis://127.0.0.1:{}", server.port());
    let key_of = |store: &str, password: &str| {
        let site = Site::with(store);
        let mut run = site.command(["run", "-n", "x", "--", "true"]);
        let code = done(run.env("REDIS_URL", &address).env("REDIS_PASSWORD", password)).code;
        let mut key = site.command(["key", "--json", "x"]);
        let key = done(key.env("REDIS_URL", &address).env("REDIS_PASSWORD", password)).json();
        (code, key["key"].clone())
    };
    assert_eq!(key_of(&address, "a@b/c"), (0, "x".into()));
    assert_eq!(key_of(&address, "another"), (77, "x".into()));
    assert_eq!(key_of("redis://?prefix=lock%3A", "a@b/c"), (0, "lock:x".into()));
}

#[test]
fn programs_that_set_and_delete_the_key_take_the_same_lock() {
    let (server, site) = serve();
    let key = site.json(["key", "--json", "x"])["key"].as_str().unwrap().to_owned();
    let set = |px: &str| server.cli(&["SET", &key, "token", "NX", "PX", px]);
    assert_eq!(set("60000"), "OK");
    let busy = site.tenure(["run", "-n", "x", "--", "true"]);
    assert_eq!(busy.code, 75);
    assert!(busy.stderr.contains("another program"), "{}", busy.stderr);
    let status = site.json(["status", "--json", "x"]);
    assert_eq!((&status["locked"], &status["holders"][0]["since"]), (&true.into(), &Value::Null));
    assert_eq!(server.cli(&["DEL", &key]), "1");
    let holder = site.hold("x", &[]);
    assert_eq!(set("60000"), "");
    assert_eq!(holder.end().code, 7);
    // A waiter of ours gets what another program lets run out.
    assert_eq!(set("300"), "OK");
    assert_eq!(site.tenure(["run", "-w", "20s", "x", "--", "true"]).code, 0);
    assert_eq!(set("300"), "OK");
}

/// How other libraries release and extend.
const RELEASE: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) \
                       else return 0 end";
const EXTEND: &str = "if redis.call('get', KEYS[1]) == ARGV[1] then \
                      return redis.call('pexpire', KEYS[1], ARGV[2]) else return 0 end";

#[test]
fn a_lock_by_set_and_scripts_that_compare_excludes_and_is_excluded() {
    let (server, site) = serve();
    let script =
        |script: &str, token: &str| server.cli(&["EVAL", script, "1", "x", token, "60000"]);
    assert_eq!(server.cli(&["SET", "x", "theirs", "NX", "EX", "1"]), "OK");
    assert_eq!(script(EXTEND, "theirs"), "1");
    assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 75);
    assert_eq!(script(RELEASE, "theirs"), "1");
    let holder = site.hold("x", &[]);
    // What is ours they can neither extend nor release, by whatever token.
    assert_eq!((script(EXTEND, "theirs"), script(RELEASE, "theirs")), ("0".into(), "0".into()));
    let mut waiter = site.start(["run", "x", "--", "sh", "-c", "echo mine; read line"]);
    site.until("x", |x| !x["waiters"].as_array().unwrap().is_empty());
    assert_eq!(holder.end().code, 7);
    // Handed over: there is no moment in which they could slip in.
    assert_eq!(server.cli(&["SET", "x", "theirs", "NX", "EX", "1"]), "");
    assert_eq!(waiter.line(), "mine");
    assert_eq!(waiter.end().code, 1);
    assert_eq!(server.cli(&["SET", "x", "theirs", "NX", "EX", "60"]), "OK");
}

/// Adds one with what every shell has.
const ADD_ONE: &str =
    "read n <counter; n=$((n+1)); echo $n >counter; echo $TENURE_FENCING_TOKEN >>log";

#[test]
fn eight_processes_that_add_one_fifty_times_each_lose_no_update() {
    let (_server, site) = serve();
    std::fs::write(site.work().join("counter"), "0\n").unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let done = site.tenure(["run", "x", "--", "sh", "-c", ADD_ONE]);
                    assert_eq!(done.code, 0, "{}", done.stderr);
                }
            });
        }
    });
    let counter = std::fs::read_to_string(site.work().join("counter")).unwrap();
    assert_eq!(counter.trim(), "400");
    let log = std::fs::read_to_string(site.work().join("log")).unwrap();
    let fences: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(fences.len(), 400);
    assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    assert!(site.is_free("x"));
}

#[test]
fn a_killed_holder_is_followed_after_its_ttl() {
    let (_server, site) = serve();
    let holder: Running = site.hold("x", &["--ttl", "1s"]);
    let mut waiter = site.start(["run", "x", "--", "echo", "mine"]);
    site.until("x", |x| !x["waiters"].as_array().unwrap().is_empty());
    holder.signal(rustix::process::Signal::KILL);
    assert_eq!(waiter.line(), "mine");
}

#[test]
fn a_key_of_another_type_is_told() {
    let (server, site) = serve();
    server.cli(&["RPUSH", "x", "1"]);
    let done = site.tenure(["run", "x", "--", "true"]);
    assert_eq!(done.code, 65, "{}", done.stderr);
    assert!(done.stderr.contains("another type"), "{}", done.stderr);
}

#[test]
fn a_store_is_routed_to_by_prefix() {
    let (server, site) = serve();
    let text = format!("[[route]]\nprefix = 'shared/'\nstore = '{}'\n", server.url());
    std::fs::write(site.work().join("tenure.toml"), text).unwrap();
    let mut command: Command = site.command(["status", "--json", "shared/x"]);
    let status: Value = done(command.env_remove("TENURE_STORE")).json();
    assert_eq!(status["store"], format!("redis://127.0.0.1:{}", server.port()));
}
