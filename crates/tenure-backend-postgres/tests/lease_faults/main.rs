//! The lease table under faults: real processes that are killed and stopped, a network that loses
//! answers, sessions that are ended, a server that dies and comes back or is replaced, clocks that jump.
//!
//! `another_process` is what the processes do; `suite` is what every server has to stand, and each of the
//! other modules one kind of fault that is a PostgreSQL server's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod clock;
mod failover;
mod runtime;
mod server;
mod suite;

use tenure_testkit::lock_taker::{self, Job};

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        let backend = tenure_backend_postgres::open(&job.store).unwrap();
        lock_taker::take(&job, backend).unwrap();
    }
}
