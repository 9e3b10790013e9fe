//! [`Once`](crate::once::Once) for code without async.
//!
//! Whatever else the recipes do is waited for by [`tenure_core::blocking::block_on`]. Do not call either
//! from inside an async task: it would block its runtime.

use std::convert::Infallible;
use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tenure_core::Result;
use tenure_core::blocking::block_on;

use crate::once::{self, Attempt, Fingerprint, Key, OnceError, Outcome, Settled, Status};

/// A [`once::Once`] whose calls block.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::LockManager;
/// use tenure_recipes::blocking::Once;
/// use tenure_recipes::once::{self, Fingerprint, IdempotencyConfig};
///
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// let once = Once::from(once::Once::new(locks, IdempotencyConfig::new("vector_rebuild"))?);
/// let outcome = once.run("math", Fingerprint::NONE, |attempt| {
///     println!("rebuilding under fencing token {}", attempt.fencing_token());
///     Ok::<_, std::io::Error>(175_u32)
/// });
/// assert_eq!(outcome.expect("nothing fails here").value, 175);
/// # Ok::<(), tenure_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Once(once::Once);

impl From<once::Once> for Once {
    fn from(once: once::Once) -> Self {
        Self(once)
    }
}

impl Once {
    /// As [`once::Once::run`]; `work` runs on this thread. It cannot be stopped when the lease is lost:
    /// look at [`Attempt::watch`]. What it comes to then counts if nobody else has begun.
    ///
    /// # Errors
    /// The same.
    pub fn run<T, E>(
        &self,
        key: impl Into<Key>,
        fingerprint: Fingerprint,
        work: impl FnOnce(Attempt) -> Result<T, E>,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
    {
        block_on(self.0.run(key, fingerprint, async |attempt| work(attempt)))
    }

    /// As [`once::Once::force`]; `work` as that of [`Once::run`].
    ///
    /// # Errors
    /// The same.
    pub fn force<T, E>(
        &self,
        key: impl Into<Key>,
        fingerprint: Fingerprint,
        work: impl FnOnce(Attempt) -> Result<T, E>,
    ) -> Result<Outcome<T>, OnceError<E>>
    where
        T: Serialize + DeserializeOwned,
        E: Display,
    {
        block_on(self.0.force(key, fingerprint, async |attempt| work(attempt)))
    }

    /// As [`once::Once::status`].
    ///
    /// # Errors
    /// The same.
    pub fn status(&self, key: impl Into<Key>) -> Result<Status> {
        block_on(self.0.status(key))
    }

    /// As [`once::Once::forget`].
    ///
    /// # Errors
    /// The same.
    pub fn forget(&self, key: impl Into<Key>) -> Result<bool, OnceError<Infallible>> {
        block_on(self.0.forget(key))
    }

    /// As [`once::Once::settle`].
    ///
    /// # Errors
    /// The same.
    pub fn settle<T: Serialize + ?Sized>(
        &self,
        key: impl Into<Key>,
        fingerprint: Fingerprint,
        found: Settled<'_, T>,
    ) -> Result<(), OnceError<Infallible>> {
        block_on(self.0.settle(key, fingerprint, found))
    }

    /// The calls underneath.
    pub fn asynchronous(&self) -> &once::Once {
        &self.0
    }
}
