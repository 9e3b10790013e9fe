//! Numbers of one manager: through the `metrics` facade under Prometheus names, and as a snapshot.
//!
//! No metric is labelled by a lock's name: names are unbounded.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::error::ErrorKind;
use crate::stripes::Stripes;

/// The numbers of one manager since it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// Locks acquired.
    pub total_acquisitions: u64,
    /// Locks released by their guards.
    pub total_releases: u64,
    /// Times that somebody else held what was asked for.
    pub total_conflicts: u64,
    /// Attempts that were tried again under a `RetryConfig`.
    pub total_retries: u64,
    /// Average time from asking to holding, in milliseconds.
    pub average_acquisition_time_ms: f64,
    /// Acquires that ended without the lock.
    pub failed_acquisitions: u64,
    /// Locks taken from holders that gave no sign of life.
    pub stale_locks_claimed: u64,
    /// Locks held now.
    pub held: u64,
    /// Claims that wait now.
    pub waiting: u64,
    /// Renewals that were kept.
    pub renewals: u64,
    /// Renewals that failed and were tried again.
    pub renewals_failed: u64,
    /// Locks lost.
    pub lost: u64,
    /// Guards dropped that the janitor had no room for; their leases ended by their ttl.
    pub janitor_overflows: u64,
}

/// The counters behind the snapshot.
pub(crate) struct Metrics {
    store: &'static str,
    acquisitions: Sum,
    releases: Sum,
    conflicts: AtomicU64,
    retries: AtomicU64,
    acquisition_nanos: Sum,
    failed: AtomicU64,
    stale_claimed: AtomicU64,
    held: Sum,
    waiting: AtomicI64,
    renewals: AtomicU64,
    renewals_failed: AtomicU64,
    lost: AtomicU64,
    overflows: AtomicU64,
    facade: Facade,
}

/// A sum that many threads add to without meeting at one cache line.
#[derive(Default)]
struct Sum(Stripes<AtomicI64>);

impl Sum {
    fn add(&self, by: i64) {
        self.0.mine().fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        let sum: i64 = self.0.iter().map(|s| s.load(Ordering::Relaxed)).sum();
        u64::try_from(sum).unwrap_or(0)
    }
}

/// Handles of the facade on the way that every acquire, renewal and release takes; they belong to the
/// recorder that was installed when the manager was made.
struct Facade {
    acquired: metrics::Counter,
    wait: metrics::Histogram,
    hold: metrics::Histogram,
    held: metrics::Gauge,
    waiting: metrics::Gauge,
    released: metrics::Counter,
    renewed: metrics::Counter,
    headroom: metrics::Histogram,
}

impl Metrics {
    pub(crate) fn new(store: &'static str) -> Self {
        describe();
        Self {
            store,
            acquisitions: Sum::default(),
            releases: Sum::default(),
            conflicts: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            acquisition_nanos: Sum::default(),
            failed: AtomicU64::new(0),
            stale_claimed: AtomicU64::new(0),
            held: Sum::default(),
            waiting: AtomicI64::new(0),
            renewals: AtomicU64::new(0),
            renewals_failed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            overflows: AtomicU64::new(0),
            facade: Facade {
                acquired: metrics::counter!("tenure_acquire_total", "store" => store, "outcome" => "acquired"),
                wait: metrics::histogram!("tenure_acquire_wait_seconds", "store" => store),
                hold: metrics::histogram!("tenure_hold_seconds", "store" => store),
                held: metrics::gauge!("tenure_held", "store" => store),
                waiting: metrics::gauge!("tenure_waiting", "store" => store),
                released: metrics::counter!("tenure_release_total", "store" => store, "outcome" => "released"),
                renewed: metrics::counter!("tenure_renew_total", "store" => store, "outcome" => "kept"),
                headroom: metrics::histogram!("tenure_renew_headroom_seconds", "store" => store),
            },
        }
    }

