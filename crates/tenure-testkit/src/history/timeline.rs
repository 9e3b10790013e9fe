//! The events of a run put together: who tried, who was granted what, and how long each grant was valid.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::event::{Event, Fence, Mode};

mod build;

use build::Builder;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// An attempt, as the histories name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The process.
    pub proc: Arc<str>,
    /// The number of the attempt in it.
    pub attempt: u64,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.proc, self.attempt)
    }
}

/// A stretch of time, its end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// Where it starts, in nanoseconds of the shared clock.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
}

impl Window {
    /// Its length in nanoseconds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// Whether nothing lies within.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to <= self.from
    }
}

/// One attempt to get a lock.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Whose.
    pub who: Who,
    /// Of which lock.
    pub name: Arc<str>,
    /// Wanted how.
    pub mode: Mode,
    /// With which priority.
    pub priority: i32,
    /// When it started.
    pub invoked: u64,
    /// When the caller stops waiting.
    pub gives_up: u64,
    /// When it was seen in the store's queue.
    pub queued: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt ended, and when that was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Granted; the index of the grant in [`Timeline::grants`].
    Granted(u64, usize),
    /// Surely not granted.
    Refused(u64),
    /// The answer was lost, the caller dropped it, or its process was killed: nobody knows.
    Unknown(u64),
    /// It has not ended.
    Open,
}

impl Attempt {
    /// Whether it waits when the lock is taken.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.invoked < self.gives_up
    }

    /// Until when somebody surely wants the lock by this attempt.
    #[must_use]
    pub fn wanted_until(&self) -> u64 {
        match self.outcome {
            Outcome::Granted(at, _) => at,
            Outcome::Refused(at) | Outcome::Unknown(at) => at.min(self.gives_up),
            Outcome::Open => self.gives_up,
        }
    }
}

/// One successful attempt, from its grant to its end.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Whose.
    pub who: Who,
    /// Of which lock.
    pub name: Arc<str>,
    /// Held how.
    pub mode: Mode,
    /// The fence.
    pub fence: Fence,
    /// When the attempt started.
    pub invoked: u64,
    /// When the caller had the grant.
    pub granted: u64,
    /// The last deadline the guard stated.
    pub deadline: u64,
    /// When the guard told its loss.
    pub lost: Option<u64>,
    /// When a guard that was over was asked, and said it was valid.
    pub revived: Option<u64>,
    /// How the release went.
    pub release: Option<Release>,
    /// When its process was killed.
    pub crashed: Option<u64>,
    /// When a force release of it was asked for.
    pub evicted: Option<u64>,
    /// When the store had surely ended it, because it said so.
    pub freed: Option<u64>,
    /// Whether an event came after its end.
    over: bool,
}

/// How the release of a grant went.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// When it was asked for.
    pub invoked: u64,
    /// Whether the answer was "released".
    pub released: bool,
}

impl Grant {
    /// Until when its holder believed in it: the earliest of release, deadline, loss and death.
    #[must_use]
    pub fn held_until(&self) -> u64 {
        let ends = [self.release.map(|r| r.invoked), self.lost, self.crashed];
        ends.into_iter().flatten().fold(self.deadline, u64::min)
    }

    /// Until when its holder may have renewed it, unseen if need be.
    ///
    /// A guard that ended in the history stated its last deadline. One whose process was killed did not.
    #[must_use]
    pub fn renewed_until(&self) -> u64 {
        let stated = self.over || self.lost.is_some() || self.release.is_some();
        match self.crashed {
            Some(crashed) if !stated => crashed,
            _ => self.held_until(),
        }
    }

    /// Until when it excludes others: as [`held_until`](Self::held_until), or until a force release.
    #[must_use]
    pub fn valid_until(&self) -> u64 {
        self.held_until().min(self.evicted.unwrap_or(NEVER))
    }
}

/// A run, in order.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Every attempt, by the time it started.
    pub attempts: Vec<Attempt>,
    /// Every grant, by the time its holder had it.
    pub grants: Vec<Grant>,
    /// When each process was stopped.
    pub pauses: HashMap<Arc<str>, Vec<Window>>,
    /// When the way to a lock's store was disturbed; an empty name means every lock.
    pub faults: Vec<(Arc<str>, Window)>,
    /// The last sign of life of each process.
    pub last_seen: HashMap<Arc<str>, u64>,
    /// Time of the last event.
    pub end: u64,
}

/// A history that contradicts itself: the recording is wrong, and no lock can be judged by it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("malformed history: {why}, at {t_ns} ns: {event}")]
pub struct Malformed {
    why: &'static str,
    t_ns: u64,
    event: String,
}

