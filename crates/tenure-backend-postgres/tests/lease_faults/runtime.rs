//! Hosts with too much to do, in both rooms.

use std::process::{Child, Command};

use tenure_testkit::history::{Op, Phase, Promise};
use tenure_testkit::lock_taker::{Doing, Job};

use crate::stage::{
    Ground, SHORTEST_CLASS, Stage, a_holder, a_waiter, assert_held, did, pass, rules,
};

/// Processes that take all the time that nobody else wants; gone with this.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start() -> Self {
        let hog = |_| {
            let mut nice = Command::new("nice");
            nice.args(["-n", "19", "sh", "-c", "while :; do :; done"]).spawn().unwrap()
        };
        Self((0..8).map(hog).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

#[test]
fn a_host_with_too_much_to_do_costs_no_healthy_holder_its_lock() {
    let stage = Stage::new();
    for (url, _) in stage.rooms() {
        let mut fleet = stage.fleet(0);
        let job = Job { store: url, ..stage.job(SHORTEST_CLASS) };
        let hogs = Hogs::start();
        let holder = a_holder(&mut fleet, job.clone());
        let waiter = a_waiter(&mut fleet, job);
        pass(SHORTEST_CLASS * 2);
        assert_eq!(fleet.doing(&holder).unwrap(), Doing::Holding);
        assert_eq!(fleet.doing(&waiter).unwrap(), Doing::Waiting);
        drop(hogs);
        fleet.kill(&holder).unwrap();
        fleet.until(&waiter, Doing::Holding).unwrap();
        let run = fleet.finish().unwrap();
        assert!(!did(&run, &holder, Op::Lost, Phase::Ok));
        assert_held(
            &run,
            &rules(SHORTEST_CLASS),
            Some(&stage.left(SHORTEST_CLASS)),
            &[Promise::Exclusion, Promise::Recovery],
        );
    }
}
