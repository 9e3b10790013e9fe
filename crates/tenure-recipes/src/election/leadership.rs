//! A term of a leader.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use tenure_core::{
    Error, Fence, LockGuard, LockManager, LockWatch, LossReason, NotReleased, Result,
};

use super::notice::{Callbacks, Ended, Notice};
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
    watch: LockWatch,
    /// Taken when the term is over.
    guard: Option<LockGuard>,
    notice: Notice,
    locks: LockManager,
    cannot_proclaim: Option<Error>,
}

impl Leadership {
    pub(super) fn begin(
        guard: LockGuard,
        locks: LockManager,
        cannot_proclaim: Option<Error>,
        callbacks: &Callbacks,
    ) -> Result<Self> {
        let notice = Notice::begin(&guard, callbacks)?;
        let watch = guard.watch();
        Ok(Self { watch, guard: Some(guard), notice, locks, cannot_proclaim })
    }

    /// The term: a number that only grows from leader to leader, and the fencing token of what it
    /// does.
    pub fn term(&self) -> Fence {
        self.watch.fencing_token()
    }

    /// A view of this term for the tasks that work in it.
    pub fn watch(&self) -> LockWatch {
        self.watch.clone()
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
        let guard = self.guard.as_ref().expect("only whoever ends the term takes it");
        guard.set_value(value.into().0, KEEP).await
    }

    /// Ends the term and hands over to the next candidate, after `on_stopped_leading` has returned.
    ///
    /// The term is not renewed from here on. If it was lost, and the call that tells of that is under
    /// way, this waits for its end, but no longer than until the lease can end by itself. A call
    /// that resigns its own term does not wait for itself: the lock is given back when it returns.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the term ends all the same.
    pub async fn resign(mut self) -> Result<(), NotReleased> {
        let guard = self.guard.take().expect("only whoever ends the term takes it");
        match self.notice.end(guard) {
            // A value that is kept for no time is no value: neither our own nor that of a leader before
            // us, which died over it.
            Ended::Told(guard) if self.cannot_proclaim.is_none() => {
                return guard.release_with([], Duration::ZERO).await;
            }
            Ended::Told(guard) => return guard.release().await,
            Ended::Telling(told) => {
                let told = async { drop(told.await) };
                or(told, self.locks.sleep_until(self.watch.deadlines().1)).await;
            }
            Ended::Within => {}
        }
        // Only a loss is told by others.
        Err(NotReleased::AlreadyLost(self.watch.lost().await))
    }
}

impl Drop for Leadership {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            // Given back here, or by whoever is telling.
            drop(self.notice.end(guard));
        }
    }
}

impl Deref for Leadership {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.watch
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
