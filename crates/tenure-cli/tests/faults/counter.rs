//! A plain file with a number, and a log of who made it what.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::common::Site;

/// The variable that makes this program add one to the counter.
pub(crate) const ROLE: &str = "TENURE_TEST_ROLE";

/// Adds one with what every shell has.
pub(crate) const ADD_ONE: &str = "read n <counter; n=$((n+1)); echo $n >counter; \
                                  echo $TENURE_FENCING_TOKEN $n >>log";

/// Starts the counter at 0 in the working directory of all programs.
pub(crate) fn begin(site: &Site) {
    fs::write(site.work().join("counter"), "0\n").unwrap();
    fs::write(site.work().join("log"), "").unwrap();
}

/// `tenure run` with these options, and a command that adds one and leaves no process behind that
/// could add one later.
pub(crate) fn run_add_one(site: &Site, options: &[&str]) -> Command {
    let mut command = site.command(["run"].iter().chain(options).chain(&["--"]));
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "another_process"]).env(ROLE, "add one");
    command
}

/// What such a command does: read, wait for somebody to come in between, write.
#[allow(clippy::disallowed_methods, reason = "somebody shall have the time to come in between")]
pub(crate) fn add_one() {
    let fence = std::env::var("TENURE_FENCING_TOKEN").unwrap();
    let number: u64 = fs::read_to_string("counter").unwrap().trim().parse().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3));
    // In one step: whoever is killed has written it or not.
    let scrap = format!("counter.{}", std::process::id());
    fs::write(&scrap, format!("{}\n", number + 1)).unwrap();
    fs::rename(&scrap, "counter").unwrap();
    let mut log = OpenOptions::new().append(true).open("log").unwrap();
    let line = format!("{fence} {}\n", number + 1);
    assert_eq!(log.write(line.as_bytes()).unwrap(), line.len());
}

/// The number, and the log: fence and number of each step.
pub(crate) fn end(site: &Site) -> (u64, Vec<(u64, u64)>) {
    let read = |file: &str| fs::read_to_string(Path::new(&site.work()).join(file)).unwrap();
    let log = read("log")
        .lines()
        .map(|line| {
            let (fence, number) = line.split_once(' ').unwrap();
            (fence.parse().unwrap(), number.parse().unwrap())
        })
        .collect();
    (read("counter").trim().parse().unwrap(), log)
}

/// Checks that fences, and numbers, rise from step to step.
pub(crate) fn assert_rising(log: &[(u64, u64)]) {
    for pair in log.windows(2) {
        let [(fence, number), (next_fence, next_number)] = [pair[0], pair[1]];
        assert!(fence < next_fence, "{pair:?}");
        assert!(number < next_number, "an update is lost: {pair:?}");
    }
}
