//! What lies between a process and its server: cuts, lost replies, delays, and connections that end
//! in the midst of a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{ErrorKind, LockGuard, LockManager, LockName, NotReleased};
use tenure_testkit::history::{Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Job};
use tenure_testkit::proxy::{Direction, End, Fault, FaultProxy, Storm};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisSetup;

use crate::chaos;
use crate::stage::{
    LONG, PATIENCE, SHORT, Stage, X, a_holder, a_waiter, acquire, assert_all_held, assert_held,
    backend, did, now, pass, rounds, rules, until,
};

/// What may take a few messages and no more.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Stalls these directions for some ttls, with a holder behind the proxy and a waiter past it.
fn cut(directions: &[Direction], ttls: f64) {
    let stage = Stage::new();
    let mut fleet = stage.fleet(0);
    let ttl = SHORT * 2;
    let holder = a_holder(&mut fleet, stage.job(ttl));
    let waiter = a_waiter(&mut fleet, stage.direct(ttl));
    for &direction in directions {
        stage.proxy.set(direction, Fault::Stall);
    }
    pass(ttl.mul_f64(ttls));
    let mut tried = vec![Promise::Exclusion, Promise::Release];
    if ttls < 1.0 {
        stage.proxy.heal();
        pass(ttl);
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
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

/// Two managers, one behind the proxy, on a server that knows the scripts.
fn two(stage: &Stage) -> (LockManager, LockManager) {
    let (near, far) = (stage.bystander(), stage.manager());
    for manager in [&near, &far] {
        block_on(acquire(manager, X, LONG).release()).unwrap();
    }
    (near, far)
}

/// Acquires the lock, and says when it was heard that it has a place in the queue.
fn acquire_telling(manager: &LockManager, ttl: Duration, queued: &Arc<AtomicBool>) -> LockGuard {
    let queued = queued.clone();
    let request = manager.lock(X).ttl(ttl).wait_timeout(PATIENCE);
    block_on(request.on_wait(move |_, _| queued.store(true, Ordering::Relaxed)).acquire()).unwrap()
}

fn loses_one(stage: &Stage, lose: impl Fn(&FaultProxy), act: impl FnOnce()) {
    let before = stage.proxy.counts().lost;
    lose(&stage.proxy);
    act();
    stage.proxy.wait_until(PATIENCE, |counts| counts.lost == before + 1);
}

/// What every request for a turn contains.
const TURN: &[u8] = b"EVALSHA";
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
            |proxy| lose(proxy, TURN),
            || {
                let error = block_on(far.try_acquire(X, LONG)).unwrap_err();
                assert!(error.kind().is_transient(), "{error}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
        block_on(acquire(&far, X, LONG).release()).unwrap();
    }
    drop((near, far));
    assert_eq!(stage.left(Duration::ZERO), [""; 0]);
}

#[test]
fn a_renewal_whose_answer_is_lost_is_sent_again() {
    let stage = Stage::new();
    let (_near, far) = two(&stage);
    for lose in LOSSES {
        let guard = acquire(&far, X, SHORT * 2);
        let fence = guard.fencing_token();
        loses_one(&stage, |proxy| lose(proxy, TURN), || ());
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
            |proxy| lose(proxy, TURN),
            || {
                let released = block_on(guard.release());
                let truth = matches!(&released, Ok(()) | Err(NotReleased::Unknown { .. }));
                assert!(truth, "{released:?}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    }
}

#[test]
fn a_guard_that_is_dropped_while_the_way_is_cut_is_released_when_it_is_whole_again() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let guard = acquire(&far, X, LONG);
    stage.proxy.refuse();
    stage.proxy.cut();
    drop(guard);
    pass(Duration::from_millis(300));
    assert!(block_on(near.is_locked(X)).unwrap());
    stage.proxy.heal();
    let since = now();
    block_on(acquire(&near, X, LONG).release()).unwrap();
    assert!(since.elapsed() < AT_ONCE * 3, "{:?}", since.elapsed());
}

#[test]
fn a_hand_over_whose_message_is_lost_is_found_out_by_whoever_it_was_for() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let queued = Arc::default();
    for round in 0..3 {
        let guard = acquire(&near, X, LONG);
        let got = thread::scope(|scope| {
            let waits = scope.spawn(|| acquire_telling(&far, LONG, &queued));
            until("it waits", || queued.swap(false, Ordering::Relaxed));
            stage.proxy.set(Direction::ToClient, Fault::Swallow);
            block_on(guard.release()).unwrap();
            let since = now();
            stage.proxy.heal();
            let got: LockGuard = waits.join().unwrap();
            println!("round {round}: found out after {:?}", since.elapsed());
            assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
            got
        });
        got.check().unwrap();
        block_on(got.release()).unwrap();
    }
}

#[test]
fn a_hand_over_whose_message_is_late_is_held_for_as_long_as_it_lasts_at_the_server() {
    let stage = Stage::new();
    let (near, far) = two(&stage);
    let queued = Arc::default();
    // Longer than a waiter has to pick up what it was handed.
    for late in [SHORT / 2, SHORT * 2] {
        let guard = acquire(&near, X, LONG);
        thread::scope(|scope| {
            let waits = scope.spawn(|| acquire_telling(&far, SHORT, &queued));
            until("it waits", || queued.swap(false, Ordering::Relaxed));
            stage.proxy.set(Direction::ToClient, Fault::Stall);
            block_on(guard.release()).unwrap();
            pass(late);
            stage.proxy.heal();
            let got = waits.join().unwrap();
            got.check().unwrap();
            let holder = block_on(near.get_lock_info(X)).unwrap().expect("somebody holds it");
            assert_eq!(holder.fence, got.fencing_token());
            block_on(got.release()).unwrap();
        });
    }
}

/// Takers on both sides of a proxy, of which some are disturbed for a while, between two calm times.
fn stormy(of: &str, disturb: impl Fn(&FaultProxy, u64)) {
    for _ in 0..rounds(1) {
        let seed = seed(of);
        let stage = Stage::seeded(RedisSetup::new(), seed);
        let mut fleet = stage.fleet(seed);
        let job = Job { rest: Duration::from_millis(20), ..chaos::job(&stage) };
        for _ in 0..4 {
            fleet.start(&job).unwrap();
        }
        for _ in 0..2 {
            fleet.start(&Job { store: stage.server.url(), ..job.clone() }).unwrap();
        }
        pass(Duration::from_secs(1));
        fleet.fault(Phase::Invoke).unwrap();
        disturb(&stage.proxy, seed);
        stage.proxy.heal();
        // What was sent late may still have to be given up.
        pass(Duration::from_millis(500));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_secs(1));
        chaos::outlive(&mut fleet, &job);
        let run = fleet.finish().unwrap();
        println!("{:?}\n{} complaints", stage.proxy.counts(), run.complaints.len());
        assert_all_held(&run, &rules(chaos::TTL), &stage.left(chaos::TTL));
        let odd = |line: &&String| !line.contains("unreachable:") && !line.contains("unknown:");
        assert_eq!(run.complaints.iter().find(odd), None);
    }
}

#[test]
fn connections_that_stall_break_off_and_lose_bytes_at_random_break_no_promise() {
    stormy("storm", |proxy, seed| {
        let storm = Storm::new(seed, Duration::from_secs(6), 0.6).longest(chaos::TTL * 2);
        storm.run_on(proxy);
    });
}

#[test]
fn words_that_come_up_to_three_ttls_late_break_no_promise() {
    stormy("delays", |proxy, _| {
        for ttls in [0.1, 0.5, 1.5, 3.0] {
            let by = chaos::TTL.mul_f64(ttls);
            proxy.set_both(Fault::Delay { by: by / 2, jitter: by / 2 });
            pass(by * 2);
            proxy.set_both(Fault::Pass);
            pass(chaos::TTL / 2);
        }
        proxy.set_both(Fault::Drip { bytes: 16, every: Duration::from_millis(2) });
        pass(chaos::TTL * 2);
    });
}

#[test]
fn a_server_that_nobody_listens_for_is_an_error_within_seconds() {
    let stage = Stage::new();
    stage.proxy.refuse();
    let manager = stage.manager();
    let since = now();
    let error = block_on(manager.try_acquire(X, LONG)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.help().is_some(), "{error}");
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
}

#[test]
fn a_call_does_not_wait_for_ever_whose_answer_is_lost_behind_that_of_another() {
    let stage = Stage::new();
    let backend = backend(&stage.url());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let name = LockName::new(X).unwrap();
        let received = || stage.proxy.counts().of(Direction::ToClient).arrived;
        backend.inspect(&name).await.unwrap();
        let before = received();
        backend.inspect(&name).await.unwrap();
        // From now on one answer arrives, and nothing after it.
        let bytes = received() - before;
        let fault = Fault::After { bytes, end: End::Silence };
        stage.proxy.set(Direction::ToClient, fault);
        let both = async { tokio::join!(backend.inspect(&name), backend.inspect(&name)) };
        let (first, second) = tokio::time::timeout(PATIENCE, both).await.expect("both end");
        first.unwrap();
        assert_eq!(second.unwrap_err().kind(), ErrorKind::Unknown);
    });
}
