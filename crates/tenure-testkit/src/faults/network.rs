//! What lies between a process and its server: cuts, lost requests and replies, delays, and connections
//! that end in the midst of a word.

use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use tenure_core::{LockManager, NotReleased};

use super::chaos::{job, outlive};
use super::{Ground, LONG, SHORT, Setup};
use crate::history::{Op, Phase, Promise};
use crate::lock_taker::{Doing, Job};
use crate::proxy::{Direction, Fault, FaultProxy, Storm};
use crate::seed::seed;
use crate::stage::{
    PATIENCE, X, a_holder, a_waiter, acquire, assert_all_held, assert_held, did, now, pass, rounds,
    until,
};

/// Stalls these directions for some ttls, with a holder behind the proxy and a waiter past it.
fn cut<G: Ground>(directions: &[Direction], ttls: f64) {
    let ground = G::new();
    let mut fleet = ground.fleet(0);
    let ttl = SHORT * 2;
    let holder = a_holder(&mut fleet, ground.job(ttl));
    let waiter = a_waiter(&mut fleet, ground.direct(ttl));
    for &direction in directions {
        ground.proxy().set(direction, Fault::Stall);
    }
    pass(ttl.mul_f64(ttls));
    let mut tried = vec![Promise::Exclusion, Promise::Release];
    if ttls < 1.0 {
        ground.proxy().heal();
        pass(ttl);
        let doing = (fleet.doing(&holder).unwrap(), fleet.doing(&waiter).unwrap());
        if doing != (Doing::Holding, Doing::Waiting) {
            let run = fleet.finish().unwrap();
            let of_holder: Vec<_> =
                run.events.iter().filter(|event| event.proc == holder).collect();
            panic!("{doing:?}: {of_holder:#?} {:#?}", run.complaints);
        }
    } else {
        fleet.until(&waiter, Doing::Holding).unwrap();
        until("the holder has seen its loss", || fleet.doing(&holder).unwrap() == Doing::Idle);
        ground.proxy().heal();
        fleet.join(&holder).unwrap();
        tried.push(Promise::Loss);
    }
    let run = fleet.finish().unwrap();
    assert_eq!(did(&run, &holder, Op::Lost, Phase::Ok), 1.0 < ttls);
    assert_held(&run, &G::rules(ttl), Some(&ground.left(ttl)), &tried);
}

/// Cuts every direction, and both, at the same time on grounds of their own.
fn cut_each<G: Ground>(ttls: f64) {
    thread::scope(|scope| {
        scope.spawn(|| cut::<G>(&Direction::BOTH, ttls));
        scope.spawn(|| cut::<G>(&[Direction::ToServer], ttls));
        scope.spawn(|| cut::<G>(&[Direction::ToClient], ttls));
    });
}

/// A silence that is shorter than the ttl costs nothing.
///
/// # Panics
/// If it does.
pub fn a_holder_that_is_cut_off_for_less_than_its_ttl_keeps_its_lock<G: Ground>() {
    cut_each::<G>(0.4);
}

/// A silence that is longer than the ttl ends the lease on both sides, on the holder's first.
///
/// # Panics
/// If it does not.
pub fn a_holder_that_is_cut_off_for_longer_is_told_its_loss_before_anybody_else_gets_in<
    G: Ground,
>() {
    cut_each::<G>(2.0);
}

/// Takers on both sides of a proxy, of which some are disturbed for a while, between two calm times.
fn stormy<G: Ground>(of: &str, disturb: impl Fn(&FaultProxy, u64)) {
    for _ in 0..rounds(1) {
        let seed = seed(of);
        let ground = G::start(&Setup { seed, ..Setup::default() });
        let mut fleet = ground.fleet(seed);
        let near = Job { rest: Duration::from_millis(20), ..job(&ground) };
        let far = Job { store: ground.far(), ..near.clone() };
        for job in [&far, &far, &far, &far, &near, &near] {
            fleet.start(job).unwrap();
        }
        pass(Duration::from_secs(1));
        fleet.fault(Phase::Invoke).unwrap();
        disturb(ground.proxy(), seed);
        ground.proxy().heal();
        // What was sent late may still have to be given up.
        pass(Duration::from_millis(700));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_secs(1));
        outlive::<G>(&mut fleet, &far);
        let run = fleet.finish().unwrap();
        println!("{:?}\n{} complaints", ground.proxy().counts(), run.complaints.len());
        assert_all_held(&run, &G::rules(G::TTL), &ground.left(G::TTL));
        let odd = |line: &&String| !line.contains("unreachable:") && !line.contains("unknown:");
        assert_eq!(run.complaints.iter().find(odd), None);
    }
}

/// Everything that a network does, at random.
///
/// # Panics
/// If a promise is broken.
pub fn connections_that_stall_break_off_and_lose_bytes_at_random_break_no_promise<G: Ground>() {
    stormy::<G>("storm", |proxy, seed| {
        let storm = Storm::new(seed, Duration::from_secs(6), 0.6).longest(G::TTL * 2);
        storm.run_on(proxy);
    });
}

