//! What a taker is told.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The variable that carries a [`Job`].
pub const VARIABLE: &str = "TENURE_LOCK_TAKER";

/// One process's work: which locks, how, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The name of the process in the history; the fleet gives it.
    pub proc: String,
    /// Where histories and the register are kept; the fleet says it.
    pub dir: PathBuf,
    /// The store, in words that only whoever opens it has to understand.
    pub store: String,
    /// The locks; each round draws one.
    pub names: Vec<String>,
    /// How many rounds; without it until the taker is told to stop.
    pub rounds: Option<u32>,
    /// The ttl of its leases.
    pub ttl: Duration,
    /// Whether they are renewed.
    pub auto_renew: bool,
    /// How long a lock is held; each round draws a time between these.
    pub hold: (Duration, Duration),
    /// How long the taker rests between rounds at most.
    pub rest: Duration,
    /// How long it waits for a lock; without it for ever.
    pub wait: Option<Duration>,
    /// In how many of 100 rounds it is a reader.
    pub shared: u32,
    /// In how many of 100 rounds it gives up while it waits, by dropping the future.
    pub cancel: u32,
    /// In how many of 100 rounds it drops the guard instead of releasing it.
    pub drop: u32,
    /// Each round draws a priority from 0 to this.
    pub priority: i32,
    /// What its draws depend on.
    pub seed: u64,
}

impl Job {
    /// An exclusive user of one lock that waits for ever, holds it for up to 20 ms and goes on until
    /// it is told to stop.
    #[must_use]
    pub fn new(store: &str, name: &str) -> Self {
        Self {
            proc: String::new(),
            dir: PathBuf::new(),
            store: store.to_owned(),
            names: vec![name.to_owned()],
            rounds: None,
            ttl: Duration::from_secs(30),
            auto_renew: true,
            hold: (Duration::ZERO, Duration::from_millis(20)),
            rest: Duration::from_millis(5),
            wait: None,
            shared: 0,
            cancel: 0,
            drop: 0,
            priority: 0,
            seed: 0,
        }
    }

    /// As it is, but held until the taker is told to stop, in one round.
    #[must_use]
    pub fn holding(mut self) -> Self {
        self.rounds = Some(1);
        self.hold = (Duration::MAX, Duration::MAX);
        self
    }

    /// The job of this process, if it is a taker.
    ///
    /// # Panics
    /// If the variable holds something else.
    #[must_use]
    pub fn of_this_process() -> Option<Self> {
        let text = std::env::var(VARIABLE).ok()?;
        Some(serde_json::from_str(&text).expect("a fleet writes jobs that can be read"))
    }

    /// Gives the job to a process that is about to be started.
    pub fn give_to(&self, command: &mut Command) {
        let text = serde_json::to_string(self).expect("a job is plain data");
        command.env(VARIABLE, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_arrives_as_it_was_given() {
        let mut command = Command::new("true");
        let job = Job::new("file:///x", "a\"b").holding();
        job.give_to(&mut command);
        let (name, value) = command.get_envs().next().unwrap();
        assert_eq!(name, VARIABLE);
        let text = value.unwrap().to_str().unwrap();
        assert_eq!(serde_json::from_str::<Job>(text).unwrap(), job);
    }
}
