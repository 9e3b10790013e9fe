//! The course of one call: what to ask of the store next, and what follows from the answer.
//!
//! Pure: no store, no clock, no work. [`drive`](super::drive) does what it asks; the model does, too.
//!
//! The record is the value of the lock. A claim asks for the lock *or* its value, so whoever follows is
//! answered by the transition that frees the lock, all at once. A leader writes "in progress" before it
//! works; its result it writes in the same step in which it releases, and the store accepts both from
//! the holder only. So a record in progress under a lock that nobody holds tells of a leader that
//! vanished, and taking that lock is what decides who comes next.

use super::config::Executions;
use super::record::{Note, Stage};

/// How often an end is offered again that the store did not take, or did not say that it took.
const END_TRIES: u8 = 3;

/// What a caller brings along.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Rules {
    /// Run it, whatever is known already.
    pub(super) forced: bool,
    pub(super) executions: Executions,
    pub(super) failure_is_final: bool,
    pub(super) max_attempts: u32,
}

/// What has to be done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// Wait for the lock, or for a value of it.
    Claim,
    /// Wait for the lock itself.
    Lock,
    /// Take the lock if it is free, whatever its value is.
    TryLock,
    /// Read the record, under the lock.
    Read,
    /// Write this and go on holding.
    Write(Note),
    /// Run the work of this attempt.
    Work(u32),
    /// Release, and write this in the same step.
    Leave(Option<Note>),
    /// Nothing: this is how it ended.
    Over(Verdict),
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// The lock is held now.
    Held,
    /// This is the record; `None` under the lock says that there is none.
    Record(Option<Found>),
    /// Somebody else has the lock.
    Busy,
    /// The wait timeout is over.
    TimedOut,
    /// Somebody works on another request under this key.
    OtherRequest,
    /// It was written, or released.
    Done,
    /// The lock was lost; nothing was written.
    Gone,
    /// The store did not say.
    Unsure,
    /// The work ended well.
    Worked,
    /// The work failed.
    WorkFailed,
    /// The work ended well, with a result that cannot be kept.
    Unkeepable,
}

/// A record that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) note: Note,
    /// Whether its fingerprint is the caller's.
    pub(super) same_request: bool,
    /// Whether it was written under the grant of the caller's own work, or of its end.
    pub(super) mine: bool,
}

/// How a call ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Verdict {
    /// This call's own work is the accepted result.
    Mine {
        attempt: u32,
    },
    /// The result that was found.
    Theirs {
        attempt: u32,
    },
    /// This call's own work failed.
    Failed {
        attempt: u32,
        is_final: bool,
    },
    /// This call's own result cannot be kept.
    Unkeepable {
        attempt: u32,
    },
    /// The failure that was found is the last word.
    KeptFailure {
        attempt: u32,
    },
    StillRunning,
    Conflict,
    Superseded {
        attempt: u32,
    },
    Indeterminate {
        attempt: u32,
    },
    /// The store did not say whether the attempt was allowed to begin; it did not.
    NeverBegan,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum At {
    Claiming,
    Locking,
    Trying,
    Reading,
    Beginning {
        attempt: u32,
    },
    Working {
        attempt: u32,
    },
    /// The end of an attempt, or what somebody found out about a leader that vanished.
    Leaving {
        note: Option<Note>,
        then: Verdict,
    },
    Over(Verdict),
}

/// One call under way.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Course {
    rules: Rules,
    at: At,
    /// The attempt whose work this call has run and whose end was not accepted. Its work is used
    /// up: it can only look what others found.
    spent: Option<Spent>,
}

/// An attempt that is over and whose end was not accepted yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Spent {
    attempt: u32,
    /// What its work came to, if it ended; it can still be accepted as long as nobody else has begun.
    end: Option<(Note, Verdict)>,
    /// How often that was tried.
    tries: u8,
}

impl Course {
    pub(super) fn new(rules: Rules) -> Self {
        let at = if rules.forced { At::Locking } else { At::Claiming };
        Self { rules, at, spent: None }
    }

    /// What to do next.
    pub(super) fn ask(&self) -> Ask {
        match self.at {
            At::Claiming => Ask::Claim,
            At::Locking => Ask::Lock,
            At::Trying => Ask::TryLock,
            At::Reading => Ask::Read,
            At::Beginning { attempt } => Ask::Write(self.note(Stage::InProgress, attempt)),
            At::Working { attempt } => Ask::Work(attempt),
            At::Leaving { note, .. } => Ask::Leave(note),
            At::Over(verdict) => Ask::Over(verdict),
        }
    }

    /// Goes on after what was asked for.
    pub(super) fn hear(&mut self, heard: Heard) {
        self.at = match (self.at, heard) {
            (At::Claiming | At::Locking, Heard::TimedOut) => At::Over(self.timed_out()),
            (At::Claiming, Heard::OtherRequest) => At::Over(Verdict::Conflict),
            // The lock with no value: nothing is known, or what was known is forgotten.
            (At::Claiming, Heard::Held) => self.lead(1),
            (At::Claiming, Heard::Record(Some(found))) => match self.known(found) {
                Some(verdict) => At::Over(verdict),
                None => At::Trying,
            },
            // Somebody was faster: it leads now, or is about to say what it found.
            (At::Trying, Heard::Busy) => At::Claiming,
            (At::Locking | At::Trying, Heard::Held) => At::Reading,
            (At::Reading, Heard::Record(None)) => self.lead(1),
            (At::Reading, Heard::Record(Some(found))) => self.decide(found),
            (At::Reading, _) => At::Claiming,
            (At::Beginning { attempt }, Heard::Done) => At::Working { attempt },
            (At::Beginning { .. }, Heard::Gone) if self.rules.forced => At::Locking,
            (At::Beginning { .. }, Heard::Gone) => At::Claiming,
            (At::Beginning { attempt }, _) => {
                // Whatever of it arrives does so before the lock is released, or never.
                let note = Some(self.note(Stage::FailedRetry, attempt));
                At::Leaving { note, then: Verdict::NeverBegan }
            }
            (At::Working { attempt }, heard) => self.worked(attempt, heard),
            (At::Leaving { then, .. }, Heard::Done) => At::Over(then),
            (At::Leaving { note, then }, _) => self.not_left(note, then),
            (at, _) => at,
        };
    }

