//! A server that dies, comes back with or without what it knew, and stands still.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_testkit::history::{Demand, Op, Phase, Promise, Status};
use tenure_testkit::lock_taker::{Doing, Fleet, Job};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisSetup;

use crate::chaos::{self, TTL};
use crate::stage::{
    LONG, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_all_held, assert_held, did, now,
    pass, rounds, rules, until,
};

fn durable() -> Stage {
    Stage::with(RedisSetup::new().append_only())
}

#[test]
fn a_lease_outlives_a_server_that_is_killed_and_comes_back_with_its_data() {
    let stage = durable();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, stage.direct(ttl));
    let waiter = a_waiter(&mut fleet, stage.direct(ttl));
    fleet.fault(Phase::Invoke).unwrap();
    stage.server.restart();
    fleet.fault(Phase::Ok).unwrap();
    pass(ttl);
    assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
    assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
    // A restart is not an end: the one that holds is killed, and the other gets in.
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
    let tried = [Promise::Exclusion, Promise::Recovery];
    assert_held(&run, &rules(ttl), Some(&stage.left(ttl)), &tried);
}

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
    let stage = durable();
    let (mut fleet, [away, back]) = restarted(&stage);
    stage.proxy.accept();
    fleet.until(&away, Doing::Holding).unwrap();
    assert_eq!(fleet.doing(&back).unwrap(), Doing::Waiting);
    fleet.kill(&away).unwrap();
    fleet.finish().unwrap();
}

#[test]
fn a_waiter_that_does_not_come_back_after_a_restart_costs_those_behind_it_two_seconds() {
    let stage = durable();
    let (mut fleet, [away, back]) = restarted(&stage);
    fleet.kill(&away).unwrap();
    let killed = now();
    fleet.until(&back, Doing::Holding).unwrap();
    println!("passed over after {:?}", killed.elapsed());
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    fleet.finish().unwrap();
}

/// Takers on a server to which something is done again and again, between two calm times.
pub(crate) fn troubled(of: &str, stage: &Stage, exclusion: Demand, trouble: impl Fn(u32)) {
    let mut fleet = stage.fleet(seed(of));
    let job =
        Job { rest: Duration::from_millis(20), store: stage.server.url(), ..chaos::job(stage) };
    for _ in 0..5 {
        fleet.start(&job).unwrap();
    }
    pass(Duration::from_secs(1));
    for round in 0..4 {
        fleet.fault(Phase::Invoke).unwrap();
        trouble(round);
        // Connected again.
        pass(Duration::from_millis(500));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_millis(700));
    }
    chaos::outlive(&mut fleet, &job);
    let run = fleet.finish().unwrap();
    let left = stage.left(TTL);
    let rules = rules(TTL).expect(Promise::Exclusion, exclusion);
    if exclusion == Demand::Must {
        return assert_all_held(&run, &rules, &left);
    }
    let others: Vec<_> = Promise::ALL.into_iter().filter(|&p| p != Promise::Exclusion).collect();
    assert_held(&run, &rules, Some(&left), &others);
    let verdict = run.judge(Some(&left), &rules);
    let exclusion = &verdict.promises[0];
    if exclusion.status == Status::Broken {
        println!("{of}: {}", exclusion.measured);
    }
}

#[test]
fn a_server_that_is_killed_and_restarted_with_its_data_breaks_no_promise() {
    for _ in 0..rounds(1) {
        let stage = durable();
        troubled("restarts", &stage, Demand::Must, |round| {
            stage.server.kill();
            pass(TTL.mul_f64([0.0, 0.3, 1.5, 0.0][round as usize]));
            stage.server.restart();
        });
    }
}

#[test]
fn a_server_that_is_restarted_without_data_may_break_exclusion_and_nothing_else() {
    for _ in 0..rounds(1) {
        let stage = Stage::new();
        troubled("restarts, empty", &stage, Demand::Measured, |_| stage.server.restart_empty());
    }
}

#[test]
fn a_server_that_is_stopped_and_goes_on_breaks_no_promise() {
    for _ in 0..rounds(1) {
        let stage = Stage::new();
        troubled("stops of the server", &stage, Demand::Must, |round| {
            stage.server.stop();
            pass(TTL.mul_f64([0.5, 3.0][round as usize % 2]));
            stage.server.cont();
        });
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
