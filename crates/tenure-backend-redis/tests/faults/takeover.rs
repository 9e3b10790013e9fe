//! Holders and waiters that die or stand still, and those who come after them.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_testkit::history::{Op, Phase, Promise};
use tenure_testkit::lock_taker::Doing;

use crate::stage::{
    Ground, LONG, SHORT, Stage, X, a_waiter, acquire, assert_held, did, now, rules, until,
};

/// What a takeover may take that nothing has to be waited for.
const AT_ONCE: Duration = Duration::from_secs(1);

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
