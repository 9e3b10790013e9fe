//! What becomes of leaders that fail, vanish or are given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tenure_recipes::once::{Executions, Failures, Fingerprint, Key, OnceError, Source, State};
use tokio::sync::oneshot;

use crate::stage::{
    Called, LONG, Stage, calls, says, spawn, until, until_followers, until_state, works_for_ever,
};

async fn fails(once: &tenure_recipes::once::Once) -> Called<String> {
    once.run("key", Fingerprint::NONE, |attempt| async move {
        Err::<String, _>(format!("no {}", attempt.number()))
    })
    .await
}

pub(crate) async fn a_failure_is_tried_again_up_to_the_maximum(stage: &Stage) {
    let once = stage.once(&stage.config().max_attempts(3));
    for expected in 1..=3 {
        match fails(&once).await {
            Err(OnceError::Failed { error, attempt, is_final }) => {
                assert_eq!(error, format!("no {expected}"));
                assert_eq!((attempt, is_final), (expected, expected == 3));
            }
            other => panic!("{other:?}"),
        }
    }
    match fails(&once).await {
        Err(OnceError::KeptFailure { message, attempt: 3 }) => assert_eq!(message, "no 3"),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_final_failure_is_everybodys_answer(stage: &Stage) {
    let config = stage.config().failures(Failures::Keep).fail_ttl(Duration::from_millis(400));
    let once = stage.once(&config);
    assert!(matches!(fails(&once).await, Err(OnceError::Failed { is_final: true, .. })));
    // On a busy machine it may be over by now; it is never run before.
    match says(&once, "key", "again").await.unwrap() {
        Err(OnceError::KeptFailure { message, attempt: 1 }) => assert_eq!(message, "no 1"),
        Ok(outcome) => assert_eq!(outcome.attempt, 1),
        other => panic!("{other:?}"),
    }
    until("the fail ttl is over", async || {
        once.status("key").await.unwrap().state != State::Failed
    })
    .await;
    assert_eq!(says(&once, "key", "again").await.unwrap().unwrap().value, "again");
}

pub(crate) async fn those_who_wait_take_over_from_a_leader_that_fails_one_at_a_time(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let (end, ends) = oneshot::channel();
    let leader = calls(&once, "key", move |_| async move {
        ends.await.unwrap();
        Err("the first fails".to_owned())
    });
    until_state(&once, "key", State::InProgress).await;
    let (running, begun) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let followers: Vec<_> = (0..6)
        .map(|_| {
            let once = stage.once(&config);
            let (running, begun) = (running.clone(), begun.clone());
            spawn(async move {
                once.run("key", Fingerprint::NONE, |attempt| async move {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    begun.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    match attempt.number() {
                        2 => Err("the second fails, too".to_owned()),
                        number => Ok(format!("attempt {number}")),
                    }
                })
                .await
            })
        })
        .collect();
    until_followers(&once, "key", 6).await;
    end.send(()).unwrap();
    assert!(matches!(leader.await.unwrap(), Err(OnceError::Failed { attempt: 1, .. })));
    let mut failed = 0;
    for follower in followers {
        match follower.await.unwrap() {
            Ok(outcome) => assert_eq!((outcome.value.as_str(), outcome.attempt), ("attempt 3", 3)),
            Err(OnceError::Failed { attempt: 2, .. }) => failed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((failed, begun.load(Ordering::SeqCst)), (1, 2));
}

pub(crate) async fn a_leader_that_is_cancelled_is_followed_at_once(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let leader = works_for_ever(&once, "key");
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    let follower = says(&stage.once(&config), "key", "the second");
    until_followers(&once, "key", 1).await;
    leader.abort();
    let outcome = follower.await.unwrap().unwrap();
    assert_eq!((outcome.value.as_str(), outcome.attempt), ("the second", 2));
}

pub(crate) async fn a_leader_that_panics_is_followed_at_once(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let (end, ends) = oneshot::channel::<()>();
    let leader = calls(&once, "key", move |_| async move {
        ends.await.unwrap();
        std::panic::resume_unwind(Box::new("the work panics"));
    });
    until_state(&once, "key", State::InProgress).await;
    let follower = says(&stage.once(&config), "key", "the second");
    until_followers(&once, "key", 1).await;
    end.send(()).unwrap();
    assert!(leader.await.unwrap_err().is_panic());
    let outcome = follower.await.unwrap().unwrap();
    assert_eq!((outcome.value.as_str(), outcome.attempt), ("the second", 2));
}

/// Makes a call that begins, and vanishes.
async fn vanish(once: &tenure_recipes::once::Once, attempt: u32) {
    let leader = works_for_ever(once, "key");
    until("it works", async || {
        let status = once.status("key").await.unwrap();
        status.state == State::InProgress && status.attempt == Some(attempt)
    })
    .await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    until("it is gone", async || once.status("key").await.unwrap().holder.is_none()).await;
}

pub(crate) async fn leaders_that_vanish_are_counted(stage: &Stage) {
    let once = stage.once(&stage.config().max_attempts(2));
    vanish(&once, 1).await;
    assert_eq!(once.status("key").await.unwrap().state, State::Timeout);
    vanish(&once, 2).await;
    for _ in 0..2 {
        match says(&once, "key", "a third time").await.unwrap() {
            Err(OnceError::KeptFailure { message, attempt: 2 }) => {
                assert_eq!(message, "its leader vanished");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(once.status("key").await.unwrap().state, State::Failed);
}

pub(crate) async fn what_may_run_only_once_does_not_run_again(stage: &Stage) {
    let config = stage.config().executions(Executions::AtMostOnce);
    let once = stage.once(&config);
    let leader = works_for_ever(&once, "key");
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    let followers: Vec<_> = (0..3).map(|_| says(&stage.once(&config), "key", "again")).collect();
    until_followers(&once, "key", 3).await;
    leader.abort();
    for follower in followers {
        let ended = follower.await.unwrap();
        assert!(matches!(ended, Err(OnceError::Indeterminate { attempt: 1 })), "{ended:?}");
    }
    // Nobody is asked about its policy: the one that began it counts.
    let other = stage.once(&config.clone().executions(Executions::AtLeastOnce));
    let ended = says(&other, "key", "again").await.unwrap();
    assert!(matches!(ended, Err(OnceError::Indeterminate { attempt: 1 })), "{ended:?}");
    assert_eq!(once.status("key").await.unwrap().state, State::Unknown);
}

pub(crate) async fn a_failure_of_what_may_run_only_once_is_final(stage: &Stage) {
    let once = stage.once(&stage.config().executions(Executions::AtMostOnce));
    assert!(matches!(fails(&once).await, Err(OnceError::Failed { is_final: true, .. })));
    let ended = says(&once, "key", "again").await.unwrap();
    assert!(matches!(ended, Err(OnceError::KeptFailure { attempt: 1, .. })), "{ended:?}");
}

pub(crate) async fn a_leader_that_was_given_up_gets_the_winners_result(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let loser = works_for_ever(&once, "key");
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    let winner = says(&stage.once(&config), "key", "the winner's");
    until_followers(&once, "key", 1).await;
    let name = Key::from("key").lock_name(config.scope()).unwrap();
    stage.manager().force_release(name, None, "it hangs").await.unwrap();
    let won = winner.await.unwrap().unwrap();
    assert_eq!((won.value.as_str(), won.attempt), ("the winner's", 2));
    // On stores that tell of a loss with the next renewal only, it would be at it for a while.
    if stage.kind == "memory" {
        let lost = loser.await.unwrap().unwrap();
        assert_eq!((lost.value, lost.fence), (won.value, won.fence));
        assert_ne!(lost.source, Source::Executed);
    } else {
        loser.abort();
    }
}

/// A call that vanishes with whoever made it, also if that one is dropped itself.
struct Vanishes(tokio::task::JoinHandle<Called<String>>);

impl Drop for Vanishes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(crate) async fn a_result_without_a_lease_is_discarded_once_another_has_begun(stage: &Stage) {
    let config = stage.config().wait_timeout(Duration::from_millis(300));
    let once = stage.once(&config);
    let name = Key::from("key").lock_name(config.scope()).unwrap();
    let (operator, successor) = (stage.manager(), stage.once(&config));
    let ended = once
        .run("key", Fingerprint::NONE, |attempt| async move {
            let fence = attempt.fencing_token();
            operator.force_release(name, Some(fence), "it hangs").await.unwrap();
            // Begun, and gone: there is no result, and still this one comes too late.
            let next = Vanishes(works_for_ever(&successor, "key"));
            until("it works", async || successor.status("key").await.unwrap().attempt == Some(2))
                .await;
            drop(next);
            Ok::<_, String>("nobody wants it".to_owned())
        })
        .await;
    assert!(matches!(ended, Err(OnceError::Superseded { attempt: 1, .. })), "{ended:?}");
    let third = stage.once(&config.clone().wait_timeout(LONG));
    let outcome = says(&third, "key", "the third").await.unwrap().unwrap();
    // Where the loss was told at once, the work was dropped before another could begin.
    assert_eq!(outcome.value, "the third");
    assert!((2..=3).contains(&outcome.attempt), "{outcome:?}");
}

pub(crate) async fn a_result_without_a_lease_counts_if_nobody_has_begun(stage: &Stage) {
    let config = stage.config().wait_timeout(Duration::from_millis(300));
    let once = stage.once(&config);
    let name = Key::from("key").lock_name(config.scope()).unwrap();
    let operator = stage.manager();
    let ended = once
        .run("key", Fingerprint::NONE, |attempt| async move {
            let fence = attempt.fencing_token();
            operator.force_release(name, Some(fence), "it hangs").await.unwrap();
            Ok::<_, String>("just in time".to_owned())
        })
        .await;
    let third = stage.once(&config.clone().wait_timeout(LONG));
    let next = says(&third, "key", "the next").await.unwrap().unwrap();
    match ended {
        Ok(outcome) => {
            assert_eq!((outcome.source, outcome.attempt), (Source::Executed, 1));
            assert_eq!((next.value.as_str(), next.source), ("just in time", Source::Cached));
        }
        // It was told of the loss before the work was done.
        Err(OnceError::Superseded { attempt: 1, .. }) => {
            assert_eq!((next.value.as_str(), next.attempt), ("the next", 2));
        }
        other => panic!("{other:?}"),
    }
}
