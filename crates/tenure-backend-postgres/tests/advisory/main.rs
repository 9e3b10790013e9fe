//! Session advisory locks on a real server: the rules, and what goes wrong.
//!
//! `another_process` is what other processes do; each of the other modules is one kind of fault.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod stage;

mod cancel;
mod chaos;
mod controls;
mod crash;
mod evict;
mod limits;
mod network;
mod no_place;
mod others;
mod pooler;
mod sessions;
mod takeover;

use tenure_testkit::lock_taker::{self, Job};

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        let backend = tenure_backend_postgres::open(&job.store).unwrap();
        lock_taker::take(&job, backend).unwrap();
    }
}
