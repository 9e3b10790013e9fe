//! Checkpoints, compaction and tasks: what is done once, and seen to be done by the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tenure_core::{Error, ErrorKind, Result};
use tenure_recipes::{
    CheckpointCoordinator, Checkpointed, ClaimedTask, Compaction, RanTask, TaskQueue,
};

use crate::stage::{LONG, Store, waiting};

/// Whoever lost a lock by force is told with its next renewal at the latest.
const SHORT: Duration = Duration::from_millis(1500);

fn nothing() -> Result<(), Error> {
    Ok(())
}

pub(crate) async fn a_second_worker_sees_that_the_checkpoint_is_done(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let here = CheckpointCoordinator::new(&a, LONG, "/ckpt/").unwrap();
    let there = CheckpointCoordinator::new(&b, LONG, "/ckpt").unwrap();
    assert_eq!(there.latest().await.unwrap(), None);
    let mut second = None;
    let first = here.create_checkpoint(async |job| {
        assert_eq!(job.sequence(), 1);
        assert_eq!(job.path(), format!("/ckpt/0000000001-{}", job.fencing_token()));
        assert_eq!(there.latest().await.unwrap(), None, "it is not done yet");
        let waits = there.clone();
        let waits = async move {
            waits.create_checkpoint(async |_| -> Result<()> { unreachable!("it is done") }).await
        };
        second = Some(waiting(&a, CheckpointCoordinator::NAME, 1, waits).await);
        nothing()
    });
    let Checkpointed::Made(made) = first.await.unwrap() else { panic!("nobody was faster") };
    let second = second.unwrap().await.unwrap().unwrap();
    assert_eq!(second, Checkpointed::Recent(made.clone()));
    assert_eq!(there.latest().await.unwrap(), Some(made));
}

pub(crate) async fn old_checkpoints_are_handed_out_to_be_removed_until_a_job_succeeds(
    store: &Store,
) {
    let locks = store.manager();
    let coordinator = CheckpointCoordinator::new(&locks, Duration::ZERO, "s3://b")
        .unwrap()
        .name("ckpt/retain")
        .unwrap()
        .retain(2);
    let make = async |obsolete: &[u64], succeeds: bool| {
        coordinator
            .create_checkpoint(async |job| {
                let told: Vec<_> = job.obsolete().iter().map(|old| old.sequence).collect();
                assert_eq!(told, obsolete, "checkpoint {}", job.sequence());
                if succeeds { nothing() } else { Err(Error::new(ErrorKind::Denied, "no space")) }
            })
            .await
    };
    for obsolete in [&[][..], &[], &[]] {
        make(obsolete, true).await.unwrap();
    }
    assert_eq!(make(&[1], false).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(coordinator.latest().await.unwrap().unwrap().sequence, 3);
    make(&[1], true).await.unwrap();
    make(&[2], true).await.unwrap();
    let kept: Vec<_> = coordinator.finished().await.unwrap().iter().map(|c| c.sequence).collect();
    assert_eq!(kept, [3, 4, 5]);
}

pub(crate) async fn a_worker_that_lost_the_lock_makes_no_checkpoint(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let coordinator = |locks| {
        let coordinator = CheckpointCoordinator::new(locks, LONG, "/ckpt").unwrap();
        coordinator.name("ckpt/lost").unwrap().ttl(SHORT)
    };
    let late = coordinator(&a)
        .create_checkpoint(async |_| {
            b.force_release("ckpt/lost", None, "a test").await.unwrap();
            // Dropped with the lock.
            std::future::pending::<Result<()>>().await
        })
        .await
        .unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Lost);
    assert_eq!(coordinator(&b).latest().await.unwrap(), None);
    let next = coordinator(&b).create_checkpoint(async |_| nothing()).await.unwrap();
    assert!(matches!(&next, Checkpointed::Made(made) if made.sequence == 1), "{next:?}");
}

pub(crate) async fn a_value_that_is_no_list_of_checkpoints_is_left_alone(store: &Store) {
    let locks = store.manager();
    let guard = locks.acquire("ckpt/other", LONG).await.unwrap();
    guard.release_with(*b"not ours", LONG).await.unwrap();
    let coordinator = CheckpointCoordinator::new(&locks, LONG, "/ckpt").unwrap();
    let coordinator = coordinator.name("ckpt/other").unwrap();
    let error = coordinator.create_checkpoint(async |_| nothing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(coordinator.latest().await.unwrap_err().kind(), ErrorKind::Corrupt);
    let value = locks.inspect("ckpt/other").await.unwrap().value.unwrap();
    assert_eq!(&*value.bytes, b"not ours");
}

pub(crate) async fn a_partition_is_compacted_by_one_worker_at_a_time(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let (here, there) = (Compaction::new(&a), Compaction::new(&b).ttl(SHORT));
    let freed = here
        .compact_partition(7, async |lock| {
            assert_eq!(lock.name().as_str(), "compaction:partition:7");
            assert_eq!(lock.ttl(), Compaction::TTL);
            let other = there.compact_partition(7, async |_| nothing()).await.unwrap();
            assert_eq!(other, None, "somebody is at it");
            there.compact_partition(8, async |_| nothing()).await.unwrap().expect("it is free");
            Ok::<_, Error>(4096)
        })
        .await
        .unwrap();
    assert_eq!(freed, Some(4096));
    let failed = there.compact_partition(7, async |_| -> Result<()> {
        Err(Error::new(ErrorKind::Denied, "no space"))
    });
    assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Denied);
    let lost = there.compact_partition(9, async |lock| {
        a.force_release(lock.name(), None, "a test").await.unwrap();
        std::future::pending::<Result<()>>().await
    });
    assert_eq!(lost.await.unwrap_err().kind(), ErrorKind::Lost);
}

