//! What people do to a server: flush its scripts, its clients or its data, and give it too little
//! memory.

use std::time::Duration;

use tenure_testkit::history::Demand;
use tenure_testkit::servers::redis::RedisSetup;

use crate::stage::{Ground, Stage, pass, rounds};
use tenure_testkit::faults::server::troubled;

#[test]
fn scripts_and_connections_that_are_flushed_break_no_promise() {
    for _ in 0..rounds(1) {
        let stage = Stage::new();
        troubled("flushed scripts and clients", &stage, Demand::Must, |_| {
            for _ in 0..5 {
                stage.server.cli(&["SCRIPT", "FLUSH"]);
                stage.server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
                pass(Duration::from_millis(40));
                stage.server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                pass(Duration::from_millis(40));
            }
        });
    }
}

#[test]
fn a_server_whose_data_is_flushed_may_break_exclusion_and_nothing_else() {
    for _ in 0..rounds(1) {
        let stage = Stage::new();
        troubled("flushed data", &stage, Demand::Measured, |_| {
            stage.server.cli(&["FLUSHALL"]);
        });
    }
}

#[test]
fn a_server_that_evicts_locks_for_memory_may_break_exclusion_and_nothing_else() {
    for _ in 0..rounds(1) {
        let greedy = ["--maxmemory", "4mb", "--maxmemory-policy", "allkeys-random"];
        let stage = Stage::with(RedisSetup::new().with(&greedy));
        troubled("evicted keys", &stage, Demand::Measured, |round| {
            let fill = "for i = 1, 4000 do redis.call('SET', ARGV[1] .. i, string.rep('x', 1000), 'PX', 200) end";
            for part in 0..6 {
                stage.server.cli(&["EVAL", fill, "0", &format!("fill-{round}-{part}-")]);
            }
            stage.server.cli(&[
                "EVAL",
                "for _, k in ipairs(redis.call('KEYS', 'fill-*')) do redis.call('DEL', k) end",
                "0",
            ]);
        });
    }
}
