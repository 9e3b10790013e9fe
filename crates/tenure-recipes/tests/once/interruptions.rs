//! Calls that are dropped wherever they can be, and stores whose answers are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::LockManager;
use tenure_core::backend::DynBackend;
use tenure_recipes::once::{
    Executions, Fingerprint, IdempotencyConfig, Key, Once, OnceError, Source, State,
};
use tenure_testkit::cancel::{Polled, Yielding, polled};

use crate::stage::{Called, LONG, PATIENCE, never, runtime, until, within};

fn once_over(backend: Arc<dyn DynBackend>, executions: Executions) -> Once {
    let config = IdempotencyConfig::new("s").wait_timeout(LONG).executions(executions);
    Once::new(LockManager::new(backend).unwrap(), config).unwrap()
}

/// Runs work that gives way before and after it counts itself.
async fn call(once: &Once, key: &Key, ran: &AtomicU32, name: &str) -> Called<String> {
    once.run(key.clone(), Fingerprint::NONE, |_| async move {
        tokio::task::yield_now().await;
        ran.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        Ok::<_, String>(name.to_owned())
    })
    .await
}

/// Waits until the janitor has done what a dropped call left to it.
async fn until_tidy(once: &Once, key: &Key) {
    once.locks().close(PATIENCE).await.unwrap();
    until("nobody holds it", async || {
        let status = once.status(key.clone()).await.unwrap();
        status.holder.is_none() && status.followers == 0
    })
    .await;
}

#[test]
fn a_call_that_is_dropped_at_any_point_is_made_good_by_the_next() {
    let runtime = runtime();
    let backend = Arc::new(Yielding::new(Arc::new(MemoryBackend::new())));
    let once = once_over(backend, Executions::AtLeastOnce);
    let mut points = 0;
    loop {
        let (key, ran) = (Key::new(points), AtomicU32::new(0));
        let dropped = polled(call(&once, &key, &ran, "first"), points);
        let next = runtime
            .block_on(within("the next call", call(&once, &key, &ran, "next")))
            .unwrap_or_else(|e| panic!("after {points} polls: {e}"));
        match dropped {
            Polled::Ended(first) => {
                let first = first.unwrap();
                assert_eq!((first.value.as_str(), first.source), ("first", Source::Executed));
                assert_eq!((next.value.as_str(), ran.into_inner()), ("first", 1));
                break;
            }
            // If its result was accepted, that is the result; if not, it was run again.
            _ if next.value == "first" => assert_eq!(next.attempt, 1),
            _ => assert!(next.attempt <= 2, "{next:?}"),
        }
        runtime.block_on(until_tidy(&once, &key));
        points += 1;
    }
    println!("dropped at {points} points");
    assert!(5 < points);
}

#[test]
fn a_call_that_may_run_only_once_and_is_dropped_at_any_point_does_not_run_twice() {
    let runtime = runtime();
    let backend = Arc::new(Yielding::new(Arc::new(MemoryBackend::new())));
    let once = once_over(backend, Executions::AtMostOnce);
    let (mut points, mut indeterminate) = (0, 0);
    loop {
        let (key, ran) = (Key::new(points), AtomicU32::new(0));
        let dropped = polled(call(&once, &key, &ran, "first"), points);
        let ended = matches!(dropped, Polled::Ended(Ok(_)));
        let next = runtime.block_on(within("the next call", call(&once, &key, &ran, "next")));
        assert!(ran.load(Ordering::SeqCst) <= 1, "after {points} polls");
        match next {
            Ok(_) if ended => break,
            Ok(outcome) => assert!(["first", "next"].contains(&outcome.value.as_str())),
            Err(OnceError::Indeterminate { .. }) => {
                indeterminate += 1;
                runtime.block_on(async {
                    until_tidy(&once, &key).await;
                    assert_eq!(once.status(key.clone()).await.unwrap().state, State::Unknown);
                    assert!(once.forget(key.clone()).await.unwrap_or_else(never));
                    assert_eq!(call(&once, &key, &ran, "again").await.unwrap().value, "again");
                });
            }
            Err(error) => panic!("after {points} polls: {error}"),
        }
        points += 1;
    }
    println!("dropped at {points} points, {indeterminate} of them to be looked at");
    assert!(0 < indeterminate);
}

/// Every call to the store fails once, before or after it took effect, and every two of them.
#[test]
fn lost_answers_leave_one_result() {
    const OPERATIONS: [Operation; 4] =
        [Operation::Acquire, Operation::Renew, Operation::Release, Operation::Other];
    const FAILURES: [Failure; 2] = [Failure::LostRequest, Failure::LostReply];
    let faults: Vec<_> =
        OPERATIONS.into_iter().flat_map(|o| FAILURES.map(|failure| (o, failure))).collect();
    let runtime = runtime();
    for executions in [Executions::AtLeastOnce, Executions::AtMostOnce] {
        for first in &faults {
            for second in &faults {
                let backend = MemoryBackend::new();
                let failures = backend.failures();
                let once = once_over(Arc::new(backend), executions);
                let (key, ran) = (Key::new("key"), AtomicU32::new(0));
                failures.once(first.0, first.1);
                failures.once(second.0, second.1);
                let what = format!("{executions:?}, {first:?}, {second:?}");
                let ended = runtime.block_on(within(&what, async {
                    let first = call(&once, &key, &ran, "first").await;
                    // The work of a leader that lives is not in vain.
                    let worked = ran.load(Ordering::SeqCst) == 1;
                    assert!(!worked || first.is_ok(), "{what}: {first:?}");
                    failures.heal();
                    [first, call(&once, &key, &ran, "second").await]
                }));
                let seen: Vec<_> = ended.iter().flatten().map(|o| &o.value).collect();
                assert!(seen.iter().all(|value| *value == seen[0]), "{what}: {seen:?}");
                let own = ended.iter().flatten().filter(|o| o.source == Source::Executed).count();
                assert!(own <= 1, "{what}: {ended:?}");
                let runs = ran.into_inner();
                match executions {
                    Executions::AtMostOnce => assert!(runs <= 1, "{what}"),
                    _ => assert!(ended[1].is_ok(), "{what}: {ended:?}"),
                }
            }
        }
    }
}
