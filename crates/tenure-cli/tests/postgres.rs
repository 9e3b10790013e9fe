//! Every command on a real PostgreSQL server, in both rooms.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::{Done, Site, done};
use serde_json::Value;
use tenure_testkit::servers::patience;
use tenure_testkit::servers::postgres::{PostgresServer, PostgresSetup};

/// What nobody must ever read.
const CANARY: &str = "kanarienvogel";
/// How long a state is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

fn serve() -> (PostgresServer, Site, Site) {
    let server = PostgresServer::start();
    let (table, advisory) = sites(&server);
    (server, table, advisory)
}

/// The lease table of a server, and its advisory locks.
fn sites(server: &PostgresServer) -> (Site, Site) {
    let url = server.url();
    (Site::with(&url), Site::with(&url.replace("postgres://", "postgres+advisory://")))
}

fn with_token(site: &Site, token: &str, arguments: &[&str]) -> Done {
    done(site.command(arguments).env("TENURE_TOKEN", token))
}

/// Waits until the lock looks so, and answers how. Advisory locks cannot be watched.
fn until(site: &Site, name: &str, like: impl Fn(&Value) -> bool) -> Value {
    let looked = patience::look_for(PATIENCE, || {
        let status = site.json(["status", "--json", name]);
        like(&status).then_some(status)
    });
    looked.unwrap_or_else(|| panic!("{name} does not come to look so"))
}

fn until_waited_for(site: &Site, name: &str) -> Value {
    until(site, name, |x| !x["waiters"].as_array().unwrap().is_empty())
}

#[test]
fn the_command_knows_its_lock_and_later_holders_have_higher_fencing_tokens() {
    let (_server, table, advisory) = serve();
    let script = "echo $TENURE_STORE_KIND $TENURE_LOCK $TENURE_FENCING_TOKEN; exit 3";
    for (site, kind) in [(table, "postgres"), (advisory, "postgres+advisory")] {
        let fence = || {
            let done = site.tenure(["run", "orders/42", "--", "sh", "-c", script]);
            assert_eq!(done.code, 3, "{}", done.stderr);
            assert_eq!(done.stderr, "");
            let said = done.stdout.trim().strip_prefix(&format!("{kind} orders/42 ")).unwrap();
            said.parse::<u64>().unwrap()
        };
        let first = fence();
        assert!(first < fence());
        assert!(site.is_free("orders/42"));
    }
}

#[test]
fn a_token_renews_and_releases_what_outlives_its_process() {
    let (_server, site, advisory) = serve();
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
    // A lock that ends with its session cannot outlive its process.
    let refused = advisory.tenure(["acquire", "x"]);
    assert_eq!(refused.code, 64, "{}", refused.stderr);
    assert!(refused.stderr.contains("end with their process"), "{}", refused.stderr);
}

