//! How a fleet is hurt.

use std::time::Duration;

/// A schedule of faults, drawn from the fleet's seed.
///
/// Between two faults passes a time of up to `every`. Of five, two hit somebody who holds a lock, two
/// somebody who waits for one, and one somebody in between.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many takers run at any time: one that is killed is replaced at once.
    pub takers: usize,
    /// How long.
    pub lasts: Duration,
    /// The longest time between two faults.
    pub every: Duration,
    /// Of how many parts one is a kill, and not a stop: 0 for stops alone, 1 for kills alone.
    pub kill_one_in: u32,
    /// How long a stop lasts, in ttls; each draws one.
    pub stops: Vec<f64>,
}

impl Plan {
    /// Takers that are killed.
    #[must_use]
    pub fn kills(takers: usize, lasts: Duration) -> Self {
        Self { takers, lasts, every: Duration::from_millis(300), kill_one_in: 1, stops: Vec::new() }
    }

    /// Takers that are stopped, for half a ttl, one and a half, and five.
    #[must_use]
    pub fn stops(takers: usize, lasts: Duration) -> Self {
        let every = Duration::from_millis(700);
        Self { kill_one_in: 0, every, stops: vec![0.5, 1.5, 5.0], ..Self::kills(takers, lasts) }
    }

    /// Takers that are killed and stopped.
    #[must_use]
    pub fn both(takers: usize, lasts: Duration) -> Self {
        Self { kill_one_in: 2, ..Self::stops(takers, lasts) }
    }
}
