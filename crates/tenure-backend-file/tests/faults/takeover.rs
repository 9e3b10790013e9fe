//! Holders and waiters that die or stand still, and those who come after them.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{Conflict, LockManager};
use tenure_testkit::history::{Op, Phase, Rules, Status, now_ns};
use tenure_testkit::lock_taker::{Doing, Run};

use crate::stage::{
    LONG, PATIENCE, Stage, X, a_holder, a_waiter, acquire, events_of, granted_at, now, until,
};

/// A ttl that is waited for.
const SHORT: Duration = Duration::from_millis(600);
/// What a takeover may take that is not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

fn assert_unbroken(run: &Run, ttl: Duration) {
    let rules = Rules {
        lost_slack: Duration::from_millis(300),
        ..Rules::new(ttl, Duration::from_millis(2500))
    };
    let verdict = run.judge(None, &rules);
    assert!(verdict.promises.iter().all(|promise| promise.status != Status::Broken), "{verdict}");
    assert_eq!(run.complaints, [""; 0]);
}

#[test]
fn a_killed_holder_of_a_long_lease_is_taken_over_within_a_second() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(LONG));
    let waiter = a_waiter(&mut fleet, stage.job(LONG));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    // One that asks only after the death.
    fleet.kill(&waiter).unwrap();
    let late = stage.manager();
    let asked = now();
    let guard = block_on(late.try_acquire(X, LONG)).unwrap().expect("the dead hold nothing");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    block_on(guard.release()).unwrap();

    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &waiter) - killed);
    println!("taken over {took:?} after the kill");
    assert!(took < AT_ONCE, "{took:?}");
    assert_unbroken(&run, LONG);
}

#[test]
fn a_stopped_holder_is_taken_over_after_its_ttl_and_finds_itself_lost_when_it_goes_on() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(SHORT));
    let waiter = a_waiter(&mut fleet, stage.job(SHORT));
    let stopped = now_ns();
    fleet.stop(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    fleet.go_on(&holder).unwrap();
    fleet.join(&holder).unwrap();
    let run = fleet.finish().unwrap();

    let stated = events_of(&run, &holder).take_while(|event| event.t_ns <= stopped);
    let deadline = stated.filter_map(|event| event.deadline_ns).max().unwrap();
    let taken = granted_at(&run, &waiter);
    assert!(deadline < taken, "taken over {} ns before its deadline", deadline - taken);
    let took = Duration::from_nanos(taken - stopped);
    println!("taken over {took:?} after the stop, ttl {SHORT:?}");
    assert!(took < SHORT + Duration::from_secs(2), "{took:?}");

    let went_on = events_of(&run, &holder)
        .find(|event| (event.op, event.phase) == (Op::Pause, Phase::Ok))
        .unwrap()
        .t_ns;
    let after: Vec<_> = events_of(&run, &holder)
        .filter(|event| taken < event.t_ns && event.op != Op::Pause)
        .map(|event| (event.op, event.phase))
        .collect();
    assert!(after.contains(&(Op::Lost, Phase::Ok)), "{went_on}: {after:?}");
    assert!(after.contains(&(Op::Release, Phase::Fail)), "{after:?}");
    assert!(!after.contains(&(Op::Check, Phase::Ok)), "{after:?}");
    assert_unbroken(&run, SHORT);
}

#[test]
fn a_holder_that_is_stopped_for_less_than_its_ttl_keeps_its_lock() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 5;
    let holder = a_holder(&mut fleet, stage.job(ttl));
    let waiter = a_waiter(&mut fleet, stage.job(ttl));
    fleet.stop(&holder).unwrap();
    let stopped = now();
    until("half a ttl has passed", || ttl / 2 < stopped.elapsed());
    fleet.go_on(&holder).unwrap();
    until("a whole ttl has passed", || ttl < stopped.elapsed());
    assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
    let run = fleet.finish().unwrap();
    let losses = events_of(&run, &holder).filter(|event| event.op == Op::Lost).count();
    assert_eq!(losses, 0);
    assert_unbroken(&run, ttl);
}