    pub(crate) fn acquired(&self, after: Duration) {
        self.acquisitions.add(1);
        let nanos = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX);
        self.acquisition_nanos.add(nanos);
        self.held.add(1);
        self.facade.acquired.increment(1);
        self.facade.wait.record(after.as_secs_f64());
        self.facade.held.increment(1.0);
    }

    pub(crate) fn not_acquired(&self, outcome: &'static str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_acquire_total", "store" => self.store, "outcome" => outcome)
            .increment(1);
    }

    pub(crate) fn conflict(&self) {
        self.conflicts.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_conflicts_total", "store" => self.store).increment(1);
    }

    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_retries_total", "store" => self.store).increment(1);
    }

    pub(crate) fn stale_claimed(&self) {
        self.stale_claimed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_stale_claimed_total", "store" => self.store).increment(1);
    }

    pub(crate) fn waits(&self, more: bool) {
        let by = if more { 1 } else { -1 };
        self.waiting.fetch_add(by, Ordering::Relaxed);
        if more { self.facade.waiting.increment(1.0) } else { self.facade.waiting.decrement(1.0) }
    }

    /// A guard is gone, one way or another, after it held for so long.
    pub(crate) fn let_go(&self, held_for: Duration) {
        self.held.add(-1);
        self.facade.held.decrement(1.0);
        self.facade.hold.record(held_for.as_secs_f64());
    }

    pub(crate) fn released(&self) {
        self.releases.add(1);
        self.facade.released.increment(1);
    }

    pub(crate) fn not_released(&self, outcome: &'static str) {
        metrics::counter!("tenure_release_total", "store" => self.store, "outcome" => outcome)
            .increment(1);
    }

    pub(crate) fn renewed(&self, headroom: Duration) {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.facade.renewed.increment(1);
        self.facade.headroom.record(headroom.as_secs_f64());
    }

    pub(crate) fn renewal(&self, outcome: &'static str) {
        self.renewals_failed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_renew_total", "store" => self.store, "outcome" => outcome)
            .increment(1);
    }

    pub(crate) fn lost(&self, reason: &'static str) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tenure_lost_total", "store" => self.store, "reason" => reason)
            .increment(1);
    }

    pub(crate) fn store_error(&self, operation: &'static str, kind: ErrorKind) {
        metrics::counter!(
            "tenure_store_errors_total",
            "store" => self.store, "operation" => operation, "kind" => kind.as_str()
        )
        .increment(1);
    }

    pub(crate) fn store_up(&self, up: bool) {
        metrics::gauge!("tenure_store_up", "store" => self.store).set(if up { 1.0 } else { 0.0 });
    }

    pub(crate) fn janitor_overflow(&self) {
        self.overflows.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> MetricsSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let level = |gauge: &AtomicI64| u64::try_from(gauge.load(Ordering::Relaxed)).unwrap_or(0);
        let total = self.acquisitions.get();
        let nanos = self.acquisition_nanos.get();
        #[allow(clippy::cast_precision_loss, reason = "an average for people")]
        let average = if total == 0 { 0.0 } else { nanos as f64 / total as f64 / 1e6 };
        MetricsSnapshot {
            total_acquisitions: total,
            total_releases: self.releases.get(),
            total_conflicts: get(&self.conflicts),
            total_retries: get(&self.retries),
            average_acquisition_time_ms: average,
            failed_acquisitions: get(&self.failed),
            stale_locks_claimed: get(&self.stale_claimed),
            held: self.held.get(),
            waiting: level(&self.waiting),
            renewals: get(&self.renewals),
            renewals_failed: get(&self.renewals_failed),
            lost: get(&self.lost),
            janitor_overflows: get(&self.overflows),
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Tells the recorder what the numbers mean, once.
fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        describe_counter!("tenure_acquire_total", "Acquires, by how they ended");
        describe_histogram!("tenure_acquire_wait_seconds", Unit::Seconds, "From asking to holding");
        describe_histogram!("tenure_hold_seconds", Unit::Seconds, "From holding to letting go");
        describe_gauge!("tenure_held", "Locks held");
        describe_gauge!("tenure_waiting", "Claims that wait");
        describe_counter!("tenure_renew_total", "Renewals, by how they ended");
        describe_histogram!(
            "tenure_renew_headroom_seconds",
            Unit::Seconds,
            "Time left before loss when a renewal was kept"
        );
        describe_counter!("tenure_lost_total", "Locks lost, by reason");
        describe_counter!(
            "tenure_conflicts_total",
            "Times that somebody else held what was asked for"
        );
        describe_counter!("tenure_retries_total", "Attempts that were tried again");
        describe_counter!("tenure_stale_claimed_total", "Locks taken from silent holders");
        describe_counter!("tenure_release_total", "Releases, by how they ended");
        describe_counter!("tenure_store_errors_total", "Store calls that failed");
        describe_gauge!("tenure_store_up", "Whether the store answered the last health check");
    });
}
