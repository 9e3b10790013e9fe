//! Workers that share tasks: conflict strategies, signs of life, what a worker says of itself, and
//! the numbers of all that.

use std::error::Error;
use std::time::Duration;

use serde_json::json;
use tenure::{Conflict, LockGuard, LockManager, RetryConfig};

/// The sign of life that is due while a task runs.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A lock without a sign of life for so long is stale.
const STALE: Duration = Duration::from_secs(300);

async fn acquire_lock(
    locks: &LockManager,
    issue: u64,
    worker: &str,
    strategy: Conflict,
) -> Result<LockGuard, tenure::Error> {
    let retry = RetryConfig {
        max_attempts: 5,
        initial_delay: Duration::from_millis(10), // the workers had 1 s, and 16 s
        max_delay: Duration::from_millis(160),
        ..RetryConfig::default()
    };
    let mut request = locks
        .lock(format!("issue-{issue}"))
        .ttl(STALE)
        .renew_every(HEARTBEAT)
        .owner(worker)
        .metadata(json!({"complexity": 5, "estimated_duration": "45min", "task_type": "bug-fix"}))
        .on_conflict(strategy);
    match strategy {
        Conflict::Wait => request = request.retry(retry), // instead of a place in the queue
        Conflict::StealStale { .. } => request = request.wait_timeout(Duration::from_millis(50)),
        _ => {}
    }
    request.acquire().await
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let locks = tenure::connect(&format!("file://{}", dir.path().display())).await?;

    let guard = acquire_lock(&locks, 123, "worker-1", Conflict::Wait).await?;

    // Whoever meets it sees who it is, since when, and what it is about; never the token.
    let info = locks.get_lock_info("issue-123").await?.ok_or("it is held")?;
    println!(
        "issue 123 is worked on by {} ({:?})",
        info.details.owner.label, info.details.metadata
    );

    // The four ways to meet a conflict.
    let retried = acquire_lock(&locks, 123, "worker-2", Conflict::Wait).await;
    println!("retried: {}", retried.expect_err("it is held"));
    let at_once = acquire_lock(&locks, 123, "worker-2", Conflict::Fail).await;
    println!("at once: {}", at_once.expect_err("it is held"));
    let strategy = Conflict::StealStale { after: STALE };
    let alive = acquire_lock(&locks, 123, "worker-2", strategy).await;
    assert!(alive.is_err(), "its last sign of life is young");
    let forced = acquire_lock(&locks, 123, "an admin", Conflict::Force).await?;
    println!("worker-1 learns: {}", guard.lost().await);

    forced.release().await?;
    let metrics = locks.metrics();
    println!("{metrics:#?}");
    assert_eq!((2, 1), (metrics.total_acquisitions, metrics.total_releases));
    Ok(())
}
