//! A network that cuts, loses and delays, and servers that die, stand still and forget, again and again:
//! up to a minority of them at a time, and no promise is broken.

use std::time::Duration;

use futures_lite::future::block_on;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tenure_core::{ErrorKind, NotReleased};
use tenure_testkit::history::{Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Fleet, Job};
use tenure_testkit::proxy::{Direction, End, Fault, Scope};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisSetup;

use crate::stage::{
    LONGEST, SHORT, Set, X, a_holder, a_waiter, acquire, assert_held, did, now, pass, rules, until,
};

pub(crate) const TTL: Duration = Duration::from_millis(1000);

/// Users of the lock that also give up and let guards fall.
pub(crate) fn job(set: &Set) -> Job {
    let rest = Duration::from_millis(20);
    Job { cancel: 5, drop: 10, hold: (Duration::ZERO, TTL / 5), rest, ..set.job(TTL) }
}

/// Somebody who outlives its lease, whatever was drawn: so that a loss is told.
pub(crate) fn outlive(fleet: &mut Fleet, job: &Job) {
    let hold = (job.ttl * 3 / 2, job.ttl * 2);
    let late =
        Job { auto_renew: false, rounds: Some(1), wait: None, hold, cancel: 0, ..job.clone() };
    let late = fleet.start(&late).unwrap();
    fleet.join(&late).unwrap();
}

const TRIED: [Promise; 4] = [Promise::Exclusion, Promise::Fence, Promise::Loss, Promise::Recovery];

/// Takers on a set to which something is done again and again, between calm times.
fn troubled(of: &str, set: &Set, times: u32, mut trouble: impl FnMut(u32)) {
    let mut fleet = set.fleet(seed(of));
    let job = job(set);
    for _ in 0..4 {
        fleet.start(&job).unwrap();
    }
    pass(Duration::from_millis(700));
    for round in 0..times {
        fleet.fault(Phase::Invoke).unwrap();
        trouble(round);
        pass(Duration::from_millis(300));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_millis(500));
    }
    outlive(&mut fleet, &job);
    let run = fleet.finish().unwrap();
    assert_held(&run, &rules(TTL), Some(&set.left(TTL)), &TRIED);
}

/// How long servers are killed and wiped for: 5 minutes where there is time.
fn restarts() -> u32 {
    std::env::var("TENURE_REDLOCK_SECONDS").map_or(3, |s| s.parse::<u32>().unwrap() / 4)
}

#[test]
fn one_server_that_is_killed_wiped_and_restarted_again_and_again_breaks_no_promise() {
    let set = Set::old(3, "2s");
    let mut random = StdRng::seed_from_u64(seed("wipes"));
    troubled("wipes", &set, restarts(), |_| {
        let server = &set.servers[random.random_range(0..3)];
        server.kill();
        pass(TTL.mul_f64(random.random_range(0.0..1.2)));
        server.restart_empty();
        // It has to be out of its quarantine before the next one fails.
        pass(LONGEST + Duration::from_millis(300));
    });
}

#[test]
fn two_of_five_servers_that_are_wiped_at_a_time_break_no_promise() {
    let set = Set::old(5, "2s");
    troubled("wipes of two", &set, 2, |round| {
        let pair = [round as usize % 5, (round as usize + 2) % 5];
        pair.iter().for_each(|at| set.servers[*at].restart_empty());
        pass(LONGEST + Duration::from_millis(300));
    });
}

#[test]
fn one_server_that_stands_still_breaks_no_promise() {
    let set = Set::old(3, "2s");
    troubled("stops of a server", &set, 3, |round| {
        let server = &set.servers[round as usize % 3];
        server.stop();
        pass(TTL.mul_f64([0.5, 2.0, 3.0][round as usize]));
        server.cont();
    });
}

#[test]
fn a_server_with_a_journal_that_is_restarted_breaks_no_promise() {
    let set = Set::with(3, "2s", || RedisSetup::new().append_only());
    troubled("restarts with data", &set, 2, |round| {
        set.servers[round as usize].restart();
        pass(LONGEST + Duration::from_millis(300));
    });
}

#[test]
fn when_all_servers_are_wiped_nobody_is_granted_what_somebody_may_still_hold() {
    let set = Set::old(3, "2s");
    let locks = set.bystander();
    let guard = block_on(locks.lock(X).ttl(LONGEST).auto_renew(false).acquire()).unwrap();
    set.servers.iter().for_each(|server| server.restart_empty());
    let next = acquire(&set.bystander(), X, SHORT);
    assert!(!guard.is_valid(), "two held at once");
    assert!(guard.fencing_token() < next.fencing_token());
}

#[test]
fn a_network_that_loses_delays_and_cuts_at_one_server_breaks_no_promise() {
    let set = Set::old(3, "2s");
    let mut random = StdRng::seed_from_u64(seed("network"));
    troubled("network", &set, 10, |round| {
        let proxy = &set.proxies[random.random_range(0..3)];
        match round % 10 {
            0 => proxy.set(Direction::ToClient, Fault::Stall),
            1 => proxy.set(Direction::ToServer, Fault::Stall),
            2 => proxy.set(Direction::ToClient, Fault::Swallow),
            3 => (0..4).for_each(|_| proxy.lose_next_reply()),
            4 => (0..4).for_each(|_| proxy.lose_next_request()),
            5 => proxy.cut(),
            7 => proxy.half_open(Scope::All),
            8 => {
                let bytes = random.random_range(0..2000);
                proxy.set(Direction::ToClient, Fault::After { bytes, end: End::Reset });
            }
            6 => {
                let (by, jitter) = (Duration::from_millis(60), Duration::from_millis(300));
                proxy.set(Direction::ToServer, Fault::Delay { by, jitter });
            }
            _ => proxy.set(
                Direction::ToClient,
                Fault::Drip { bytes: 3, every: Duration::from_millis(5) },
            ),
        }
        pass(TTL.mul_f64(random.random_range(0.3..1.5)));
        proxy.heal();
    });
}

