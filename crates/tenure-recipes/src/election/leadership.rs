//! A term of a leader.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure_core::{Error, Fence, LockGuard, LockWatch, LossReason, NotReleased, Result};

use super::notice::{Callbacks, Notice};
use crate::support::KEEP;

/// Why a term is over.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StoppedLeading {
    /// The leader resigned, or dropped its [`Leadership`].
    Resigned,
    /// The term was lost.
    Lost(LossReason),
}

impl fmt::Display for StoppedLeading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoppedLeading::Resigned => f.write_str("it resigned"),
            StoppedLeading::Lost(reason) => reason.fmt(f),
        }
    }
}

/// A term that this candidate leads in; dropping it resigns.
///
/// It is a [`LockWatch`], too: loss, deadlines, owner. A leader that cannot renew its lease has
/// lost the term before anybody else can lead: whoever acts as the leader asks
/// [`LockWatch::check`] or waits for [`LockWatch::lost`], and hands [`Leadership::term`] to what it
/// changes.
#[must_use = "dropping it resigns"]
pub struct Leadership {
    // Dropped first: the end is told before the lock is released.
    notice: Notice,
    guard: LockGuard,
    cannot_proclaim: Option<Error>,
    proclaimed: AtomicBool,
}

impl Leadership {
    pub(super) fn begin(
        guard: LockGuard,
        cannot_proclaim: Option<Error>,
        callbacks: &Callbacks,
    ) -> Result<Self> {
        let notice = Notice::begin(&guard, callbacks)?;
        Ok(Self { notice, guard, cannot_proclaim, proclaimed: AtomicBool::new(false) })
    }

    /// The term: a number that only grows from leader to leader, and the fencing token of what it
    /// does.
    pub fn term(&self) -> Fence {
        self.guard.fencing_token()
    }

    /// A view of this term for the tasks that work in it.
    pub fn watch(&self) -> LockWatch {
        self.guard.watch()
    }

    /// Writes down a value that everybody can observe as that of this term: an address, say. A
    /// later one replaces it; resigning takes it away.
    ///
    /// # Errors
    /// `Unsupported` on stores without values, before anything is sent; `Invalid` if it is too
    /// long; `Lost`; `Unreachable`, `Unknown`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the value may or may not have been written.
    pub async fn proclaim(&self, value: impl Into<Proclamation>) -> Result<()> {
        if let Some(error) = &self.cannot_proclaim {
            return Err(error.clone());
        }
        self.proclaimed.store(true, Ordering::Relaxed);
        self.guard.set_value(value.into().0, KEEP).await
    }

    /// Ends the term and hands over to the next candidate. `on_stopped_leading` has been called
    /// before anything is sent; after a loss it may be under way still.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the term ends all the same.
    pub async fn resign(self) -> Result<(), NotReleased> {
        let Self { notice, guard, proclaimed, .. } = self;
        drop(notice);
        if proclaimed.into_inner() {
            // A value that is kept for no time is no value.
            return guard.release_with([], Duration::ZERO).await;
        }
        guard.release().await
    }
}

impl Deref for Leadership {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.guard
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("election", self.name())
            .field("term", &self.term())
            .finish_non_exhaustive()
    }
}

/// What a leader proclaims: text or bytes.
#[derive(Clone, Debug)]
pub struct Proclamation(Arc<[u8]>);

impl From<&str> for Proclamation {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Proclamation {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

impl From<&[u8]> for Proclamation {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl From<Vec<u8>> for Proclamation {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}
