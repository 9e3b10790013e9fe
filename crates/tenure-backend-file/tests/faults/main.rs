//! Locks in a directory under faults: real processes that are killed and stopped, full disks, and
//! directories that go away.
//!
//! `another_process` is what the processes do; each of the other modules is one kind of fault.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod stage;

mod chaos;
mod elsewhere;
mod limits;
mod litter;
mod mounts;
mod takeover;

use tenure_testkit::lock_taker::{self, Job};

/// Not a test of its own: what other processes do that run this program again.
#[test]
fn another_process() {
    if let Some(job) = Job::of_this_process() {
        let backend = stage::backend(&job.store);
        return lock_taker::take(&job, backend).unwrap();
    }
    match std::env::var(stage::ROLE).as_deref() {
        Ok("try once") => elsewhere::try_once(),
        Ok("no descriptors") => limits::run_out_of_descriptors(),
        Ok(other) => panic!("{other:?} is nothing to do"),
        Err(_) => {}
    }
}