#[test]
fn two_who_each_reach_another_majority_exclude_each_other() {
    let set = Set::old(3, "6s");
    // One comes by the proxies and does not reach the first; the other does not reach the last.
    set.proxies[0].refuse();
    set.proxies[0].cut();
    let far = set.manager();
    let near = {
        let ports = [set.servers[0].port(), set.servers[1].port(), 1];
        let hosts = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
        let url = format!("redlock://{hosts}?max_ttl=6s");
        tenure_core::LockManager::new(crate::stage::backend(&url)).unwrap()
    };
    let mut last = 0;
    for round in 0..6 {
        let (one, other) = if round % 2 == 0 { (&near, &far) } else { (&far, &near) };
        let guard = acquire(one, X, LONGEST * 3);
        assert!(last < guard.fencing_token().get());
        last = guard.fencing_token().get();
        assert!(block_on(other.try_acquire(X, LONGEST * 3)).unwrap().is_none());
        block_on(guard.release()).unwrap();
    }
}

#[test]
fn a_holder_that_is_cut_off_from_two_of_three_is_told_its_loss_before_anybody_else_gets_in() {
    let set = Set::old(3, "2s");
    let mut fleet = set.fleet(0);
    let holder = a_holder(&mut fleet, set.job(SHORT));
    let waiter = a_waiter(&mut fleet, set.direct(SHORT));
    fleet.fault(Phase::Invoke).unwrap();
    for proxy in &set.proxies[..2] {
        proxy.set(Direction::ToClient, Fault::Stall);
        proxy.set(Direction::ToServer, Fault::Stall);
    }
    fleet.until(&waiter, Doing::Holding).unwrap();
    fleet.join(&holder).unwrap();
    fleet.fault(Phase::Ok).unwrap();
    let run = fleet.finish().unwrap();
    assert!(did(&run, &holder, Op::Lost, Phase::Ok));
    let tried = [Promise::Exclusion, Promise::Loss];
    assert_held(&run, &rules(SHORT), Some(&set.left(SHORT)), &tried);
}

#[test]
fn a_lost_answer_of_an_acquire_a_renewal_or_a_release_at_one_server_costs_nothing() {
    let set = Set::old(3, "2s");
    let far = set.manager();
    for proxy in &set.proxies {
        block_on(acquire(&far, X, SHORT).release()).unwrap();
        proxy.lose_reply_to(b"EVALSHA");
        let guard = acquire(&far, X, SHORT);
        proxy.lose_reply_to(b"EVALSHA");
        let deadline = guard.deadlines().0;
        until("it is renewed", || deadline < guard.deadlines().0);
        guard.check().unwrap();
        proxy.lose_reply_to(b"EVALSHA");
        let released = block_on(guard.release());
        assert!(matches!(released, Ok(()) | Err(NotReleased::Unknown { .. })), "{released:?}");
        proxy.heal();
    }
}

#[test]
fn lost_answers_of_all_servers_leave_nothing_behind() {
    let set = Set::old(3, "2s");
    let (near, far) = (set.bystander(), set.manager());
    block_on(acquire(&far, X, SHORT).release()).unwrap();
    for proxy in &set.proxies {
        proxy.lose_reply_to(b"EVALSHA");
    }
    match block_on(far.try_acquire(X, LONGEST)) {
        Ok(guard) => drop(guard),
        Err(error) => assert!(error.kind().is_transient(), "{error:?}"),
    }
    let since = now();
    block_on(acquire(&near, X, SHORT).release()).unwrap();
    println!("free after {:?}", since.elapsed());
    assert!(since.elapsed() < LONGEST * 2);
}

#[test]
fn a_server_that_mangles_its_answers_is_outvoted() {
    let set = Set::old(3, "2s");
    let far = set.manager();
    block_on(acquire(&far, X, SHORT).release()).unwrap();
    let mut last = 0;
    for junk in [
        &b"*1\r\n$2\r\nno\r\n"[..],
        b"-ERR what\r\n",
        b"*2\r\n:1\r\n*1\r\n$4\r\ndone\r\n",
        b"\0\xff",
    ] {
        set.proxies[0].replace_reply_to(b"EVALSHA", junk);
        match block_on(far.lock(X).ttl(SHORT).wait_timeout(LONGEST).acquire()) {
            Ok(guard) => {
                assert!(last < guard.fencing_token().get());
                last = guard.fencing_token().get();
                let _ = block_on(guard.release());
            }
            Err(error) => assert_ne!(error.kind(), ErrorKind::Lost, "{error:?}"),
        }
        set.proxies[0].heal();
    }
    assert_ne!(last, 0);
}

#[test]
fn a_server_at_its_memory_limit_gives_no_votes_and_takes_leaves() {
    let set = Set::old(3, "6s");
    let locks = set.bystander();
    let guard = acquire(&locks, X, LONGEST * 3);
    for server in &set.servers[..2] {
        server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    }
    let error = block_on(locks.try_acquire("y", SHORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let deadline = guard.deadlines().0;
    until("it is renewed", || deadline < guard.deadlines().0);
    block_on(guard.release()).unwrap();
}
