//! Holders and waiters that die or stand still, and those who come after them.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_testkit::history::{Op, Phase, Promise, now_ns};
use tenure_testkit::lock_taker::{Doing, Job};

use crate::stage::{
    LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_held, deadline_of, did, events_of,
    granted_at, now, pass, rules, until,
};

/// What a takeover may take that nothing has to be waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn a_killed_holder_is_taken_over_when_its_lease_is_over_and_not_before() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(SHORT));
    let waiter = a_waiter(&mut fleet, stage.job(SHORT));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let taken = granted_at(&run, &waiter);
    let deadline = deadline_of(&run, &holder);
    assert!(deadline < taken, "taken over {} ns before its deadline", deadline - taken);
    let took = Duration::from_nanos(taken - killed);
    println!("taken over {took:?} after the kill, ttl {SHORT:?}");
    assert!(took < SHORT + AT_ONCE, "{took:?}");
    let tried = [Promise::Exclusion, Promise::Recovery, Promise::Orphans];
    assert_held(&run, &rules(SHORT), Some(&stage.left(SHORT)), &tried);
    assert_eq!(run.complaints, [""; 0]);
}

#[test]
fn waiters_that_are_killed_in_the_queue_are_passed_over_at_once() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let hold = Duration::from_secs(3);
    let job = Job { rounds: Some(1), hold: (hold, hold), ..stage.job(LONG) };
    let holder = fleet.start(&job).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    let [head, next, middle] = [0; 3].map(|_| a_waiter(&mut fleet, stage.job(LONG)));
    let last = a_waiter(&mut fleet, stage.job(LONG));
    fleet.kill(&head).unwrap();
    fleet.kill(&middle).unwrap();
    fleet.join(&holder).unwrap();
    fleet.until(&next, Doing::Holding).unwrap();
    assert_eq!(fleet.doing(&last).unwrap(), Doing::Waiting);
    let run = fleet.finish().unwrap();
    let released = events_of(&run, &holder).find(|event| event.op == Op::Release).unwrap().t_ns;
    let took = Duration::from_nanos(granted_at(&run, &next) - released);
    println!("past a dead waiter in {took:?}");
    assert!(took < AT_ONCE, "{took:?}");
    assert!(granted_at(&run, &next) < granted_at(&run, &last));
    assert_held(&run, &rules(LONG), None, &[Promise::Exclusion, Promise::Recovery, Promise::Order]);
    assert_eq!(run.complaints, [""; 0]);
}

#[test]
fn a_process_that_is_killed_before_it_hears_that_it_was_granted_the_lock_holds_it_for_a_ttl() {
    let stage = Stage::new();
    let bystander = stage.bystander();
    // From here on the server knows the script, and one request is all it takes.
    block_on(acquire(&bystander, X, LONG).release()).unwrap();
    let mut fleet = stage.fleet(0);
    stage.proxy.replace_reply_to(b"EVALSHA", b"");
    let deaf = fleet.start(&stage.job(SHORT).holding()).unwrap();
    until("the server has granted it", || block_on(bystander.is_locked(X)).unwrap());
    assert_eq!(fleet.doing(&deaf).unwrap(), Doing::Waiting);
    fleet.kill(&deaf).unwrap();
    let killed = now();
    let waiter = a_waiter(&mut fleet, stage.direct(LONG));
    fleet.until(&waiter, Doing::Holding).unwrap();
    let took = killed.elapsed();
    println!("taken over {took:?} after the kill, ttl {SHORT:?}");
    assert!(took < SHORT + AT_ONCE, "{took:?}");
    let run = fleet.finish().unwrap();
    assert!(!did(&run, &deaf, Op::Acquire, Phase::Ok));
    drop(bystander);
    let left = stage.left(Duration::ZERO);
    assert_held(&run, &rules(SHORT), Some(&left), &[Promise::Orphans]);
}

#[test]
fn a_waiter_that_is_killed_with_the_lock_on_its_way_to_it_costs_its_term_to_pick_it_up() {
    let stage = Stage::new();
    let bystander = stage.bystander();
    let guard = acquire(&bystander, X, LONG);
    let mut fleet = stage.fleet(0);
    // Its process hears nothing, and its connection is there: the server cannot know.
    let deaf = a_waiter(&mut fleet, stage.job(SHORT));
    let next = a_waiter(&mut fleet, stage.direct(SHORT));
    fleet.stop(&deaf).unwrap();
    block_on(guard.release()).unwrap();
    until("it was handed over", || block_on(bystander.is_locked(X)).unwrap());
    fleet.kill(&deaf).unwrap();
    let killed = now();
    fleet.until(&next, Doing::Holding).unwrap();
    println!("taken over {:?} after the kill", killed.elapsed());
    assert!(killed.elapsed() < SHORT + AT_ONCE, "{:?}", killed.elapsed());
    let run = fleet.finish().unwrap();
    drop(bystander);
    assert_held(&run, &rules(SHORT), Some(&stage.left(SHORT)), &[Promise::Orphans]);
}

/// A holder that is stopped for some ttls, and a waiter behind it.
fn stopped_for(ttls: f64) {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 2;
    let holder = a_holder(&mut fleet, stage.job(ttl));
    let waiter = a_waiter(&mut fleet, stage.job(ttl));
    let stopped = now_ns();
    fleet.stop(&holder).unwrap();
    pass(ttl.mul_f64(ttls));
    if ttls < 1.0 {
        fleet.go_on(&holder).unwrap();
        pass(ttl);
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
        let run = fleet.finish().unwrap();
        assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
        return assert_held(&run, &rules(ttl), None, &[Promise::Exclusion, Promise::Release]);
    }
    fleet.until(&waiter, Doing::Holding).unwrap();
    fleet.go_on(&holder).unwrap();
    fleet.join(&holder).unwrap();
    let run = fleet.finish().unwrap();
    let stated = events_of(&run, &holder).take_while(|event| event.t_ns <= stopped);
    let deadline = stated.filter_map(|event| event.deadline_ns).max().unwrap();
    let taken = granted_at(&run, &waiter);
    assert!(deadline < taken, "taken over {} ns before its deadline", deadline - taken);
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    assert!(did(&run, &holder, Op::Release, Phase::Fail));
    let went_on = events_of(&run, &holder)
        .find(|event| (event.op, event.phase) == (Op::Pause, Phase::Ok))
        .unwrap()
        .t_ns;
    let believed = events_of(&run, &holder)
        .any(|event| went_on < event.t_ns && (event.op, event.phase) == (Op::Check, Phase::Ok));
    assert!(!believed, "it was told that it holds the lock");
    let tried = [Promise::Exclusion, Promise::Loss, Promise::Release, Promise::Recovery];
    assert_held(&run, &rules(ttl), Some(&stage.left(ttl)), &tried);
}

#[test]
fn a_holder_that_is_stopped_for_half_its_ttl_keeps_its_lock() {
    stopped_for(0.5);
}

#[test]
fn a_holder_that_is_stopped_for_longer_than_its_ttl_is_taken_over_and_finds_itself_lost() {
    stopped_for(1.5);
}

#[test]
fn a_holder_that_is_stopped_for_five_ttls_is_taken_over_and_finds_itself_lost() {
    stopped_for(5.0);
}
