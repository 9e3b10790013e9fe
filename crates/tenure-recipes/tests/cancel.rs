//! The recipes' futures, dropped at every point at which they can be: nothing stays behind.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_backend_memory::MemoryBackend;
use tenure_core::{Error, LockManager};
use tenure_recipes::{
    CheckpointCoordinator, Compaction, Election, MultiLock, RwLock, Semaphore, TaskQueue,
};
use tenure_testkit::cancel::{Polled, Yielding, polled};
use tenure_testkit::servers::patience;

/// How long a state is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// More points than any future of these has.
const POINTS: usize = 500;
const TTL: Duration = Duration::from_secs(30);

/// Runs `act` on a fresh store and drops it after 1, 2, 3, … polls until it ends by itself or
/// waits for somebody else, who holds `busy`. Afterwards nobody holds or waits for `names`.
fn dropped_everywhere<T>(names: &[&str], busy: Option<&str>, act: impl AsyncFn(&LockManager) -> T) {
    for polls in 1..POINTS {
        let store = Arc::new(MemoryBackend::new());
        let locks = LockManager::new(Arc::new(Yielding::new(store.clone()))).unwrap();
        let other = LockManager::new(store).unwrap();
        let in_the_way = busy.map(|name| block_on(other.acquire(name, TTL)).unwrap());
        let ended = polled(act(&locks), polls);
        if let Polled::Ended(output) = ended {
            drop(output);
            free(&other, names, polls, busy);
            assert!(1 < polls && busy.is_none());
            return;
        }
        free(&other, names, polls, busy);
        drop(in_the_way);
        if matches!(ended, Polled::DroppedInItsWait) {
            assert!(busy.is_some(), "it waits for nobody at {polls}");
            return;
        }
    }
    panic!("it never ends");
}

fn free(locks: &LockManager, names: &[&str], polls: usize, busy: Option<&str>) {
    for name in names {
        let what = format!("{name} is free, dropped after {polls} polls");
        patience::until(PATIENCE, &what, || {
            let view = block_on(locks.inspect(*name)).unwrap();
            view.waiters.is_empty() && view.holders.len() == usize::from(busy == Some(name))
        });
    }
}

#[test]
fn several_locks() {
    let names = ["a", "b", "c"];
    let take = async |locks: &LockManager| {
        let guard = MultiLock::new(locks, names).unwrap().acquire().await.unwrap();
        guard.check().unwrap();
        guard.release().await.unwrap();
    };
    dropped_everywhere(&names, None, take);
    dropped_everywhere(&names, Some("c"), take);
    dropped_everywhere(&names, Some("c"), async |locks: &LockManager| {
        let multi = MultiLock::new(locks, names).unwrap();
        if multi.try_acquire().await.unwrap().is_none() {
            // Given back before it says so, and then it waits.
            let in_between = locks.inspect("a").await.unwrap();
            assert!(!in_between.is_locked());
        }
        multi.acquire().await.unwrap()
    });
}

#[test]
fn readers_and_writers() {
    dropped_everywhere(&["x"], None, async |locks: &LockManager| {
        let lock = RwLock::new(locks, "x").unwrap();
        let reader = lock.upgradable_read().await.unwrap();
        let writer = reader.upgrade(None).await.unwrap();
        let reader = writer.downgrade().await.unwrap();
        reader.release().await.unwrap();
    });
}

#[test]
fn permits() {
    dropped_everywhere(&["x"], None, async |locks: &LockManager| {
        let permits = Semaphore::new(locks, "x", 3).unwrap().acquire_many(2).await.unwrap();
        permits.release().await.unwrap();
    });
}

#[test]
fn leaders() {
    let lead = async |locks: &LockManager| {
        let election = Election::new(locks, "x").unwrap().on_stopped_leading(|_, _| {});
        let leadership = election.campaign().await.unwrap();
        leadership.proclaim("here").await.unwrap();
        leadership.resign().await
    };
    dropped_everywhere(&["x"], None, lead);
    dropped_everywhere(&["x"], Some("x"), lead);
    dropped_everywhere(&["x"], None, async |locks: &LockManager| {
        let election = Election::new(locks, "x").unwrap();
        election.run(async |leadership| leadership.term()).await.unwrap()
    });
}

#[test]
fn checkpoints() {
    let name = CheckpointCoordinator::NAME;
    dropped_everywhere(&[name], None, async |locks: &LockManager| {
        let coordinator = CheckpointCoordinator::new(locks, Duration::ZERO, "/ckpt").unwrap();
        for sequence in 1..=2 {
            let mut written = false;
            let made = coordinator.create_checkpoint(async |_| {
                written = true;
                Ok::<_, Error>(())
            });
            let made = made.await.unwrap();
            assert_eq!((made.checkpoint().sequence, written), (sequence, true));
        }
    });
}

#[test]
fn partitions() {
    dropped_everywhere(&["compaction:partition:1"], None, async |locks: &LockManager| {
        let compaction = Compaction::new(locks);
        let work = compaction.compact_partition(1, async |_| Ok::<_, Error>(()));
        work.await.unwrap().unwrap();
    });
}

#[test]
fn tasks() {
    dropped_everywhere(&["task:1"], None, async |locks: &LockManager| {
        let tasks = TaskQueue::new(locks).unwrap();
        tasks.run_task(1, async |task| Ok::<_, Error>(task.attempt())).await.unwrap()
    });
}
