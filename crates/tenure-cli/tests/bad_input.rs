//! What cannot be meant is refused with exit code 64 and a word of help, before anything is done.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use common::Site;

/// Refused, with help, nothing changed, and no panic.
fn refused(site: &Site, arguments: &[OsString]) {
    let done = site.tenure(arguments);
    let shown: Vec<_> = arguments
        .iter()
        .map(|a| a.to_string_lossy().chars().take(60).collect::<String>())
        .collect();
    assert_eq!(done.code, 64, "{shown:?}: {}", done.stderr);
    assert_eq!(done.stdout, "", "{shown:?}");
    assert!(done.stderr.starts_with("error: "), "{shown:?}: {}", done.stderr);
    assert!(done.stderr.contains("help: "), "{shown:?}: {}", done.stderr);
    assert!(done.stderr.len() < 2_000, "{shown:?}: {} bytes", done.stderr.len());
    let obeyed = |c: char| c.is_control() && c != '\n';
    assert!(!done.stderr.contains(obeyed), "{shown:?}: {:?}", done.stderr);
    assert!(site.is_untouched(), "{shown:?}");
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[test]
fn names_that_are_none() {
    let site = Site::new();
    let mut names: Vec<OsString> =
        words(&["", "a\nb", "a\tb", "\r", "\u{7f}", "\u{85}", "\u{1b}[2J", "\u{9b}31m"]);
    names.extend([
        OsString::from("x".repeat(513)),
        OsString::from("é".repeat(257)),
        OsString::from("x".repeat(100_000)),
        OsString::from_vec(vec![0xff]),
        OsString::from_vec(b"ok\xed\xa0\x80".to_vec()),
        OsString::from_vec(vec![0xc0, 0xaf]),
    ]);
    for name in names {
        for (before, after) in [
            (&["run", "-n"][..], &["--", "true"][..]),
            (&["acquire", "-n"], &[]),
            (&["renew"], &[]),
            (&["release"], &[]),
            (&["status"], &[]),
            (&["key"], &[]),
            (&["force-release", "--yes", "--reason", "test"], &[]),
        ] {
            let mut arguments = words(before);
            arguments.push(name.clone());
            arguments.extend(words(after));
            refused(&site, &arguments);
        }
    }
    for prefix in
        [OsString::from("a\nb"), OsString::from("x".repeat(513)), OsString::from_vec(vec![0xff])]
    {
        refused(&site, &[OsString::from("list"), prefix.clone()]);
        refused(&site, &[OsString::from("watch"), prefix]);
    }
}

#[test]
fn odd_names_are_names_and_each_is_a_lock_of_its_own() {
    let site = Site::new();
    let long = "x".repeat(512);
    let names = [
        "/", "..", ".", "CON", "dot.", "space ", "{", "}", "{}", "a}b", "{a}{b}", "*?[]", ":",
        "a:b", "é", "e\u{301}", "x", "X", "🎉", "\u{200b}", "$(id)", "'", "\"", "\\", "%2F", &long,
    ];
    for name in names {
        let done = site.tenure(["acquire", "-n", name]);
        assert_eq!(done.code, 0, "{name:?}: {}", done.stderr);
    }
    let list = site.json(["list", "--json"]);
    assert_eq!(list["locks"].as_array().unwrap().len(), names.len());
}

#[test]
fn numbers_that_are_none() {
    let site = Site::new();
    let durations = [
        "",
        "5",
        "-5s",
        "-5",
        "5 S",
        "1e999",
        "NaN",
        "inf",
        "5x",
        "s",
        "1mo",
        "1y",
        "99999999999999999999s",
    ];
    for option in ["--ttl", "--wait", "--kill-after"] {
        for duration in durations {
            refused(&site, &words(&["run", option, duration, "x", "--", "true"]));
        }
    }
    for ttl in ["0", "0s", "1ns", "99ms", "31d", "100000h"] {
        refused(&site, &words(&["run", "--ttl", ttl, "x", "--", "true"]));
        refused(&site, &words(&["acquire", "--ttl", ttl, "x"]));
        refused(&site, &words(&["renew", "--ttl", ttl, "x"]));
    }
    for options in [
        &["--permits", "0"][..],
        &["--permits", "-1"],
        &["--permits", "x"],
        &["--permits", "4294967296"],
        &["--permits", "2", "--take", "3"],
        &["--permits", "2", "--take", "0"],
        &["--take", "1"],
        &["--permits", "2", "--shared"],
        &["--priority", "1001"],
        &["--priority", "-1001"],
        &["--priority", "99999999999999999999"],
        &["--priority", "high"],
        &["--priority", "1.5"],
        &["--retries", "-1"],
        &["--retries", "4294967295"],
        &["--retries", "1", "--no-wait"],
        &["--no-wait", "--wait", "1s"],
        &["--on-conflict", "fail", "--wait", "1s"],
        &["-E", "256"],
        &["-E", "-1"],
        &["--on-conflict", "steal"],
        &["--on-conflict", "steal-stale=5"],
        &["--on-lost", "panic"],
        &["--owner", ""],
        &["--owner", "a\nb"],
        &["--metadata", "{"],
        &["--metadata", ""],
        &["--metadata", "NaN"],
        &["--unknown"],
    ] {
        let mut arguments = vec!["run", "x"];
        arguments.extend(options);
        arguments.extend(["--", "true"]);
        refused(&site, &words(&arguments));
    }
    for fence in ["x", "-1", "1.0", "18446744073709551616", "", "1e3"] {
        refused(
            &site,
            &words(&["force-release", "x", "--yes", "--reason", "test", "--fence", fence]),
        );
    }
    for limit in ["0", "-1", "x", "1000001"] {
        refused(&site, &words(&["list", "--limit", limit]));
    }
}

#[test]
fn data_that_is_too_much() {
    let site = Site::new();
    let large = format!("\"{}\"", "x".repeat(16 * 1024));
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for metadata in [&large, &deep] {
        refused(&site, &words(&["run", "--metadata", metadata, "x", "--", "true"]));
    }
    let owner = "x".repeat(257);
    refused(&site, &words(&["run", "--owner", &owner, "x", "--", "true"]));
    let reason = "x".repeat(1025);
    for reason in [reason.as_str(), "", " ", "a\u{1b}b"] {
        refused(&site, &words(&["force-release", "x", "--yes", "--reason", reason]));
    }
}

#[test]
fn commands_that_are_none() {
    let site = Site::new();
    for arguments in [
        &[][..],
        &["elope"],
        &["run"],
        &["run", "x"],
        &["run", "x", "true"],
        &["run", "x", "--"],
        &["run", "--", "true"],
        &["status"],
        &["status", "x", "y"],
        &["force-release", "x", "--yes"],
        &["force-release", "x", "--yes", "--reason", "r", "--any", "--fence", "1"],
        &["completions", "cobol"],
        &["man", "elope"],
        &["man", "probe-worker"],
        &["help", "elope"],
        &["help", "probe-worker"],
        &["renew", "x"],
        &["release", "x"],
    ] {
        refused(&site, &words(arguments));
    }
}

#[test]
fn stores_that_are_none() {
    for url in [
        "redis://u:hunter2@h:port",
        "redis://u:hunter2@h?prefx=hunter2",
        "redis+sentinel://u:hunter2@h",
        "redlock://u:hunter2@a,b",
        "postgres://u:hunter2@h:port/d",
        "postgres://u:hunter2@h/d?sslmode=hunter2",
        "hostess=h dbname=d password=hunter2",
        "etcd://h",
        "github://o/r",
        "https://h",
        "ftp://h",
        "memory:x",
        "off:x",
        "file:",
        "file://host/path",
        "file:///x?unknown=1",
        "x",
    ] {
        let site = Site::with(url);
        let done = site.tenure(["run", "x", "--", "true"]);
        assert_eq!(done.code, 64, "{url}: {}", done.stderr);
        assert!(done.stderr.contains("help: "), "{url}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{url}: {}", done.stderr);
    }
}

#[test]
fn variables_that_are_wrong_are_named() {
    let site = Site::new();
    for (variable, value) in [
        ("TENURE_TTL", "45"),
        ("TENURE_WAIT", "45"),
        ("TENURE_CONFLICT_EXIT_CODE", "256"),
        ("TENURE_KILL_AFTER", "soon"),
        ("TENURE_OWNER", "a\nb"),
        ("TENURE_LOG", "bogus"),
    ] {
        let mut command = site.command(["run", "x", "--", "true"]);
        let done = common::done(command.env(variable, value));
        assert_eq!(done.code, 64, "{variable}: {}", done.stderr);
        assert!(done.stderr.starts_with(&format!("error: {variable}: ")), "{}", done.stderr);
        assert!(done.stderr.contains("help: "), "{}", done.stderr);
    }
    for flag in [&["--ttl", "5"][..], &["--ttl=5"], &["-E256"], &["-qE", "256"]] {
        let words = ["run"].iter().chain(flag).chain(&["x", "--", "true"]);
        let mut command = site.command(words);
        let done =
            common::done(command.env("TENURE_TTL", "1m").env("TENURE_CONFLICT_EXIT_CODE", "9"));
        assert!(done.stderr.starts_with("error: --"), "{flag:?}: {}", done.stderr);
    }
    assert!(site.is_untouched());
}

#[test]
fn complaints_are_json_for_those_who_asked_for_it() {
    let site = Site::new();
    let done = site.tenure(["run", "--json", "--ttl", "5", "x", "--", "true"]);
    let error = done.json();
    assert_eq!((&error["kind"], &error["error"]), (&"error".into(), &"usage".into()));
    assert_eq!(error["exit_code"], 64);
    // What the command says about itself is the command's.
    let done = site.tenure(["run", "x", "--", "echo", "--json"]);
    assert_eq!(done.stdout, "--json\n");
}

#[test]
fn help_and_version_are_no_errors() {
    let site = Site::new();
    for arguments in
        [&["--help"][..], &["--version"], &["run", "--help"], &["-h"], &["help"], &["help", "run"]]
    {
        let done = site.tenure(arguments);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(done.stdout.contains("tenure"));
    }
    for (long, short) in [(&["run", "--help"][..], &["help", "run"][..]), (&["--help"], &["help"])]
    {
        assert_eq!(site.tenure(long).stdout, site.tenure(short).stdout);
    }
}
