//! What the benchmarks share: timing many short rounds, and saying how they compare.

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The times of many rounds.
#[derive(Debug)]
pub struct Times {
    label: String,
    nanos: Histogram<u64>,
}

impl Times {
    /// No times yet.
    pub fn new(label: impl Into<String>) -> Self {
        let nanos = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("valid bounds");
        Self { label: label.into(), nanos }
    }

    /// Adds one round.
    pub fn add(&mut self, round: Duration) {
        self.nanos.saturating_record(u64::try_from(round.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// Times `rounds` calls of `round`, after a tenth of them to warm up.
    pub fn of(label: impl Into<String>, rounds: u32, mut round: impl FnMut()) -> Self {
        let mut times = Self::new(label);
        for n in 0..rounds + rounds / 10 {
            let before = now();
            round();
            if rounds / 10 <= n {
                times.add(before.elapsed());
            }
        }
        times
    }

    /// The median.
    pub fn p50(&self) -> Duration {
        Duration::from_nanos(self.nanos.value_at_quantile(0.5))
    }

    /// Says how these times compare with a floor measured in the same run.
    pub fn beside(&self, floor: &Times) -> String {
        let ratio = self.p50().as_secs_f64() / floor.p50().as_secs_f64();
        format!("{self}  = {ratio:.2} x {}", floor.label)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |q: f64| self.nanos.value_at_quantile(q) as f64 / 1000.0;
        write!(
            f,
            "{:<52} p50 {:>9.2} us  p99 {:>9.2} us  n {}",
            self.label,
            micros(0.5),
            micros(0.99),
            self.nanos.len()
        )
    }
}

/// Now, for timing rounds.
#[allow(clippy::disallowed_methods, reason = "benchmarks measure, they do not decide")]
pub fn now() -> Instant {
    Instant::now()
}

/// Resident memory of this process, in bytes.
pub fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// A line of `/proc/self/status`, such as `Threads`.
pub fn status(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or("unknown").trim().to_owned()
}
