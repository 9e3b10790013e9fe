//! What people and programs see, word by word: `tests/golden/*.txt`.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use common::golden::{golden, normal};
use common::{Done, Site};

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

/// Runs it once for people and once for programs.
fn both(name: &str, site: &Site, arguments: &[&str]) {
    golden(name, &whole(&site.tenure(arguments), site));
    let (command, rest) = arguments.split_first().unwrap();
    let done = site.tenure([*command, "--json"].iter().chain(rest));
    golden(&format!("{name}.json"), &whole(&done, site));
}

#[test]
fn help() {
    let site = Site::with("off:");
    golden("help", &site.tenure(["--help"]).stdout);
    let page = site.tenure(["man", "run"]).stdout;
    let synopsis = page.split(".SH ").find(|part| part.starts_with("SYNOPSIS")).unwrap();
    golden("man-run-synopsis", synopsis);
    for command in [
        "run",
        "elect",
        "once",
        "acquire",
        "renew",
        "release",
        "status",
        "list",
        "watch",
        "force-release",
        "doctor",
        "install",
        "key",
        "completions",
        "man",
        "help",
    ] {
        golden(&format!("help-{command}"), &site.tenure([command, "--help"]).stdout);
    }
}

#[test]
fn status_and_list() {
    let site = Site::new();
    both("status-free", &site, &["status", "orders/42"]);
    both("list-empty", &site, &["list"]);
    let metadata = r#"{"build":42}"#;
    let _holder = site.hold("orders/42", &["--owner", "ann", "--metadata", metadata]);
    let _readers = [site.hold("books", &["-s", "--owner", "bob"]), site.hold("books", &["-s"])];
    let _permits = site.hold("pool", &["--permits", "5", "--take", "2"]);
    let _waiter =
        site.start(["run", "--owner", "eve", "--priority", "2", "orders/42", "--", "true"]);
    site.until("orders/42", |x| x["waiters"].as_array().unwrap().len() == 1);
    both("status-held", &site, &["status", "orders/42"]);
    both("status-shared", &site, &["status", "books"]);
    both("status-permits", &site, &["status", "pool"]);
    both("list", &site, &["list"]);
    let watch = |json: &[&str], lines: usize| {
        let mut watch = site.start(["watch"].iter().chain(json));
        (0..lines).map(|_| watch.line() + "\n").collect::<String>()
    };
    golden("watch", &normal(&watch(&[], 3), &site));
    golden("watch.json", &normal(&watch(&["--json"], 3), &site));
    both("error-busy", &site, &["run", "-n", "orders/42", "--", "true"]);
    both("error-mismatch", &site, &["run", "-n", "--permits", "6", "pool", "--", "true"]);
    both("error-holders", &site, &["force-release", "--yes", "--reason", "test", "books"]);
}

#[test]
fn tokens() {
    let site = Site::new();
    both("acquire-token-file", &site, &["acquire", "x", "-n", "--token-file", "token"]);
    let with = |name: &str, command: &str| {
        golden(name, &whole(&site.tenure([command, "x", "--token-file", "token"]), &site));
        let json = site.tenure([command, "--json", "x", "--token-file", "token"]);
        golden(&format!("{name}.json"), &whole(&json, &site));
    };
    with("renew", "renew");
    with("release", "release");
    with("error-not-held", "renew");
    both("error-no-token", &site, &["release", "x"]);
    both("error-no-token-file", &site, &["renew", "x", "--token-file", "nowhere"]);
    both("error-token-file", &site, &["acquire", "x", "--token-file", "/no/such/directory/token"]);
    assert_eq!(site.tenure(["acquire", "z", "--token-file", "z"]).code, 0);
    let force = ["force-release", "z", "--yes", "--owner", "ann", "--reason", "test"];
    assert_eq!(site.tenure(force).code, 0);
    both("error-lost", &site, &["release", "z", "--token-file", "z"]);
    golden(
        "acquire.json",
        &whole(&site.tenure(["acquire", "y", "--owner", "ann", "--json"]), &site),
    );
}

#[test]
fn holding_and_losing() {
    let site = Site::new();
    both("run", &site, &["run", "--owner", "ann", "x", "--", "sh", "-c", "exit 3"]);
    both("elect", &site, &["elect", "--owner", "ann", "y", "--", "sh", "-c", "exit 3"]);
    both("run-not-found", &site, &["run", "x", "--", "/no/such/program"]);
    let lost = |json: &[&str]| {
        let words = ["run", "--ttl", "1s", "x"].iter().chain(json);
        let mut holder = site.start(words.chain(&["--", "sh", "-c", "echo held; read line"]));
        assert_eq!(holder.line(), "held");
        let words = ["force-release", "x", "--yes", "--owner", "ann", "--reason", "too slow"];
        let released = site.tenure(words.iter().chain(json));
        (holder.wait(), released)
    };
    for (name, json) in [("", &[][..]), (".json", &["--json"])] {
        let (run, released) = lost(json);
        golden(&format!("run-lost{name}"), &whole(&run, &site));
        golden(&format!("force-release{name}"), &whole(&released, &site));
    }
}

#[test]
fn deadlocks() {
    let site = Site::new();
    let program = env!("CARGO_BIN_EXE_tenure");
    for (name, json) in [("", &[][..]), (".json", &["--json"])] {
        let outer = ["run", "--owner", "ann", "x", "--", program, "run", "x"];
        let words = outer.iter().chain(json).chain(&["--", "true"]);
        golden(&format!("error-deadlock{name}"), &whole(&site.tenure(words), &site));
    }
}

#[test]
fn stores() {
    for (name, url) in [("off", "off:"), ("memory", "memory:")] {
        let site = Site::with(url);
        both(&format!("doctor-{name}"), &site, &["doctor"]);
    }
    let site = Site::new();
    both("doctor-file", &site, &["doctor", "--no-measure"]);
    both("key", &site, &["key", "orders/42"]);
    both("doctor-closed", &Site::with("file:///dev/null"), &["doctor"]);
    both("error-key", &Site::with("off:"), &["key", "x"]);
    both("error-path", &Site::with("/tmp/foo"), &["status", "x"]);
    both("error-not-a-directory", &Site::with("file:///dev/null"), &["status", "x"]);
    both("error-store", &Site::with("etcd://u:p@h/0"), &["status", "x"]);
    both("error-unsupported", &Site::with("off:"), &["list"]);
}

#[test]
fn complaints() {
    let site = Site::new();
    both("error-range", &site, &["run", "--ttl", "10ms", "x", "--", "true"]);
    both("error-both", &site, &["run", "-n", "-w", "1s", "x", "--", "true"]);
    both("error-contradiction", &site, &["acquire", "--on-conflict", "fail", "-w", "1s", "x"]);
    both("error-value", &site, &["run", "--bogus", "x", "--", "true"]);
    both("error-unit", &site, &["run", "--ttl", "5", "x", "--", "true"]);
    both("error-name", &site, &["status", "a\nb"]);
    both("error-option", &site, &["run", "--no-wiat", "x", "--", "true"]);
    both("error-separator", &site, &["run", "x", "true"]);
    both("error-reason", &site, &["force-release", "x", "--yes"]);
    both("error-terminal", &site, &["force-release", "x", "--reason", "test"]);
    golden("error-command", &whole(&site.tenure(["elope"]), &site));
    golden("error-nothing", &whole(&site.tenure::<&str>([]), &site));
    std::fs::write(site.work().join("tenure.toml"), "store = 'off:'\nttl = '5'\n").unwrap();
    both("error-config", &site, &["status", "x"]);
}
