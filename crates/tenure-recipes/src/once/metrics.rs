//! How calls ended, as numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::outcome::{OnceError, Outcome, Source};

/// The numbers of one [`Once`](super::Once) and its clones since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OnceSnapshot {
    /// Attempts that were begun.
    pub attempts: u64,
    /// Calls whose own work is the result.
    pub executed: u64,
    /// Calls that waited and got somebody else's result.
    pub joined: u64,
    /// Calls that were answered by a kept result.
    pub cached: u64,
    /// Calls whose own work failed.
    pub failed: u64,
    /// Calls that were answered by a kept failure.
    pub kept_failure: u64,
    /// Calls whose wait timeout was over first.
    pub still_running: u64,
    /// Calls with another request under a used key.
    pub conflict: u64,
    /// Calls whose own result was discarded.
    pub superseded: u64,
    /// Calls that an operator has to look at.
    pub indeterminate: u64,
    /// Calls whose result could not be kept or read.
    pub unkeepable: u64,
    /// Calls that the store failed.
    pub store_error: u64,
}

#[derive(Debug, Default)]
pub(super) struct Metrics {
    store: &'static str,
    attempts: AtomicU64,
    executed: AtomicU64,
    joined: AtomicU64,
    cached: AtomicU64,
    failed: AtomicU64,
    kept_failure: AtomicU64,
    still_running: AtomicU64,
    conflict: AtomicU64,
    superseded: AtomicU64,
    indeterminate: AtomicU64,
    unkeepable: AtomicU64,
    store_error: AtomicU64,
}

impl Metrics {
    pub(super) fn new(store: &'static str) -> Self {
        metrics::describe_counter!("tenure_once_total", "Calls, by how they ended");
        Self { store, ..Self::default() }
    }

    pub(super) fn began(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended<T, E>(&self, ended: &Result<Outcome<T>, OnceError<E>>) {
        let (counter, result) = match ended {
            Ok(Outcome { source: Source::Executed, .. }) => (&self.executed, "executed"),
            Ok(Outcome { source: Source::Joined, .. }) => (&self.joined, "joined"),
            Ok(Outcome { source: Source::Cached, .. }) => (&self.cached, "cached"),
            Err(error) => (self.counter(error), error.as_str()),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_once_total", "store" => self.store, "result" => result)
            .increment(1);
    }

    fn counter<E>(&self, error: &OnceError<E>) -> &AtomicU64 {
        match error {
            OnceError::Failed { .. } => &self.failed,
            OnceError::KeptFailure { .. } => &self.kept_failure,
            OnceError::StillRunning { .. } => &self.still_running,
            OnceError::Conflict => &self.conflict,
            OnceError::Superseded { .. } => &self.superseded,
            OnceError::Indeterminate { .. } => &self.indeterminate,
            OnceError::TooLong { .. } | OnceError::Mistyped(_) => &self.unkeepable,
            OnceError::Store(_) => &self.store_error,
        }
    }

    pub(super) fn snapshot(&self) -> OnceSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OnceSnapshot {
            attempts: get(&self.attempts),
            executed: get(&self.executed),
            joined: get(&self.joined),
            cached: get(&self.cached),
            failed: get(&self.failed),
            kept_failure: get(&self.kept_failure),
            still_running: get(&self.still_running),
            conflict: get(&self.conflict),
            superseded: get(&self.superseded),
            indeterminate: get(&self.indeterminate),
            unkeepable: get(&self.unkeepable),
            store_error: get(&self.store_error),
        }
    }
}
