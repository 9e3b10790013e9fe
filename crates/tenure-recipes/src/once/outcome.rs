//! What a call ends with.

use std::fmt;
use std::time::Duration;

use tenure_core::{Error, ErrorKind, Fence, HolderView, LockWatch, LossReason, Micros};

/// An attempt under way: what its work is given.
///
/// Hand [`Attempt::fencing_token`] to whatever the work changes: an attempt that was given up may
/// still be running somewhere.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub(super) number: u32,
    pub(super) watch: LockWatch,
}

impl Attempt {
    /// Which attempt this is, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The fencing token: higher with every attempt.
    pub fn fencing_token(&self) -> Fence {
        self.watch.fencing_token()
    }

    /// The lease under which it runs.
    pub fn watch(&self) -> &LockWatch {
        &self.watch
    }
}

/// Where a result comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Source {
    /// This call ran the work.
    Executed,
    /// Another call ran it while this one waited.
    Joined,
    /// It was there already.
    Cached,
}

/// A result, and where it comes from.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Outcome<T> {
    /// The result.
    pub value: T,
    /// Where it comes from.
    pub source: Source,
    /// The attempt that led to it, from 1.
    pub attempt: u32,
    /// The fencing token of that attempt.
    pub fence: Fence,
    /// How old it is by this host's wall clock; for reading only.
    pub age: Duration,
}

impl<T> Outcome<T> {
    /// The result alone.
    pub fn into_value(self) -> T {
        self.value
    }
}

/// Why a call has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum OnceError<E> {
    /// This call ran the work, and the work failed.
    Failed {
        /// What it failed with.
        error: E,
        /// Which attempt it was.
        attempt: u32,
        /// Whether it is everybody's answer now, instead of being tried again.
        is_final: bool,
    },
    /// Another call's failure is the last word: the work is not run again before the fail ttl is
    /// over.
    KeptFailure {
        /// What it failed with, in words.
        message: String,
        /// Which attempt it was.
        attempt: u32,
    },
    /// Somebody is still at it, and this call's wait timeout is over. Nothing was changed.
    StillRunning {
        /// Which attempt runs, as far as that is known.
        attempt: Option<u32>,
        /// Who runs it, as far as the store tells.
        holder: Option<Box<HolderView>>,
    },
    /// The key was used for another request. Nothing was changed.
    Conflict,
    /// This call ran the work and lost its lease before the result was accepted: the result was
    /// discarded, and there is no other one yet.
    Superseded {
        /// Which attempt it was.
        attempt: u32,
        /// How the lease was lost.
        reason: LossReason,
    },
    /// The leader of a call that may run only once vanished; whether its work was done is for an
    /// operator to find out, who then settles or forgets the key.
    Indeterminate {
        /// Which attempt it was.
        attempt: u32,
    },
    /// This call ran the work, and its result is too long to keep; the failure is kept in its place.
    TooLong {
        /// How long the result is, in bytes of JSON.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// There is a result, and it is not of the type that was asked for.
    Mistyped(serde_json::Error),
    /// The store could not be asked, or what it says cannot be understood.
    Store(Error),
}

impl<E> OnceError<E> {
    /// The kind of error as one word, as metrics and JSON name it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            OnceError::Failed { .. } => "failed",
            OnceError::KeptFailure { .. } => "kept_failure",
            OnceError::StillRunning { .. } => "still_running",
            OnceError::Conflict => "conflict",
            OnceError::Superseded { .. } => "superseded",
            OnceError::Indeterminate { .. } => "indeterminate",
            OnceError::TooLong { .. } => "too_long",
            OnceError::Mistyped(_) => "mistyped",
            OnceError::Store(_) => "store_error",
        }
    }
}

impl<E: fmt::Display> fmt::Display for OnceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnceError::Failed { error, attempt, is_final: false } => {
                write!(f, "attempt {attempt} failed and may be tried again: {error}")
            }
            OnceError::Failed { error, attempt, is_final: true } => {
                write!(f, "attempt {attempt} failed, and is not tried again: {error}")
            }
            OnceError::KeptFailure { message, attempt } => {
                write!(f, "attempt {attempt} failed before, and is not tried again yet: {message}")
            }
            OnceError::StillRunning { attempt, holder } => {
                f.write_str("somebody is still at it")?;
                if let Some(attempt) = attempt {
                    write!(f, " (attempt {attempt})")?;
                }
                match holder {
                    Some(holder) => write!(f, ": {holder}"),
                    None => Ok(()),
                }
            }
            OnceError::Conflict => {
                f.write_str("the key was used for another request; choose another key, or force it")
            }
            OnceError::Superseded { attempt, reason } => {
                write!(f, "the result of attempt {attempt} was discarded: {reason}")
            }
            OnceError::Indeterminate { attempt } => write!(
                f,
                "the leader of attempt {attempt} vanished, and the work may run only once: find out \
                 what became of it, then settle or forget the key"
            ),
            OnceError::TooLong { len, max } => {
                write!(f, "the result is {len} bytes of JSON long, at most {max} are kept")
            }
            OnceError::Mistyped(error) => {
                write!(f, "the kept result is not of the type that was asked for: {error}")
            }
            OnceError::Store(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for OnceError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OnceError::Mistyped(error) => Some(error),
            OnceError::Store(error) => Some(error),
            _ => None,
        }
    }
}

impl<E> From<Error> for OnceError<E> {
    fn from(error: Error) -> Self {
        OnceError::Store(error)
    }
}

/// What is known about a key.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Status {
    /// In which state the call is.
    pub state: State,
    /// The number of the latest attempt; `None` if there was none, or it has only just begun.
    pub attempt: Option<u32>,
    /// The fingerprint of the call, as hex.
    pub fingerprint: Option<String>,
    /// Who leads it now.
    pub holder: Option<HolderView>,
    /// How many others wait for its result.
    pub followers: usize,
    /// What the kept failure says.
    pub message: Option<String>,
    /// The kept result, as JSON text.
    pub result: Option<String>,
    /// When what is kept was written, by the store's clock.
    pub written: Option<Micros>,
    /// Until when it is kept, by the same clock; `None` while somebody runs it.
    pub keep_until: Option<Micros>,
}

/// The states of a call, as people see them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum State {
    /// Nothing is known of it.
    None,
    /// Somebody runs it.
    InProgress,
    /// Its result is kept.
    Done,
    /// It failed; the next call may try again or not, as its policy says.
    Failed,
    /// Its leader vanished, and nobody has taken it over yet.
    Timeout,
    /// Its leader vanished, and it may run only once: an operator has to look.
    Unknown,
}

impl State {
    /// The state as one word, as JSON names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::None => "none",
            State::InProgress => "in_progress",
            State::Done => "done",
            State::Failed => "failed",
            State::Timeout => "timeout",
            State::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an operator found out about a call.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Settled<'a, T: ?Sized> {
    /// It was done, and this is its result.
    Done(&'a T),
    /// It failed, and is not to be tried again while the failure is kept.
    Failed(&'a str),
}

/// The error of a store, as this crate says what is missing.
pub(super) fn no_values(kind: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the {kind} store keeps no values, and a result is one"),
    )
    .with_help("a directory (file:///dir), Redis (redis://) and PostgreSQL's lease table (postgres://) keep them")
}
