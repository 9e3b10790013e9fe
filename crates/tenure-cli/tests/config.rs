//! Flags, environment and `tenure.toml`, from the outside.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::fs;
use std::process::Command;

use common::{Done, Site, done};

/// The program without `TENURE_STORE`.
fn bare(site: &Site, arguments: &[&str]) -> Command {
    let mut command = site.command(arguments);
    command.env_remove("TENURE_STORE");
    command
}

fn store_of(site: &Site, name: &str) -> String {
    let status = done(&mut bare(site, &["status", "--json", name]));
    assert_eq!(status.code, 0, "{}", status.stderr);
    status.json()["store"].as_str().unwrap().to_owned()
}

fn write(site: &Site, path: &str, text: &str) {
    let path = site.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn without_a_word_locks_are_kept_in_the_users_state_directory() {
    let site = Site::new();
    let mut command = bare(&site, &["status", "--json", "x"]);
    let state = site.path().join("state");
    let status = done(command.env("XDG_STATE_HOME", &state));
    let expected = format!("file://{}", state.join("tenure/locks").display());
    assert_eq!(status.json()["store"], expected.as_str());
}

#[test]
fn nearer_files_win_and_flags_and_variables_stand_above_them() {
    let site = Site::new();
    let url = |name: &str| format!("file://{}", site.path().join(name).display());
    write(&site, ".config/tenure/tenure.toml", &format!("store = '{}'\nttl = '1m'\n", url("user")));
    assert_eq!(store_of(&site, "x"), url("user"));
    write(&site, "work/tenure.toml", &format!("store = '{}'\n", url("near")));
    assert_eq!(store_of(&site, "x"), url("near"));
    let with = |command: &mut Command| done(command).json()["store"].as_str().unwrap().to_owned();
    let variable =
        with(bare(&site, &["status", "--json", "x"]).env("TENURE_STORE", url("variable")));
    assert_eq!(variable, url("variable"));
    let flag = with(
        bare(&site, &["--store", &url("flag"), "status", "--json", "x"])
            .env("TENURE_STORE", "off:"),
    );
    assert_eq!(flag, url("flag"));
    // The ttl of the further file still counts.
    let acquired = done(&mut bare(&site, &["acquire", "--json", "x"]));
    assert_eq!(acquired.json()["ttl_ms"], 60_000);
}

#[test]
fn names_are_routed_to_stores_by_their_prefix() {
    let site = Site::new();
    let url = |name: &str| format!("file://{}", site.path().join(name).display());
    let route = |prefix: &str, name: &str| {
        format!("[[route]]\nprefix = '{prefix}'\nstore = '{}'\n", url(name))
    };
    let text = format!("store = '{}'\n{}{}", url("rest"), route("a/", "a"), route("a/b/", "ab"));
    write(&site, "work/tenure.toml", &text);
    assert_eq!(store_of(&site, "x"), url("rest"));
    assert_eq!(store_of(&site, "a/x"), url("a"));
    assert_eq!(store_of(&site, "a/b/x"), url("ab"));
    for name in ["x", "a/x", "a/b/x"] {
        assert_eq!(done(&mut bare(&site, &["acquire", name])).code, 0);
    }
    let list = |prefix: &str| {
        let list = done(&mut bare(&site, &["list", "--json", prefix])).json();
        let locks = list["locks"].as_array().unwrap();
        locks.iter().map(|lock| lock["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(""), ["a/b/x", "a/x", "x"]);
    assert_eq!(list("a/"), ["a/b/x", "a/x"]);
    let doctor = done(&mut bare(&site, &["doctor", "--no-measure", "--json"])).json();
    assert_eq!(doctor["stores"].as_array().unwrap().len(), 3);
}

#[test]
fn what_tenure_toml_does_not_know_is_an_error_with_its_line() {
    let site = Site::new();
    let with = |text: &str| -> Done {
        write(&site, "work/tenure.toml", text);
        site.tenure(["status", "x"])
    };
    let unknown = with("ttl = '5s'\n\nstroe = 'off:'\n");
    assert_eq!(unknown.code, 78);
    assert!(
        unknown.stderr.contains("tenure.toml: line 3: unknown field `stroe`"),
        "{}",
        unknown.stderr
    );
    for bad in [
        "ttl = 5",
        "wait = '5'",
        "ttl = '1ns'",
        "owner = ''",
        "not toml",
        "[[route]]\nprefix = 'x'",
    ] {
        let done = with(bad);
        assert_eq!(done.code, 78, "{bad}: {}", done.stderr);
    }
    assert!(site.is_untouched());
}

#[test]
fn a_named_file_stands_for_all_others_and_has_to_be_there() {
    let site = Site::new();
    write(&site, "work/tenure.toml", "not toml");
    write(&site, "work/other.toml", "wait = '10ms'\nconflict-exit-code = 9\nowner = 'ann'\n");
    let done =
        |arguments: &[&str]| done(site.command(arguments).env("TENURE_CONFIG", "other.toml"));
    let owner = done(&["run", "x", "--", "sh", "-c", "echo $TENURE_OWNER"]);
    assert_eq!(owner.stdout, "ann\n", "{}", owner.stderr);
    assert_eq!(done(&["acquire", "x"]).code, 0);
    assert_eq!(done(&["run", "x", "--", "true"]).code, 9);
    let nowhere = done(&["--config", "nowhere.toml", "status", "x"]);
    assert_eq!(nowhere.code, 78);
    assert!(nowhere.stderr.contains("help: name a file that is there"), "{}", nowhere.stderr);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_the_way_out() {
    let site = Site::new();
    // A directory cannot be read as a file, not even by root.
    fs::create_dir_all(site.path().join(".config/tenure/tenure.toml")).unwrap();
    let done = site.tenure(["status", "x"]);
    assert_eq!(done.code, 78, "{}", done.stderr);
    let help = "help: set HOME or XDG_CONFIG_HOME to a directory of this user's, or pass --config";
    assert!(done.stderr.contains(help), "{}", done.stderr);
}

#[test]
fn a_file_that_names_no_store_is_wrong() {
    let site = Site::new();
    write(&site, "work/tenure.toml", "ttl = '1m'\nstore = '/tmp/foo'\n");
    let bad = done(&mut bare(&site, &["status", "x"]));
    assert_eq!(bad.code, 78, "{}", bad.stderr);
    for word in ["tenure.toml: line 2: ", "store: /tmp/foo", "`file:///tmp/foo`"] {
        assert!(bad.stderr.contains(word), "{word}: {}", bad.stderr);
    }
    // A flag or variable stands above it: nobody asks for that store.
    assert_eq!(site.tenure(["status", "x"]).code, 0);
}

#[test]
fn doctor_tells_of_all_stores_if_one_cannot_be_opened() {
    let site = Site::new();
    let text =
        format!("store = '{}'\n[[route]]\nprefix = 'a/'\nstore = 'etcd://u:p@h/0'\n", site.url());
    write(&site, "work/tenure.toml", &text);
    let run = done(&mut bare(&site, &["doctor", "--no-measure", "--json"]));
    assert_eq!(run.code, 78, "{}", run.stderr);
    let (report, stores) = (run.json(), &run.json()["stores"]);
    assert_eq!(report["ok"], false);
    assert_eq!((&stores[0]["up"], &stores[0]["error"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&stores[1]["up"], &stores[1]["store"]), (&false.into(), &"etcd:…".into()));
    assert!(stores[1]["error"].as_str().unwrap().contains("line 4"), "{report}");
}

#[test]
fn variables_say_what_flags_say_and_flags_win() {
    let site = Site::new();
    assert_eq!(site.tenure(["acquire", "x"]).code, 0);
    let with = |variable: (&str, &str), arguments: &[&str]| {
        done(site.command(arguments).env(variable.0, variable.1))
    };
    assert_eq!(with(("TENURE_WAIT", "10ms"), &["run", "x", "--", "true"]).code, 75);
    // The flag that says not to wait at all does not quarrel with the variable.
    assert_eq!(with(("TENURE_WAIT", "1h"), &["run", "-n", "x", "--", "true"]).code, 75);
    assert_eq!(with(("TENURE_CONFLICT_EXIT_CODE", "9"), &["run", "-n", "x", "--", "true"]).code, 9);
    let acquired = with(("TENURE_TTL", "45s"), &["acquire", "--json", "y"]);
    assert_eq!(acquired.json()["ttl_ms"], 45_000);
    let bad = with(("TENURE_TTL", "45"), &["acquire", "z"]);
    assert_eq!(bad.code, 64);
    assert!(bad.stderr.contains("TENURE_TTL"), "{}", bad.stderr);
}

/// Somebody's `--store "$LOCKS"` without LOCKS gave every host a directory of its own.
#[test]
fn an_empty_store_is_no_default_store() {
    let site = Site::new();
    for command in [
        bare(&site, &["status", "x"]).env("TENURE_STORE", ""),
        bare(&site, &["--store", "", "run", "x", "--", "true"]).env("TENURE_STORE", "off:"),
    ] {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("address is empty"), "{said}");
    }
}
