//! A server that dies, comes back and stands still.

use std::time::Duration;

use super::chaos::{job, outlive};
use super::{Ground, SHORT, Setup};
use crate::history::{Demand, Op, Phase, Promise, Status};
use crate::lock_taker::{Doing, Job};
use crate::seed::seed;
use crate::stage::{a_holder, a_waiter, assert_held, did, pass, rounds};

/// How often a server is troubled in one run.
pub const TROUBLES: usize = 4;

fn that_keeps<G: Ground>() -> G {
    G::start(&Setup { keeps: true, ..Setup::default() })
}

/// SIGKILL of the server: with its data it knows who holds and who waits.
///
/// # Panics
/// If it does not.
pub fn a_lease_and_a_place_outlive_a_server_that_is_killed_and_comes_back<G: Ground>() {
    let ground = that_keeps::<G>();
    let mut fleet = ground.fleet(0);
    let ttl = SHORT * 4;
    let holder = a_holder(&mut fleet, ground.direct(ttl));
    let waiter = a_waiter(&mut fleet, ground.direct(ttl));
    fleet.fault(Phase::Invoke).unwrap();
    ground.server().kill();
    ground.server().restart();
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
    assert_held(&run, &G::rules(ttl), Some(&ground.left(ttl)), &tried);
}

/// Takers on a server to which something is done [again and again](TROUBLES), between two calm times.
///
/// # Panics
/// If a promise is broken; exclusion only if it is demanded.
pub fn troubled<G: Ground>(of: &str, ground: &G, exclusion: Demand, trouble: impl Fn(usize)) {
    let mut fleet = ground.fleet(seed(of));
    let job = Job { rest: Duration::from_millis(20), ..job(ground) };
    for _ in 0..5 {
        fleet.start(&job).unwrap();
    }
    pass(Duration::from_secs(1));
    for round in 0..TROUBLES {
        fleet.fault(Phase::Invoke).unwrap();
        trouble(round);
        // Connected again.
        pass(Duration::from_millis(600));
        fleet.fault(Phase::Ok).unwrap();
        pass(Duration::from_millis(700));
    }
    outlive::<G>(&mut fleet, &job);
    let run = fleet.finish().unwrap();
    let left = ground.left(G::TTL);
    let rules = G::rules(G::TTL).expect(Promise::Exclusion, exclusion);
    let mut tried = Promise::ALL.to_vec();
    tried.retain(|promise| *promise != Promise::Exclusion || exclusion == Demand::Must);
    assert_held(&run, &rules, Some(&left), &tried);
    let exclusion = &run.judge(Some(&left), &rules).promises[0];
    if exclusion.status == Status::Broken {
        println!("{of}: {}", exclusion.measured);
    }
}

/// The server is killed again and again.
///
/// # Panics
/// If a promise is broken.
pub fn a_server_that_is_killed_and_restarted_with_its_data_breaks_no_promise<G: Ground>() {
    for _ in 0..rounds(1) {
        let ground = that_keeps::<G>();
        troubled("restarts", &ground, Demand::Must, |round| {
            ground.server().kill();
            pass(G::TTL.mul_f64([0.0, 0.3, 1.5, 0.0][round]));
            ground.server().restart();
        });
    }
}

/// The server is stopped again and again.
///
/// # Panics
/// If a promise is broken.
pub fn a_server_that_is_stopped_and_goes_on_breaks_no_promise<G: Ground>() {
    for _ in 0..rounds(1) {
        let ground = G::new();
        troubled("stops of the server", &ground, Demand::Must, |round| {
            ground.server().stop();
            pass(G::TTL.mul_f64([0.5, 3.0, 1.1, 3.0][round]));
            ground.server().cont();
        });
    }
}
