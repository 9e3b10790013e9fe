//! Claims that wait are woken: by a grant, and by the death of whoever is in their way.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_lite::future::block_on;
use parking_lot::Mutex;
use support::*;
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_core::backend::{Backend, Claim, Event, Eviction, Listener, Reason, Verdict};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::register::Register;
use tenure_core::{LockGuard, LockManager, LockName, LossReason, MemberId, Wakes};

#[derive(Default)]
struct Ear(Mutex<Vec<Event>>);

impl Listener for Ear {
    fn on_event(&self, event: Event) {
        self.0.lock().push(event);
    }
}

impl Ear {
    fn on(backend: &impl Backend) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        let weak: Weak<Self> = Arc::downgrade(&ear);
        backend.subscribe(weak);
        ear
    }

    fn heard_grant_of(&self, member: MemberId) -> bool {
        let is_it = |e: &Event| matches!(e, Event::Granted { member: m, .. } if *m == member);
        self.0.lock().iter().any(is_it)
    }

    fn heard_change_of(&self, name: &LockName) -> bool {
        let is_it = |e: &Event| matches!(e, Event::Changed { name: n } if n == name);
        self.0.lock().iter().any(is_it)
    }
}

fn backend(root: &std::path::Path) -> FileBackend {
    FileBackend::open(&FileConfig::new(root), Arc::new(SystemClock)).unwrap()
}

fn queue(backend: &impl Backend, claim: &Claim) {
    assert!(matches!(acquire(backend, claim).unwrap(), Verdict::Queued(_)));
}

#[test]
fn a_claim_is_told_of_its_grant_by_another_backend() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let (holds, waits) = (claim(&x), waiting_claim(&x));
    let fence = granted(&there, &holds);
    queue(&here, &waits);
    assert_eq!(here.capabilities().wakes, Wakes::Push);
    assert!(here.watch(&waits, true));
    assert!(here.watch(&waits, true), "asking twice does no harm");
    assert!(!ear.heard_grant_of(waits.member));
    release(&there, &holds, fence);
    until("the grant is told", || ear.heard_grant_of(waits.member));
    granted(&here, &waits);
}

#[test]
fn a_grant_before_the_watch_is_told_with_the_watch() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let (holds, waits) = (claim(&x), waiting_claim(&x));
    let fence = granted(&there, &holds);
    queue(&here, &waits);
    release(&there, &holds, fence);
    assert!(here.watch(&waits, true));
    until("the grant is told", || ear.heard_grant_of(waits.member));
}

#[test]
fn a_grant_is_told_with_its_lease_begun() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let (holds, waits) = (claim(&x), waiting_claim(&x));
    let fence = granted(&there, &holds);
    queue(&here, &waits);
    assert!(here.watch(&waits, true));
    let before = SystemClock.now();
    release(&there, &holds, fence);
    until("the grant is told", || ear.heard_grant_of(waits.member));
    let grant = ear.0.lock().iter().find_map(|event| match event {
        Event::Granted { grant, .. } => *grant,
        _ => None,
    });
    let grant = grant.expect("a grant comes along");
    assert!(!grant.handed_over && fence < grant.fence);
    assert!(grant.began.is_some_and(|began| before <= began && began <= SystemClock.now()));
}

#[test]
fn only_the_granted_claim_is_woken() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let holds = claim(&x);
    let fence = granted(&there, &holds);
    let waiting: Vec<Claim> = (0..5).map(|_| waiting_claim(&x)).collect();
    for claim in &waiting {
        queue(&here, claim);
        assert!(here.watch(claim, true));
    }
    release(&there, &holds, fence);
    until("the first is told", || ear.heard_grant_of(waiting[0].member));
    granted(&here, &waiting[0]);
    let others = &waiting[1..];
    assert!(others.iter().all(|c| !ear.heard_grant_of(c.member)));
}

#[test]
fn a_claim_that_waits_no_more_is_not_told() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let holds = claim(&x);
    let fence = granted(&there, &holds);
    let (leaves, stays) = (waiting_claim(&x), waiting_claim(&x));
    for claim in [&leaves, &stays] {
        queue(&here, claim);
        assert!(here.watch(claim, true));
    }
    here.watch(&leaves, false);
    release(&there, &holds, fence);
    let fence = granted(&there, &leaves);
    release(&there, &leaves, fence);
    until("the other is told", || ear.heard_grant_of(stays.member));
    assert!(!ear.heard_grant_of(leaves.member));
}

