//! Commands that take locks in opposite orders, each in the other's: one gives way, on every store.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::{Done, Site};
use tenure_testkit::servers::postgres::PostgresServer;
use tenure_testkit::servers::redis::RedisServer;

/// Two nested runs that cross: each holds one lock before either asks for the other's.
fn cross(site: &Site, options: &[&str]) -> (Done, Done) {
    let start = |held: &'static str, wanted: &'static str| {
        let program = env!("CARGO_BIN_EXE_tenure");
        let inner = format!(
            "echo held; read go; exec {program} run {} {wanted} -- echo both",
            options.join(" ")
        );
        let mut run = site.start(["run", "--owner", held, held, "--", "sh", "-c", &inner]);
        assert_eq!(run.line(), "held");
        run
    };
    let (mut left, mut right) = (start("a", "b"), start("b", "a"));
    left.tell("go");
    // The inner ones have the owners of the outer ones, by their environment.
    site.until("b", |lock| lock["waiters"][0]["owner"] == "a");
    right.tell("go");
    let right = right.wait();
    (left.wait(), right)
}

fn one_of_two_gives_way(site: &Site) {
    let (left, right) = cross(site, &[]);
    assert_eq!((left.code, left.stdout.as_str()), (0, "both\n"), "{}", left.stderr);
    assert_eq!((right.code, right.stdout.as_str()), (75, ""), "{}", right.stderr);
    for words in [
        "error: acquiring \"a\": a deadlock, and this one has to give way: b waits for \"a\", held by a; \
         a waits for \"b\", held by b\n",
        "help: release what is held and begin again",
    ] {
        assert!(right.stderr.contains(words), "{words:?} is not in {}", right.stderr);
    }
    assert!(site.is_free("a") && site.is_free("b"));
}

#[test]
fn nested_runs_that_cross_lose_one_of_them_on_files() {
    one_of_two_gives_way(&Site::new());
}

#[test]
fn nested_runs_that_cross_lose_one_of_them_on_redis() {
    let server = RedisServer::start();
    one_of_two_gives_way(&Site::with(&server.url()));
}

#[test]
fn nested_runs_that_cross_lose_one_of_them_on_postgresql() {
    let server = PostgresServer::start();
    one_of_two_gives_way(&Site::with(&server.url()));
}

/// A leader that waits, in its term, for what a run holds that waits to lead.
#[test]
fn an_election_and_a_run_that_cross_lose_one_of_them() {
    let site = Site::new();
    let program = env!("CARGO_BIN_EXE_tenure");
    let start = |outer: &str, held: &str, inner: &str, wanted: &str| {
        let inner = format!("echo held; read go; exec {program} {inner} {wanted} -- echo both");
        let mut run = site.start([outer, held, "--", "sh", "-c", &inner]);
        assert_eq!(run.line(), "held");
        run
    };
    let (mut left, mut right) = (start("elect", "a", "run", "b"), start("run", "b", "elect", "a"));
    left.tell("go");
    site.until("b", |lock| lock["waiters"].as_array().is_some_and(|all| all.len() == 1));
    right.tell("go");
    let (right, left) = (right.wait(), left.wait());
    assert_eq!((left.code, left.stdout.as_str()), (0, "both\n"), "{}", left.stderr);
    assert_eq!((right.code, right.stdout.as_str()), (75, ""), "{}", right.stderr);
    assert!(right.stderr.contains("acquiring \"a\": a deadlock"), "{}", right.stderr);
    assert!(site.is_free("a") && site.is_free("b"));
}

