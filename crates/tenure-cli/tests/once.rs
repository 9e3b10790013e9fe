//! `tenure once`: one execution, and everybody prints the same.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::fs;
use std::thread;

use common::golden::{golden, normal};
use common::{Done, Running, Site};
use rustix::process::Signal;

/// A command that writes itself into the ledger, waits until it may end, and prints on both streams.
const SLOW: &str = "echo run $TENURE_ATTEMPT >> ledger
    until [ -e go ]; do sleep 0.02; done
    printf 'out\\nline\\0two\\n'; echo err >&2; exit 3";

fn ledger(site: &Site) -> Vec<String> {
    let text = fs::read_to_string(site.work().join("ledger")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn may_end(site: &Site) {
    fs::write(site.work().join("go"), "").unwrap();
}

fn once(site: &Site) -> Running {
    site.start(["once", "--lease", "3s", "key", "--", "sh", "-c", SLOW])
}

/// Looks again and again; the harness of the tests ends what never comes.
#[allow(clippy::disallowed_methods, reason = "another process is looked at")]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed().as_secs() < 60, "never: {what}");
        thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn followers(site: &Site) -> u64 {
    site.json(["once", "--status", "key", "--json"])["followers"].as_u64().unwrap()
}

fn assert_alike(done: &[Done]) {
    for one in done {
        let seen = (one.code, one.stdout.as_str(), one.stderr.as_str());
        assert_eq!(seen, (3, "out\nline\0two\n", "err\n"));
    }
}

#[test]
fn eight_at_once_are_one_execution_and_print_the_same() {
    let site = Site::new();
    let calls: Vec<_> = (0..8).map(|_| once(&site)).collect();
    until("seven follow", || followers(&site) == 7);
    may_end(&site);
    let done: Vec<Done> = calls.into_iter().map(Running::wait).collect();
    assert_alike(&done);
    assert_eq!(ledger(&site), ["run 1"]);
    // And whoever comes later.
    assert_alike(&[site.tenure(["once", "key", "--", "sh", "-c", SLOW])]);
    assert_eq!(ledger(&site), ["run 1"]);
}

#[test]
fn a_leader_that_is_killed_is_followed_by_exactly_one() {
    let site = Site::new();
    let leader = once(&site);
    until("it runs", || ledger(&site).len() == 1);
    let calls: Vec<_> = (0..7).map(|_| once(&site)).collect();
    until("seven follow", || followers(&site) == 7);
    leader.signal(Signal::KILL);
    until("another runs", || ledger(&site).len() == 2);
    until("six follow", || followers(&site) == 6);
    may_end(&site);
    let done: Vec<Done> = calls.into_iter().map(Running::wait).collect();
    assert_alike(&done);
    assert_eq!(ledger(&site), ["run 1", "run 2"]);
}

#[test]
fn what_may_run_only_once_is_not_run_again() {
    let site = Site::new();
    let words = ["once", "--policy", "at-most-once", "key", "--", "sh", "-c", SLOW];
    let leader = site.start(words);
    until("it runs", || ledger(&site).len() == 1);
    let follower = site.start(words);
    until("one follows", || followers(&site) == 1);
    leader.signal(Signal::KILL);
    let done = follower.wait();
    assert_eq!((done.code, done.stdout.as_str()), (76, ""), "{}", done.stderr);
    assert_eq!(site.json(["once", "--status", "key", "--json"])["state"], "unknown");
    may_end(&site);
    assert_eq!(site.tenure(["once", "--forget", "key"]).code, 0);
    assert_alike(&[site.tenure(words)]);
    assert_eq!(ledger(&site), ["run 1", "run 1"]);
}

#[test]
fn a_signal_ends_the_command_and_the_next_call_runs_it_again() {
    let site = Site::new();
    let leader = once(&site);
    until("it runs", || ledger(&site).len() == 1);
    let follower = once(&site);
    until("one follows", || followers(&site) == 1);
    leader.signal(Signal::TERM);
    let done = leader.wait();
    assert_eq!(done.code, 128 + 15, "{}", done.stderr);
    until("another runs", || ledger(&site).len() == 2);
    // One that only waits is ended itself.
    let waiting = once(&site);
    until("one follows", || followers(&site) == 1);
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.wait().code, 128 + 15);
    until("nobody follows", || followers(&site) == 0);
    may_end(&site);
    assert_alike(&[follower.wait()]);
    assert_eq!(ledger(&site), ["run 1", "run 2"]);
}

#[test]
fn failures_are_tried_again_if_that_was_asked_for() {
    let site = Site::new();
    let fails = ["once", "--on-failure", "retry", "--max-attempts", "2", "key", "--"];
    let fails =
        || site.tenure(fails.into_iter().chain(["sh", "-c", "echo $TENURE_ATTEMPT; exit 4"]));
    for attempt in ["1\n", "2\n"] {
        let done = fails();
        assert_eq!((done.code, done.stdout.as_str()), (4, attempt));
    }
    let done = fails();
    assert_eq!((done.code, done.stdout.as_str()), (75, ""));
    assert!(done.stderr.contains("exit code 4"), "{}", done.stderr);
    let forced = site.tenure(["once", "--force", "key", "--", "echo", "done"]);
    assert_eq!((forced.code, forced.stdout.as_str()), (0, "done\n"));
    let again = site.tenure(["once", "key", "--", "echo", "done"]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "done\n"));
}

