//! Locks that nobody uses are forgotten, and come back without harm.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use support::*;
use tenure_backend_file::{FileBackend, FileConfig};
use tenure_core::backend::{Backend, LeaseRef, Value, Verdict};
use tenure_core::clock::SystemClock;
use tenure_core::register::{Register, Swap};
use tenure_core::{ErrorKind, Fence};

const NOW: Duration = Duration::ZERO;

#[test]
fn a_lock_that_nobody_uses_is_removed_and_comes_back_with_higher_fences() {
    let room = room();
    let machine = machine(&room);
    let x = claim(&name("x"));
    let first = granted(&machine, &x);
    assert_eq!(machine.register().prune(NOW).unwrap(), 0, "it is held");
    release(&machine, &x, first);
    assert_eq!(machine.register().prune(Duration::from_secs(3600)).unwrap(), 0, "just used");
    assert_eq!(machine.register().prune(NOW).unwrap(), 1);
    assert_eq!(names_in(room.path()), ["burials", "procs"]);
    let second = granted(&machine, &claim(&name("x")));
    assert!(first < second);
}

#[test]
fn whoever_saw_no_lock_before_one_was_made_used_and_removed_looks_again() {
    let room = room();
    let (slow, other) = (machine(&room), machine(&room));
    let x = name("x");
    let stale = load(slow.register(), &x);
    let held = claim(&x);
    let first = granted(&other, &held);
    release(&other, &held, first);
    assert_eq!(other.register().prune(NOW).unwrap(), 1);
    // Its fence was good when it looked, and is not any more.
    assert!(stale.floor <= first);
    assert!(matches!(swap(slow.register(), &x, &stale.version, b""), Swap::Lost));
    assert!(first < granted(&slow, &claim(&x)));
}

#[test]
fn a_lock_with_waiters_or_a_value_stays() {
    let room = room();
    let machine = machine(&room);
    let (x, y) = (name("x"), name("y"));
    let holds = claim(&x);
    granted(&machine, &holds);
    acquire(&machine, &waiting_claim(&x)).unwrap();
    let keeps = claim(&y);
    let fence = granted(&machine, &keeps);
    let value = Value { bytes: b"kept"[..].into(), keep: Duration::from_secs(60) };
    let lease = LeaseRef::new(y.clone(), keeps.token.clone(), fence);
    block_on(machine.release(&lease, Some(&value))).unwrap();
    assert_eq!(machine.register().prune(NOW).unwrap(), 0);
    let view = block_on(machine.inspect(&y)).unwrap();
    assert_eq!(&*view.value.unwrap().bytes, b"kept");
}

#[test]
fn a_directory_with_a_foreign_file_stays_and_its_lock_works_again() {
    let room = room();
    let machine = machine(&room);
    let x = name("x");
    let first = {
        let claim = claim(&x);
        let fence = granted(&machine, &claim);
        release(&machine, &claim, fence);
        fence
    };
    let dir = directory(machine.register(), &x);
    std::fs::write(dir.join("notes.txt"), b"mine").unwrap();
    let stale = load(machine.register(), &x);
    assert_eq!(machine.register().prune(NOW).unwrap(), 0);
    assert!(only(&dir, "dead-").exists());
    assert_eq!(std::fs::read(dir.join("notes.txt")).unwrap(), b"mine");
    // Whoever had the old step in mind loses, whoever asks now finds nothing, and gets it.
    assert!(matches!(swap(machine.register(), &x, &stale.version, b""), Swap::Lost));
    let dead = load(machine.register(), &x);
    assert_eq!(dead.bytes, None);
    assert!(first < dead.floor);
    assert!(block_on(machine.register().names("", 10)).unwrap().is_empty());
    let claim = claim(&x);
    let second = granted(&machine, &claim);
    assert!(first < second);
    release(&machine, &claim, second);
    assert_eq!(
        names_in(&dir).iter().filter(|n| !n.starts_with("rec-")).count(),
        4,
        "the current step, FORMAT, the notes, and a sign that is kept: {:?}",
        names_in(&dir)
    );
    // And so on, as often as it takes.
    machine.register().prune(NOW).unwrap();
    std::fs::remove_file(dir.join("notes.txt")).unwrap();
    assert_eq!(machine.register().prune(NOW).unwrap(), 1);
    assert!(!dir.exists());
}

#[test]
fn of_two_who_revive_a_dead_lock_one_wins() {
    let room = room();
    let (a, b) = (machine(&room), machine(&room));
    let x = name("x");
    let claim = claim(&x);
    let fence = granted(&a, &claim);
    release(&a, &claim, fence);
    let dir = directory(a.register(), &x);
    std::fs::write(dir.join("notes.txt"), b"").unwrap();
    a.register().prune(NOW).unwrap();
    let dead = load(a.register(), &x);
    assert!(matches!(swap(b.register(), &x, &dead.version, b"b"), Swap::Won));
    assert!(matches!(swap(a.register(), &x, &dead.version, b"a"), Swap::Lost));
    assert_eq!(load(a.register(), &x).bytes.as_deref(), Some(&b"b"[..]));
}

