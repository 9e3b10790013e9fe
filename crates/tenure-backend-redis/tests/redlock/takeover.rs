//! Holders and waiters that die or stand still, and those who come after them.

use std::time::Duration;

use futures_lite::future::block_on;
use tenure_testkit::history::{Op, Phase, Promise, now_ns};
use tenure_testkit::lock_taker::{Doing, Plan};
use tenure_testkit::proxy::{Direction, Fault};
use tenure_testkit::seed::seed;

use crate::faults::{TTL, job, outlive};
use crate::stage::{
    RECOVERY, SHORT, Set, X, a_holder, a_waiter, assert_held, deadline_of, did, events_of,
    granted_at, pass, rounds, rules, until,
};

#[test]
fn a_killed_holder_is_taken_over_when_its_lease_is_over_and_not_before() {
    let set = Set::old(3, "2s");
    let mut fleet = set.fleet(0);
    let holder = a_holder(&mut fleet, set.job(SHORT));
    let waiter = a_waiter(&mut fleet, set.job(SHORT));
    let killed = now_ns();
    fleet.kill(&holder).unwrap();
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    let taken = granted_at(&run, &waiter);
    let deadline = deadline_of(&run, &holder);
    assert!(deadline < taken, "taken over {} ns before its deadline", deadline - taken);
    let took = Duration::from_nanos(taken - killed);
    println!("taken over {took:?} after the kill, ttl {SHORT:?}");
    assert!(took < SHORT + RECOVERY, "{took:?}");
    let tried = [Promise::Exclusion, Promise::Recovery, Promise::Orphans];
    assert_held(&run, &rules(SHORT), Some(&set.left(SHORT)), &tried);
}

#[test]
fn a_process_that_is_killed_while_it_acquires_holds_votes_for_a_ttl_at_most() {
    let set = Set::old(3, "2s");
    let bystander = set.bystander();
    block_on(crate::stage::acquire(&bystander, X, SHORT).release()).unwrap();
    let mut fleet = set.fleet(0);
    for proxy in &set.proxies {
        proxy.set(Direction::ToClient, Fault::Stall);
    }
    let deaf = fleet.start(&set.job(SHORT).holding()).unwrap();
    // Connections are made before anything is asked, and that is not answered either.
    pass(Duration::from_millis(300));
    for proxy in &set.proxies {
        proxy.heal();
    }
    fleet.until(&deaf, Doing::Holding).unwrap();
    for proxy in &set.proxies {
        proxy.set(Direction::ToClient, Fault::Stall);
    }
    fleet.kill(&deaf).unwrap();
    let waiter = a_waiter(&mut fleet, set.direct(SHORT));
    fleet.until(&waiter, Doing::Holding).unwrap();
    let run = fleet.finish().unwrap();
    drop(bystander);
    assert_held(&run, &rules(SHORT), Some(&set.left(SHORT)), &[Promise::Orphans]);
}

fn stopped_for(ttls: f64) {
    let set = Set::old(3, "4s");
    let mut fleet = set.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, set.job(ttl));
    let waiter = a_waiter(&mut fleet, set.job(ttl));
    fleet.stop(&holder).unwrap();
    pass(ttl.mul_f64(ttls));
    let went_on = now_ns();
    fleet.go_on(&holder).unwrap();
    if ttls < 1.0 {
        pass(ttl);
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
        return drop(fleet.finish().unwrap());
    }
    fleet.until(&waiter, Doing::Holding).unwrap();
    fleet.join(&holder).unwrap();
    let run = fleet.finish().unwrap();
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    let believed = events_of(&run, &holder)
        .any(|event| went_on < event.t_ns && (event.op, event.phase) == (Op::Check, Phase::Ok));
    assert!(!believed, "it was told that it holds the lock");
    let tried = [Promise::Exclusion, Promise::Loss, Promise::Recovery];
    assert_held(&run, &rules(ttl), Some(&set.left(ttl)), &tried);
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
fn processes_that_are_killed_and_stopped_at_random_break_no_promise() {
    for _ in 0..rounds(1) {
        let set = Set::old(3, "2s");
        let job = job(&set);
        let mut fleet = set.fleet(seed("kills and stops"));
        fleet.disturb(&Plan::both(5, Duration::from_secs(4)), &job).unwrap();
        outlive(&mut fleet, &job);
        let run = fleet.finish().unwrap();
        let tried = [Promise::Exclusion, Promise::Fence, Promise::Loss, Promise::Recovery];
        assert_held(&run, &rules(TTL), Some(&set.left(TTL)), &tried);
    }
}

/// How many ask again and again in a crowd.
const WAITERS: usize = 24;

#[test]
fn a_crowd_that_polls_gets_the_lock_of_a_dead_holder() {
    let set = Set::old(3, "6s");
    let mut fleet = set.fleet(0);
    let holder = a_holder(&mut fleet, set.direct(SHORT));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut fences = runtime.block_on(async {
        let managers: Vec<_> = (0..5).map(|_| set.bystander()).collect();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..WAITERS {
            let locks = managers[n % managers.len()].clone();
            all.spawn(async move {
                let wait = Duration::from_secs(120);
                let guard =
                    locks.lock(X).ttl(SHORT * 6).wait_timeout(wait).acquire().await.unwrap();
                let fence = guard.fencing_token().get();
                guard.release().await.unwrap();
                fence
            });
        }
        fleet.kill(&holder).unwrap();
        let mut fences = Vec::new();
        while let Some(fence) = all.join_next().await {
            fences.push(fence.unwrap());
        }
        fences
    });
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), WAITERS, "each has a fence of its own");
    fleet.finish().unwrap();
    until("nothing is left", || set.bound(X) == 0);
}