/// A command that runs once waits for what a run holds that waits for its result.
#[test]
fn a_call_that_runs_once_and_a_run_that_cross_lose_one_of_them() {
    let site = Site::new();
    let program = env!("CARGO_BIN_EXE_tenure");
    let key = "once/3=cli/3=key";
    let inner = format!("read go; exec {program} run a -- echo both");
    let mut left = site.start(["once", "--fingerprint", "x", "key", "--", "sh", "-c", &inner]);
    site.until(key, |lock| lock["locked"] == true);
    let inner = format!("echo held; read go; exec {program} once -E 9 --fingerprint x key -- true");
    let mut right = site.start(["run", "a", "--", "sh", "-c", &inner]);
    assert_eq!(right.line(), "held");
    left.tell("go");
    site.until("a", |lock| lock["waiters"].as_array().is_some_and(|all| all.len() == 1));
    right.tell("go");
    let (right, left) = (right.wait(), left.wait());
    assert_eq!((right.code, right.stdout.as_str()), (9, ""), "{}", right.stderr);
    assert!(right.stderr.contains("a deadlock, and this one has to give way"), "{}", right.stderr);
    assert_eq!((left.code, left.stdout.as_str()), (0, "both\n"), "{}", left.stderr);
    assert!(site.is_free("a") && site.is_free(key));
}

#[test]
fn a_deadlock_is_told_to_programs_with_the_exit_code_they_chose() {
    let site = Site::new();
    let (left, right) = cross(&site, &["--json", "-E", "9"]);
    assert_eq!(left.code, 0, "{}", left.stderr);
    assert_eq!(right.code, 9, "{}", right.stderr);
    let told = right.json();
    assert_eq!((&told["error"], &told["exit_code"]), (&"deadlock".into(), &9.into()));
    let step = |lock: &str, waiter: &str, waits_for: &str| serde_json::json!({ "lock": lock, "waiter": waiter, "waits_for": waits_for, "holds": true });
    assert_eq!(told["cycle"], serde_json::json!([step("a", "b", "a"), step("b", "a", "b")]));
}

#[test]
fn a_run_in_a_run_of_the_same_lock_is_told_that_it_waits_for_itself() {
    let site = Site::new();
    let program = env!("CARGO_BIN_EXE_tenure");
    let done = site.tenure(["run", "--owner", "ann", "a", "--", program, "run", "a", "--", "true"]);
    assert_eq!(done.code, 75, "{}", done.stderr);
    let words =
        "a deadlock with itself: ann waits for \"a\", held by ann, which waits until this is done";
    assert!(done.stderr.contains(words), "{}", done.stderr);
}

/// As `make -j` under a lock: what runs side by side is no deadlock, for as long as it takes.
#[test]
fn runs_side_by_side_in_one_run_wait_for_each_other_as_they_should() {
    let site = Site::new();
    let program = env!("CARGO_BIN_EXE_tenure");
    let script = format!(
        "{program} run ar -- sh -c 'echo first; read go' <&3 & {program} run ar -- echo second & wait"
    );
    let script = format!("exec 3<&0; {script}");
    let mut run = site.start(["run", "build", "--", "sh", "-c", &script]);
    let said = run.line();
    if said == "first" {
        site.until("ar", |lock| !lock["waiters"].as_array().unwrap().is_empty());
        let waited = site.tenure(["run", "-w", "2500ms", "ar", "--", "true"]);
        assert_eq!(waited.code, 75, "{}", waited.stderr);
        run.tell("go");
        assert_eq!(run.line(), "second");
    } else {
        assert_eq!(said, "second");
        assert_eq!(run.line(), "first");
        run.tell("go");
    }
    assert_eq!(run.wait().code, 0);
}

#[test]
fn a_name_of_the_environment_that_cannot_be_read_is_no_reason_not_to_lock() {
    let site = Site::new();
    for (actor, holds) in
        [("", ""), ("x\ny", "[]"), ("x", "{"), ("x", "[\"\"]"), (&"x".repeat(250), "[]")]
    {
        let mut command = site.command(["run", "a", "--", "true"]);
        let done =
            common::done(command.env("TENURE_ACTOR", actor).env("TENURE_ACTOR_HOLDS", holds));
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{actor:?} {holds:?}");
    }
}
