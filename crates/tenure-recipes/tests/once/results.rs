//! What callers get.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_core::ErrorKind;
use tenure_core::clock::{Clock, SystemClock};
use tenure_recipes::once::{Fingerprint, Key, OnceError, RESULT_MAX, Source, State};
use tokio::sync::oneshot;

use crate::stage::{Stage, find, says, spawn, until, until_followers, until_state, works_for_ever};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Rebuilt {
    questions: u32,
    slots: Vec<String>,
}

pub(crate) async fn a_result_is_kept_and_replayed(stage: &Stage) {
    let config = stage.config();
    let rebuilt = Rebuilt { questions: 175, slots: vec!["a\nb".into(), "\0é\"".into()] };
    let (first, later) = (stage.once(&config), stage.once(&config));
    let key = Key::new("rebuild").part("math");
    let outcome = first
        .run(key.clone(), Fingerprint::NONE, |attempt| {
            let rebuilt = rebuilt.clone();
            async move {
                assert_eq!(attempt.number(), 1);
                assert!(attempt.watch().is_valid());
                Ok::<_, String>(rebuilt)
            }
        })
        .await
        .unwrap();
    assert_eq!((&outcome.value, outcome.source), (&rebuilt, Source::Executed));
    let again = later
        .run(key, Fingerprint::NONE, |_| async { Err::<Rebuilt, _>("ran twice".to_owned()) })
        .await
        .unwrap();
    assert_eq!((again.value, again.source, again.attempt), (rebuilt, Source::Cached, 1));
    assert_eq!(again.fence, outcome.fence);
}

pub(crate) async fn nothing_is_a_result(stage: &Stage) {
    let once = stage.once(&stage.config());
    for source in [Source::Executed, Source::Cached] {
        let unit = once.run("unit", Fingerprint::NONE, |_| async { Ok::<(), String>(()) }).await;
        assert_eq!(unit.unwrap().source, source);
        let none =
            once.run("none", Fingerprint::NONE, |_| async { Ok::<Option<u8>, String>(None) }).await;
        assert_eq!(none.unwrap().source, source);
    }
    assert_eq!(once.status("none").await.unwrap().result.as_deref(), Some("null"));
}

/// Nobody is served one behind the other: one transition answers all.
pub(crate) async fn all_who_wait_get_the_one_result_at_once(stage: &Stage) {
    const FOLLOWERS: usize = 12;
    let config = stage.config();
    let once = stage.once(&config);
    let (end, ends) = oneshot::channel();
    let leader = once.clone();
    let leader = spawn(async move {
        let outcome = leader
            .run("slow", Fingerprint::NONE, |_| async {
                ends.await.unwrap();
                Ok::<_, String>("found".to_owned())
            })
            .await
            .unwrap();
        (outcome, SystemClock.now())
    });
    until_state(&once, "slow", State::InProgress).await;
    let followers: Vec<_> = (0..FOLLOWERS)
        .map(|i| {
            // Half of them as other processes.
            let once = if i % 2 == 0 { once.clone() } else { stage.once(&config) };
            spawn(async move { (find(&once, "slow").await.unwrap(), SystemClock.now()) })
        })
        .collect();
    until_followers(&once, "slow", FOLLOWERS).await;
    end.send(()).unwrap();
    let (outcome, released) = leader.await.unwrap();
    assert_eq!((outcome.value.as_str(), outcome.source), ("found", Source::Executed));
    // The release has answered all of them: nobody is left in the queue to be served next.
    assert_eq!(once.status("slow").await.unwrap().followers, 0);
    let mut last = Duration::ZERO;
    for follower in followers {
        let (outcome, at) = follower.await.unwrap();
        assert_eq!((outcome.value.as_str(), outcome.source), ("found", Source::Joined));
        assert_eq!(outcome.attempt, 1);
        last = last.max(at.since(released));
    }
    let hand_over = hand_over(stage).await;
    println!(
        "{}: the last of {FOLLOWERS} followers has it {last:?} after the leader; a hand-over takes {hand_over:?}",
        stage.kind
    );
    // Served one behind the other, each would take a release besides; a busy machine is not this slow.
    assert!(last < Duration::from_secs(2), "{last:?}");
}

/// How long it takes from a release to the next holder, for comparison.
async fn hand_over(stage: &Stage) -> Duration {
    let (a, b) = (stage.manager(), stage.manager());
    let guard = a.acquire("hand-over", Duration::from_secs(30)).await.unwrap();
    let next = spawn(async move {
        let guard = b.acquire("hand-over", Duration::from_secs(30)).await.unwrap();
        (SystemClock.now(), guard)
    });
    until("it waits", async || a.inspect("hand-over").await.unwrap().waiters.len() == 1).await;
    let released = SystemClock.now();
    guard.release().await.unwrap();
    next.await.unwrap().0.since(released)
}

