//! What operators do.

use tenure_core::ErrorKind;
use tenure_core::LockManager;
use tenure_recipes::once::{
    Executions, Failures, Fingerprint, IdempotencyConfig, Once, OnceError, Settled, Source, State,
};
use tokio::sync::oneshot;

use crate::stage::{
    Called, Stage, calls, find, never, says, spawn, until, until_followers, until_state,
    works_for_ever,
};

async fn force(once: &Once, text: &str) -> Called<String> {
    once.force("key", Fingerprint::of(text), |_| async move { Ok::<_, String>(text.to_owned()) })
        .await
}

pub(crate) async fn a_forced_call_replaces_the_result(stage: &Stage) {
    let once = stage.once(&stage.config());
    let first = says(&once, "key", "first").await.unwrap().unwrap();
    let second = force(&once, "second").await.unwrap();
    assert_eq!((second.value.as_str(), second.attempt), ("second", 2));
    assert!(first.fence < second.fence);
    // With its fingerprint: what was asked for before is another request now.
    assert!(matches!(find(&once, "key").await, Err(OnceError::Conflict)));
    let again = once
        .run("key", Fingerprint::of("second"), |_| async { Err::<String, _>(String::new()) })
        .await
        .unwrap();
    assert_eq!((again.value.as_str(), again.source), ("second", Source::Cached));
}

pub(crate) async fn a_forced_call_waits_for_whoever_is_at_it(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let (end, ends) = oneshot::channel();
    let leader = calls(&once, "key", move |_| async move {
        ends.await.unwrap();
        Ok("first".to_owned())
    });
    until_state(&once, "key", State::InProgress).await;
    let hasty = stage.once(&config.clone().wait_timeout(std::time::Duration::ZERO));
    assert!(matches!(force(&hasty, "second").await, Err(OnceError::StillRunning { .. })));
    let forced = stage.once(&config);
    let forced = spawn(async move { force(&forced, "second").await });
    until_followers(&once, "key", 1).await;
    end.send(()).unwrap();
    assert_eq!(leader.await.unwrap().unwrap().value, "first");
    let outcome = forced.await.unwrap().unwrap();
    assert_eq!((outcome.value.as_str(), outcome.attempt), ("second", 2));
}

async fn indeterminate(once: &Once) {
    let leader = works_for_ever(once, "key");
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    leader.abort();
    until_state(once, "key", State::Unknown).await;
}

pub(crate) async fn an_operator_settles_what_is_indeterminate(stage: &Stage) {
    let config = stage.config().executions(Executions::AtMostOnce);
    let once = stage.once(&config);
    indeterminate(&once).await;
    let found = Settled::Done("it was done");
    once.settle("key", Fingerprint::NONE, found).await.unwrap_or_else(never);
    let outcome = says(&once, "key", "again").await.unwrap().unwrap();
    assert_eq!((outcome.value.as_str(), outcome.source), ("it was done", Source::Cached));
    let failed = Settled::<()>::Failed("it was not done");
    once.settle("key", Fingerprint::NONE, failed).await.unwrap_or_else(never);
    match find(&once, "key").await {
        Err(OnceError::KeptFailure { message, .. }) => assert_eq!(message, "it was not done"),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn what_is_forgotten_runs_again(stage: &Stage) {
    let config = stage.config().executions(Executions::AtMostOnce);
    let once = stage.once(&config);
    assert!(!once.forget("key").await.unwrap_or_else(never));
    indeterminate(&once).await;
    assert!(once.forget("key").await.unwrap_or_else(never));
    assert_eq!(once.status("key").await.unwrap().state, State::None);
    assert!(!once.forget("key").await.unwrap_or_else(never));
    let outcome = says(&once, "key", "again").await.unwrap().unwrap();
    assert_eq!((outcome.value.as_str(), outcome.attempt), ("again", 1));
    let busy = works_for_ever(&once, "other");
    until_state(&once, "other", State::InProgress).await;
    assert!(matches!(once.forget("other").await, Err(OnceError::StillRunning { .. })));
    let settled = once.settle("other", Fingerprint::NONE, Settled::Done(&1)).await;
    assert!(matches!(settled, Err(OnceError::StillRunning { .. })));
    busy.abort();
}

pub(crate) async fn the_status_tells_every_state(stage: &Stage) {
    let once = stage.once(&stage.config());
    assert_eq!(once.status("key").await.unwrap().state, State::None);
    let leader = works_for_ever(&once, "key");
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    let follower = find_later(&once);
    until_followers(&once, "key", 1).await;
    let status = once.status("key").await.unwrap();
    assert_eq!(status.state, State::InProgress);
    assert!(status.holder.is_some() && status.result.is_none());
    follower.abort();
    until_followers(&once, "key", 0).await;
    leader.abort();
    until_state(&once, "key", State::Timeout).await;
    let _ = find(&once, "key").await;
    let status = once.status("key").await.unwrap();
    assert_eq!((status.state, status.attempt), (State::Failed, Some(2)));
    assert_eq!(status.message.as_deref(), Some("nothing was there"));
    says(&once, "key", "done").await.unwrap().unwrap();
    let status = once.status("key").await.unwrap();
    assert_eq!((status.state, status.attempt), (State::Done, Some(3)));
    assert_eq!(status.result.as_deref(), Some("\"done\""));
    assert!(status.written < status.keep_until && status.holder.is_none());
    assert_eq!(status.fingerprint, Some(Fingerprint::NONE.to_hex()));
}

fn find_later(once: &Once) -> tokio::task::JoinHandle<Called<String>> {
    let once = once.clone();
    spawn(async move { find(&once, "key").await })
}

pub(crate) async fn every_end_is_counted(stage: &Stage) {
    let once = stage.once(&stage.config().failures(Failures::Keep));
    says(&once, "good", "x").await.unwrap().unwrap();
    says(&once, "good", "x").await.unwrap().unwrap();
    let _ = find(&once, "bad").await;
    let _ = find(&once, "bad").await;
    let conflict = once
        .run("good", Fingerprint::of("other"), |_| async { Ok::<_, String>(String::new()) })
        .await;
    assert!(matches!(conflict, Err(OnceError::Conflict)));
    let seen = once.metrics();
    let counts = [seen.attempts, seen.executed, seen.cached, seen.failed, seen.kept_failure];
    assert_eq!((counts, seen.conflict, seen.store_error), ([2, 1, 1, 1, 1], 1, 0));
}

#[test]
fn a_store_without_values_is_refused_before_anything_is_sent() {
    let off = tenure_backend_memory::OffBackend::new();
    // Nobody listens there.
    let advisory = tenure_backend_postgres::open("postgres+advisory://u@127.0.0.1:9/d").unwrap();
    for backend in [std::sync::Arc::new(off) as _, advisory] {
        let locks = LockManager::new(backend).unwrap();
        let error = Once::new(locks, IdempotencyConfig::new("s")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.help().unwrap().contains("redis://"), "{error:?}");
    }
}

#[test]
fn a_config_out_of_its_ranges_is_refused() {
    let stage = Stage::memory();
    let long = std::time::Duration::from_secs(11 * 365 * 24 * 60 * 60);
    let good = IdempotencyConfig::new("s");
    for bad in [
        IdempotencyConfig::new(""),
        good.clone().ttl(std::time::Duration::ZERO),
        good.clone().ttl(long),
        good.clone().fail_ttl(std::time::Duration::ZERO),
        good.clone().max_attempts(0),
        good.clone().in_progress_ttl(std::time::Duration::from_millis(1)),
    ] {
        let error = Once::new(stage.manager(), bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    assert!(Once::new(stage.manager(), good).is_ok());
}
