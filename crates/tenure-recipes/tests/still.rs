//! The recipes on a store and a clock that stand still until the test moves them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test, on a runtime of its own"
)]

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::clock::{Clock, TestClock};
use tenure_core::{ErrorKind, Fence, LockManager, LossReason};
use tenure_recipes::{
    ClaimedTask, Election, MultiLock, RwLock, Semaphore, StoppedLeading, TaskQueue,
};

const TTL: Duration = Duration::from_secs(30);
/// How long a state is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A manager on a clock that stands still, its clock and its store.
fn still() -> (LockManager, TestClock, Arc<MemoryBackend>) {
    let clock = TestClock::new();
    let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
    let manager = LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
    (manager, clock, backend)
}

/// An election that sends word of the end of each term.
fn told(locks: &LockManager) -> (Election, mpsc::Receiver<(Fence, StoppedLeading)>) {
    let (tell, ends) = mpsc::channel();
    let election = Election::new(locks, "x").unwrap().ttl(TTL);
    let election = election.on_stopped_leading(move |term, why| {
        let _ = tell.send((term, why.clone()));
    });
    (election, ends)
}

#[test]
fn a_leader_that_cannot_renew_stops_before_its_lease_can_end_whatever_it_is_busy_with() {
    let (locks, clock, backend) = still();
    let (election, ends) = told(&locks);
    // No task runs while the test waits for the word: whoever leads is busy, as it were.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let leadership = runtime.block_on(election.campaign()).unwrap();
    backend.failures().always(Operation::Renew, Failure::Hang);
    let (deadline, end) = leadership.deadlines();
    clock.advance(deadline.since(clock.now()) - Duration::from_millis(1));
    assert!(leadership.is_valid());
    assert!(ends.try_recv().is_err());
    // The keeper's timers are up to a tick late, about a millisecond.
    clock.advance(Duration::from_millis(3));
    let (term, why) = ends.recv_timeout(PATIENCE).expect("the end of the term is told");
    assert_eq!(term, leadership.term());
    assert!(matches!(why, StoppedLeading::Lost(_)), "{why}");
    assert!(clock.now() < end, "somebody else may lead already");
    assert!(!leadership.is_valid());
    drop(leadership);
    assert!(ends.try_recv().is_err(), "it was told already");
}

