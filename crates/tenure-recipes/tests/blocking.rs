//! The recipes in programs without async.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::LockManager;
use tenure_core::blocking::block_on;
use tenure_core::clock::TestClock;
use tenure_recipes::blocking::Once;
use tenure_recipes::once::{self, Fingerprint, IdempotencyConfig, OnceError, Source, State};
use tenure_recipes::{Election, RwLock};

fn once_over(locks: LockManager) -> Once {
    let config = IdempotencyConfig::new("s").wait_timeout(Duration::from_secs(30));
    Once::from(once::Once::new(locks, config).unwrap())
}

#[test]
fn calls_on_many_threads_are_one_execution() {
    let once = once_over(LockManager::new(Arc::new(MemoryBackend::new())).unwrap());
    let callers: Vec<_> = (0..8)
        .map(|n| {
            let once = once.clone();
            thread::spawn(move || once.run("key", Fingerprint::NONE, |_| Ok::<_, String>(n)))
        })
        .collect();
    let ended: Vec<_> = callers.into_iter().map(|c| c.join().unwrap().unwrap()).collect();
    assert!(ended.iter().all(|outcome| outcome.value == ended[0].value));
    let executed = ended.iter().filter(|outcome| outcome.source == Source::Executed).count();
    assert_eq!(executed, 1);

    assert_eq!(once.status("key").unwrap().state, State::Done);
    let forced = once.force("key", Fingerprint::NONE, |attempt| Ok::<_, String>(attempt.number()));
    assert_eq!(forced.unwrap().value, 2);
    assert!(once.forget("key").unwrap());
    let failed = once.run("key", Fingerprint::NONE, |_| Err::<u32, _>("no"));
    assert!(matches!(failed, Err(OnceError::Failed { error: "no", .. })), "{failed:?}");
    once.settle("key", Fingerprint::NONE, once::Settled::Done(&7)).unwrap();
    let kept = once.run("key", Fingerprint::NONE, |_| Err::<u32, _>("it is settled"));
    assert_eq!(kept.unwrap().value, 7);
}

/// Nothing stops work that blocks; what it came to counts if nobody else has begun.
#[test]
fn work_that_outlives_its_lease_counts_if_nobody_else_has_begun() {
    let clock = TestClock::new();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let locks = LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
    let outcome = once_over(locks).run("key", Fingerprint::NONE, |attempt| {
        backend.failures().always(Operation::Renew, Failure::Hang);
        clock.advance(IdempotencyConfig::IN_PROGRESS_TTL * 2);
        assert!(attempt.watch().check().is_err());
        backend.failures().heal();
        Ok::<_, String>(attempt.number())
    });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.value, outcome.attempt, outcome.source), (1, 1, Source::Executed));
}

#[test]
fn every_recipe_is_waited_for_without_a_runtime() {
    let locks = LockManager::new(Arc::new(MemoryBackend::new())).unwrap();
    let table = RwLock::new(&locks, "table").unwrap();
    let reader = block_on(table.upgradable_read()).unwrap();
    let writer = block_on(reader.upgrade(None)).unwrap();
    block_on(writer.release()).unwrap();
    let leadership = block_on(Election::new(&locks, "x").unwrap().campaign()).unwrap();
    block_on(leadership.resign()).unwrap();
}
