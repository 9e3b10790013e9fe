//! Processes that are stopped with a word on its way: to one server, some, or all of them, or back.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use tenure_testkit::history::{Phase, Promise};
use tenure_testkit::lock_taker::Job;
use tenure_testkit::proxy::{Direction, Fault, FaultProxy};
use tenure_testkit::seed::seed;

use crate::faults::{TTL, job, outlive};
use crate::stage::{Set, assert_held, pass, rounds, rules, until};

#[test]
fn processes_that_are_stopped_between_votes_fences_and_releases_break_no_promise() {
    for _ in 0..rounds(1) {
        let seed = seed("stops at awkward points of a Redlock");
        let mut rng = StdRng::seed_from_u64(seed);
        let set = Set::old(3, "2s");
        let mut fleet = set.fleet(seed);
        let job = Job { rest: Duration::from_millis(2), ..job(&set) };
        let mut near: Vec<String> = (0..3).map(|_| fleet.start(&job).unwrap()).collect();
        for _ in 0..2 {
            fleet.start(&Job { store: set.url(), ..job.clone() }).unwrap();
        }
        pass(Duration::from_secs(1));
        for round in 0..6 {
            fleet.fault(Phase::Invoke).unwrap();
            // With two of three a vote or a fence is at a minority, and nobody knows.
            let mut held_up: Vec<&FaultProxy> = set.proxies.iter().collect();
            held_up.shuffle(&mut rng);
            held_up.truncate(1 + round % 3);
            let faults = || set.proxies.iter().map(|proxy| proxy.counts().faults).sum::<u64>();
            let before = faults();
            for proxy in &held_up {
                proxy.set(*Direction::BOTH.choose(&mut rng).unwrap(), Fault::Stall);
            }
            until("a word is on its way", || before < faults());
            let victim = near.choose(&mut rng).unwrap().clone();
            fleet.stop(&victim).unwrap();
            pass(TTL.mul_f64(*[0.5, 1.5, 2.5].choose(&mut rng).unwrap()));
            let heal = || held_up.iter().for_each(|proxy| proxy.heal());
            // The word arrives before its sender or receiver goes on, after it, or never.
            match rng.random_range(0..3) {
                0 => {
                    heal();
                    fleet.go_on(&victim).unwrap();
                }
                1 => {
                    fleet.go_on(&victim).unwrap();
                    pass(Duration::from_millis(20));
                    heal();
                }
                _ => {
                    held_up.iter().for_each(|proxy| proxy.cut());
                    heal();
                    fleet.kill(&victim).unwrap();
                    near.retain(|proc| *proc != victim);
                    near.push(fleet.start(&job).unwrap());
                }
            }
            pass(Duration::from_millis(300));
            fleet.fault(Phase::Ok).unwrap();
        }
        pass(Duration::from_secs(1));
        outlive(&mut fleet, &job);
        let run = fleet.finish().unwrap();
        let tried = [Promise::Exclusion, Promise::Fence, Promise::Loss, Promise::Recovery];
        assert_held(&run, &rules(TTL), Some(&set.left(TTL)), &tried);
    }
}
