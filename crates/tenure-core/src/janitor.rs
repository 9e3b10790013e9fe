//! What is left behind is cleaned up here: released guards that were dropped, attempts that were
//! given up.
//!
//! Handing something over never blocks, needs no runtime and never fails; the keeper's thread
//! does the work. The queue is bounded: beyond [`BOUND`] what is handed over is left to its ttl.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::Claim;
use crate::clock::Moment;
use crate::lease::Lease;

/// The most jobs that wait to be done.
pub(crate) const BOUND: usize = 1 << 18;

/// Something to clean up. Past `until` the store has done it by itself.
#[derive(Debug)]
pub(crate) enum Job {
    /// Give a lease back.
    Release { lease: Arc<Lease>, until: Moment },
    /// Give a claim up, whatever became of it.
    Withdraw { claim: Arc<Claim>, until: Moment },
}

/// The queue of jobs.
#[derive(Debug, Default)]
pub(crate) struct Janitor {
    jobs: Mutex<VecDeque<Job>>,
    /// Jobs that wait or are being done.
    open: AtomicUsize,
    idle: Notify,
}

impl Janitor {
    /// Takes a job; `false` if the queue is full, and the job is left to its ttl.
    pub(crate) fn take(&self, job: Job) -> bool {
        let mut jobs = self.jobs.lock();
        if BOUND <= jobs.len() {
            return false;
        }
        self.open.fetch_add(1, Ordering::AcqRel);
        jobs.push_back(job);
        true
    }

    /// The next jobs to do, `max` at most.
    pub(crate) fn next(&self, max: usize) -> Vec<Job> {
        let mut jobs = self.jobs.lock();
        let count = max.min(jobs.len());
        jobs.drain(..count).collect()
    }

    /// A job is done, or was given up.
    pub(crate) fn done(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.idle.notify_waiters();
        }
    }

    /// How many jobs wait or are being done.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Resolves when nothing is left to do.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            let mut idle = std::pin::pin!(idle);
            idle.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            idle.await;
        }
    }
}
