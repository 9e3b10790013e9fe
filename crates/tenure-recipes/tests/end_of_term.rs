//! What a leader does at the end of its term is done before the next one leads, and cannot keep
//! the next one from leading for longer than the lease. On a clock that stands still.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, on threads of its own")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};
use tenure_backend_memory::{Failure, MemoryBackend, Operation};
use tenure_core::clock::{Clock, TestClock};
use tenure_core::{LockManager, LossReason, NotReleased};
use tenure_recipes::{Election, Leadership, StoppedLeading};
use tenure_testkit::servers::patience;

const TTL: Duration = Duration::from_secs(30);
/// How long a state is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The keeper's timers are up to a tick late, about a millisecond.
const TICK: Duration = Duration::from_millis(3);

/// One term whose end is told to the test, and goes on until the test says so.
struct Stage {
    locks: LockManager,
    other: LockManager,
    clock: TestClock,
    backend: Arc<MemoryBackend>,
    election: Election,
    begun: Receiver<StoppedLeading>,
    go_on: Sender<()>,
}

impl Stage {
    fn new() -> Self {
        let clock = TestClock::new();
        let backend = Arc::new(MemoryBackend::with_clock(clock.clone()));
        let manager =
            || LockManager::builder(backend.clone()).clock(clock.clone()).build().unwrap();
        let (locks, other) = (manager(), manager());
        let (begins, begun) = mpsc::channel();
        let (go_on, goes_on) = mpsc::channel();
        let goes_on = Mutex::new(goes_on);
        let election =
            Election::new(&locks, "x").unwrap().ttl(TTL).on_stopped_leading(move |_, why| {
                begins.send(why.clone()).unwrap();
                let _ = goes_on.lock().unwrap().recv();
            });
        Self { locks, other, clock, backend, election, begun, go_on }
    }

    fn lead(&self) -> Leadership {
        block_on(self.election.campaign()).unwrap()
    }

    /// Lets the term run out, and waits until somebody is told.
    fn lose(&self, leadership: &Leadership) {
        self.backend.failures().always(Operation::Renew, Failure::Hang);
        self.clock.advance(leadership.deadlines().0.since(self.clock.now()) + TICK);
        let why = self.begun.recv_timeout(PATIENCE).expect("the end is told");
        assert!(matches!(why, StoppedLeading::Lost(_)), "{why}");
    }

    fn is_held(&self) -> bool {
        block_on(self.other.is_locked("x")).unwrap()
    }

    /// Whatever was handed to the janitor before has been done.
    fn what_was_dropped_is_given_back(&self) {
        drop(block_on(self.locks.acquire("after", TTL)).unwrap());
        let free = || !block_on(self.other.is_locked("after")).unwrap();
        patience::until(PATIENCE, "what is dropped is given back", free);
    }

    fn becomes_free(&self) {
        patience::until(PATIENCE, "the lock is given back", || !self.is_held());
    }

    /// Time goes on, slowly enough for renewals, until somebody else leads.
    fn another_leads_within(&self, time: Duration) {
        let until = self.clock.now().plus(time);
        let next = Election::new(&self.other, "x").unwrap();
        patience::until(PATIENCE, "another leads", || {
            if let Some(next) = block_on(next.try_campaign()).unwrap() {
                assert!(self.clock.now() <= until, "later than the lease");
                block_on(next.resign()).unwrap();
                return true;
            }
            self.clock.advance(Duration::from_millis(500));
            false
        });
    }
}

#[test]
fn a_lost_term_is_given_back_when_its_end_has_been_told_and_not_before() {
    let stage = Stage::new();
    let leadership = stage.lead();
    stage.lose(&leadership);
    drop(leadership);
    stage.what_was_dropped_is_given_back();
    assert!(stage.is_held(), "its leader may be putting things in order");
    stage.go_on.send(()).unwrap();
    stage.becomes_free();
}

#[test]
fn a_term_is_handed_over_when_its_resignation_has_been_told_and_not_before() {
    let stage = Stage::new();
    let leadership = stage.lead();
    let watch = leadership.watch();
    let resigning = thread::spawn(move || block_on(leadership.resign()));
    assert_eq!(stage.begun.recv_timeout(PATIENCE).unwrap(), StoppedLeading::Resigned);
    watch.check().unwrap();
    assert!(stage.is_held(), "its leader may be putting things in order");
    stage.go_on.send(()).unwrap();
    resigning.join().unwrap().unwrap();
    assert!(!stage.is_held());
}

#[test]
fn a_resignation_that_is_told_for_ever_keeps_the_lock_for_its_lease_only() {
    let stage = Stage::new();
    let leadership = stage.lead();
    let dropping = thread::spawn(move || drop(leadership));
    assert_eq!(stage.begun.recv_timeout(PATIENCE).unwrap(), StoppedLeading::Resigned);
    // The store would renew it, if anybody asked.
    stage.another_leads_within(TTL + Duration::from_secs(1));
    assert!(!dropping.is_finished());
    stage.go_on.send(()).unwrap();
    dropping.join().unwrap();
}

