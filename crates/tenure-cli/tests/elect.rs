//! `tenure elect`, from the outside.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::{Running, Site};
use rustix::process::Signal;
use tenure_testkit::servers::redis::RedisSetup;

/// Says its term, and ends with 7 when its stdin does.
const LEAD: &str = "echo $TENURE_FENCING_TOKEN; read line; exit 7";

fn candidate(site: &Site, options: &[&str], script: &str) -> Running {
    let words = ["elect", "x"].into_iter().chain(options.iter().copied());
    site.start(words.chain(["--", "sh", "-c", script]))
}

fn term(candidate: &mut Running) -> u64 {
    candidate.line().parse().unwrap()
}

fn waits(site: &Site) {
    site.until("x", |x| x["waiters"].as_array().unwrap().len() == 1);
}

#[test]
fn the_command_runs_while_it_leads_and_its_exit_code_is_passed_on() {
    let site = Site::new();
    assert_eq!(site.tenure(["elect", "x", "--", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(site.tenure(["elect", "x", "--", "sh", "-c", "kill -9 $$"]).code, 137);
    assert_eq!(site.tenure(["elect", "-n", "x", "--", "/no/such/program"]).code, 127);
    let env = site.tenure(["elect", "--owner", "ann", "x", "--", "env"]).stdout;
    for line in ["TENURE_LOCK=x", "TENURE_OWNER=ann", "TENURE_STORE_KIND=file"] {
        assert!(env.lines().any(|l| l == line), "{env}");
    }
    assert!(site.is_free("x"));
}

#[test]
fn the_next_candidate_leads_in_a_higher_term_when_the_command_of_the_leader_has_ended() {
    let site = Site::new();
    let mut leader = candidate(&site, &[], LEAD);
    let first = term(&mut leader);
    for options in [&["-n"][..], &["-w", "50ms"]] {
        let words = ["elect", "x"].iter().chain(options).chain(&["--", "true"]);
        assert_eq!(site.tenure(words).code, 75, "{options:?}");
    }
    assert_eq!(site.tenure(["elect", "-n", "-E", "9", "x", "--", "true"]).code, 9);
    let mut next = candidate(&site, &[], LEAD);
    waits(&site);
    assert_eq!(leader.end().code, 7);
    assert!(first < term(&mut next));
    assert_eq!(next.end().code, 7);
}

#[test]
fn a_command_whose_term_is_lost_is_ended_and_begins_anew_in_the_next_term() {
    let site = Site::new();
    let script = "trap 'echo tidy; exit 0' TERM; echo $TENURE_FENCING_TOKEN; read line; exit 7";
    // So long that a busy machine runs the trap before the lease can end.
    let mut leader = candidate(&site, &["--ttl", "6s"], script);
    let mut last = 0;
    for _ in 0..2 {
        let now = term(&mut leader);
        assert!(last < now);
        last = now;
        let force = ["force-release", "x", "--yes", "--owner", "ann", "--reason", "too slow"];
        assert_eq!(site.tenure(force).code, 0);
        assert_eq!(leader.line(), "tidy");
    }
    assert!(last < term(&mut leader));
    let done = leader.end();
    assert_eq!(done.code, 7);
    assert_eq!(
        done.stderr.matches("ann force-released it: too slow").count(),
        2,
        "{}",
        done.stderr
    );
}

#[test]
fn a_leader_that_was_replaced_waits_for_its_turn_and_a_signal_ends_that() {
    let site = Site::new();
    let mut leader = candidate(&site, &["--ttl", "1s"], LEAD);
    let first = term(&mut leader);
    let mut next = candidate(&site, &[], LEAD);
    waits(&site);
    let force = ["force-release", "x", "--yes", "--reason", "test"];
    assert_eq!(site.tenure(force).code, 0);
    assert!(first < term(&mut next));
    waits(&site);
    leader.signal(Signal::TERM);
    assert_eq!(leader.wait().code, 143);
    assert_eq!(next.end().code, 7);
    assert!(site.is_free("x"));
}

#[test]
fn a_killed_leader_takes_its_command_with_it_and_the_next_leads() {
    let site = Site::new();
    let mut leader = candidate(&site, &["--ttl", "1h"], LEAD);
    let first = term(&mut leader);
    let mut next = candidate(&site, &[], LEAD);
    waits(&site);
    leader.signal(Signal::KILL);
    // Both ends of its pipes are closed: the command is gone, too.
    assert_eq!(leader.wait().code, -9);
    assert!(first < term(&mut next));
    assert_eq!(next.end().code, 7);
}

#[test]
fn signals_are_passed_on_to_the_command() {
    let site = Site::new();
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.1; done";
    let mut leader = candidate(&site, &[], script);
    assert_eq!(leader.line(), "ready");
    leader.signal(Signal::USR1);
    assert_eq!(leader.line(), "got it");
    assert_eq!(leader.wait().code, 5);
    assert!(site.is_free("x"));
}

#[test]
fn what_is_proclaimed_is_read_by_everybody_for_as_long_as_the_term_lasts() {
    let site = Site::new();
    let mut leader = candidate(&site, &["--proclaim", "10.0.0.7:9000"], LEAD);
    let first = term(&mut leader);
    let status = site.json(["status", "--json", "x"]);
    assert_eq!(status["value"]["text"], "10.0.0.7:9000");
    assert_eq!(status["value"]["fence"], first.to_string());
    assert_eq!(leader.end().code, 7);
    assert!(site.json(["status", "--json", "x"])["value"].is_null());
}

#[test]
fn what_a_dead_leader_proclaimed_is_not_shown_as_the_next_ones_and_goes_with_its_term() {
    let site = Site::new();
    let mut dead = candidate(&site, &["--proclaim", "10.0.0.7:9000"], LEAD);
    let first = term(&mut dead);
    dead.signal(Signal::KILL);
    assert_eq!(dead.wait().code, -9);
    let mut next = candidate(&site, &[], LEAD);
    assert!(first < term(&mut next));
    let status = site.tenure(["status", "x"]).stdout;
    assert!(status.contains(&format!("under fence {first}, not by this holder")), "{status}");
    assert_eq!(next.end().code, 7);
    assert!(site.json(["status", "--json", "x"])["value"].is_null());
}

#[test]
fn json_tells_how_it_went() {
    let site = Site::new();
    let elect = ["elect", "--json", "--owner", "me", "x", "--", "sh", "-c", "exit 4"];
    let done = site.tenure(elect);
    assert_eq!(done.code, 4);
    let object = done.json();
    assert_eq!((&object["kind"], &object["name"]), (&"elect".into(), &"x".into()));
    assert_eq!((&object["owner"], &object["terms"]), (&"me".into(), &1.into()));
    assert_eq!((&object["release"], &object["exit_code"]), (&"released".into(), &4.into()));
    assert_eq!(object["command"]["exit_code"], 4);
    assert!(object["fence"].is_string() && object["lost"].is_null());
}

#[test]
fn a_store_that_is_not_there_to_begin_with_is_told_at_once() {
    let site = Site::with("redis://127.0.0.1:1");
    let done = site.tenure(["elect", "x", "--", "true"]);
    assert_eq!(done.code, 69, "{}", done.stderr);
}

#[test]
fn the_command_of_a_leader_is_ended_while_the_store_is_away_and_begins_anew_when_it_is_back() {
    let server = RedisSetup::new().start();
    let site = Site::with(&server.url());
    let mut leader = candidate(&site, &["--ttl", "1s"], "echo led; read line; exit 7");
    assert_eq!(leader.line(), "led");
    server.kill();
    assert!(leader.error_line().contains("ending the command"));
    // Until it has asked in vain.
    while !leader.error_line().contains("campaigning again") {}
    server.restart();
    assert_eq!(leader.line(), "led");
    let done = leader.end();
    assert_eq!(done.code, 7, "{}", done.stderr);
}

#[test]
fn a_store_without_values_proclaims_nothing_and_is_not_asked() {
    // Nobody listens there.
    let site = Site::with("postgres+advisory://tenure@127.0.0.1:1/x");
    let done = site.tenure(["elect", "--proclaim", "here", "x", "--", "true"]);
    assert_eq!(done.code, 64, "{}", done.stderr);
    assert!(done.stderr.contains("proclaimed values") && done.stderr.contains("postgres://"));
    assert_eq!(site.tenure(["elect", "x", "--", "true"]).code, 69);
}