#[test]
fn who_holds_and_who_waits_is_shown_listed_and_handed_over() {
    let (_server, table, advisory) = serve();
    let _reader = table.hold("a/2", &["-s"]);
    let _other = table.hold("b", &["--permits", "3"]);
    for site in [&table, &advisory] {
        let holder = site.hold("a/1", &["--owner", "ann", "--metadata", r#"{"build":42}"#]);
        let mut waiter = site.start(["run", "--owner", "eve", "a/1", "--", "echo", "mine"]);
        let seen = until_waited_for(site, "a/1");
        assert_eq!(seen["holders"][0]["owner"], "ann");
        assert_eq!(seen["waiters"].as_array().unwrap().len(), 1);
        assert_eq!(seen["holders"][0]["metadata"]["build"], 42);
        assert_eq!(holder.end().code, 7);
        assert_eq!(waiter.line(), "mine");
        assert_eq!(waiter.wait().code, 0);
    }
    let list = table.json(["list", "--json", "a/"]);
    let names: Vec<_> = list["locks"].as_array().unwrap().iter().map(|l| &l["name"]).collect();
    assert_eq!(names, ["a/2"]);
    assert_eq!(advisory.tenure(["list"]).code, 64, "the server knows numbers, and no names");
}

#[test]
fn a_lock_that_is_taken_away_ends_its_command() {
    let (_server, table, advisory) = serve();
    for site in [table, advisory] {
        let holder = site.hold("x", &["--ttl", "3s"]);
        let words = ["force-release", "x", "--yes", "--owner", "bob", "--reason", "too slow"];
        let taken = site.tenure(words);
        assert_eq!(taken.code, 0, "{}", taken.stderr);
        let lost = holder.wait();
        assert_eq!(lost.code, 79);
        assert!(lost.stderr.contains("bob") && lost.stderr.contains("too slow"), "{}", lost.stderr);
    }
}

#[test]
fn whoever_does_not_get_it_in_time_is_told_with_the_code_for_that() {
    let (_server, table, advisory) = serve();
    for site in [table, advisory] {
        let holder = site.hold("x", &[]);
        assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 75);
        assert_eq!(site.tenure(["run", "-w", "200ms", "x", "--", "true"]).code, 75);
        assert_eq!(site.tenure(["run", "-n", "-E", "3", "x", "--", "true"]).code, 3);
        assert_eq!(holder.end().code, 7);
        assert_eq!(site.tenure(["run", "-w", "30s", "x", "--", "sh", "-c", "exit 9"]).code, 9);
    }
}

#[test]
fn a_server_that_goes_down_is_told_and_its_locks_are_lost() {
    let (server, table, advisory) = serve();
    let holders = [&table, &advisory].map(|site| site.hold("x", &["--ttl", "1s"]));
    server.kill();
    for holder in holders {
        let lost = holder.wait();
        assert_eq!(lost.code, 79, "{}", lost.stderr);
    }
    for site in [table, advisory] {
        for arguments in [
            &["run", "-w", "100ms", "x", "--", "true"][..],
            &["status", "x"],
            &["force-release", "x", "--yes", "--any", "--reason", "test"],
            &["install"],
            &["doctor"],
        ] {
            let done = site.tenure(arguments);
            assert_eq!(done.code, 69, "{arguments:?}: {}", done.stderr);
        }
    }
}

#[test]
fn a_killed_holder_is_followed() {
    let (_server, table, advisory) = serve();
    for site in [table, advisory] {
        let holder = site.hold("x", &["--ttl", "1s"]);
        let mut waiter = site.start(["run", "x", "--", "echo", "mine"]);
        until_waited_for(&site, "x");
        holder.signal(rustix::process::Signal::KILL);
        assert_eq!(waiter.line(), "mine");
    }
}

#[test]
fn a_wrong_password_is_no_permission_and_is_never_said() {
    let server = PostgresSetup::new().password("right").start();
    let (port, site) = (server.port(), Site::new());
    for store in [
        format!("postgres://postgres:{CANARY}@127.0.0.1:{port}/postgres"),
        format!("postgres+advisory://postgres:{CANARY}@127.0.0.1:{port}/postgres"),
        format!("host=127.0.0.1 port={port} user=postgres password={CANARY}"),
        format!("host=127.0.0.1 port={port} user=postgres password='{CANARY}' room=advisory"),
    ] {
        for arguments in
            [&["run", "x", "--", "true"][..], &["status", "x"], &["doctor"], &["install"]]
        {
            for json in [None, Some("--json")] {
                let (first, rest) = arguments.split_first().unwrap();
                let words = [*first].into_iter().chain(json).chain(rest.iter().copied());
                let mut command = site.command(words);
                command.env("TENURE_LOG", "trace").env("TENURE_STORE", &store);
                let done = done(&mut command);
                let said = format!("{}{}", done.stdout, done.stderr).replace(CANARY, "!!!");
                assert!(!said.contains("!!!"), "{arguments:?}: {said}");
                let code = if arguments[0] == "doctor" { 69 } else { 77 };
                assert_eq!(done.code, code, "{arguments:?}: {said}");
            }
        }
    }
}

#[test]
fn keys_and_values_name_a_store_as_a_url_does() {
    let (server, _, _) = serve();
    let said = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", server.port());
    let address = format!("postgres://127.0.0.1:{}/postgres", server.port());
    let site = Site::with(&said);
    let _holder = site.hold("x", &[]);
    assert_eq!(site.json(["status", "--json", "x"])["store"], address);
    assert_eq!(Site::with(&server.url()).tenure(["run", "-n", "x", "--", "true"]).code, 75);
    // In tenure.toml, too.
    std::fs::write(site.work().join("tenure.toml"), format!("store = \"{said}\"\n")).unwrap();
    let mut status = site.command(["status", "--json", "x"]);
    assert_eq!(done(status.env_remove("TENURE_STORE")).json()["locked"], true);
    let site = Site::with(&format!("{said} room=advisory"));
    assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 0);
    let bad = Site::with("host=h password=hunter2 nonsense").tenure(["status", "x"]);
    assert_eq!(bad.code, 64, "{}", bad.stderr);
    assert!(!bad.stderr.contains("hunter2"), "{}", bad.stderr);
}

