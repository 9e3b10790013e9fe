//! `tenure status`, `list`, `watch`, `key` and `force-release`, from the outside.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::Site;
use rustix::process::Signal;
use serde_json::Value;

fn names(list: &Value) -> Vec<&str> {
    list["locks"].as_array().unwrap().iter().map(|lock| lock["name"].as_str().unwrap()).collect()
}

#[test]
fn status_tells_who_holds_since_when_and_who_waits() {
    let site = Site::new();
    let free = site.json(["status", "--json", "x"]);
    assert_eq!((&free["locked"], &free["kind"]), (&false.into(), &"status".into()));
    let _holder = site.hold("x", &["--owner", "ann", "--metadata", r#"{"build": 42}"#]);
    let _waiter =
        site.start(["run", "--owner", "bob", "--priority", "-2", "-s", "x", "--", "true"]);
    site.until("x", |x| x["waiters"].as_array().unwrap().len() == 1);
    let status = site.json(["status", "--json", "x"]);
    let (holder, waiter) = (&status["holders"][0], &status["waiters"][0]);
    assert_eq!(holder["owner"], "ann");
    assert_eq!(holder["metadata"]["build"], 42);
    assert_eq!(holder["mode"], "exclusive");
    assert_eq!(holder["fence"], status["fence"]);
    assert!(holder["fence"].is_string());
    for time in ["since", "renewed", "until"] {
        assert!(holder[time].as_str().unwrap().ends_with('Z'));
    }
    assert_eq!(waiter["owner"], "bob");
    assert_eq!((&waiter["priority"], &waiter["mode"]), (&(-2).into(), &"shared".into()));
}

#[test]
fn list_shows_what_is_held_under_a_prefix() {
    let site = Site::new();
    let _holders = ["a/2", "a/1", "b"].map(|name| site.hold(name, &[]));
    assert_eq!(names(&site.json(["list", "--json"])), ["a/1", "a/2", "b"]);
    assert_eq!(names(&site.json(["list", "--json", "a/"])), ["a/1", "a/2"]);
    let one = site.json(["list", "--json", "--limit", "1"]);
    assert_eq!((names(&one), &one["truncated"]), (vec!["a/1"], &true.into()));
    assert_eq!(names(&site.json(["list", "--json", "c"])), Vec::<&str>::new());
}

#[test]
fn watch_shows_each_change_until_it_is_interrupted() {
    let site = Site::new();
    let mut watch = site.start(["watch", "--json", "a/"]);
    let holder = site.hold("a/x", &["--owner", "ann"]);
    let _other = site.hold("b", &[]);
    let held: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!((&held["kind"], &held["name"]), (&"change".into(), &"a/x".into()));
    assert_eq!(held["holders"][0]["owner"], "ann");
    assert!(held["at"].is_string());
    holder.end();
    let free: Value = serde_json::from_str(&watch.line()).unwrap();
    assert_eq!((&free["name"], &free["locked"]), (&"a/x".into(), &false.into()));
    watch.signal(Signal::INT);
    assert_eq!(watch.wait().code, -2);
}

#[test]
fn key_names_what_the_store_keeps_the_lock_under() {
    let site = Site::new();
    let key = site.json(["key", "--json", "x"]);
    let path = key["key"].as_str().unwrap();
    assert!(path.starts_with(&*site.path().join("locks").to_string_lossy()), "{path}");
    assert_eq!(key["keys"][0]["key"], key["key"]);
    assert!(site.tenure(["key", "x"]).stdout.contains(path));
}

#[test]
fn force_release_ends_the_holder_that_was_seen_and_no_other() {
    let site = Site::new();
    let holder = site.hold("x", &["--ttl", "1s"]);
    let fence = site.json(["status", "--json", "x"])["fence"].as_str().unwrap().to_owned();
    let with = |arguments: &[&str]| {
        let words = ["force-release", "x", "--reason", "test"].iter().chain(arguments);
        site.tenure(words).code
    };
    // Without a terminal nobody can be asked.
    assert_eq!(with(&[]), 64);
    assert_eq!(with(&["--yes", "--fence", "1"]), 79);
    assert_eq!(site.json(["status", "--json", "x"])["fence"], fence);
    let released =
        site.json(["force-release", "x", "--reason", "test", "--yes", "--fence", &fence, "--json"]);
    assert_eq!(released["kind"], "force_release");
    assert_eq!(released["released"][0]["fence"], fence);
    assert_eq!(holder.wait().code, 79);
    assert_eq!(with(&["--yes"]), 79);
    assert!(site.is_free("x"));
}

#[test]
fn several_holders_are_ended_only_if_all_are_meant() {
    let site = Site::new();
    let _one = site.hold("x", &["-s"]);
    let _two = site.hold("x", &["-s"]);
    let unclear = site.tenure(["force-release", "x", "--reason", "test", "--yes"]);
    assert_eq!(unclear.code, 64);
    assert!(unclear.stderr.contains("--any"), "{}", unclear.stderr);
    let all = site.json(["force-release", "x", "--reason", "test", "--yes", "--any", "--json"]);
    assert_eq!(all["released"].as_array().unwrap().len(), 2);
}

#[test]
fn names_are_shown_as_they_are_and_nothing_else_is_obeyed() {
    let site = Site::new();
    // Metadata may hold what a terminal would obey; right-to-left marks are legal in names.
    let metadata = "{\"note\": \"\u{9b}2J\"}";
    let _holder = site.hold("pay\u{202e}lla", &["--metadata", metadata]);
    for arguments in [
        &["status", "pay\u{202e}lla"][..],
        &["list"],
        &["run", "-n", "pay\u{202e}lla", "--", "true"],
    ] {
        let done = site.tenure(arguments);
        let seen = done.stdout + &done.stderr;
        assert!(!seen.contains('\u{202e}') && !seen.contains('\u{9b}'), "{seen:?}");
        assert!(seen.contains("\\u{202e}"), "{seen:?}");
    }
}

#[test]
fn doctor_measures_the_directory_and_leaves_nothing_behind() {
    let site = Site::new();
    let doctor = site.json(["doctor", "--json"]);
    assert_eq!(doctor["ok"], true, "{doctor}");
    let store = &doctor["stores"][0];
    let whats: Vec<_> = store["measurements"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["what"].as_str().unwrap())
        .collect();
    assert_eq!(whats, ["create", "rename", "replace", "flock", "staleness", "clock"]);
    assert_eq!(store["capabilities"]["kind"], "file");
    let left = std::fs::read_dir(site.path().join("locks")).unwrap();
    let probe = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().file_name().to_string_lossy().starts_with("probe-")
    };
    assert_eq!(left.map(probe).filter(|is| *is).count(), 0);
}

#[test]
fn readers_of_a_part_of_the_output_are_no_error() {
    let site = Site::new();
    let script = r#"set -o pipefail; "$0" man | head -n 1 >/dev/null; "$0" completions bash | true; echo ok"#;
    let mut command = std::process::Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_tenure")]).current_dir(site.work());
    let done = common::done(&mut command);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("ok\n", ""));
}
