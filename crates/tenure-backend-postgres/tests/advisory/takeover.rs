//! Holders and waiters that die or stand still, and those who come after them.

use std::time::Duration;

use tenure_testkit::history::{Op, Phase, Rules, Status, now_ns};
use tenure_testkit::lock_taker::{Doing, Fleet, Job, Run};

use crate::stage::{LONG, Stage, X, a_holder, a_waiter, acquire, events_of, granted_at};

/// The shortest class of sessions.
const CLASS: Duration = Duration::from_secs(2);
/// What is not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

fn assert_unbroken(run: &Run, ttl: Duration) {
    let rules = Rules {
        lost_slack: Duration::from_millis(300),
        ..Rules::new(ttl, CLASS + Duration::from_millis(1500))
    };
    let verdict = run.judge(None, &rules);
    assert!(verdict.promises.iter().all(|promise| promise.status != Status::Broken), "{verdict}");
}

#[test]
fn a_killed_holder_of_a_long_lease_is_taken_over_at_once() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(LONG));
    let waiter = a_waiter(&mut fleet, stage.job(LONG));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &waiter) - killed);
    println!("taken over {took:?} after the kill");
    assert!(took < AT_ONCE, "{took:?}");
    assert_unbroken(&run, LONG);
}

#[test]
fn a_killed_waiter_holds_nobody_up() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(LONG));
    let dead = a_waiter(&mut fleet, stage.job(LONG));
    let next = a_waiter(&mut fleet, stage.job(LONG));
    fleet.kill(&dead).unwrap();
    fleet.kill(&holder).unwrap();
    fleet.until(&next, Doing::Holding).unwrap();
    assert_unbroken(&fleet.finish().unwrap(), LONG);
}

#[test]
fn a_stopped_holder_loses_its_lock_within_its_class_and_finds_that_out_when_it_goes_on() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(CLASS));
    let waiter = a_waiter(&mut fleet, stage.job(CLASS));
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
    println!("taken over {took:?} after the stop, class {CLASS:?}");
    assert!(took < CLASS + Duration::from_millis(500), "{took:?}");
    let after: Vec<_> = events_of(&run, &holder)
        .filter(|event| taken < event.t_ns && event.op != Op::Pause)
        .map(|event| (event.op, event.phase))
        .collect();
    assert!(after.contains(&(Op::Lost, Phase::Ok)), "{after:?}");
    assert!(after.contains(&(Op::Release, Phase::Fail)), "{after:?}");
    assert!(!after.contains(&(Op::Check, Phase::Ok)), "{after:?}");
    assert_unbroken(&run, CLASS);
}

#[test]
fn a_waiter_that_stands_still_at_its_grant_holds_the_lock_no_longer_than_its_class() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(CLASS));
    let still = a_waiter(&mut fleet, stage.job(CLASS));
    fleet.stop(&still).unwrap();
    fleet.kill(&holder).unwrap();
    let killed = now_ns();
    let next = a_waiter_or_holder(&mut fleet, stage.job(CLASS));
    fleet.until(&next, Doing::Holding).unwrap();
    fleet.go_on(&still).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &next) - killed);
    assert!(took < CLASS + AT_ONCE, "{took:?}");
    assert_unbroken(&run, CLASS);
}

fn a_waiter_or_holder(fleet: &mut Fleet, job: Job) -> String {
    fleet.start(&job.holding()).unwrap()
}

#[test]
fn a_stopped_holder_can_be_force_released_if_its_session_holds_nothing_else() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(LONG));
    fleet.stop(&holder).unwrap();
    let locks = stage.manager();
    let evicted = futures_lite::future::block_on(locks.force_release(X, None, "it hangs")).unwrap();
    assert_eq!(evicted.len(), 1);
    let guard = acquire(&locks, X, LONG);
    fleet.go_on(&holder).unwrap();
    fleet.join(&holder).unwrap();
    assert!(guard.is_valid());
    drop(guard);
    drop(fleet);
}
