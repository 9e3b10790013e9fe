//! Holders and waiters that are killed and stopped, and those who come after them.

use std::time::Duration;

use super::{AT_ONCE, Ground, LONG, SHORT};
use crate::history::{Op, Phase, Promise, now_ns};
use crate::lock_taker::{Doing, Job};
use crate::stage::{
    a_holder, a_waiter, assert_held, deadline_of, did, events_of, granted_at, pass,
};

/// SIGKILL of a holder: nobody gets in before its lease is over, and the next in line at once then.
///
/// # Panics
/// If it is not so.
pub fn a_killed_holder_is_taken_over_when_its_lease_is_over_and_not_before<G: Ground>() {
    let ground = G::new();
    let mut fleet = ground.fleet(0);
    let holder = a_holder(&mut fleet, ground.job(SHORT));
    let waiter = a_waiter(&mut fleet, ground.job(SHORT));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let (deadline, taken) = (deadline_of(&run, &holder), granted_at(&run, &waiter));
    assert!(deadline < taken, "taken over {} ns before its deadline", deadline - taken);
    let took = Duration::from_nanos(taken - killed);
    println!("taken over {took:?} after the kill, ttl {SHORT:?}");
    assert!(took < SHORT + AT_ONCE, "{took:?}");
    let tried = [Promise::Exclusion, Promise::Recovery, Promise::Orphans];
    assert_held(&run, &G::rules(SHORT), Some(&ground.left(SHORT)), &tried);
    assert_eq!(run.complaints, [""; 0]);
}

/// SIGKILL of waiters, at the head and in the middle: the living go on in their order.
///
/// # Panics
/// If it is not so.
pub fn waiters_that_are_killed_in_the_queue_are_passed_over_at_once<G: Ground>() {
    let ground = G::new();
    let mut fleet = ground.fleet(0);
    let hold = Duration::from_secs(3);
    let job = Job { rounds: Some(1), hold: (hold, hold), ..ground.job(LONG) };
    let holder = fleet.start(&job).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    let [head, next, middle] = [0; 3].map(|_| a_waiter(&mut fleet, ground.job(LONG)));
    let last = a_waiter(&mut fleet, ground.job(LONG));
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
    let tried = [Promise::Exclusion, Promise::Recovery, Promise::Order];
    assert_held(&run, &G::rules(LONG), None, &tried);
    assert_eq!(run.complaints, [""; 0]);
}

/// A holder that is stopped for some ttls, and a waiter behind it.
fn stopped_for<G: Ground>(ttls: f64) {
    let ground = G::new();
    let mut fleet = ground.fleet(0);
    let ttl = SHORT * 2;
    let holder = a_holder(&mut fleet, ground.job(ttl));
    let waiter = a_waiter(&mut fleet, ground.job(ttl));
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
        return assert_held(&run, &G::rules(ttl), None, &[Promise::Exclusion, Promise::Release]);
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
    assert_held(&run, &G::rules(ttl), Some(&ground.left(ttl)), &tried);
}

/// SIGSTOP for half a ttl costs nothing.
///
/// # Panics
/// If it does.
pub fn a_holder_that_is_stopped_for_half_its_ttl_keeps_its_lock<G: Ground>() {
    stopped_for::<G>(0.5);
}

/// SIGSTOP for longer than a ttl: the next in line gets in, and the one that goes on knows.
///
/// # Panics
/// If it is not so.
pub fn a_holder_that_is_stopped_for_longer_than_its_ttl_is_taken_over_and_finds_itself_lost<
    G: Ground,
>() {
    stopped_for::<G>(1.5);
}

/// Likewise after so long that the store has forgotten it.
///
/// # Panics
/// If it is not so.
pub fn a_holder_that_is_stopped_for_five_ttls_is_taken_over_and_finds_itself_lost<G: Ground>() {
    stopped_for::<G>(5.0);
}
