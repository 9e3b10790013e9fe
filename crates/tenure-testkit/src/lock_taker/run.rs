//! What a fleet leaves to be judged.

use std::fmt;

use super::plan::Plan;
use crate::history::register::Entry;
use crate::history::{Event, Evidence, Rules, Verdict, judge};

/// What was done to a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Takers that were started.
    pub started: u32,
    /// Kills of takers that held a lock.
    pub killed_holding: u32,
    /// Kills of takers that waited for one.
    pub killed_waiting: u32,
    /// Kills of others.
    pub killed_idle: u32,
    /// Stops of takers that held a lock.
    pub stopped_holding: u32,
    /// Stops of takers that waited for one.
    pub stopped_waiting: u32,
    /// Stops of others.
    pub stopped_idle: u32,
}

impl Tally {
    /// Whether a holder and a waiter were hit in every way that was planned.
    pub(super) fn has_all(&self, plan: &Plan) -> bool {
        let kills = plan.kill_one_in == 0 || 0 < self.killed_holding.min(self.killed_waiting);
        let stops = plan.kill_one_in == 1 || 0 < self.stopped_holding.min(self.stopped_waiting);
        kills && stops
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} takers; killed {} holding, {} waiting, {} idle; stopped {} holding, {} waiting, {} idle",
            self.started,
            self.killed_holding,
            self.killed_waiting,
            self.killed_idle,
            self.stopped_holding,
            self.stopped_waiting,
            self.stopped_idle
        )
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// Everything that was written down.
    pub events: Vec<Event>,
    /// The register's log.
    pub register: Vec<Entry>,
    /// What takers said on standard error: answers that a healthy store does not give.
    pub complaints: Vec<String>,
    /// What was done.
    pub tally: Tally,
    /// The seed of the schedule.
    pub seed: u64,
}

impl Run {
    /// What the judge needs; `left` is what whoever knows the store found in it afterwards.
    #[must_use]
    pub fn evidence<'a>(&'a self, left: Option<&'a [String]>) -> Evidence<'a> {
        Evidence { events: &self.events, register: Some(&self.register), left, seed: self.seed }
    }

    /// Judges it.
    ///
    /// # Panics
    /// If the history contradicts itself, which is a bug of the taker or the fleet.
    #[must_use]
    pub fn judge(&self, left: Option<&[String]>, rules: &Rules) -> Verdict {
        judge(self.evidence(left), rules)
            .unwrap_or_else(|malformed| panic!("seed {:#x}: {malformed}", self.seed))
    }
}