#[test]
fn a_claim_that_is_watched_before_it_is_admitted_is_told() {
    let room = room();
    let (here, there) = (machine(&room), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let (holds, waits) = (claim(&x), waiting_claim(&x));
    let fence = granted(&there, &holds);
    assert!(here.watch(&waits, true));
    ear.0.lock().clear();
    queue(&here, &waits);
    release(&there, &holds, fence);
    until("the grant is told", || ear.heard_grant_of(waits.member));
}

#[test]
fn the_threads_and_descriptors_go_with_the_backend() {
    let room = room();
    let watching = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
            .filter(|target| target.starts_with(room.path().canonicalize().unwrap()))
            .count()
    };
    let there = machine(&room);
    let x = name("x");
    granted(&there, &claim(&x));
    let before = watching();
    let here = backend(room.path());
    let waits = waiting_claim(&x);
    queue(&here, &waits);
    assert!(here.watch(&waits, true));
    assert!(before < watching());
    drop(here);
    until("all is closed", || watching() == before);
}

#[test]
fn the_death_of_the_holder_wakes_whoever_waits() {
    let room = room();
    let here = backend(room.path());
    let ear = Ear::on(&here);
    let x = name("x");
    let mut holder = Other::hold(room.path());
    let waits = waiting_claim(&x);
    queue(&here, &waits);
    assert!(here.watch(&waits, true));
    // Whether it dies before or after it is watched: the waiter is told.
    holder.kill();
    until("the death is told", || ear.heard_change_of(&x));
    granted(&here, &waits);
}

#[test]
fn the_death_of_a_later_holder_wakes_whoever_waits() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let ear = Ear::on(&here);
    let x = name("x");
    let first = claim(&x);
    let fence = granted(&there, &first);
    let mut second = Other::queue(room.path());
    until("the other process waits", || block_on(there.inspect(&x)).unwrap().waiters.len() == 1);
    let waits = waiting_claim(&x);
    queue(&here, &waits);
    assert!(here.watch(&waits, true));
    release(&there, &first, fence);
    until("the other process holds", || {
        block_on(there.inspect(&x))
            .unwrap()
            .holders
            .iter()
            .any(|h| h.details.owner.pid == second.0.id())
    });
    second.kill();
    until("the death is told", || ear.heard_change_of(&x));
    granted(&here, &waits);
}

const ROLE: &str = "TENURE_TEST_ROLE";

/// Another process that holds `x`, or waits for it.
struct Other(std::process::Child);

impl Other {
    fn hold(root: &std::path::Path) -> Self {
        Self::start(root, "hold")
    }

    fn queue(root: &std::path::Path) -> Self {
        Self::start(root, "queue")
    }

    fn start(root: &std::path::Path, role: &str) -> Self {
        use std::io::BufRead;
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_other_process", "--nocapture"])
            .env(ROLE, role)
            .env("TENURE_TEST_ROOT", root)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"));
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: what the other process does.
#[test]
fn the_other_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let machine = machine(std::env::var("TENURE_TEST_ROOT").unwrap());
    let claim = waiting_claim(&name("x"));
    match acquire(&machine, &claim).unwrap() {
        Verdict::Granted(_) if role == "hold" => {}
        Verdict::Queued(_) if role == "queue" => {}
        other => panic!("{other:?}"),
    }
    println!("\nready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// A holder learns of it long before its next renewal, which is forty seconds away.
#[test]
fn a_holder_that_is_force_released_is_told_at_once() {
    let room = room();
    let (here, there) = (backend(room.path()), machine(&room));
    let locks = LockManager::new(Arc::new(here)).unwrap();
    let ttl = Duration::from_secs(120);
    let free = block_on(locks.acquire("x", ttl)).unwrap();
    let evict = || {
        let reason = Reason { by: "ann".into(), why: "too slow".into() };
        let why = Eviction { only_if: None, stolen: false, reason };
        block_on(there.evict(&name("x"), &why)).unwrap();
    };
    let told_in_time = |guard: &LockGuard| {
        evict();
        until("it is told long before its next renewal", || !guard.is_valid());
        let reason = block_on(guard.lost());
        assert!(matches!(reason, LossReason::Evicted { by, .. } if &*by == "ann"));
    };
    // Whether it was evicted before its sign of life is watched, or after.
    told_in_time(&free);
    granted(&there, &claim(&name("x")));
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| block_on(locks.acquire("x", ttl)).unwrap());
        until("it waits", || block_on(there.inspect(&name("x"))).unwrap().waiters.len() == 1);
        evict();
        waiting.join().unwrap()
    });
    told_in_time(&waiting);
}

#[test]
fn a_register_that_cannot_watch_says_so() {
    let room = room();
    let register = open(&room);
    assert!(!register.watch(&waiting_claim(&name("x")), false));
}
