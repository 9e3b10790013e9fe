//! Locks on a Redis server under faults: real processes that are killed and stopped, a network that
//! loses, delays and cuts, and a server that dies, stands still and forgets.
//!
//! `another_process` is what the processes do; each of the other modules is one kind of fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod chaos;
mod clock;
mod failover;
mod force;
mod herd;
mod hostile;
mod litter;
mod network;
mod points;
mod quiet;
mod refusals;
mod runtime;
mod server;
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