#[allow(clippy::disallowed_methods, reason = "a test, on a runtime of its own")]
pub(crate) async fn of_many_workers_each_task_is_done_by_one(store: &Store) {
    let done = Arc::new(AtomicU32::new(0));
    let workers = (0..4).map(|worker| {
        let (tasks, done) = (TaskQueue::new(&store.manager()).unwrap(), done.clone());
        tokio::task::spawn(async move {
            let mut left: Vec<u32> = (0..8).collect();
            left.rotate_left(worker * 2);
            while let Some(id) = left.pop() {
                let ran = tasks.run_task(format!("once/{id}"), async |task| {
                    assert_eq!(task.attempt(), 1);
                    done.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    Ok::<_, Error>(id)
                });
                match ran.await.unwrap() {
                    RanTask::Ran(result) => assert_eq!(result, id),
                    RanTask::Done(was) => assert_eq!(was.result, id),
                    _ => {
                        // The one that has it may be a task of this thread.
                        tokio::task::yield_now().await;
                        left.insert(0, id);
                    }
                }
            }
        })
    });
    for worker in join_all(workers).await {
        worker.unwrap();
    }
    assert_eq!(done.load(Ordering::SeqCst), 8);
}

pub(crate) async fn a_task_that_is_done_is_seen_to_be_done(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let (here, there) = (TaskQueue::new(&a).unwrap(), TaskQueue::new(&b).unwrap());
    let ClaimedTask::Mine(task) = here.claim_task("seen").await.unwrap() else { panic!("free") };
    assert_eq!((task.name().as_str(), task.ttl()), ("task:seen", TaskQueue::TTL));
    assert!(matches!(there.claim_task("seen").await.unwrap(), ClaimedTask::Busy));
    assert_eq!(there.completion("seen").await.unwrap(), None);
    let fence = task.fencing_token();
    task.complete(&serde_json::json!({"sent": 3})).await.unwrap();
    let ClaimedTask::Done(done) = there.claim_task("seen").await.unwrap() else { panic!("done") };
    assert_eq!((done.attempt, done.fence, &done.result["sent"]), (1, fence, &3.into()));
    assert_eq!(&done.by, &a.owner().label);
    assert_eq!(there.completion("seen").await.unwrap(), Some(done));
}

pub(crate) async fn a_task_that_was_given_up_is_claimed_again_with_a_higher_attempt(store: &Store) {
    let (a, b) = (store.manager(), store.manager());
    let here = TaskQueue::new(&a).unwrap().ttl(SHORT).max_attempts(4);
    let there = TaskQueue::new(&b).unwrap().ttl(SHORT).max_attempts(4);
    let ClaimedTask::Mine(first) = here.claim_task("again").await.unwrap() else { panic!("free") };
    first.give_up().await.unwrap();
    // Work that fails frees the task, too.
    let failed = there.run_task("again", async |task| -> Result<()> {
        assert_eq!(task.attempt(), 2);
        Err(Error::new(ErrorKind::Denied, "no paper"))
    });
    assert_eq!(failed.await.unwrap_err().kind(), ErrorKind::Denied);
    let third = loop {
        // The failed attempt is released by the janitor.
        match here.claim_task("again").await.unwrap() {
            ClaimedTask::Mine(task) => break task,
            ClaimedTask::Busy => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(third.attempt(), 3);
    // Whoever was taken for dead cannot say that the task is done.
    b.force_release("task:again", None, "a test").await.unwrap();
    let ClaimedTask::Mine(fourth) = there.claim_task("again").await.unwrap() else {
        panic!("free")
    };
    assert_eq!(fourth.attempt(), 4);
    assert_eq!(third.complete(&"late").await.unwrap_err().kind(), ErrorKind::Lost);
    assert_eq!(here.completion("again").await.unwrap(), None);
    drop(fourth);
    let given_up = loop {
        match here.claim_task("again").await.unwrap() {
            ClaimedTask::Busy => {}
            other => break other,
        }
    };
    assert!(matches!(given_up, ClaimedTask::GivenUp { attempts: 4 }), "{given_up:?}");
}

pub(crate) async fn those_who_lack_values_are_told_where_they_are(store: &Store) {
    let locks = store.manager();
    let errors = [
        CheckpointCoordinator::new(&locks, LONG, "/ckpt").map(drop),
        TaskQueue::new(&locks).map(drop),
    ];
    for made in errors {
        match made {
            Ok(()) => assert!(locks.capabilities().value_max.is_some()),
            Err(error) => {
                assert!(locks.capabilities().value_max.is_none());
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                assert!(error.help().unwrap().contains("postgres://"), "{:?}", error.help());
            }
        }
    }
}