/// Requests that arrive after whoever sent them has given up, and replies in pieces.
///
/// # Panics
/// If a promise is broken.
pub fn words_that_come_up_to_three_ttls_late_break_no_promise<G: Ground>() {
    stormy::<G>("delays", |proxy, _| {
        for ttls in [0.1, 0.5, 1.5, 3.0] {
            let by = G::TTL.mul_f64(ttls);
            proxy.set_both(Fault::Delay { by: by / 2, jitter: by / 2 });
            pass(by * 2);
            proxy.set_both(Fault::Pass);
            pass(G::TTL / 2);
        }
        proxy.set_both(Fault::Drip { bytes: G::DRIP, every: Duration::from_millis(2) });
        pass(G::TTL * 2);
    });
}

/// Two managers, the second behind the proxy, on a server that has seen every request once.
///
/// # Panics
/// If there is no way to it.
pub fn two<G: Ground>(ground: &G) -> (LockManager, LockManager) {
    let (near, far) = (ground.bystander(), ground.manager());
    for manager in [&near, &far] {
        block_on(acquire(manager, X, LONG).release()).unwrap();
    }
    (near, far)
}

fn loses_one<G: Ground>(ground: &G, lose: impl Fn(&FaultProxy), act: impl FnOnce()) {
    let before = ground.proxy().counts().lost;
    lose(ground.proxy());
    act();
    ground.proxy().wait_until(PATIENCE, |counts| counts.lost == before + 1);
}

/// Both ways to lose what contains a word.
const LOSSES: [fn(&FaultProxy, &[u8]); 2] =
    [FaultProxy::lose_reply_to, FaultProxy::lose_request_with];

/// Whether it was done or not: whoever tried has nothing, and others get in at once.
///
/// # Panics
/// If it is not so.
pub fn an_acquire_whose_answer_is_lost_leaves_nothing_behind<G: Ground>() {
    let ground = G::new();
    let (near, far) = two(&ground);
    for lose in LOSSES {
        loses_one(
            &ground,
            |proxy| lose(proxy, G::WORDS[0]),
            || {
                let error = block_on(far.try_acquire(X, LONG)).unwrap_err();
                assert!(error.kind().is_transient(), "{error}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < G::AT_ONCE, "{:?}", since.elapsed());
        block_on(acquire(&far, X, LONG).release()).unwrap();
    }
    drop((near, far));
    assert_eq!(ground.left(Duration::ZERO), [""; 0]);
}

/// A lost renewal costs no lease.
///
/// # Panics
/// If it does.
pub fn a_renewal_whose_answer_is_lost_is_sent_again<G: Ground>() {
    let ground = G::new();
    let (_near, far) = two(&ground);
    for lose in LOSSES {
        let guard = acquire(&far, X, SHORT * 3);
        let fence = guard.fencing_token();
        loses_one(&ground, |proxy| lose(proxy, G::WORDS[1]), || ());
        let deadline = guard.deadlines().0;
        until("it is renewed", || deadline < guard.deadlines().0);
        guard.check().unwrap();
        assert_eq!(guard.fencing_token(), fence);
        block_on(guard.release()).unwrap();
    }
}

/// Whoever releases is told that it is released, or that nobody knows; and it is.
///
/// # Panics
/// If it is not so.
pub fn a_release_whose_answer_is_lost_frees_the_lock_and_tells_the_truth<G: Ground>() {
    let ground = G::new();
    let (near, far) = two(&ground);
    for lose in LOSSES {
        let guard = acquire(&far, X, LONG);
        loses_one(
            &ground,
            |proxy| lose(proxy, G::WORDS[2]),
            || {
                let released = block_on(guard.release());
                let truth = matches!(&released, Ok(()) | Err(NotReleased::Unknown { .. }));
                assert!(truth, "{released:?}");
            },
        );
        let since = now();
        block_on(acquire(&near, X, LONG).release()).unwrap();
        assert!(since.elapsed() < G::AT_ONCE, "{:?}", since.elapsed());
    }
}

/// A grant that is not heard of is asked for.
///
/// # Panics
/// If it is not.
pub fn a_hand_over_whose_message_is_lost_is_found_out_by_whoever_it_was_for<G: Ground>() {
    let ground = G::new();
    let (near, far) = two(&ground);
    for round in 0..3 {
        let guard = acquire(&near, X, LONG);
        thread::scope(|scope| {
            let request = far.lock(X).ttl(LONG).wait_timeout(PATIENCE);
            let waits = scope.spawn(|| block_on(request.acquire()).unwrap());
            until("it knows that it waits", || far.metrics().waiting == 1);
            ground.proxy().set(Direction::ToClient, Fault::Swallow);
            block_on(guard.release()).unwrap();
            let since = now();
            ground.proxy().heal();
            let got = waits.join().unwrap();
            println!("round {round}: found out after {:?}", since.elapsed());
            assert!(since.elapsed() < G::AT_ONCE, "{:?}", since.elapsed());
            got.check().unwrap();
            block_on(got.release()).unwrap();
        });
    }
}

/// A guard that cannot be released is released later.
///
/// # Panics
/// If it is not.
pub fn a_guard_that_is_dropped_while_the_way_is_cut_is_released_when_it_is_whole_again<
    G: Ground,
>() {
    let ground = G::new();
    let (near, far) = two(&ground);
    let guard = acquire(&far, X, LONG);
    ground.proxy().refuse();
    ground.proxy().cut();
    drop(guard);
    pass(Duration::from_millis(300));
    assert!(block_on(near.is_locked(X)).unwrap());
    ground.proxy().heal();
    let since = now();
    block_on(acquire(&near, X, LONG).release()).unwrap();
    assert!(since.elapsed() < G::AT_ONCE + Duration::from_secs(2), "{:?}", since.elapsed());
}
