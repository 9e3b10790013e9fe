//! Those who wait without a session to wait with: they try now and then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockGuard, LockManager};

use crate::stage::{LONG, Stage, X, acquire, look, now, until, until_waiting};

/// As many locks, with as many who wait for each, as a process has places at the server.
const HOT: usize = 4;
const CROWD: usize = 8;

fn hot(n: usize) -> String {
    format!("hot/{n}")
}

/// All of a process's places at the server are used, by waits for locks of another one, while `then` runs.
fn without_a_place(stage: &Stage, here: &LockManager, then: impl FnOnce(&LockManager)) {
    let other = stage.manager();
    let held: Vec<_> = (0..HOT).map(|n| acquire(&other, &hot(n), LONG)).collect();
    thread::scope(|scope| {
        for n in (0..HOT).flat_map(|n| [n; CROWD]) {
            scope.spawn(move || drop(acquire(here, &hot(n), LONG)));
        }
        (0..HOT).for_each(|n| until_waiting(&other, &hot(n), CROWD));
        then(&other);
        drop(held);
    });
    block_on(here.close(LONG)).unwrap();
    assert!(stage.holding().is_empty());
}

fn pass(time: Duration) {
    let start = now();
    until("time passes", || time < start.elapsed());
}

fn many_tries() {
    pass(Duration::from_millis(700));
}

fn shared(locks: &LockManager) -> LockGuard {
    block_on(locks.lock(X).ttl(LONG).shared().acquire()).unwrap()
}

/// It tried on the session that had the lock already for another task, and was given it.
#[test]
fn one_that_waits_without_a_place_is_not_given_what_another_task_holds() {
    let stage = Stage::new();
    let locks = stage.manager();
    let first = acquire(&locks, X, LONG);
    without_a_place(&stage, &locks, |_| {
        thread::scope(|scope| {
            let second = scope.spawn(|| acquire(&locks, X, LONG));
            until("the second waits", || look(&locks, X).waiters.len() == 1);
            many_tries();
            assert!(!second.is_finished(), "two hold at once");
            let fence = first.fencing_token();
            block_on(first.release()).unwrap();
            let second = second.join().unwrap();
            assert!(fence < second.fencing_token());
            block_on(second.release()).unwrap();
        });
    });
}

/// A release wakes both, and both asked the same session.
#[test]
fn two_that_wait_without_a_place_are_given_the_lock_one_after_the_other() {
    let stage = Stage::new();
    let locks = stage.manager();
    let inside = AtomicUsize::new(0);
    without_a_place(&stage, &locks, |other| {
        for _ in 0..5 {
            let first = acquire(other, X, LONG);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let guard = acquire(&locks, X, LONG);
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two hold at once");
                        pass(Duration::from_millis(20));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        block_on(guard.release()).unwrap();
                    });
                }
                until("all wait", || look(&locks, X).waiters.len() == 3);
                block_on(first.release()).unwrap();
            });
        }
    });
}

/// A session that has a lock shared for a task is given it alone as well.
#[test]
fn a_writer_that_waits_without_a_place_does_not_pass_readers_of_its_process() {
    let stage = Stage::new();
    let locks = stage.manager();
    let readers = [shared(&locks), shared(&locks)];
    without_a_place(&stage, &locks, |_| {
        thread::scope(|scope| {
            let writer = scope.spawn(|| acquire(&locks, X, LONG));
            until("the writer waits", || look(&locks, X).waiters.len() == 1);
            many_tries();
            assert!(!writer.is_finished(), "it holds with readers");
            // And a reader that comes later stands behind it.
            let reader = scope.spawn(|| shared(&locks));
            until("the reader waits", || look(&locks, X).waiters.len() == 2);
            many_tries();
            assert!(!reader.is_finished(), "it passed a writer");
            for reader in readers {
                block_on(reader.release()).unwrap();
            }
            block_on(writer.join().unwrap().release()).unwrap();
            block_on(reader.join().unwrap().release()).unwrap();
        });
    });
}

/// It tried on the session that had the lock already, which is not asked to wait its turn.
#[test]
fn a_reader_that_waits_without_a_place_does_not_pass_a_writer_of_another_process() {
    let stage = Stage::new();
    let locks = stage.manager();
    let first = shared(&locks);
    without_a_place(&stage, &locks, |other| {
        thread::scope(|scope| {
            let writer = scope.spawn(|| acquire(other, X, LONG));
            until("the writer waits", || look(&locks, X).waiters.len() == 1);
            let reader = scope.spawn(|| shared(&locks));
            until("the reader waits", || look(&locks, X).waiters.len() == 2);
            many_tries();
            assert!(!reader.is_finished(), "it passed a writer");
            block_on(first.release()).unwrap();
            block_on(writer.join().unwrap().release()).unwrap();
            block_on(reader.join().unwrap().release()).unwrap();
        });
    });
}
