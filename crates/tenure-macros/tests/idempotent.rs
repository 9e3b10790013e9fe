//! What a function under `#[idempotent]` does.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "helpers of tests are tests, and they own their tasks"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure::recipes::once::{IdempotencyConfig, OnceError};
use tenure::{ErrorKind, LockManager, idempotent};

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Stats {
    namespace: String,
    run: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("there is no such namespace")]
struct NoNamespace;

static RUNS: AtomicU32 = AtomicU32::new(0);

#[idempotent(scope = "rebuild", key = "{tenant}:{namespace}", max_attempts = 2, fail_ttl = "1h")]
async fn rebuild(
    locks: &LockManager,
    tenant: &str,
    namespace: &str,
) -> Result<Stats, OnceError<NoNamespace>> {
    let run = 1 + RUNS.fetch_add(1, Ordering::SeqCst);
    if namespace.is_empty() {
        return Err(NoNamespace);
    }
    tokio::task::yield_now().await;
    Ok(Stats { namespace: namespace.to_owned(), run })
}

#[tokio::test]
async fn calls_of_one_key_get_one_result_and_others_their_own() {
    let locks = tenure::connect("memory:").await.unwrap();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let locks = locks.clone();
            tokio::spawn(async move { rebuild(&locks, "a", "b:c").await.unwrap() })
        })
        .collect();
    let mut results = Vec::new();
    for call in calls {
        results.push(call.await.unwrap());
    }
    results.dedup();
    assert_eq!(1, results.len(), "{results:?}");
    // Joined by colons this would be the same key.
    let other = rebuild(&locks, "a:b", "c").await.unwrap();
    assert_ne!(results[0].run, other.run);

    let failed = rebuild(&locks, "a", "").await.unwrap_err();
    assert!(matches!(failed, OnceError::Failed { error: NoNamespace, attempt: 1, .. }));
    let failed = rebuild(&locks, "a", "").await.unwrap_err();
    assert!(matches!(failed, OnceError::Failed { attempt: 2, is_final: true, .. }));
    let kept = rebuild(&locks, "a", "").await.unwrap_err();
    assert!(matches!(kept, OnceError::KeptFailure { attempt: 2, .. }));
}

struct Payments {
    locks: Arc<LockManager>,
    config: IdempotencyConfig,
    charged: AtomicU32,
}

#[derive(Clone, Serialize)]
struct Order {
    id: u32,
    cents: u32,
}

impl Payments {
    #[idempotent(
        config = self.config,
        key = "order:{order.id}",
        executions = "at_most_once",
        fingerprint = order,
        force = again,
        manager = self.locks,
        wait_timeout = Duration::from_secs(1),
        attempt = attempt
    )]
    async fn pay(&self, order: Order, again: bool) -> Result<u32, OnceError<String>> {
        assert_eq!(Duration::from_secs(60), attempt.watch().ttl());
        Ok(order.cents + self.charged.fetch_add(1, Ordering::SeqCst))
    }
}

#[tokio::test]
async fn methods_take_config_fingerprint_and_force() {
    let config = IdempotencyConfig::new("payments").in_progress_ttl(Duration::from_secs(60));
    let locks = Arc::new(tenure::connect("memory:").await.unwrap());
    let payments = Payments { locks, config, charged: AtomicU32::new(0) };
    let order = Order { id: 7, cents: 100 };
    assert_eq!(100, payments.pay(order.clone(), false).await.unwrap());
    assert_eq!(100, payments.pay(order.clone(), false).await.unwrap());
    let another = payments.pay(Order { id: 7, cents: 200 }, false).await.unwrap_err();
    assert!(matches!(another, OnceError::Conflict), "{another}");
    assert_eq!(101, payments.pay(order, true).await.unwrap());
    assert_eq!(2, payments.charged.load(Ordering::SeqCst));
}

#[idempotent(scope = "nightly", key = "x")]
async fn nightly() -> Result<(), OnceError<String>> {
    Ok(())
}

#[tokio::test]
async fn what_was_never_asked_is_an_error_of_the_store() {
    let OnceError::Store(error) = nightly().await.unwrap_err() else { panic!() };
    assert_eq!(ErrorKind::Invalid, error.kind());
    tenure::set_global(tenure::connect("off:").await.unwrap()).unwrap();
    let OnceError::Store(error) = nightly().await.unwrap_err() else { panic!() };
    assert_eq!(ErrorKind::Unsupported, error.kind(), "{error}");
}
