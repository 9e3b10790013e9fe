//! What lies between a process and its server: answers and requests that are lost, and cuts.

use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockManager, NotReleased};
use tenure_testkit::history::{Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Job};
use tenure_testkit::proxy::{Direction, Fault, FaultProxy, Storm};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::postgres::PostgresSetup;

use crate::chaos::{self, TTL};
use crate::stage::{
    AT_ONCE, LONG, PATIENCE, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_all_held,
    assert_held, did, now, pass, rounds, rules, until,
};

/// Stalls these directions for some ttls, with a holder behind the proxy and a waiter past it.
fn cut(directions: &[Direction], ttls: f64) {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 2;
    let holder = a_holder(&mut fleet, Job { store: stage.url(), ..stage.job(ttl) });
    let waiter = a_waiter(&mut fleet, stage.job(ttl));
    for &direction in directions {
        stage.proxy.set(direction, Fault::Stall);
    }
    pass(ttl.mul_f64(ttls));
    let mut tried = vec![Promise::Exclusion, Promise::Release];
    if ttls < 1.0 {
        stage.proxy.heal();
        pass(ttl);
        let doing = (fleet.doing(&holder).unwrap(), fleet.doing(&waiter).unwrap());
        if doing != (Doing::Holding, Doing::Waiting) {
            let run = fleet.finish().unwrap();
            let holders: Vec<_> = run.events.iter().filter(|event| event.proc == holder).collect();
            panic!("{doing:?}: {holders:#?} {:#?}", run.complaints);
        }
    } else {
        fleet.until(&waiter, Doing::Holding).unwrap();
        until("the holder has seen its loss", || fleet.doing(&holder).unwrap() == Doing::Idle);
        stage.proxy.heal();
        fleet.join(&holder).unwrap();
        tried.push(Promise::Loss);
    }
    let run = fleet.finish().unwrap();
    assert_eq!(did(&run, &holder, Op::Lost, Phase::Ok), 1.0 < ttls);
    assert_held(&run, &rules(ttl), Some(&stage.left(ttl)), &tried);
}

#[test]
fn a_holder_that_is_cut_off_for_less_than_its_ttl_keeps_its_lock() {
    thread::scope(|scope| {
        scope.spawn(|| cut(&Direction::BOTH, 0.4));
        scope.spawn(|| cut(&[Direction::ToServer], 0.4));
        scope.spawn(|| cut(&[Direction::ToClient], 0.4));
    });
}

#[test]
fn a_holder_that_is_cut_off_for_longer_than_its_ttl_is_told_its_loss_before_anybody_else_gets_in() {
    thread::scope(|scope| {
        scope.spawn(|| cut(&Direction::BOTH, 2.0));
        scope.spawn(|| cut(&[Direction::ToServer], 2.0));
        scope.spawn(|| cut(&[Direction::ToClient], 2.0));
    });
}

/// Takers on both sides of a proxy, of which some are disturbed for a while, between two calm times.
fn stormy(of: &str, disturb: impl Fn(&FaultProxy, u64)) {
    for _ in 0..rounds(1) {
        let seed = seed(of);
        let stage = Stage::seeded(PostgresSetup::new(), seed);
        let mut fleet = stage.fleet(seed);
        let near = Job { rest: Duration::from_millis(20), ..chaos::job(&stage) };
        let far = Job { store: stage.url(), ..near.clone() };
        for job in [&far, &far, &far, &near, &near] {
            fleet.start(job).unwrap();
        }
        pass(Duration::from_secs(1));
        fleet.fault(Phase::Invoke).unwrap();
        disturb(&stage.proxy, seed);
        stage.proxy.heal();
        // What was sent late may still have to be given up.
        pass(Duration::from_millis(700));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_secs(1));
        chaos::outlive(&mut fleet, &far);
        let run = fleet.finish().unwrap();
        println!("{:?}\n{} complaints", stage.proxy.counts(), run.complaints.len());
        assert_all_held(&run, &rules(TTL), &stage.left(TTL));
        let odd = |line: &&String| !line.contains("unreachable:") && !line.contains("unknown:");
        assert_eq!(run.complaints.iter().find(odd), None);
    }
}

