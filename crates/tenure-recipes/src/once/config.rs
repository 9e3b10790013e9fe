//! How long, how often, and what is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tenure_core::{Capabilities, Error, ErrorKind, Result};

use super::key::Key;

/// Whether a call whose leader vanished may be run again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Executions {
    /// A leader that vanished is replaced: the work runs once or, if a leader is lost, again. For
    /// work that may be repeated.
    #[default]
    AtLeastOnce,
    /// The work is never run twice under one key: a leader that vanished leaves the call
    /// [indeterminate](super::OnceError::Indeterminate) until an operator [settles](super::Once::settle)
    /// or [forgets](super::Once::forget) it. A failure is then always final.
    AtMostOnce,
}

impl Executions {
    /// The policy as one word, as records and the program name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Executions::AtLeastOnce => "at_least_once",
            Executions::AtMostOnce => "at_most_once",
        }
    }
}

/// What becomes of work that ended in an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Failures {
    /// The next caller, or one of those who wait, runs it again, up to the maximum of attempts.
    #[default]
    Retry,
    /// The error is kept like a result, for the fail ttl, and everybody gets it.
    Keep,
}

/// What callers of one operation agree on: the scope of its keys, how long results are kept, how
/// long a leader may be silent, and how long others wait for it.
///
/// ```
/// use std::time::Duration;
/// use tenure_recipes::once::{Executions, IdempotencyConfig};
///
/// let config = IdempotencyConfig::new("vector_rebuild")
///     .ttl(Duration::from_secs(3600))
///     .executions(Executions::AtMostOnce);
/// assert_eq!(config.scope(), "vector_rebuild");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyConfig {
    pub(super) scope: String,
    pub(super) ttl: Duration,
    pub(super) in_progress_ttl: Duration,
    pub(super) wait_timeout: Duration,
    pub(super) executions: Executions,
    pub(super) failures: Failures,
    pub(super) max_attempts: u32,
    pub(super) fail_ttl: Duration,
}

impl IdempotencyConfig {
    /// How long a result is kept if nothing is said: an hour.
    pub const TTL: Duration = Duration::from_secs(3600);
    /// How long a leader may be silent if nothing is said: 5 minutes.
    pub const IN_PROGRESS_TTL: Duration = Duration::from_secs(300);
    /// How long a caller waits for somebody else's result if nothing is said: 5 s.
    pub const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
    /// How often work is tried if nothing is said.
    pub const MAX_ATTEMPTS: u32 = 5;
    /// How long a failure is kept if nothing is said: a minute.
    pub const FAIL_TTL: Duration = Duration::from_secs(60);
    /// The longest time that anything is kept: ten years. What only an operator may end is kept so
    /// long.
    pub const KEEP_MAX: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

    /// The defaults, for keys of this scope.
    pub fn new(scope: impl Into<String>) -> Self {
        Self {
            scope: scope.into(),
            ttl: Self::TTL,
            in_progress_ttl: Self::IN_PROGRESS_TTL,
            wait_timeout: Self::WAIT_TIMEOUT,
            executions: Executions::default(),
            failures: Failures::default(),
            max_attempts: Self::MAX_ATTEMPTS,
            fail_ttl: Self::FAIL_TTL,
        }
    }

    /// How long a result is kept: above zero, ten years at most; an hour if not said.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long a leader may be silent before it is replaced: the ttl of its lease, which is renewed
    /// for as long as the work runs. The work may take longer. 5 minutes if not said.
    #[must_use]
    pub fn in_progress_ttl(mut self, ttl: Duration) -> Self {
        self.in_progress_ttl = ttl;
        self
    }

    /// How long a caller waits for somebody else's result before it is told
    /// [`StillRunning`](super::OnceError::StillRunning); zero does not wait. 5 s if not said. It does
    /// not bound the work of a caller that leads.
    #[must_use]
    pub fn wait_timeout(mut self, wait: Duration) -> Self {
        self.wait_timeout = wait;
        self
    }

    /// Whether a call whose leader vanished may be run again; it may if not said.
    #[must_use]
    pub fn executions(mut self, executions: Executions) -> Self {
        self.executions = executions;
        self
    }

    /// What becomes of work that ended in an error; it is tried again if not said.
    #[must_use]
    pub fn failures(mut self, failures: Failures) -> Self {
        self.failures = failures;
        self
    }

    /// How often work is tried at most, leaders that vanished counted: at least 1, 5 if not said.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How long a failure is kept: one that is final is everybody's answer for so long, one that is
    /// tried again is counted for so long. A minute if not said.
    #[must_use]
    pub fn fail_ttl(mut self, ttl: Duration) -> Self {
        self.fail_ttl = ttl;
        self
    }

    /// The scope of the keys.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Whether an error is the last word.
    pub(super) fn failure_is_final(&self) -> bool {
        self.failures == Failures::Keep || self.executions == Executions::AtMostOnce
    }

    /// Checks what can be checked without a store.
    pub(super) fn check(&self, can: &Capabilities) -> Result<()> {
        let invalid = |what: String| Err(Error::new(ErrorKind::Invalid, what));
        if self.scope.is_empty() || Key::MAX_LEN < self.scope.len() {
            return invalid(format!("a scope is 1 to {} bytes long", Key::MAX_LEN));
        }
        for (name, keep) in [("ttl", self.ttl), ("fail_ttl", self.fail_ttl)] {
            if keep.is_zero() || Self::KEEP_MAX < keep {
                return invalid(format!("`{name}` is above zero and at most ten years"));
            }
        }
        if self.max_attempts == 0 {
            return invalid("`max_attempts` is at least 1".to_owned());
        }
        let lease = self.in_progress_ttl;
        if lease < can.ttl_min || can.ttl_max < lease {
            let (min, max) = (can.ttl_min, can.ttl_max);
            return invalid(format!(
                "`in_progress_ttl` lies between {min:?} and {max:?} on the {} store",
                can.kind
            ));
        }
        Ok(())
    }
}
