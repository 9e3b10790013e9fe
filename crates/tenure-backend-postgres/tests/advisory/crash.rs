//! The server is killed with all its processes and comes back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{Fence, LossReason};
use tenure_testkit::servers::postgres::PostgresSetup;

use crate::stage::{LONG, PATIENCE, Stage, X, acquire, now};

/// How many fences are drawn before it is killed, at least.
const DRAWN: usize = 100;
/// How often the server is killed.
const CRASHES: usize = 4;

#[test]
fn fences_never_fall_when_the_server_crashes_under_load() {
    let stage = Stage::new();
    let mut highest = Fence::ZERO;
    for _ in 0..CRASHES {
        // Several processes draw numbers, in each other's wake, until the server dies under them.
        let many = &AtomicUsize::new(0);
        let drawn: Vec<Fence> = std::thread::scope(|scope| {
            let draw = |n: usize| {
                let locks = stage.manager();
                move || {
                    let mut seen = Vec::new();
                    let name = format!("crash/{n}");
                    while let Ok(Some(guard)) = block_on(locks.try_acquire(&*name, LONG)) {
                        seen.push(guard.fencing_token());
                        many.fetch_add(1, Ordering::Relaxed);
                        if block_on(guard.release()).is_err() {
                            break;
                        }
                    }
                    seen
                }
            };
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(draw(n))).collect();
            crate::stage::until("many are drawn", || DRAWN <= many.load(Ordering::Relaxed));
            stage.server.kill();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert!(!drawn.is_empty());
        let lowest = drawn.iter().min().copied().unwrap();
        assert!(highest < lowest, "after a crash {lowest} was drawn, and {highest} before");
        highest = drawn.iter().max().copied().unwrap();
        stage.server.restart();
    }
    let last = acquire(&stage.manager(), X, LONG);
    assert!(highest < last.fencing_token());
}

/// Each session that hangs in its commit may lose 33 numbers: a leap of one length for all servers was too
/// short for those with many sessions.
#[test]
fn the_leap_is_longer_than_what_all_sessions_may_have_lost() {
    for most in [20, 100] {
        let stage = Stage::with(PostgresSetup::new().set("max_connections", &most.to_string()));
        drop(acquire(&stage.manager(), X, LONG));
        let drawn = stage.server.psql("select last_value from tenure.fence");
        let drawn: i32 = drawn.parse().unwrap();
        assert!(1024 <= drawn && 33 * most < drawn, "{drawn} of {most}");
    }
}

#[test]
fn a_crash_loses_all_locks_and_tells_and_nobody_is_left_waiting() {
    let stage = Stage::with(PostgresSetup::new().durable());
    let (a, b) = (stage.manager(), stage.manager());
    let guard = acquire(&a, X, LONG);
    std::thread::scope(|scope| {
        let wait = || block_on(b.lock(X).ttl(LONG).wait_timeout(PATIENCE).acquire());
        let next = scope.spawn(wait);
        // Not only the server knows that it waits: whoever was never answered does not ask again.
        crate::stage::until("it knows that it waits", || b.metrics().waiting == 1);
        stage.server.kill();
        assert_eq!(block_on(guard.lost()), LossReason::SessionEnded);
        stage.server.restart();
        // It was in the queue: it asks again until the server is there.
        let next = next.join().unwrap().unwrap();
        assert!(guard.fencing_token() < next.fencing_token());
        block_on(next.release()).unwrap();
    });
    drop(acquire(&a, X, LONG));
}

#[test]
fn a_server_that_stands_still_loses_nothing_that_it_need_not() {
    let stage = Stage::new();
    let locks = stage.manager();
    let ttl = Duration::from_secs(2);
    let long = acquire(&locks, "long", LONG);
    let short = acquire(&locks, "short", ttl);
    let stopped = now();
    stage.server.stop();
    let lost = block_on(short.lost());
    assert!(stopped.elapsed() <= ttl, "told after {:?}", stopped.elapsed());
    assert_eq!(lost, LossReason::StoreUnreachable);
    assert!(long.is_valid());
    stage.server.cont();
    assert!(long.is_valid());
    block_on(long.release()).unwrap();
    drop(acquire(&locks, "short", ttl));
}