#[test]
fn the_environment_says_where_postgres_is_and_the_most_particular_wins() {
    let (server, _, _) = serve();
    server.psql("create database first");
    server.psql("create database second");
    let port = server.port().to_string();
    let store_of = |store: &str, variables: &[(&str, &str)]| -> Value {
        let site = Site::new();
        let mut command = site.command(["status", "--json", "x"]);
        command.env("TENURE_STORE", store).env("PGHOST", "127.0.0.1").env("PGPORT", &port);
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        let done = done(command.envs(variables.iter().copied()));
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.json()["store"].clone()
    };
    let at = |room: &str, database: &str| format!("{room}://127.0.0.1:{port}/{database}");
    let url = format!("postgres://postgres@127.0.0.1:{port}/first");
    let ours =
        [("TENURE_LOCK_POSTGRES_CONNECTION", url.as_str()), ("PGCONNECTION", "dbname=second")];
    assert_eq!(store_of("postgres://", &ours), at("postgres", "first"));
    assert_eq!(store_of("postgres+advisory://", &ours), at("postgres+advisory", "first"));
    assert_eq!(store_of("postgres://", &ours[1..]), at("postgres", "second"));
    assert_eq!(store_of("postgres://", &[]), at("postgres", "postgres"));
    // An address that says something is not added to.
    let whole = format!("postgres://postgres@127.0.0.1:{port}/second");
    assert_eq!(store_of(&whole, &ours), at("postgres", "second"));
}

#[test]
fn the_key_that_is_printed_is_the_one_that_others_take() {
    let (server, table, advisory) = serve();
    let key = advisory.json(["key", "--json", "orders/42"]);
    let sql = key["keys"][1]["key"].as_str().unwrap();
    let mut psql = server.psql_command("postgres", "postgres");
    psql.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut psql = psql.spawn().unwrap();
    let mut input = psql.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{sql};\n").as_bytes()).unwrap();
    until(&advisory, "orders/42", |x| x["locked"] == true);
    assert_eq!(advisory.tenure(["run", "-n", "orders/42", "--", "true"]).code, 75);
    drop(input);
    assert!(psql.wait().unwrap().success());
    assert_eq!(advisory.tenure(["run", "-w", "30s", "orders/42", "--", "true"]).code, 0);
    let given = advisory.json(["key", "--json", "key:42"]);
    assert_eq!(given["key"], "42");
    assert_eq!(table.json(["key", "--json", "x"])["key"], "tenure.cell");
}

#[test]
fn a_user_with_the_rights_that_are_documented_installs_and_another_one_locks() {
    let server = PostgresServer::start();
    server.psql("create user admin; create user app; create user \"Other App\"");
    server.psql("grant create on database postgres to admin");
    let by = |user: &str, site: &Site, words: &[&str]| {
        let store = site.url().replace("postgres@", &format!("{user}@"));
        done(site.command(words).env("TENURE_STORE", store))
    };
    let (table, advisory) = sites(&server);
    for site in [&table, &advisory] {
        let refused = by("app", site, &["install"]);
        assert_eq!(refused.code, 77, "{}", refused.stderr);
        assert!(refused.stderr.contains("tenure install --print"), "{}", refused.stderr);
        let first = by("admin", site, &["install", "--json", "--grant", "app"]);
        assert_eq!(first.code, 0, "{}", first.stderr);
        let first = first.json();
        assert_eq!((&first["installed"], &first["before"]), (&1.into(), &Value::Null));
        assert_eq!(first["schema"], "tenure");
        let again = by("admin", site, &["install"]);
        assert!(again.stdout.contains("version 1 is there"), "{again:?}");
        // Somebody who may not, and need not.
        assert_eq!(by("app", site, &["install"]).code, 0);
        assert_eq!(by("app", site, &["run", "x", "--", "true"]).code, 0);
        // By hand.
        let printed = by("app", site, &["install", "--print", "--grant", "Other App"]).stdout;
        assert!(printed.contains("TO \"Other App\";"), "{printed}");
        server.psql(&printed);
        let done = by("Other%20App", site, &["run", "x", "--", "true"]);
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
}

#[test]
fn a_store_that_needs_nothing_says_so() {
    let done = Site::new().tenure(["install"]);
    assert_eq!(done.code, 64);
    assert!(done.stderr.contains("needs nothing to be installed"), "{}", done.stderr);
}

/// Adds one with what every shell has.
const ADD_ONE: &str =
    "read n <counter; n=$((n+1)); echo $n >counter; echo $TENURE_FENCING_TOKEN >>log";

#[test]
fn four_processes_that_add_one_twenty_five_times_each_lose_no_update() {
    let (_server, table, advisory) = serve();
    for site in [table, advisory] {
        std::fs::write(site.work().join("counter"), "0\n").unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let done = site.tenure(["run", "x", "--", "sh", "-c", ADD_ONE]);
                        assert_eq!(done.code, 0, "{}", done.stderr);
                    }
                });
            }
        });
        let counter = std::fs::read_to_string(site.work().join("counter")).unwrap();
        assert_eq!(counter.trim(), "100");
        let log = std::fs::read_to_string(site.work().join("log")).unwrap();
        let fences: Vec<u64> = log.lines().map(|line| line.parse().unwrap()).collect();
        assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
        assert!(site.is_free("x"));
    }
}