#[test]
fn waiters_that_are_killed_in_the_queue_cost_nothing() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(LONG));
    let [head, middle] = [0; 2].map(|_| a_waiter(&mut fleet, stage.job(LONG)));
    let last = a_waiter(&mut fleet, stage.job(LONG));
    fleet.kill(&head).unwrap();
    fleet.kill(&middle).unwrap();
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&last, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &last) - killed);
    println!("past two dead waiters in {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    assert_unbroken(&run, LONG);
}

/// Runs two threads with a manager each at the same time.
fn at_once<T: Send>(stage: &Stage, act: impl Fn(&LockManager) -> T + Sync) -> [T; 2] {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let threads = [0; 2].map(|_| {
            scope.spawn(|| {
                let manager = stage.manager();
                barrier.wait();
                act(&manager)
            })
        });
        threads.map(|thread| thread.join().unwrap())
    })
}

#[test]
fn of_two_that_take_over_from_a_dead_holder_at_once_one_gets_the_lock() {
    let stage = Stage::new();
    for round in 0..10 {
        let mut fleet = stage.fleet(round);
        let holder = a_holder(&mut fleet, stage.job(LONG));
        fleet.kill(&holder).unwrap();
        let guards = at_once(&stage, |m| block_on(m.try_acquire(X, LONG)).unwrap());
        let got: Vec<_> = guards.into_iter().flatten().collect();
        assert_eq!(got.len(), 1, "round {round}");
        for guard in got {
            guard.check().unwrap();
            block_on(guard.release()).unwrap();
        }
    }
}

#[test]
fn two_that_wait_for_the_end_of_the_same_lease_get_the_lock_one_after_the_other() {
    // Nobody proves a death here: both see the ttl end, at the same moment.
    let stage = Stage::with("?liveness=ttl");
    let ttl = Duration::from_millis(250);
    let mut last = 0;
    for round in 0..6 {
        let mut fleet = stage.fleet(round);
        let holder = a_holder(&mut fleet, stage.job(ttl));
        fleet.kill(&holder).unwrap();
        let holders = AtomicU32::new(0);
        let mut fences = at_once(&stage, |manager| {
            let guard = acquire(manager, X, LONG);
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "round {round}");
            let fence = guard.fencing_token().get();
            let since = now();
            until("it was held for a while", || Duration::from_millis(20) < since.elapsed());
            guard.check().unwrap();
            holders.fetch_sub(1, Ordering::SeqCst);
            block_on(guard.release()).unwrap();
            fence
        });
        fences.sort_unstable();
        assert!(last < fences[0] && fences[0] < fences[1], "{last}, then {fences:?}");
        last = fences[1];
    }
}

#[test]
fn of_two_that_steal_from_a_silent_holder_at_once_one_gets_the_lock() {
    let stage = Stage::new();
    // A holder counts as silent when two of its renewals are missing.
    let ttl = SHORT * 5;
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(ttl));
    fleet.stop(&holder).unwrap();
    let stopped = now();
    let steal = Conflict::StealStale { after: Duration::from_millis(1) };
    let holders = AtomicU32::new(0);
    at_once(&stage, |manager| {
        let request = manager.lock(X).ttl(LONG).wait_timeout(PATIENCE).on_conflict(steal);
        let guard = block_on(request.acquire()).unwrap();
        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
        let since = now();
        // The other one sees a holder that gives signs of life.
        until("it was held for a while", || Duration::from_millis(100) < since.elapsed());
        guard.check().unwrap();
        holders.fetch_sub(1, Ordering::SeqCst);
        block_on(guard.release()).unwrap();
    });
    println!("stolen twice within {:?}, ttl {ttl:?}", stopped.elapsed());
    fleet.go_on(&holder).unwrap();
    fleet.join(&holder).unwrap();
    let run = fleet.finish().unwrap();
    let last = events_of(&run, &holder).last().map(|event| (event.op, event.phase));
    let lost = events_of(&run, &holder).any(|event| event.op == Op::Lost);
    assert!(lost, "{last:?}");
}