#[test]
fn a_loss_that_is_told_for_ever_keeps_the_lock_for_its_lease_only() {
    let stage = Stage::new();
    let leadership = stage.lead();
    stage.lose(&leadership);
    drop(leadership);
    stage.another_leads_within(TTL / 5);
    stage.go_on.send(()).unwrap();
}

#[test]
fn whoever_resigns_a_lost_term_waits_for_the_telling_and_no_longer_than_the_lease() {
    for told_in_time in [true, false] {
        let stage = Stage::new();
        let leadership = stage.lead();
        stage.lose(&leadership);
        let end = leadership.deadlines().1;
        let mut resigning = Box::pin(leadership.resign());
        assert!(block_on(poll_once(resigning.as_mut())).is_none(), "it is being told");
        if told_in_time {
            stage.go_on.send(()).unwrap();
        } else {
            stage.clock.advance(end.since(stage.clock.now()) + TICK);
        }
        let answer = block_on(resigning);
        assert!(matches!(answer, Err(NotReleased::AlreadyLost(_))), "{answer:?}");
        if told_in_time {
            stage.becomes_free();
        } else {
            stage.go_on.send(()).unwrap();
        }
    }
}

/// Where a callback finds its own leadership.
type Place = Arc<Mutex<Option<Leadership>>>;

/// Loses a term whose end is told by `end`, which finds the leadership, and the lock held still when
/// it has done with that.
fn ended_by_itself(end: impl Fn(Leadership) + Send + Sync + 'static) {
    let stage = Stage::new();
    let place = Place::default();
    let (own, locks) = (place.clone(), stage.other.clone());
    let (tell, told) = mpsc::channel();
    let election = Election::new(&stage.locks, "x").unwrap().ttl(TTL);
    let election = election.on_stopped_leading(move |_, _| {
        end(own.lock().unwrap().take().unwrap());
        tell.send(block_on(locks.is_locked("x")).unwrap()).unwrap();
    });
    let leadership = block_on(election.campaign()).unwrap();
    let deadline = leadership.deadlines().0;
    *place.lock().unwrap() = Some(leadership);
    stage.backend.failures().always(Operation::Renew, Failure::Hang);
    stage.clock.advance(deadline.since(stage.clock.now()) + TICK);
    assert!(told.recv_timeout(PATIENCE).expect("it does not wait for itself"));
    stage.becomes_free();
}

#[test]
fn a_telling_that_drops_its_own_leadership_does_not_wait_for_itself() {
    ended_by_itself(drop);
}

#[test]
fn a_telling_that_resigns_its_own_leadership_does_not_wait_for_itself() {
    ended_by_itself(|leadership| {
        let answer = block_on(leadership.resign());
        assert!(matches!(answer, Err(NotReleased::AlreadyLost(_))), "{answer:?}");
    });
}

#[test]
fn a_telling_that_panics_is_over() {
    let stage = Stage::new();
    let election = Election::new(&stage.locks, "x").unwrap().ttl(TTL);
    let election = election.on_stopped_leading(|_, _| panic!("in a callback, on purpose"));
    drop(block_on(election.campaign()).unwrap());
    stage.becomes_free();
    let lost = block_on(election.campaign()).unwrap();
    stage.backend.failures().always(Operation::Renew, Failure::Hang);
    stage.clock.advance(lost.deadlines().0.since(stage.clock.now()) + TICK);
    let answer = block_on(lost.resign());
    assert!(matches!(answer, Err(NotReleased::AlreadyLost(_))), "{answer:?}");
    stage.becomes_free();
}

#[test]
fn the_next_term_of_a_candidate_begins_after_the_end_of_the_last_was_told() {
    let stage = Stage::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (begins, ends) = (log.clone(), log.clone());
    let telling = Arc::new(AtomicBool::new(false));
    let tells = telling.clone();
    let election = Election::new(&stage.locks, "x")
        .unwrap()
        .ttl(TTL)
        .on_started_leading(move |lock| begins.lock().unwrap().push((lock.fencing_token(), "on")))
        .on_stopped_leading(move |term, why| {
            if matches!(why, StoppedLeading::Lost(_)) {
                tells.store(true, Ordering::Release);
                // A begin that does not wait comes first.
                thread::sleep(Duration::from_millis(100));
            }
            ends.lock().unwrap().push((term, "off"));
        });
    let mut terms = Vec::new();
    let work = election.run(async |leadership| {
        terms.push(leadership.term());
        if terms.len() < 2 {
            // Free for the next one at once.
            stage.other.force_release("x", None, "a test").await.unwrap();
            let lost = leadership.lost().await;
            assert!(matches!(lost, LossReason::Evicted { .. }), "{lost}");
            patience::until(PATIENCE, "the end is told", || telling.load(Ordering::Acquire));
            std::future::pending::<()>().await;
        }
    });
    block_on(work).unwrap();
    let [first, second] = terms[..] else { panic!("two terms: {terms:?}") };
    let expected = [(first, "on"), (first, "off"), (second, "on"), (second, "off")];
    assert_eq!(*log.lock().unwrap(), expected);
}
