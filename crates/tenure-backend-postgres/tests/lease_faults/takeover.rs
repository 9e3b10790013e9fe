//! Holders and waiters that die, and those who come after them.

use std::time::Duration;

use tenure_testkit::history::{Op, Phase, Promise, now_ns};

use crate::stage::{
    AT_ONCE, LONG, SHORT, Stage, a_holder, a_waiter, assert_held, did, granted_at, rules,
};

#[test]
fn a_killed_holder_is_followed_when_its_lease_is_over() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(SHORT));
    let waiter = a_waiter(&mut fleet, stage.job(SHORT));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, tenure_testkit::lock_taker::Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &waiter) - killed);
    println!("taken over {took:?} after the kill, ttl {SHORT:?}");
    assert!(took < SHORT + AT_ONCE, "{took:?}");
    let tried = [Promise::Exclusion, Promise::Recovery];
    assert_held(&run, &rules(SHORT), &stage.left(SHORT), &tried);
}

#[test]
fn a_killed_waiter_costs_those_behind_it_nothing() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.job(LONG));
    let dead = a_waiter(&mut fleet, stage.job(LONG));
    let next = a_waiter(&mut fleet, stage.job(LONG));
    fleet.kill(&dead).unwrap();
    // A holder that is evicted is told, and leaves.
    stage.server.psql(
        "SELECT tenure.take_turn('x', 'evict', NULL, '[null, false, \"x\", \"y\"]', NULL, 1000)",
    );
    let evicted = now_ns();
    fleet.until(&next, tenure_testkit::lock_taker::Doing::Holding).unwrap();
    fleet.join(&holder).unwrap();
    let run = fleet.finish().unwrap();
    let took = Duration::from_nanos(granted_at(&run, &next).saturating_sub(evicted));
    println!("the next holds {took:?} after the eviction");
    assert!(took < AT_ONCE, "{took:?}");
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    assert_held(&run, &rules(LONG), &stage.left(Duration::ZERO), &[Promise::Loss]);
}