    /// Looks once more, after a pause: whoever takes over may only just have been told to.
    pub(super) fn look_again(&mut self) {
        if matches!(self.at, At::Over(Verdict::Superseded { .. })) {
            self.at = At::Claiming;
        }
    }

    /// What a record says to this caller; `None` if only the lock can tell.
    fn known(&self, found: Found) -> Option<Verdict> {
        let Found { note, same_request, mine } = found;
        let attempt = note.attempt;
        if !same_request {
            return Some(Verdict::Conflict);
        }
        let own = mine && self.spent.is_some_and(|spent| spent.attempt == attempt);
        match note.stage {
            Stage::Done if own => Some(Verdict::Mine { attempt }),
            Stage::Done => Some(Verdict::Theirs { attempt }),
            Stage::Failed if own => Some(Verdict::Failed { attempt, is_final: true }),
            Stage::FailedRetry if own => Some(Verdict::Failed { attempt, is_final: false }),
            Stage::Failed => Some(Verdict::KeptFailure { attempt }),
            Stage::FailedRetry if self.rules.max_attempts <= attempt => {
                Some(Verdict::KeptFailure { attempt })
            }
            Stage::Unknown => Some(Verdict::Indeterminate { attempt }),
            Stage::FailedRetry | Stage::InProgress => None,
        }
    }

    /// With the lock in hand, and this record under it.
    fn decide(&self, found: Found) -> At {
        let attempt = found.note.attempt;
        if let Some(Spent { attempt: own, end: Some((note, then)), .. }) = self.spent
            && found.mine
            && own == attempt
            && found.note.stage == Stage::InProgress
        {
            // Our mark is the last one, and we have the lock: nobody has begun since, and nobody can.
            return At::Leaving { note: Some(note), then };
        }
        if self.rules.forced && self.spent.is_none() {
            return self.lead(attempt.saturating_add(1));
        }
        if let Some(verdict) = self.known(found) {
            return At::Leaving { note: None, then: verdict };
        }
        if found.note.stage == Stage::InProgress {
            // We have the lock, so its leader has it no more, and will not get it back.
            if found.note.executions == Executions::AtMostOnce {
                let note = Some(Note { stage: Stage::Unknown, ..found.note });
                return At::Leaving { note, then: Verdict::Indeterminate { attempt } };
            }
            if self.rules.max_attempts <= attempt {
                let note = Some(Note { stage: Stage::Failed, ..found.note });
                return At::Leaving { note, then: Verdict::KeptFailure { attempt } };
            }
        }
        self.lead(attempt.saturating_add(1))
    }

    fn lead(&self, attempt: u32) -> At {
        match self.spent {
            None => At::Beginning { attempt },
            Some(spent) => {
                At::Leaving { note: None, then: Verdict::Superseded { attempt: spent.attempt } }
            }
        }
    }

    fn worked(&mut self, attempt: u32, heard: Heard) -> At {
        let is_final = self.rules.failure_is_final || self.rules.max_attempts <= attempt;
        let (stage, then) = match heard {
            Heard::Worked => (Stage::Done, Verdict::Mine { attempt }),
            Heard::WorkFailed if is_final => (Stage::Failed, Verdict::Failed { attempt, is_final }),
            Heard::WorkFailed => (Stage::FailedRetry, Verdict::Failed { attempt, is_final }),
            Heard::Unkeepable => (Stage::Failed, Verdict::Unkeepable { attempt }),
            _ => return self.look(attempt, None),
        };
        At::Leaving { note: Some(self.note(stage, attempt)), then }
    }

    /// The release was refused, or nobody knows.
    fn not_left(&mut self, note: Option<Note>, then: Verdict) -> At {
        match then {
            Verdict::Mine { attempt }
            | Verdict::Failed { attempt, .. }
            | Verdict::Unkeepable { attempt } => self.look(attempt, note.map(|note| (note, then))),
            // What was to be written was only what had been found; somebody else may find it, or more.
            Verdict::KeptFailure { .. } | Verdict::Indeterminate { .. } if note.is_some() => {
                At::Claiming
            }
            then => At::Over(then),
        }
    }

    fn look(&mut self, attempt: u32, end: Option<(Note, Verdict)>) -> At {
        let tries = self.spent.map_or(0, |spent| spent.tries) + 1;
        let end = end.filter(|_| tries <= END_TRIES);
        self.spent = Some(Spent { attempt, end, tries });
        At::Claiming
    }

    fn timed_out(&self) -> Verdict {
        match self.spent {
            Some(Spent { attempt, .. }) => Verdict::Superseded { attempt },
            None => Verdict::StillRunning,
        }
    }

    fn note(&self, stage: Stage, attempt: u32) -> Note {
        Note { stage, attempt, executions: self.rules.executions }
    }
}