impl Timeline {
    /// Puts the events together, in any order.
    ///
    /// # Errors
    /// When an operation ends that never started, a grant has no fence, or an event breaks the deadline
    /// rule of [`Event`].
    pub fn from_events(events: &[Event]) -> Result<Self, Malformed> {
        let mut sorted: Vec<&Event> = events.iter().collect();
        sorted.sort_by_key(|event| event.t_ns);
        let mut builder = Builder::default();
        for event in sorted {
            builder.take(event).map_err(|why| Malformed {
                why,
                t_ns: event.t_ns,
                event: event.to_string(),
            })?;
        }
        Ok(builder.finish())
    }

    /// The attempts, lock by lock.
    #[must_use]
    pub fn attempts_by_name(&self) -> BTreeMap<&str, Vec<&Attempt>> {
        let mut by_name: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
        for attempt in &self.attempts {
            by_name.entry(&attempt.name).or_default().push(attempt);
        }
        by_name
    }

    /// The grants, lock by lock, each by the time its holder had it.
    #[must_use]
    pub fn grants_by_name(&self) -> BTreeMap<&str, Vec<&Grant>> {
        let mut by_name: BTreeMap<&str, Vec<&Grant>> = BTreeMap::new();
        for grant in &self.grants {
            by_name.entry(&grant.name).or_default().push(grant);
        }
        by_name
    }

    /// When a process was stopped.
    #[must_use]
    pub fn pauses_of(&self, proc: &str) -> &[Window] {
        self.pauses.get(proc).map_or(&[], Vec::as_slice)
    }

    /// When the way to this lock was disturbed.
    pub fn faults_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Window> + 'a {
        self.faults
            .iter()
            .filter(move |(at, _)| at.is_empty() || **at == *name)
            .map(|(_, window)| *window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::event::{Op, Phase};
    use crate::history::script::{Script, X};

    fn why(script: Script) -> &'static str {
        Timeline::from_events(&script.events).unwrap_err().why
    }

    #[test]
    fn a_history_that_contradicts_itself_is_malformed() {
        let held = || Script::new().take(1, "p1#1", X, 1, 90);
        assert_eq!(why(Script::new().get(1, "p1#1", 1, 90)), "an acquire ends that never started");
        assert_eq!(why(held().ask(5, "p1#1", X)), "two attempts have one number");
        assert_eq!(why(held().get(5, "p1#1", 2, 90)), "an acquire ends twice");
        assert_eq!(why(Script::new().lost(5, "p1#1", 90)), "nothing was acquired here");
        assert_eq!(
            why(Script::new().ask(1, "p1#1", X).lost(5, "p1#1", 90)),
            "a guard acts that was never granted"
        );
        assert_eq!(
            why(held().release(5, "p1#1", 90).release(7, "p1#1", 90)),
            "a guard is released twice"
        );
        let unstated = held().mark(5, "p1#1", Op::Release, Phase::Invoke);
        assert_eq!(why(unstated), "a guard acts without stating its deadline");
        let unfenced = Script::new().ask(1, "p1#1", X).mark(2, "p1#1", Op::Acquire, Phase::Ok);
        assert_eq!(why(unfenced), "a grant has no fence");
    }

    #[test]
    fn an_error_says_where_it_is() {
        let error = Timeline::from_events(&Script::new().get(1, "p1#1", 1, 90).events).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("1000000 ns: p1#1") && text.contains("fence 1"), "{text}");
    }

    #[test]
    fn a_force_release_ends_the_grant_it_names_or_all_of_them() {
        let held = |fence: Option<u64>| {
            let mut evict = Event::new(Op::Evict, Phase::Invoke);
            evict.fence = fence.map(Fence);
            let script = Script::new().take(1, "p1#1", Mode::READER, 1, 90).take(
                2,
                "p2#1",
                Mode::READER,
                2,
                90,
            );
            let script = script.at(10, "admin#1", evict).mark(12, "admin#1", Op::Evict, Phase::Ok);
            let timeline = Timeline::from_events(&script.events).unwrap();
            timeline.grants.iter().map(|grant| grant.valid_until() / 1_000_000).collect::<Vec<_>>()
        };
        assert_eq!(held(Some(2)), [90, 10]);
        assert_eq!(held(None), [10, 10]);
    }

    #[test]
    fn an_attempt_of_a_killed_process_is_unknown() {
        let script = Script::new().ask(1, "p1#1", X).mark(5, "p1", Op::Crash, Phase::Invoke);
        let timeline = Timeline::from_events(&script.events).unwrap();
        assert_eq!(timeline.attempts[0].outcome, Outcome::Unknown(5_000_000));
    }
}
