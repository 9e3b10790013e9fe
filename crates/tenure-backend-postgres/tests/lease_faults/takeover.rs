//! Holders and waiters that die, and those who come after them.

use std::time::Duration;

use tenure_testkit::history::{Promise, now_ns};
use tenure_testkit::lock_taker::{Doing, Job};

use crate::stage::{
    AT_ONCE, LONG, SHORT, Stage, a_holder, a_waiter, assert_held, granted_at, rules,
};

#[test]
fn a_killed_holder_is_followed_when_its_lease_is_over() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(SHORT));
    let waiter = a_waiter(&mut fleet, stage.job(SHORT));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &waiter) - killed);
    println!("taken over {took:?} after the kill, ttl {SHORT:?}");
    assert!(took < SHORT + AT_ONCE, "{took:?}");
    let tried = [Promise::Exclusion, Promise::Recovery];
    assert_held(&run, &rules(SHORT), Some(&stage.left(SHORT)), &tried);
}

#[test]
fn a_killed_waiter_costs_those_behind_it_nothing() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let held = Duration::from_millis(1500);
    let holder = Job { rounds: Some(1), hold: (held, held), ..stage.job(LONG) };
    let holder = fleet.start(&holder).unwrap();
    fleet.until(&holder, Doing::Holding).unwrap();
    let dead = a_waiter(&mut fleet, stage.job(LONG));
    let next = a_waiter(&mut fleet, stage.job(LONG));
    fleet.kill(&dead).unwrap();
    fleet.join(&holder).unwrap();
    let released = now_ns();
    fleet.until(&next, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &next).saturating_sub(released));
    println!("the next holds {took:?} after the holder's end");
    assert!(took < AT_ONCE, "{took:?}");
    let tried = [Promise::Exclusion, Promise::Recovery];
    assert_held(&run, &rules(LONG), Some(&stage.left(Duration::ZERO)), &tried);
}