#[test]
fn connections_that_stall_break_off_and_lose_bytes_at_random_break_no_promise() {
    stormy("leases, storm", |proxy, seed| {
        let storm = Storm::new(seed, Duration::from_secs(5), 0.6).longest(TTL * 2);
        storm.run_on(proxy);
    });
}

#[test]
fn words_that_come_up_to_three_ttls_late_break_no_promise() {
    stormy("leases, delays", |proxy, _| {
        for ttls in [0.1, 0.5, 1.5, 3.0] {
            let by = TTL.mul_f64(ttls);
            proxy.set_both(Fault::Delay { by: by / 2, jitter: by / 2 });
            pass(by * 2);
            proxy.set_both(Fault::Pass);
            pass(TTL / 2);
        }
        proxy.set_both(Fault::Drip { bytes: 64, every: Duration::from_millis(2) });
        pass(TTL * 2);
    });
}

/// Two managers, one behind the proxy, both connected.
fn two(stage: &Stage) -> (LockManager, LockManager) {
    let (near, far) = (stage.bystander(), stage.manager());
    for manager in [&near, &far] {
        block_on(acquire(manager, X, LONG).release()).unwrap();
    }
    (near, far)
}

fn loses_one(stage: &Stage, lose: impl Fn(&FaultProxy), act: impl FnOnce()) {
    let before = stage.proxy.counts().lost;
    lose(&stage.proxy);
    act();
    stage.proxy.wait_until(PATIENCE, |counts| counts.lost == before + 1);
}

/// Both ways to lose a turn.
const LOSSES: [fn(&FaultProxy, &[u8]); 2] =
    [FaultProxy::lose_reply_to, FaultProxy::lose_request_with];

#[test]
fn an_acquire_whose_answer_is_lost_leaves_nothing_behind() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    for lose in LOSSES {
        loses_one(
            &stage,
            |proxy| lose(proxy, b"claim_many"),
            || {
                let error = block_on(far.try_acquire(X, LONG)).unwrap_err();
                assert!(error.kind().is_transient(), "{error}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
        block_on(acquire(&far, X, LONG).release()).unwrap();
    }
}

#[test]
fn a_renewal_whose_answer_is_lost_is_sent_again() {
    let stage = Stage::new();
    let (_near, far) = two(&stage);
    for lose in LOSSES {
        let guard = acquire(&far, X, SHORT * 3);
        let fence = guard.fencing_token();
        loses_one(&stage, |proxy| lose(proxy, b"renew_many"), || ());
        let deadline = guard.deadlines().0;
        until("it is renewed", || deadline < guard.deadlines().0);
        guard.check().unwrap();
        assert_eq!(guard.fencing_token(), fence);
        block_on(guard.release()).unwrap();
    }
}

#[test]
fn a_release_whose_answer_is_lost_frees_the_lock_and_tells_the_truth() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    for lose in LOSSES {
        let guard = acquire(&far, X, LONG);
        loses_one(
            &stage,
            |proxy| lose(proxy, b"release_many"),
            || {
                let released = block_on(guard.release());
                let truth = matches!(&released, Ok(()) | Err(NotReleased::Unknown { .. }));
                assert!(truth, "{released:?}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
    }
}

#[test]
fn a_hand_over_whose_message_is_lost_is_found_out_by_whoever_it_was_for() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let guard = acquire(&near, X, LONG);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| acquire(&far, X, LONG));
        until("it waits", || !block_on(near.inspect(X)).unwrap().waiters.is_empty());
        stage.proxy.set(Direction::ToClient, Fault::Swallow);
        block_on(guard.release()).unwrap();
        let since = now();
        stage.proxy.heal();
        let got = waits.join().unwrap();
        println!("found out after {:?}", since.elapsed());
        assert!(since.elapsed() < AT_ONCE * 2, "{:?}", since.elapsed());
        got.check().unwrap();
        block_on(got.release()).unwrap();
    });
}

#[test]
fn a_guard_that_is_dropped_while_the_way_is_cut_is_released_when_it_is_whole_again() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let guard = acquire(&far, X, LONG);
    stage.proxy.refuse();
    stage.proxy.cut();
    drop(guard);
    assert!(block_on(near.is_locked(X)).unwrap());
    stage.proxy.heal();
    let since = now();
    block_on(acquire(&near, X, LONG).release()).unwrap();
    assert!(since.elapsed() < AT_ONCE * 4, "{:?}", since.elapsed());
}
