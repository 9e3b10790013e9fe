//! Locks on a Redis server under faults: real processes that are killed and stopped, a network that
//! loses, delays and cuts, and a server that dies, stands still and forgets.
//!
//! `another_process` is what the processes do; `suite` is what every server has to stand, and each of the
//! other modules one kind of fault that is a Redis server's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod failover;
mod force;
mod herd;
mod hostile;
mod litter;
mod network;
mod points;
mod quiet;
mod refusals;
mod server;
mod suite;
mod takeover;
mod upsets;

use tenure_testkit::lock_taker::{self, Job};

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        let backend = stage::backend(&job.store);
        lock_taker::take(&job, backend).unwrap();
    }
}
