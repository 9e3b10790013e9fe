//! `tenure run`, from the outside.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::io::Write;
use std::process::Stdio;

use common::{Running, Site, done};
use rustix::process::Signal;

#[test]
fn the_commands_exit_code_is_passed_on_and_the_lock_is_free_afterwards() {
    let site = Site::new();
    assert_eq!(site.tenure(["run", "x", "--", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(site.tenure(["run", "x", "--", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 0);
    assert!(site.is_free("x"));
}

#[test]
fn the_command_knows_its_lock_and_nothing_that_could_release_it() {
    let site = Site::new();
    let done = site.tenure(["run", "--owner", "me", "a b/ü", "--", "env"]);
    let variable = |name: &str| {
        let begin = format!("{name}=");
        done.stdout.lines().find_map(|line| line.strip_prefix(&begin).map(str::to_owned))
    };
    assert_eq!(variable("TENURE_LOCK").as_deref(), Some("a b/ü"));
    assert_eq!(variable("TENURE_OWNER").as_deref(), Some("me"));
    assert_eq!(variable("TENURE_STORE_KIND").as_deref(), Some("file"));
    assert!(variable("TENURE_FENCING_TOKEN").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(variable("TENURE_TOKEN"), None);
}

#[test]
fn later_holders_have_higher_fencing_tokens() {
    let site = Site::new();
    let fence = || {
        let done = site.tenure(["run", "x", "--", "sh", "-c", "echo $TENURE_FENCING_TOKEN"]);
        done.stdout.trim().parse::<u64>().unwrap()
    };
    let first = fence();
    assert!(first < fence());
}

#[test]
fn stdin_and_stdout_belong_to_the_command() {
    let site = Site::new();
    let mut command = site.command(["run", "x", "--", "tr", "a-z", "A-Z"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"HELLO"[..], &b""[..]));
}

#[test]
fn a_lock_that_is_held_is_not_acquired() {
    let site = Site::new();
    let _holder = site.hold("x", &[]);
    for options in [
        &["-n"][..],
        &["-w", "0"],
        &["-w", "50ms"],
        &["--on-conflict", "fail"],
        &["--retries", "1"],
    ] {
        let done = site.tenure(["run", "x"].iter().chain(options).chain(&["--", "true"]));
        assert_eq!(done.code, 75, "{options:?}");
        assert!(
            done.stderr.contains("held by") && done.stderr.contains("help:"),
            "{}",
            done.stderr
        );
    }
    assert_eq!(site.tenure(["run", "-n", "-E", "9", "x", "--", "true"]).code, 9);
    let quiet = site.tenure(["run", "-n", "-q", "x", "--", "true"]);
    assert_eq!((quiet.code, quiet.stderr.as_str()), (75, ""));
}

#[test]
fn a_waiter_is_served_when_the_holder_ends() {
    let site = Site::new();
    let holder = site.hold("x", &[]);
    let mut waiter = site.start(["run", "--priority", "3", "x", "--", "echo", "mine"]);
    let seen = site.until("x", |x| x["waiters"].as_array().unwrap().len() == 1);
    assert_eq!(seen["waiters"][0]["priority"], 3);
    assert_eq!(seen["waiters"][0]["position"], 1);
    assert_eq!(holder.end().code, 7);
    assert_eq!(waiter.line(), "mine");
    assert_eq!(waiter.wait().code, 0);
}

#[test]
fn readers_share_and_a_writer_does_not() {
    let site = Site::new();
    let _reader = site.hold("x", &["--shared"]);
    assert_eq!(site.tenure(["run", "-n", "-s", "x", "--", "true"]).code, 0);
    assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 75);
}

#[test]
fn permits_are_counted_and_everybody_says_the_same_number() {
    let site = Site::new();
    let _two = site.hold("x", &["--permits", "3", "--take", "2"]);
    let _one = site.hold("x", &["--permits", "3"]);
    assert_eq!(site.tenure(["run", "-n", "--permits", "3", "x", "--", "true"]).code, 75);
    let other = site.tenure(["run", "-n", "--permits", "4", "x", "--", "true"]);
    assert_eq!(other.code, 64, "{}", other.stderr);
    assert!(other.stderr.contains("same number of permits"));
}

#[test]
fn a_command_that_cannot_run_leaves_nothing_held() {
    let site = Site::new();
    let missing = site.tenure(["run", "x", "--", "/no/such/program"]);
    assert_eq!(missing.code, 127);
    assert!(missing.stderr.contains("/no/such/program"), "{}", missing.stderr);
    assert_eq!(site.tenure(["run", "x", "--", "/etc/passwd"]).code, 126);
    assert!(site.is_free("x"));
}

#[test]
fn a_signal_while_waiting_leaves_nothing_held_or_queued() {
    let site = Site::new();
    let _holder = site.hold("x", &[]);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let waiter = site.start(["run", "x", "--", "true"]);
        site.until("x", |x| x["waiters"].as_array().unwrap().len() == 1);
        waiter.signal(signal);
        assert_eq!(waiter.wait().code, code);
        let status = site.json(["status", "--json", "x"]);
        assert_eq!(status["waiters"].as_array().unwrap().len(), 0);
        assert_eq!(status["holders"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn signals_are_passed_on_to_the_command() {
    let site = Site::new();
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    let mut running = site.start(["run", "x", "--", "sh", "-c", script]);
    assert_eq!(running.line(), "ready");
    running.signal(Signal::USR1);
    assert_eq!(running.line(), "got it");
    assert_eq!(running.wait().code, 5);
    assert!(site.is_free("x"));
}

#[test]
fn a_holder_that_is_evicted_is_ended_and_told_by_whom() {
    let site = Site::new();
    let mut holder = site.start([
        "run",
        "--ttl",
        "1s",
        "x",
        "--",
        "sh",
        "-c",
        "trap 'echo tidy; exit 0' TERM; echo held; read line",
    ]);
    assert_eq!(holder.line(), "held");
    let evicted =
        site.tenure(["force-release", "x", "--yes", "--owner", "ann", "--reason", "too slow"]);
    assert_eq!(evicted.code, 0, "{}", evicted.stderr);
    assert_eq!(holder.line(), "tidy");
    let done = holder.wait();
    assert_eq!(done.code, 79);
    assert!(done.stderr.contains("ann force-released it: too slow"), "{}", done.stderr);
}

#[test]
fn a_command_that_ignores_sigterm_is_killed() {
    let site = Site::new();
    let script = "trap '' TERM; echo held; read line; read line; sleep 1000";
    let mut holder =
        site.start(["run", "--kill-after", "100ms", "--ttl", "1s", "x", "--", "sh", "-c", script]);
    assert_eq!(holder.line(), "held");
    site.tenure(["force-release", "x", "--yes", "--reason", "test"]);
    let done = holder.wait();
    assert_eq!(done.code, 79);
    assert!(done.stderr.contains("SIGKILL in"), "{}", done.stderr);
}

#[test]
fn a_lock_that_is_not_renewed_ends_its_command_in_time() {
    let site = Site::new();
    let mut holder = site.start([
        "run",
        "--no-renew",
        "--ttl",
        "400ms",
        "x",
        "--",
        "sh",
        "-c",
        "echo held; read line",
    ]);
    assert_eq!(holder.line(), "held");
    // Whoever waits gets it only after the command is gone.
    let next = site.tenure(["run", "x", "--", "true"]);
    assert_eq!(next.code, 0);
    let done = holder.wait();
    assert_eq!(done.code, 79);
    assert!(done.stderr.contains("its lease ended"), "{}", done.stderr);
}

#[test]
fn a_command_may_run_on_without_its_lock_and_the_exit_code_tells() {
    let site = Site::new();
    let holder = site.hold("x", &["--on-lost", "ignore"]);
    assert_eq!(site.tenure(["run", "--on-conflict", "force", "x", "--", "true"]).code, 0);
    let done = holder.end();
    assert_eq!(done.code, 79);
    assert!(done.stderr.contains("was lost while the command ran"), "{}", done.stderr);
}

#[test]
fn a_killed_tenure_takes_its_command_with_it_and_the_lock_is_free_at_once() {
    let site = Site::new();
    // The pipe ends when the command is gone.
    let holder = site.hold("x", &["--ttl", "1h"]);
    holder.signal(Signal::KILL);
    assert_eq!(holder.wait().code, -9);
    assert_eq!(site.tenure(["run", "-w", "10s", "x", "--", "true"]).code, 0);
}

#[test]
fn a_release_that_was_not_confirmed_is_told() {
    let site = Site::new();
    let holder = site.hold("x", &["--ttl", "1s", "--on-lost", "ignore"]);
    let key = site.json(["key", "--json", "x"])["key"].as_str().unwrap().to_owned();
    // From now on the store cannot make sense of what it finds.
    std::fs::rename(&key, site.path().join("gone")).unwrap();
    std::fs::write(&key, "not a directory").unwrap();
    let done = holder.end();
    let told = done.stderr.contains("was not confirmed") && done.stderr.contains("is free after");
    assert!(told && done.code == 7, "{} {}", done.code, done.stderr);
}

#[test]
fn json_tells_how_it_went() {
    let site = Site::new();
    let run = site.tenure(["run", "--json", "--owner", "me", "x", "--", "sh", "-c", "exit 4"]);
    assert_eq!(run.code, 4);
    let run = run.json();
    assert_eq!(run["kind"], "run");
    assert_eq!(run["name"], "x");
    assert_eq!(run["owner"], "me");
    assert_eq!(run["command"]["exit_code"], 4);
    assert_eq!(run["release"], "released");
    assert_eq!(run["exit_code"], 4);
    assert!(run["fence"].is_string());
    assert!(run["lost"].is_null());
    let _holder = site.hold("x", &[]);
    let busy = site.tenure(["run", "--json", "-n", "x", "--", "true"]).json();
    assert_eq!((&busy["kind"], &busy["error"]), (&"error".into(), &"busy".into()));
    assert_eq!(busy["exit_code"], 75);
    assert_eq!(busy["holders"].as_array().unwrap().len(), 1);
}

#[test]
fn a_silent_holder_is_stolen_from_and_a_lively_one_is_not() {
    let site = Site::new();
    let _lively = site.hold("x", &["--ttl", "300ms"]);
    let steal = ["run", "-w", "1s", "--on-conflict", "steal-stale=100ms", "x", "--", "true"];
    assert_eq!(site.tenure(steal).code, 75);
    // A lease without a process gives no signs of life.
    assert_eq!(site.tenure(["acquire", "--ttl", "1h", "y"]).code, 0);
    let steal = ["run", "-w", "20s", "--on-conflict", "steal-stale=100ms", "y", "--", "true"];
    let done = site.tenure(steal);
    assert_eq!(done.code, 0, "{}", done.stderr);
}

#[test]
fn a_store_that_is_switched_off_says_so_once() {
    let site = Site::with("off:");
    let done = site.tenure(["run", "x", "--", "sh", "-c", "exit 3"]);
    assert_eq!(done.code, 3);
    assert_eq!(done.stderr.matches("switched off").count(), 1, "{}", done.stderr);
    assert_eq!(site.tenure(["run", "-q", "x", "--", "true"]).stderr, "");
}

#[test]
fn many_at_once_are_never_inside_together() {
    let site = Site::new();
    let script = "mkdir inside && rmdir inside";
    let start = |_| site.start(["run", "x", "--", "sh", "-c", script]);
    let running: Vec<Running> = (0..12).map(start).collect();
    for one in running {
        let done = one.wait();
        assert_eq!(done.code, 0, "{}", done.stderr);
    }
    assert!(site.is_free("x"));
}

#[test]
fn an_unreachable_store_is_told_apart_from_a_busy_one() {
    let site = Site::new();
    std::fs::write(site.path().join("locks"), "not a directory").unwrap();
    let done = done(&mut site.command(["run", "-n", "x", "--", "true"]));
    assert!(done.code != 75 && done.code != 0, "{} {}", done.code, done.stderr);
}
