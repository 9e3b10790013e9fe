//! Redlock: independent servers that vote, real ones.
//!
//! `another_process` is what other processes do that run this program again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod clock;
mod conformance;
mod differential;
mod faults;
mod nodes;
mod others;
mod out;
mod points;
mod takeover;

use tenure_testkit::lock_taker::{self, Job};

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        let backend = stage::backend(&job.store);
        lock_taker::take(&job, backend).unwrap();
    }
}
