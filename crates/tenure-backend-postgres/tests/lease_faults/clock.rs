//! A server whose clock jumps, as session locks see it.

use std::time::Duration;

use tenure_testkit::faults::clock::Clock;
use tenure_testkit::history::{Op, Promise};
use tenure_testkit::lock_taker::Job;
use tenure_testkit::seed::seed;

use crate::stage::{Ground, SHORTEST_CLASS, Stage, assert_held, pass, rules};

const HOUR: i64 = 3600 * 1000;

/// No lease depends on the server's clock there.
#[test]
fn session_locks_do_not_mind_a_clock_that_jumps() {
    let (clock, stage) = Clock::with_rate::<Stage>(1.0);
    let mut fleet = stage.fleet(seed("sessions, jumps of the clock"));
    let ttl = SHORTEST_CLASS;
    let store = stage.server.url().replace("postgres://", "postgres+advisory://");
    let hold = (Duration::ZERO, ttl / 10);
    let job = Job { store, hold, ..stage.job(ttl) };
    for _ in 0..4 {
        fleet.start(&job).unwrap();
    }
    for offset in [HOUR, -HOUR, 300, 0] {
        pass(Duration::from_millis(500));
        clock.set(&stage, offset);
    }
    pass(Duration::from_millis(500));
    let run = fleet.finish().unwrap();
    assert!(!run.events.iter().any(|event| event.op == Op::Lost), "somebody lost its lock");
    let tried = [Promise::Exclusion, Promise::Fence, Promise::Order, Promise::Release];
    assert_held(&run, &rules(ttl), Some(&[]), &tried);
}