/// Regression: a removal that was cut off after `FORMAT` was gone, and a taker that died with its
/// record written, left a directory that nobody could use again.
#[test]
fn a_removal_and_a_taker_that_both_die_half_way_leave_a_usable_lock() {
    let room = room();
    let machine = machine(&room);
    let x = name("x");
    let held = claim(&x);
    let first = granted(&machine, &held);
    release(&machine, &held, first);
    let dir = directory(machine.register(), &x);
    std::fs::write(dir.join("notes.txt"), b"").unwrap();
    machine.register().prune(NOW).unwrap();
    std::fs::remove_file(dir.join("notes.txt")).unwrap();
    let dead = names_in(&dir).into_iter().find(|n| n.starts_with("dead-")).unwrap();
    let record = dead.replace("dead-", "rec-");

    // The removal gets as far as `FORMAT`, and the lock is revived.
    std::fs::remove_file(dir.join("FORMAT")).unwrap();
    let second = claim(&x);
    let fence = granted(&machine, &second);
    assert!(first < fence);
    assert!(names_in(&dir).contains(&"FORMAT".to_owned()), "it is said again what this is");
    release(&machine, &second, fence);

    // The removal takes the mark away, too, when a record is there that was never stepped on.
    for file in names_in(&dir) {
        std::fs::remove_file(dir.join(file)).unwrap();
    }
    std::fs::write(dir.join(record), b"half a rec").unwrap();
    assert!(fence < granted(&machine, &claim(&x)));
}

#[test]
fn fences_grow_over_a_prune_even_if_the_wall_clock_was_set_back() {
    let room = room();
    let clock = tenure_core::clock::TestClock::new();
    let config = FileConfig::new(room.path());
    let register = tenure_backend_file::FileRegister::open(&config, Arc::new(clock.clone()));
    let machine =
        tenure_core::register::RegisterBackend::new(register.unwrap(), Arc::new(clock.clone()));
    let x = name("x");
    let held = claim(&x);
    let first = granted(&machine, &held);
    release(&machine, &held, first);
    std::fs::write(directory(machine.register(), &x).join("notes.txt"), b"").unwrap();
    machine.register().prune(NOW).unwrap();
    clock.set_wall(tenure_core::Micros(0));
    let second = granted(&machine, &claim(&x));
    assert!(first < second, "{first} {second}");
}

#[test]
fn what_a_removal_left_that_was_cut_off_is_no_lock_and_in_nobodys_way() {
    let room = room();
    let machine = machine(&room);
    let x = name("x");
    let dir = directory(machine.register(), &x);
    std::fs::create_dir(&dir).unwrap();
    assert_eq!(load(machine.register(), &x).bytes, None);
    let held = claim(&x);
    let fence = granted(&machine, &held);
    release(&machine, &held, fence);
    std::fs::remove_dir_all(&dir).unwrap();
    // Somebody was admitted while the directory was removed.
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join(format!("hb-{}", "ab".repeat(16))), b"").unwrap();
    granted(&machine, &claim(&x));
    // A foreign file alone is in the way, and said to be.
    let y = name("y");
    let dir = directory(machine.register(), &y);
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("notes.txt"), b"").unwrap();
    let error = acquire(&machine, &claim(&y)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(dir.join("notes.txt").exists());
}

#[test]
fn a_member_lives_although_the_directory_was_removed_under_it() {
    let room = room();
    let (a, b) = (machine(&room), machine(&room));
    let x = name("x");
    let held = claim(&x);
    let fence = granted(&a, &held);
    release(&a, &held, fence);
    // Admitted, and then somebody removes the directory and somebody else makes it again.
    let m = member(&x);
    block_on(a.register().admit(&m)).unwrap();
    std::fs::remove_dir_all(directory(a.register(), &x)).unwrap();
    let held = claim(&x);
    let fence = granted(&b, &held);
    release(&b, &held, fence);
    assert_eq!(sign(b.register(), &x, m.id).nonce, 0);
    put(a.register(), &x, b"");
    assert_ne!(sign(b.register(), &x, m.id).nonce, 0);
}

#[test]
fn acquiring_and_pruning_at_once_excludes_and_loses_nobody() {
    const THREADS: usize = 3;
    const ROUNDS: usize = 150;
    let room = room();
    let x = name("x");
    let (busy, last, done) = (AtomicBool::new(false), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let pruner = scope.spawn(|| {
            let register = open(&room);
            let mut removed = 0;
            while !done.load(Ordering::SeqCst) {
                removed += register.prune(NOW).unwrap();
            }
            removed
        });
        let workers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    let machine = machine(&room);
                    for _ in 0..ROUNDS {
                        let held = claim(&x);
                        let fence = loop {
                            match acquire(&machine, &held).unwrap() {
                                Verdict::Granted(grant) => break grant.fence,
                                Verdict::Busy(_) => block_on(machine.register().pause(3)),
                                other => panic!("{other:?}"),
                            }
                        };
                        assert!(!busy.swap(true, Ordering::SeqCst), "two hold at once");
                        let before = last.swap(fence.get(), Ordering::SeqCst);
                        assert!(Fence::new(before) < fence, "the fence fell");
                        assert_ne!(sign(machine.register(), &x, held.member).nonce, 0);
                        busy.store(false, Ordering::SeqCst);
                        release(&machine, &held, fence);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|w| w.join()).collect();
        done.store(true, Ordering::SeqCst);
        let removed = pruner.join().unwrap();
        ended.into_iter().for_each(|e| e.unwrap());
        println!("{removed} times removed in between");
    });
}

#[test]
fn idle_locks_are_removed_through_the_backend_too() {
    let room = room();
    let backend = FileBackend::open(&FileConfig::new(room.path()), Arc::new(SystemClock)).unwrap();
    for n in 0..5 {
        let held = claim(&name(&format!("x{n}")));
        let fence = granted(&backend, &held);
        release(&backend, &held, fence);
    }
    assert_eq!(block_on(backend.prune(NOW)).unwrap(), 5);
    assert_eq!(block_on(backend.prune(NOW)).unwrap(), 0);
}

#[test]
fn making_many_locks_removes_none_that_were_just_used() {
    let room = room();
    let register = open(&room);
    for n in 0..600 {
        put(&register, &name(&format!("x{n}")), b"");
    }
    assert_eq!(names_in(room.path()).len(), 600);
}