pub(crate) async fn many_callers_at_once_are_one_execution(stage: &Stage) {
    let config = stage.config();
    let executions = Arc::new(AtomicU32::new(0));
    let callers: Vec<_> = (0..16)
        .map(|i| {
            let (once, executions) = (stage.once(&config), executions.clone());
            spawn(async move {
                once.run("burst", Fingerprint::NONE, |_| async move {
                    executions.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, String>(i)
                })
                .await
                .unwrap()
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.unwrap());
    }
    assert_eq!(executions.load(Ordering::SeqCst), 1);
    assert!(outcomes.iter().all(|o| o.value == outcomes[0].value && o.fence == outcomes[0].fence));
    assert_eq!(outcomes.iter().filter(|o| o.source == Source::Executed).count(), 1);
}

pub(crate) async fn another_request_under_the_same_key_is_refused(stage: &Stage) {
    let config = stage.config();
    let (once, other) = (stage.once(&config), stage.once(&config));
    let (a, b) = (Fingerprint::of("a"), Fingerprint::of("b"));
    let ask = async |fingerprint| {
        other.run("key", fingerprint, |_| async { Ok::<_, String>("b".to_owned()) }).await
    };
    let leading = once.clone();
    let (end, ends) = oneshot::channel();
    let leader = spawn(async move {
        leading
            .run("key", a, |_| async {
                ends.await.unwrap();
                Ok::<_, String>("a".to_owned())
            })
            .await
    });
    until_state(&once, "key", State::InProgress).await;
    // Told at once, not when the leader is done.
    assert!(matches!(ask(b).await, Err(OnceError::Conflict)));
    assert!(matches!(ask(Fingerprint::NONE).await, Err(OnceError::Conflict)));
    end.send(()).unwrap();
    assert_eq!(leader.await.unwrap().unwrap().value, "a");
    assert!(matches!(ask(b).await, Err(OnceError::Conflict)));
    assert_eq!(ask(a).await.unwrap().value, "a");
}

pub(crate) async fn a_wait_that_is_over_changes_nothing(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let leader = works_for_ever(&once, "key");
    until("it works", async || once.status("key").await.unwrap().attempt == Some(1)).await;
    for wait in [Duration::ZERO, Duration::from_millis(150)] {
        let hasty = stage.once(&config.clone().wait_timeout(wait));
        match find(&hasty, "key").await {
            Err(OnceError::StillRunning { attempt: Some(1), holder: Some(_) }) => {}
            other => panic!("{other:?}"),
        }
    }
    until_followers(&once, "key", 0).await;
    let status = once.status("key").await.unwrap();
    assert_eq!((status.state, status.attempt), (State::InProgress, Some(1)));
    leader.abort();
}

pub(crate) async fn a_result_that_cannot_be_kept_is_refused_and_not_run_again(stage: &Stage) {
    let once = stage.once(&stage.config());
    // Two quotes are part of the JSON.
    let largest = "x".repeat(RESULT_MAX - 2);
    let fits = largest.clone();
    let run = once.run("fits", Fingerprint::NONE, |_| async { Ok::<_, String>(fits) }).await;
    assert_eq!(run.unwrap().source, Source::Executed);
    assert!(find(&once, "fits").await.unwrap().value == largest);
    let over = format!("{largest}x");
    let run = once.run("over", Fingerprint::NONE, |_| async { Ok::<_, String>(over) }).await;
    match run {
        Err(OnceError::TooLong { len, max }) => {
            assert_eq!((len, max), (RESULT_MAX + 1, RESULT_MAX));
        }
        other => panic!("{other:?}"),
    }
    match find(&once, "over").await {
        Err(OnceError::KeptFailure { message, attempt: 1 }) => {
            assert!(message.contains("bytes of JSON long"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // Not a number is `null` in JSON, and `null` is no number.
    let nan = once.run("nan", Fingerprint::NONE, |_| async { Ok::<_, String>(f64::NAN) }).await;
    assert!(matches!(nan, Err(OnceError::Mistyped(_))), "{nan:?}");
    let text = once.run("fits", Fingerprint::NONE, |_| async { Ok::<_, String>(7_u8) }).await;
    assert!(matches!(text, Err(OnceError::Mistyped(_))), "{text:?}");
}

pub(crate) async fn a_result_is_forgotten_when_its_ttl_is_over(stage: &Stage) {
    let once = stage.once(&stage.config().ttl(Duration::from_millis(300)));
    says(&once, "key", "first").await.unwrap().unwrap();
    until_state(&once, "key", State::None).await;
    let second = says(&once, "key", "second").await.unwrap().unwrap();
    assert_eq!((second.value.as_str(), second.attempt), ("second", 1));
    assert_eq!(second.source, Source::Executed);
}

pub(crate) async fn a_value_of_somebody_else_is_corrupt(stage: &Stage) {
    let config = stage.config();
    let once = stage.once(&config);
    let name = Key::from("key").lock_name(config.scope()).unwrap();
    let guard = once.locks().acquire(name, Duration::from_secs(30)).await.unwrap();
    guard.release_with(&b"something else"[..], Duration::from_secs(60)).await.unwrap();
    match find(&once, "key").await {
        Err(OnceError::Store(error)) => assert_eq!(error.kind(), ErrorKind::Corrupt),
        other => panic!("{other:?}"),
    }
}
