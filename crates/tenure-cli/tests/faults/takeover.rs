//! Holders that are killed, stopped and evicted; what becomes of their commands, and who comes next.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, test_kill_process};

use crate::common::{Running, Site};

const DEADLINE: Duration = Duration::from_secs(30);

#[allow(clippy::disallowed_methods, reason = "tests measure real time")]
fn now() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods, reason = "tests wait for an observed state")]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = now() + DEADLINE;
    while !is_so() {
        assert!(now() < give_up, "never seen: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A holder whose command tells its pid and goes on for ever.
fn a_holder(site: &Site, options: &[&str]) -> (Running, Pid) {
    let command = ["--", "sh", "-c", "echo $$; exec sleep 1000"];
    let mut holder = site.start(["run", "x"].iter().chain(options).chain(&command));
    let pid = Pid::from_raw(holder.line().parse().unwrap()).unwrap();
    (holder, pid)
}

/// A waiter whose command says that it runs, and waits for a word.
fn a_waiter(site: &Site, options: &[&str]) -> Running {
    let command = ["--", "sh", "-c", "echo mine; read word"];
    let waiter = site.start(["run", "x"].iter().chain(options).chain(&command));
    site.until("x", |lock| !lock["waiters"].as_array().unwrap().is_empty());
    waiter
}

fn is_dead(pid: Pid) -> bool {
    // A zombie is dead, too: whoever adopted it may take its time.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    test_kill_process(pid) == Err(Errno::SRCH) || stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_killed_holder_of_ten_minutes_is_taken_over_within_a_second_and_its_command_is_dead() {
    let site = Site::new();
    let (holder, command) = a_holder(&site, &["--ttl", "10m"]);
    let mut waiter = a_waiter(&site, &["--ttl", "10m"]);
    let killed = now();
    holder.signal(Signal::KILL);
    assert_eq!(waiter.line(), "mine");
    let took = killed.elapsed();
    println!("taken over {took:?} after the kill");
    assert!(took < Duration::from_secs(1), "{took:?}");
    until("the command is dead", || is_dead(command));
    assert_eq!(waiter.end().code, 1, "its `read` found the end of its input");
}

#[test]
fn a_stopped_holder_is_taken_over_after_its_ttl_and_ends_with_79_when_it_goes_on() {
    let site = Site::new();
    let ttl = Duration::from_millis(800);
    let (holder, command) = a_holder(&site, &["--ttl", "800ms"]);
    let mut waiter = a_waiter(&site, &["--ttl", "10m"]);
    let stopped = now();
    holder.signal(Signal::STOP);
    assert_eq!(waiter.line(), "mine");
    let took = stopped.elapsed();
    println!("taken over {took:?} after the stop, ttl {ttl:?}");
    // Its last sign of life is at most a third of the ttl, and some jitter, older than the stop.
    assert!(ttl / 2 < took, "{took:?}");
    assert!(took < ttl + Duration::from_secs(2), "{took:?}");
    holder.signal(Signal::CONT);
    let done = holder.wait();
    assert_eq!(done.code, 79, "{}", done.stderr);
    assert!(done.stderr.contains("lost"), "{}", done.stderr);
    assert!(is_dead(command));
    let status = site.json(["status", "--json", "x"]);
    assert_eq!(status["locked"], true, "the late one took nothing away");
    waiter.end();
}

#[test]
fn a_holder_that_is_evicted_ends_with_79_and_its_command_with_it() {
    let site = Site::new();
    // It is told with its next renewal.
    let (holder, command) = a_holder(&site, &["--ttl", "1s"]);
    let mut waiter = a_waiter(&site, &["--ttl", "10m"]);
    let reason = "the night shift is over";
    let evicted = now();
    let force = site.tenure(["force-release", "x", "--yes", "--any", "--reason", reason]);
    assert_eq!(force.code, 0, "{}", force.stderr);
    assert_eq!(waiter.line(), "mine");
    let done = holder.wait();
    println!("ended {:?} after the eviction", evicted.elapsed());
    assert_eq!(done.code, 79, "{}", done.stderr);
    assert!(done.stderr.contains(reason), "{}", done.stderr);
    assert!(is_dead(command));
    waiter.end();
}

#[test]
fn a_command_that_ignores_sigterm_is_killed_before_anybody_else_holds_the_lock() {
    let site = Site::new();
    let stubborn = "trap '' TERM; while :; do echo $TENURE_FENCING_TOKEN >>beats; sleep 0.01; done";
    // Between the kill and the end of the lease lie 1 % of the ttl and what observers allow for: a
    // busy machine needs some of it.
    let options = ["--no-renew", "--ttl", "4s", "--kill-after", "10m"];
    let command = ["--", "sh", "-c", stubborn];
    let holder = site.start(["run", "x"].iter().chain(&options).chain(&command));
    let beats = site.work().join("beats");
    until("it works", || beats.exists());
    let next = site.start(["run", "x", "--", "sh", "-c", "echo $TENURE_FENCING_TOKEN >>beats"]);
    let done = holder.wait();
    assert_eq!(done.code, 79, "{}", done.stderr);
    let next = next.wait();
    assert_eq!(next.code, 0, "{}", next.stderr);
    let beats: Vec<u64> =
        fs::read_to_string(beats).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert!(beats.is_sorted(), "it worked on while somebody else held the lock: {beats:?}");
    let (first, last) = (beats[0], beats[beats.len() - 1]);
    assert!(first < last && beats[beats.len() - 2] == first, "{beats:?}");
}

/// Makes the sign of life of the only holder one that was given on another boot.
fn move_to_another_host(locks: &Path) {
    let lock = only(locks, |name| name.ends_with(".lock"));
    let file = only(&lock, |name| name.starts_with("hb-"));
    let mut sign = fs::read(&file).unwrap();
    let (boot, sum) = (56..64, 124..128);
    sign[boot].iter_mut().for_each(|byte| *byte ^= 0x55);
    let crc = crc32c::crc32c(&sign[..sum.start]);
    sign[sum].copy_from_slice(&crc.to_le_bytes());
    fs::write(&file, &sign).unwrap();
}

fn only(dir: &Path, fits: impl Fn(&str) -> bool) -> std::path::PathBuf {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let fitting: Vec<_> =
        paths.filter(|path| fits(path.file_name().unwrap().to_str().unwrap())).collect();
    assert_eq!(fitting.len(), 1, "{fitting:?}");
    fitting.into_iter().next().unwrap()
}

#[test]
fn cron_jobs_that_do_not_wait_take_over_from_a_dead_holder_elsewhere_after_its_ttl() {
    let site = Site::new();
    let ttl = Duration::from_millis(800);
    let (holder, command) = a_holder(&site, &["--ttl", "800ms"]);
    holder.signal(Signal::KILL);
    until("the command is dead", || is_dead(command));
    drop(holder);
    move_to_another_host(&site.path().join("locks"));
    let first_look = now();
    let mut tries = 0;
    until("one of them gets the lock", || {
        tries += 1;
        let done = site.tenure(["run", "-n", "x", "--", "true"]);
        assert!(matches!(done.code, 0 | 75), "{}", done.stderr);
        done.code == 0
    });
    let took = first_look.elapsed();
    println!("{tries} jobs, {took:?} with a ttl of {ttl:?}");
    assert!(1 < tries, "the first one can have seen nothing pass");
    assert!(ttl < took, "{took:?}");
    assert!(took < ttl + Duration::from_secs(3), "{took:?}");
}
