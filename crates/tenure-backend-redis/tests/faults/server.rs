//! A server that dies, comes back with or without what it knew, and stands still.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_testkit::faults::server::troubled;
use tenure_testkit::history::{Demand, Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Fleet, Job};
use tenure_testkit::servers::redis::RedisSetup;

use crate::stage::{
    Ground, LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_held, did, now, rounds,
    rules, until,
};

#[test]
fn a_server_that_comes_back_without_its_data_is_noticed_at_the_next_renewal() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, stage.direct(ttl));
    let waiter = a_waiter(&mut fleet, stage.direct(ttl));
    fleet.fault(Phase::Invoke).unwrap();
    stage.server.restart_empty();
    let restarted = now();
    fleet.until(&waiter, Doing::Holding).unwrap();
    fleet.join(&holder).unwrap();
    println!("noticed after {:?}, ttl {ttl:?}", restarted.elapsed());
    assert!(restarted.elapsed() < ttl, "{:?}", restarted.elapsed());
    fleet.fault(Phase::Ok).unwrap();
    let run = fleet.finish().unwrap();
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    // Without its data the server cannot know of the holder; fences go on by its clock.
    let rules = rules(ttl).expect(Promise::Exclusion, Demand::Measured);
    assert_held(&run, &rules, Some(&stage.left(ttl)), &[Promise::Loss]);
}

/// The server is restarted while one waits that does not come back yet, and the lock is released: the
/// fleet, the one that is away, and one behind it that is there again.
fn restarted(stage: &Stage) -> (Fleet, [String; 2]) {
    let mut fleet = stage.fleet(0);
    let holder = stage.bystander();
    let guard = acquire(&holder, X, LONG);
    let away = a_waiter(&mut fleet, stage.job(LONG));
    let back = a_waiter(&mut fleet, stage.direct(LONG));
    stage.proxy.refuse();
    stage.server.restart();
    until("both others listen again", || {
        let channels = stage.server.cli(&["--raw", "PUBSUB", "CHANNELS", "tenure:*"]);
        channels.lines().filter(|line| !line.is_empty()).count() == 2
    });
    block_on(guard.release()).unwrap();
    (fleet, [away, back])
}

#[test]
fn whoever_is_connected_again_first_after_a_restart_overtakes_nobody() {
    let stage = Stage::with(RedisSetup::new().append_only());
    let (mut fleet, [away, back]) = restarted(&stage);
    stage.proxy.accept();
    fleet.until(&away, Doing::Holding).unwrap();
    assert_eq!(fleet.doing(&back).unwrap(), Doing::Waiting);
    fleet.kill(&away).unwrap();
    fleet.finish().unwrap();
}

#[test]
fn a_waiter_that_does_not_come_back_after_a_restart_costs_those_behind_it_two_seconds() {
    let stage = Stage::with(RedisSetup::new().append_only());
    let (mut fleet, [away, back]) = restarted(&stage);
    fleet.kill(&away).unwrap();
    let killed = now();
    fleet.until(&back, Doing::Holding).unwrap();
    println!("passed over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    fleet.finish().unwrap();
}

#[test]
fn a_server_that_is_restarted_without_data_may_break_exclusion_and_nothing_else() {
    for _ in 0..rounds(1) {
        let stage = Stage::new();
        troubled("restarts, empty", &stage, Demand::Measured, |_| stage.server.restart_empty());
    }
}

#[test]
fn a_holder_whose_server_stands_still_is_lost_at_its_deadline_and_can_have_the_lock_again() {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let holder = a_holder(&mut fleet, stage.direct(SHORT));
    fleet.fault(Phase::Invoke).unwrap();
    stage.server.stop();
    until("it is told", || fleet.last_event(&holder).unwrap().is_some_and(|e| e.op != Op::Check));
    stage.server.cont();
    fleet.fault(Phase::Ok).unwrap();
    fleet.join(&holder).unwrap();
    let again = a_holder(&mut fleet, Job { names: vec![X.into()], ..stage.direct(SHORT) });
    let run = fleet.finish().unwrap();
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    assert!(!did(&run, &again, Op::Lost, Phase::Ok));
    let tried = [Promise::Fence, Promise::Loss, Promise::Release];
    assert_held(&run, &rules(SHORT), Some(&stage.left(SHORT)), &tried);
}
