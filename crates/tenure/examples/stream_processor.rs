//! Instances of a stream processor: plain locks in all the ways it took them, one leader, checkpoints,
//! compaction, tasks, and two resources at once.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tenure::recipes::{
    CheckpointCoordinator, Checkpointed, Compaction, Election, MultiLock, RanTask, TaskQueue,
};
use tenure::{LockManager, RetryConfig};

const TTL: Duration = Duration::from_secs(30);

/// What each instance does with a lock of its own.
async fn plain_locks(locks: &LockManager) -> Result<(), Box<dyn Error>> {
    let guard = locks.acquire("resource", TTL).await?;
    assert!(locks.try_acquire("resource", TTL).await?.is_none(), "another instance skips");
    let once = RetryConfig::no_retry();
    assert!(locks.lock("resource").retry(once).acquire().await.is_err(), "fails fast");
    drop(guard); // released, also without a runtime

    let mut guard = locks.acquire("long_task", TTL).await?;
    for phase in 1..=10 {
        println!("phase {phase}, {:?} left", guard.remaining());
        locks.extend(&mut guard, TTL).await?; // it renews itself; this asks the store once more
    }
    guard.release().await?;
    Ok(())
}

/// Leadership is a term that ends in time, not a flag.
async fn leader_election(locks: &LockManager) -> Result<(), Box<dyn Error>> {
    let election = Election::new(locks, "processor/leader")?;
    let leadership = election.try_campaign().await?.ok_or("nobody else campaigns")?;
    assert!(election.try_campaign().await?.is_none(), "one leads");
    println!("leading in term {}", leadership.term());
    leadership.resign().await?;
    Ok(())
}

/// A checkpoint, a partition and a task are each done by one instance, and once.
async fn state(locks: &LockManager, directory: &str) -> Result<(), Box<dyn Error>> {
    let checkpoints = CheckpointCoordinator::new(locks, Duration::from_secs(300), directory)?;
    for made in [true, false] {
        let done = checkpoints
            .create_checkpoint(async |job| {
                std::fs::create_dir_all(directory).map_err(Box::<dyn Error>::from)?;
                std::fs::write(job.path(), "the state").map_err(Box::<dyn Error>::from)
            })
            .await?;
        assert_eq!(made, matches!(done, Checkpointed::Made(_)), "the second one is not due");
    }

    let compacted = Compaction::new(locks)
        .compact_partition(7, async |held| Ok::<_, tenure::Error>(held.fencing_token()))
        .await?;
    assert!(compacted.is_some());

    let tasks = TaskQueue::new(locks)?;
    for first in [true, false] {
        let ran = tasks.run_task("42", async |_| Ok::<_, tenure::Error>("sent")).await?;
        assert_eq!(first, matches!(ran, RanTask::Ran("sent")), "a task that is done is done");
    }
    Ok(())
}

/// In one order for everybody, both or none; the same name twice is one lock.
async fn two_resources(locks: &LockManager) -> Result<(), Box<dyn Error>> {
    let both = MultiLock::new(locks, ["b", "a", "b"])?.ttl(TTL).acquire().await?;
    assert!(locks.is_locked("a").await? && locks.is_locked("b").await?);
    both.release().await?;
    Ok(())
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = format!("file://{}", dir.path().join("locks").display());
    let locks = Arc::new(tenure::connect(&store).await?); // or "redis://…", "postgres://…", "off:"
    plain_locks(&locks).await?;
    leader_election(&locks).await?;
    state(&locks, &dir.path().join("checkpoints").display().to_string()).await?;
    two_resources(&locks).await?;
    Ok(())
}