#[test]
fn what_a_signal_ended_is_not_run_again_where_it_may_run_only_once() {
    let site = Site::new();
    let words = ["once", "--policy", "at-most-once", "key", "--", "sh", "-c", "kill -9 $$"];
    assert_eq!(site.tenure(words).code, 137);
    let again = site.tenure(words);
    assert_eq!(again.code, 75, "{}", again.stderr);
    assert!(again.stderr.contains("tenure once --forget KEY"), "{}", again.stderr);
    assert_eq!(site.tenure(["once", "--forget", "key"]).code, 0);
    assert_eq!(site.tenure(words).code, 137);
}

#[test]
fn what_somebody_is_at_cannot_be_forgotten() {
    let site = Site::new();
    let mut leader = site.start(["once", "key", "--", "sh", "-c", "read go"]);
    site.until("once/3=cli/3=key", |lock| lock["locked"] == true);
    let forget = site.tenure(["once", "-E", "9", "--forget", "key"]);
    assert_eq!(forget.code, 9, "{}", forget.stderr);
    assert!(forget.stderr.contains("tenure force-release NAME"), "{}", forget.stderr);
    leader.tell("go");
    assert_eq!(leader.wait().code, 0);
    assert_eq!(site.tenure(["once", "--forget", "key"]).code, 0);
}

#[test]
fn a_lost_lease_ends_the_command_and_the_successors_output_is_printed() {
    let site = Site::new();
    let mine = ["--lease", "1s", "--fingerprint", "same", "key", "--", "sh", "-c"];
    let script = "echo run >> ledger; echo partial; trap 'echo ended > ended; exit' TERM
        while :; do sleep 0.02; done";
    let loser = site.start(["once"].into_iter().chain(mine).chain([script]));
    until("it runs", || ledger(&site).len() == 1);
    let winner =
        site.start(["once"].into_iter().chain(mine).chain(["echo run >> ledger; echo won"]));
    until("one follows", || followers(&site) == 1);
    let status = site.json(["once", "--status", "key", "--json"]);
    let name = status["name"].as_str().unwrap();
    let force = site.tenure(["force-release", "--yes", "--any", "--reason", "it hangs", name]);
    assert_eq!(force.code, 0, "{}", force.stderr);
    for call in [winner, loser] {
        let done = call.wait();
        assert_eq!((done.code, done.stdout.as_str()), (0, "won\n"), "{}", done.stderr);
    }
    assert_eq!(ledger(&site).len(), 2);
    assert!(site.work().join("ended").exists(), "it had time to tidy up");
}

#[test]
fn output_that_is_too_long_is_passed_through_and_not_run_again() {
    let site = Site::new();
    let long = ["once", "key", "--", "sh", "-c", "echo run >> ledger; head -c 2000000 /dev/zero"];
    let done = site.tenure(long);
    assert_eq!((done.code, done.stdout.len()), (73, 2_000_000), "{}", done.stderr);
    let again = site.tenure(long);
    assert_eq!((again.code, again.stdout.as_str()), (75, ""), "{}", again.stderr);
    assert_eq!(ledger(&site).len(), 1);
}

#[test]
fn a_background_process_that_keeps_the_pipe_keeps_nobody_waiting() {
    let site = Site::new();
    let done =
        site.tenure(["once", "key", "--", "sh", "-c", "sleep 300 & echo $! > pid; echo done"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, "done\n"));
    let pid = fs::read_to_string(site.work().join("pid")).unwrap();
    let _ = std::process::Command::new("kill").arg(pid.trim()).status();
}

/// Everything that a program left behind.
fn whole(done: &Done, site: &Site) -> String {
    let mut text = format!("exit {}\n", done.code);
    for (label, stream) in [("stdout", &done.stdout), ("stderr", &done.stderr)] {
        if !stream.is_empty() {
            text += &format!("--- {label}\n{}", normal(stream, site));
        }
    }
    text
}

#[test]
fn what_people_and_programs_see() {
    let site = Site::new();
    let both = |name: &str, words: &[&str]| {
        golden(name, &whole(&site.tenure([&["once"], words].concat()), &site));
        golden(
            &format!("{name}.json"),
            &whole(&site.tenure([&["once", "--json"], words].concat()), &site),
        );
    };
    both("once-status-none", &["--status", "key"]);
    both("once", &["--owner", "ann", "key", "--", "echo", "hello"]);
    both("once-status-done", &["--status", "key"]);
    both("once-error-conflict", &["key", "--", "echo", "other"]);
    both("once-forget", &["--forget", "key"]);
    both("once-error-not-found", &["lost", "--", "/no/such/program"]);
    both("once-error-no-command", &["key"]);
    let _leader = site.start(["once", "--owner", "ann", "slow", "--", "sh", "-c", SLOW]);
    until("it runs", || ledger(&site).len() == 1);
    both("once-status-in-progress", &["--status", "slow"]);
    both("once-error-still-running", &["-n", "slow", "--", "sh", "-c", SLOW]);
    let off = Site::with("off:");
    golden("once-error-unsupported", &whole(&off.tenure(["once", "key", "--", "true"]), &off));
}
