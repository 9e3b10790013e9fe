//! Failures on demand, for tests of what a program does when its store misbehaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tenure_core::{Error, ErrorKind};

/// A call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Asking for seats.
    Acquire,
    /// Giving a claim up.
    Withdraw,
    /// Renewing.
    Renew,
    /// Releasing.
    Release,
    /// Anything else.
    Other,
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The request never arrives.
    LostRequest,
    /// The request takes effect and its answer never arrives.
    LostReply,
    /// The call never ends.
    Hang,
    /// The store refuses the user.
    Denied,
}

/// A script of failures; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether there is a script at all, so that a store without failures does not ask for it.
    armed: AtomicBool,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    once: VecDeque<(Operation, Failure)>,
    always: Vec<(Operation, Failure)>,
}

impl Failures {
    /// A script without failures.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the next call of `operation` fail, after those that were told to fail before.
    pub fn once(&self, operation: Operation, failure: Failure) {
        self.shared.script.lock().once.push_back((operation, failure));
        self.shared.armed.store(true, Ordering::Release);
    }

    /// Lets every call of `operation` fail until [`Failures::heal`].
    pub fn always(&self, operation: Operation, failure: Failure) {
        self.shared.script.lock().always.push((operation, failure));
        self.shared.armed.store(true, Ordering::Release);
    }

    /// Ends all failures.
    pub fn heal(&self) {
        *self.shared.script.lock() = Script::default();
    }

    pub(crate) fn next(&self, operation: Operation) -> Option<Failure> {
        if !self.shared.armed.load(Ordering::Acquire) {
            return None;
        }
        let mut script = self.shared.script.lock();
        if let Some(at) = script.once.iter().position(|(o, _)| *o == operation) {
            return script.once.remove(at).map(|(_, failure)| failure);
        }
        script.always.iter().find(|(o, _)| *o == operation).map(|(_, failure)| *failure)
    }
}

impl Failure {
    pub(crate) fn error(self) -> Error {
        match self {
            Failure::LostRequest | Failure::Hang => {
                Error::new(ErrorKind::Unreachable, "the store did not answer (scripted)")
            }
            Failure::LostReply => Error::new(ErrorKind::Unknown, "the answer was lost (scripted)"),
            Failure::Denied => Error::new(ErrorKind::Denied, "the store refused (scripted)"),
        }
    }
}
