//! Processes that die, stop and hand on: what the kernel proves, and what it does not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use futures_lite::future::block_on;
use rustix::process::{Pid, Signal, kill_process};
use support::*;
use tenure_backend_file::{FileConfig, Liveness};
use tenure_core::backend::{Backend, Verdict};
use tenure_core::clock::SystemClock;
use tenure_core::register::{Register, RegisterBackend, Sign};
use tenure_core::{LockName, MemberId};

const ROLE: &str = "TENURE_TEST_ROLE";

/// Another process that holds the lock `x` until it is told otherwise.
struct Holder {
    child: Child,
    member: MemberId,
    /// Kept open, so that the other process can go on printing.
    _output: BufReader<ChildStdout>,
}

impl Holder {
    fn start(root: &Path, role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--nocapture"])
            .env(ROLE, role)
            .env("TENURE_TEST_ROOT", root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let member = output
            .by_ref()
            .lines()
            .find_map(|line| line.unwrap().strip_prefix("holding ").map(str::to_owned))
            .expect("it holds");
        let bytes: Vec<u8> =
            (0..32).map(|i| u8::from_str_radix(&member[2 * i..2 * i + 2], 16).unwrap()).collect();
        Self { child, member: MemberId::from_bytes(bytes.try_into().unwrap()), _output: output }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn tell_to_end(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"end\n").unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn x() -> LockName {
    name("x")
}

/// Not a test of its own: what the other process does.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let root = std::env::var("TENURE_TEST_ROOT").unwrap();
    let mut config = FileConfig::new(root);
    if role == "ttl" {
        config = config.liveness(Liveness::Ttl);
    }
    let machine = RegisterBackend::new(open_as(&config), Arc::new(SystemClock));
    let mut claim = claim(&x());
    claim.detached = role == "detached";
    granted(&machine, &claim);
    println!("\nholding {}", claim.member);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn sign_of(root: &Path, holder: &Holder) -> Sign {
    sign(&open(root), &x(), holder.member)
}

#[test]
fn a_process_that_was_killed_is_proven_dead_and_its_lock_is_free_at_once() {
    let room = room();
    let mut holder = Holder::start(room.path(), "hold");
    let machine = machine(&room);
    assert!(!sign_of(room.path(), &holder).dead);
    assert!(matches!(acquire(&machine, &claim(&x())).unwrap(), Verdict::Busy(_)));
    holder.kill();
    assert!(sign_of(room.path(), &holder).dead);
    granted(&machine, &claim(&x()));
}

#[test]
fn a_process_that_ended_without_releasing_is_proven_dead() {
    let room = room();
    let mut holder = Holder::start(room.path(), "hold");
    holder.tell_to_end();
    granted(&machine(&room), &claim(&x()));
}

#[test]
fn a_process_that_is_stopped_is_alive() {
    let room = room();
    let holder = Holder::start(room.path(), "hold");
    holder.signal(Signal::STOP);
    assert!(!sign_of(room.path(), &holder).dead);
    let busy = acquire(&machine(&room), &claim(&x())).unwrap();
    assert!(matches!(busy, Verdict::Busy(_)));
}

#[test]
fn a_process_whose_file_was_cleaned_up_is_alive_as_long_as_it_runs() {
    let room = room();
    let mut holder = Holder::start(room.path(), "hold");
    let procs = room.path().join("procs");
    std::fs::remove_file(only(&procs, "proc-")).unwrap();
    assert!(!sign_of(room.path(), &holder).dead);
    std::fs::remove_dir_all(&procs).unwrap();
    assert!(!sign_of(room.path(), &holder).dead);
    holder.kill();
    assert!(sign_of(room.path(), &holder).dead, "then the process table proves it");
}

#[test]
fn a_process_that_has_closed_its_files_is_not_dead_before_it_has_ended() {
    let room = room();
    let mut holder = Holder::start(room.path(), "hold");
    let file = only(&room.path().join("procs"), "proc-");
    // As if the kernel had come so far with its end: its children may still be at work.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    assert!(!sign_of(room.path(), &holder).dead);
    // It has ended, and nobody has taken notice.
    holder.child.kill().unwrap();
    until("it is dead", || sign_of(room.path(), &holder).dead);
    holder.child.wait().unwrap();
    assert!(sign_of(room.path(), &holder).dead);
}

#[test]
fn something_else_in_place_of_a_process_file_proves_nothing() {
    let room = room();
    let mut holder = Holder::start(room.path(), "hold");
    let file = only(&room.path().join("procs"), "proc-");
    holder.kill();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/null", &file).unwrap();
    assert!(!sign_of(room.path(), &holder).dead);
}

#[test]
fn a_detached_lease_outlives_its_process() {
    let room = room();
    let mut holder = Holder::start(room.path(), "detached");
    holder.kill();
    assert!(!sign_of(room.path(), &holder).dead);
    let busy = acquire(&machine(&room), &claim(&x())).unwrap();
    assert!(matches!(busy, Verdict::Busy(_)));
}

#[test]
fn the_kernels_word_does_not_count_for_whoever_does_not_want_it() {
    let room = room();
    let mut holder = Holder::start(room.path(), "ttl");
    holder.kill();
    assert!(!sign_of(room.path(), &holder).dead, "the holder does not want it");

    let room = support::room();
    let mut holder = Holder::start(room.path(), "hold");
    holder.kill();
    let config = FileConfig::new(room.path()).liveness(Liveness::Ttl);
    let observer = open_as(&config);
    assert!(!observer.capabilities().proves_death);
    assert!(!sign(&observer, &x(), holder.member).dead, "the observer does not want it");
}

#[test]
fn a_lease_of_another_boot_or_process_space_is_alive() {
    let room = room();
    let mut holder = Holder::start(room.path(), "hold");
    holder.kill();
    let file = only(&directory(&open(&room), &x()), "hb-");
    let whole = std::fs::read(&file).unwrap();
    for at in [56, 64] {
        let mut block = whole.clone();
        block[at] ^= 1;
        let sum = crc32c::crc32c(&block[..124]);
        block[124..].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&file, &block).unwrap();
        let sign = sign_of(room.path(), &holder);
        assert!(sign.at.is_some() && !sign.dead, "byte {at}");
    }
}

#[test]
fn what_dead_processes_left_is_swept_and_what_living_ones_need_is_not() {
    let room = room();
    let mut dead = Holder::start(room.path(), "hold");
    dead.kill();
    let procs = room.path().join("procs");
    assert_eq!(names_in(&procs).len(), 2, "its own file, and space for a full disk");
    let first = machine(&room);
    granted(&first, &claim(&name("y")));
    let mine = only(&procs, "proc-");
    let second = machine(&room);
    granted(&second, &claim(&name("z")));
    assert_eq!(names_in(&procs).len(), 4);
    assert!(mine.exists());
    drop((first, second));
    assert!(names_in(&procs).is_empty());
}

#[test]
fn a_backend_that_only_looks_leaves_nothing() {
    let room = room();
    let machine = machine(&room);
    block_on(machine.inspect(&x())).unwrap();
    block_on(machine.list("", 10)).unwrap();
    assert!(names_in(room.path()).is_empty());
}

#[test]
fn leases_of_a_backend_that_was_dropped_are_free_at_once() {
    let room = room();
    let first = machine(&room);
    granted(&first, &claim(&x()));
    drop(first);
    granted(&machine(&room), &claim(&x()));
}
