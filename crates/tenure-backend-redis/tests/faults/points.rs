//! Processes that are stopped with a word on its way: to the server, or back.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tenure_testkit::history::Phase;
use tenure_testkit::lock_taker::Job;
use tenure_testkit::proxy::{Direction, Fault};
use tenure_testkit::seed::seed;

use crate::stage::{Ground, Setup, Stage, TTL, assert_all_held, pass, rounds, rules};
use tenure_testkit::faults::chaos;

#[test]
fn processes_that_are_stopped_with_a_request_or_a_reply_on_its_way_break_no_promise() {
    for _ in 0..rounds(1) {
        let seed = seed("stops at awkward points");
        let mut rng = StdRng::seed_from_u64(seed);
        let stage = Stage::start(&Setup { seed, ..Setup::default() });
        let mut fleet = stage.fleet(seed);
        let job = Job { rest: Duration::from_millis(2), store: stage.far(), ..chaos::job(&stage) };
        let mut near: Vec<String> = (0..3).map(|_| fleet.start(&job).unwrap()).collect();
        for _ in 0..2 {
            fleet.start(&Job { store: stage.server.url(), ..job.clone() }).unwrap();
        }
        pass(Duration::from_secs(1));
        for round in 0..8 {
            fleet.fault(Phase::Invoke).unwrap();
            let direction = Direction::BOTH[round % 2];
            let held_up = stage.proxy.counts().faults;
            stage.proxy.set(direction, Fault::Stall);
            // Somebody's word is on its way: an acquire, a renewal, a release, or the answer to one.
            stage.proxy.wait_until(Duration::from_secs(5), |counts| held_up < counts.faults);
            let victim = near.choose(&mut rng).unwrap().clone();
            fleet.stop(&victim).unwrap();
            pass(TTL.mul_f64(*[0.5, 1.5, 2.5].choose(&mut rng).unwrap()));
            // The word arrives before its sender or receiver goes on, after it, or never.
            match rng.random_range(0..3) {
                0 => {
                    stage.proxy.heal();
                    fleet.go_on(&victim).unwrap();
                }
                1 => {
                    fleet.go_on(&victim).unwrap();
                    pass(Duration::from_millis(20));
                    stage.proxy.heal();
                }
                _ => {
                    stage.proxy.cut();
                    stage.proxy.heal();
                    fleet.kill(&victim).unwrap();
                    near.retain(|proc| *proc != victim);
                    near.push(fleet.start(&job).unwrap());
                }
            }
            pass(Duration::from_millis(300));
            fleet.fault(Phase::Ok).unwrap();
        }
        pass(Duration::from_secs(1));
        chaos::outlive::<Stage>(&mut fleet, &job);
        let run = fleet.finish().unwrap();
        assert_all_held(&run, &rules(TTL), &stage.left(TTL));
    }
}
