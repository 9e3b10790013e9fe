//! The scripts and the pure machine answer the same random commands alike, on a real server.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::Arc;
use std::time::Duration;

use tenure_backend_redis::{RedisBackend, RedisConfig};
use tenure_core::backend::{Backend, DynBackend};
use tenure_testkit::differential::{Pass, Subject, run};
use tenure_testkit::seed::seed;
use tenure_testkit::servers::redis::RedisServer;

/// Where the scripts read the time, instead of the server's clock.
const CLOCK: &str = "tenure-test-clock";

fn cases() -> u32 {
    std::env::var("TENURE_CASES").map_or(300, |cases| cases.parse().unwrap())
}

fn backend(server: &RedisServer) -> RedisBackend {
    RedisBackend::new(RedisConfig::from_url(&server.url()).unwrap().test_clock(CLOCK))
}

/// Time passes by the hash that the scripts read.
fn passing(server: &RedisServer) -> Option<Pass> {
    let url = server.url();
    Some(Box::new(move |time: Duration| {
        let url = url.clone();
        Box::pin(async move {
            let client = redis::Client::open(url).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let seconds = i64::try_from(time.as_secs()).unwrap();
            let mut cmd = redis::cmd("HINCRBY");
            cmd.arg(CLOCK).arg("s").arg(seconds);
            let _: i64 = cmd.query_async(&mut connection).await.unwrap();
        })
    }))
}

#[test]
fn the_scripts_do_as_the_machine() {
    let server = RedisServer::start();
    server.cli(&["HSET", CLOCK, "s", "1800000000", "us", "0"]);
    run(seed("redis"), cases(), async || {
        let processes: Vec<_> = (0..3).map(|_| backend(&server)).collect();
        for process in &processes {
            // The queue counts on being heard from the start.
            Backend::ping(process).await.unwrap();
        }
        Subject {
            backends: processes.into_iter().map(|p| Arc::new(p) as Arc<dyn DynBackend>).collect(),
            pass: passing(&server),
            remembers_released: true,
            looking_ends: true,
            faulty: false,
        }
    });
}