#[tokio::test]
async fn the_next_candidate_leads_when_the_lease_of_a_dead_leader_is_over() {
    let (locks, clock, backend) = still();
    let other = LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
    let dead = locks.lock("x").ttl(TTL).auto_renew(false).acquire().await.unwrap();
    let term = dead.fencing_token();
    let next = Election::new(&other, "x").unwrap();
    let next = tokio::task::spawn(async move { next.campaign().await });
    while locks.inspect("x").await.unwrap().waiters.is_empty() {
        tokio::task::yield_now().await;
    }
    clock.advance(dead.deadlines().0.since(clock.now()));
    assert!(!dead.is_valid());
    while !next.is_finished() {
        clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    let leadership = next.await.unwrap().unwrap();
    assert!(term < leadership.term());
}

#[tokio::test]
async fn the_work_of_a_lost_term_is_dropped_and_a_store_that_fails_is_asked_again() {
    let (locks, clock, backend) = still();
    let (election, ends) = told(&locks);
    let failures = backend.failures();
    let moves = clock.clone();
    let mut terms = 0;
    let work = election.run(async |leadership| {
        terms += 1;
        if terms == 1 {
            failures.always(Operation::Renew, Failure::Hang);
            failures.always(Operation::Acquire, Failure::LostRequest);
            moves.advance(leadership.deadlines().0.since(moves.now()) + Duration::from_millis(3));
            std::future::pending::<()>().await;
        }
        terms
    });
    let mut work = std::pin::pin!(work);
    let output = loop {
        if let Some(output) = futures_lite::future::poll_once(work.as_mut()).await {
            break output;
        }
        if locks.metrics().failed_acquisitions >= 3 {
            failures.heal();
        }
        clock.advance(Duration::from_millis(50));
        tokio::task::yield_now().await;
    };
    assert_eq!(output.unwrap(), 2);
    let why: Vec<_> = ends.try_iter().map(|(_, why)| why).collect();
    assert!(matches!(why[..], [StoppedLeading::Lost(_), StoppedLeading::Resigned]), "{why:?}");
}

#[tokio::test]
async fn what_is_taken_is_given_back_when_a_later_lock_is_refused() {
    for refused in ["a", "b", "c"] {
        let (locks, clock, backend) = still();
        // The clock runs faster than anybody can renew.
        let ttl = Duration::from_secs(24 * 60 * 60);
        let multi = MultiLock::new(&locks, ["c", "b", "a"]).unwrap().ttl(ttl);
        let in_the_way = locks.acquire("b", ttl).await.unwrap();
        let failures = backend.failures();
        if refused == "a" {
            failures.always(Operation::Acquire, Failure::Denied);
        }
        let acquire = tokio::task::spawn(async move { multi.acquire().await });
        if refused != "a" {
            while locks.inspect("b").await.unwrap().waiters.is_empty() {
                tokio::task::yield_now().await;
            }
            failures.always(Operation::Acquire, Failure::Denied);
        }
        if refused == "c" {
            in_the_way.release().await.unwrap();
        }
        while !acquire.is_finished() {
            // Until the one that waits for b asks again.
            clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
        let error = acquire.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert_eq!(error.lock().unwrap().as_str(), refused);
        for free in ["a", "c"] {
            assert!(!locks.is_locked(free).await.unwrap(), "{free}, refused at {refused}");
        }
        assert!(locks.inspect("b").await.unwrap().waiters.is_empty());
    }
}

#[tokio::test]
async fn one_lock_whose_release_is_not_answered_keeps_the_others_from_nothing() {
    let (locks, clock, backend) = still();
    let multi = MultiLock::new(&locks, ["a", "b"]).unwrap();
    let guard = multi.acquire().await.unwrap();
    backend.failures().once(Operation::Release, Failure::LostRequest);
    let error = guard.release().await.unwrap_err();
    assert_eq!(error.failed().len(), 1, "{error}");
    assert_eq!(error.failed()[0].0.as_str(), "a");
    assert!(!locks.is_locked("b").await.unwrap());
    clock.advance(Duration::from_secs(1));
    locks.close(PATIENCE).await.unwrap();
    assert!(!locks.is_locked("a").await.unwrap());
}

#[tokio::test]
async fn several_locks_are_lost_with_the_first_of_them() {
    let (locks, clock, backend) = still();
    let multi = MultiLock::new(&locks, ["a", "b"]).unwrap().ttl(TTL);
    let guard = multi.acquire().await.unwrap();
    backend.failures().always(Operation::Renew, Failure::Hang);
    clock.advance(TTL);
    let lost = guard.lost().await;
    assert!(["a", "b"].contains(&lost.name.as_str()));
    assert_eq!(guard.check().unwrap_err().kind(), ErrorKind::Lost);
}

#[tokio::test]
async fn leases_of_permits_end_one_by_one() {
    let (locks, clock, backend) = still();
    let semaphore = Semaphore::new(&locks, "x", 2).unwrap().ttl(TTL);
    let early = semaphore.acquire().await.unwrap();
    clock.advance(TTL / 4);
    let late = semaphore.acquire().await.unwrap();
    backend.failures().always(Operation::Renew, Failure::Hang);
    clock.advance(early.deadlines().0.since(clock.now()) + Duration::from_millis(3));
    assert!(!early.is_valid() && late.is_valid());
    let ended = early.lost().await;
    assert!(matches!(ended, LossReason::Expired | LossReason::StoreUnreachable), "{ended}");
    clock.advance(early.deadlines().1.since(clock.now()) + TTL / 50);
    assert_eq!(semaphore.available().await.unwrap(), 1);
}

#[tokio::test]
async fn a_downgrade_that_nobody_answers_gives_the_lock_back() {
    let (locks, clock, backend) = still();
    let lock = RwLock::new(&locks, "x").unwrap();
    let writer = lock.write().await.unwrap();
    backend.failures().once(Operation::Other, Failure::LostReply);
    assert!(writer.downgrade().await.is_err());
    clock.advance(Duration::from_millis(1));
    locks.close(PATIENCE).await.unwrap();
    lock.try_write().await.unwrap().expect("it was given back").release().await.unwrap();
}

#[tokio::test]
async fn a_completion_whose_answer_is_lost_is_sent_again_and_counts() {
    let (locks, clock, backend) = still();
    let tasks = TaskQueue::new(&locks).unwrap();
    let ClaimedTask::Mine(task) = tasks.claim_task(1).await.unwrap() else { panic!("it is free") };
    backend.failures().once(Operation::Other, Failure::LostReply);
    backend.failures().once(Operation::Other, Failure::LostRequest);
    let complete = tokio::task::spawn(async move { task.complete(&7).await });
    while !complete.is_finished() {
        clock.advance(Duration::from_millis(10));
        tokio::task::yield_now().await;
    }
    complete.await.unwrap().unwrap();
    assert_eq!(tasks.completion(1).await.unwrap().unwrap().result, 7);
}

#[tokio::test]
async fn a_task_whose_worker_is_silent_is_claimed_again_and_its_late_word_does_not_count() {
    let (locks, clock, backend) = still();
    let other = LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
    let tasks = TaskQueue::new(&locks).unwrap();
    let ClaimedTask::Mine(silent) = tasks.claim_task(1).await.unwrap() else { panic!("free") };
    backend.failures().always(Operation::Renew, Failure::Hang);
    clock.advance(TaskQueue::TTL + Duration::from_secs(1));
    let tasks = TaskQueue::new(&other).unwrap();
    let ClaimedTask::Mine(next) = tasks.claim_task(1).await.unwrap() else { panic!("free") };
    assert_eq!((silent.attempt(), next.attempt()), (1, 2));
    assert_eq!(silent.complete(&"late").await.unwrap_err().kind(), ErrorKind::Lost);
    next.complete(&"second").await.unwrap();
    assert_eq!(tasks.completion(1).await.unwrap().unwrap().attempt, 2);
}
