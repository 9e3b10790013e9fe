//! `tenure acquire`, `renew` and `release`, from the outside.
#![allow(clippy::unwrap_used, reason = "a test that panics says why")]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use common::{Site, done};

fn acquire(site: &Site, name: &str) -> String {
    let done = site.tenure(["acquire", name]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    done.stdout.trim().to_owned()
}

#[test]
fn a_lock_outlives_its_process_until_its_token_releases_it() {
    let site = Site::new();
    let token = acquire(&site, "x");
    let status = site.json(["status", "--json", "x"]);
    assert_eq!(status["holders"][0]["detached"], true);
    assert_eq!(site.tenure(["run", "-n", "x", "--", "true"]).code, 75);
    let with = |arguments: &[&str]| done(site.command(arguments).env("TENURE_TOKEN", &token));
    let renewed = with(&["renew", "--ttl", "1h", "--json", "x"]);
    assert_eq!(renewed.code, 0, "{}", renewed.stderr);
    assert_eq!(renewed.json()["ttl_ms"], 3_600_000);
    assert_eq!(site.json(["status", "--json", "x"])["holders"][0]["ttl_ms"], 3_600_000);
    assert_eq!(with(&["release", "x"]).code, 0);
    assert!(site.is_free("x"));
    let late = with(&["renew", "x"]);
    assert_eq!(late.code, 79, "{}", late.stderr);
    assert!(!late.stderr.contains(&token));
    // Whoever was not told that it was released may ask again.
    assert_eq!(with(&["release", "x"]).code, 0);
}

#[test]
fn a_token_file_is_new_and_private() {
    let site = Site::new();
    let file = site.work().join("token");
    let done = site.tenure(["acquire", "x", "--token-file", "token"]);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{}", done.stderr);
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(site.tenure(["renew", "x", "--token-file", "token"]).code, 0);
    assert_eq!(site.tenure(["release", "x", "--token-file", "token"]).code, 0);
}

#[test]
fn a_token_file_that_is_there_is_kept_and_nothing_acquired() {
    let site = Site::new();
    std::fs::write(site.work().join("there"), "precious").unwrap();
    symlink("/nowhere/at/all", site.work().join("link")).unwrap();
    for path in ["there", "link", "/no/such/directory/token"] {
        let done = site.tenure(["acquire", "x", "--token-file", path]);
        assert_eq!(done.code, 73, "{path}: {}", done.stderr);
        assert!(site.is_free("x"), "{path}");
    }
    assert_eq!(std::fs::read_to_string(site.work().join("there")).unwrap(), "precious");
}

#[test]
fn a_token_that_nobody_could_read_is_released() {
    let site = Site::new();
    let mut command = site.command(["acquire", "x"]);
    command.stdout(Stdio::from(std::fs::File::create("/dev/full").unwrap()));
    let done = done(&mut command);
    assert_eq!(done.code, 74, "{}", done.stderr);
    assert!(site.is_free("x"));
}

#[test]
fn a_token_is_for_one_name_and_has_to_be_one() {
    let site = Site::new();
    let token = acquire(&site, "x");
    let with = |token: &str, name: &str| {
        done(site.command(["release", name]).env("TENURE_TOKEN", token)).code
    };
    assert_eq!(with(&token, "y"), 64);
    for bad in ["", "tenure1", "x", &token[..token.len() - 2]] {
        assert_eq!(with(bad, "x"), 64, "{bad}");
    }
    assert_eq!(site.tenure(["release", "x", "--token-file", "nowhere"]).code, 66);
    assert!(!site.is_free("x"));
    assert_eq!(with(&token, "x"), 0);
}

#[test]
fn a_token_is_read_from_stdin() {
    let site = Site::new();
    let token = acquire(&site, "x");
    let mut release = site.start(["release", "x", "--token-file", "-"]);
    release.tell(&token);
    assert_eq!(release.end().code, 0);
    assert!(site.is_free("x"));
}

#[test]
fn a_token_file_that_is_a_dash_is_stdout() {
    let site = Site::new();
    let done = site.tenure(["acquire", "x", "--token-file", "-"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.starts_with("tenure1."));
    assert!(!site.work().join("-").exists());
}

#[test]
fn a_lock_whose_time_is_over_is_shown_so_until_somebody_asks_for_it() {
    let site = Site::new();
    assert_eq!(site.tenure(["acquire", "--ttl", "100ms", "x"]).code, 0);
    let is_over = |status: &String| status.contains("Z by its own word, not seen since");
    let status = (0..10_000).map(|_| site.tenure(["status", "x"]).stdout).find(is_over);
    let status = status.expect("it is over after 100 ms");
    assert!(!status.contains("last renewed 0ms"), "{status}");
    assert!(site.tenure(["list"]).stdout.contains("Z, not seen since"));
}

#[test]
fn a_lock_that_nobody_renews_ends_by_its_ttl() {
    let site = Site::new();
    let token = {
        let done = site.tenure(["acquire", "--ttl", "300ms", "x"]);
        done.stdout.trim().to_owned()
    };
    assert_eq!(site.tenure(["run", "-w", "20s", "x", "--", "true"]).code, 0);
    assert_eq!(done(site.command(["release", "x"]).env("TENURE_TOKEN", &token)).code, 79);
}

#[test]
fn the_secret_is_shown_by_acquire_alone() {
    let site = Site::new();
    let json = site.json(["acquire", "--json", "x"]);
    let token = json["token"].as_str().unwrap().to_owned();
    let secret = token.split('.').nth(1).unwrap().to_owned();
    assert_eq!(secret.len(), 32);
    let mut seen = String::new();
    for arguments in [
        &["status", "x"][..],
        &["status", "--json", "x"],
        &["list"],
        &["list", "--json"],
        &["key", "x"],
        &["run", "-n", "x", "--", "true"],
        &["run", "-n", "--json", "x", "--", "true"],
        &["force-release", "x", "--reason", "test", "--yes", "--json"],
    ] {
        let done = site.tenure(arguments);
        seen += &(done.stdout + &done.stderr);
    }
    let late = done(site.command(["renew", "x"]).env("TENURE_TOKEN", &token));
    seen += &(late.stdout + &late.stderr);
    let help = done(site.command(["release", "--help"]).env("TENURE_TOKEN", &token));
    seen += &help.stdout;
    assert!(!seen.contains(&secret));
}
