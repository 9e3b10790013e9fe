//! The same locks for code without async.
//!
//! Calls run on the calling thread; renewal goes on in the manager's thread either way. Do not
//! call from inside an async task: it would block its runtime.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::guard::{LockWatch, NotReleased};
use crate::held::LockToken;
use crate::name::LockName;
use crate::request::LockRequest;
use crate::values::Fence;
use crate::view::{HolderView, View};

/// Waits on this thread for a future of these locks: whatever has no call of its own here.
///
/// ```
/// # fn example(locks: tenure_core::LockManager) -> tenure_core::Result<()> {
/// use tenure_core::blocking::block_on;
/// let reader = block_on(locks.lock("tables/orders").shared().acquire())?;
/// block_on(reader.release())?;
/// # Ok(())
/// # }
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    futures_lite::future::block_on(future)
}

/// A [`LockManager`](crate::LockManager) whose calls block.
///
/// ```
/// # fn example(locks: tenure_core::LockManager) -> tenure_core::Result<()> {
/// use std::time::Duration;
/// let locks = tenure_core::blocking::LockManager::from(locks);
/// let guard = locks.acquire("orders/42", Duration::from_secs(30))?;
/// guard.check()?;
/// guard.release()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LockManager(crate::LockManager);

/// A [`LockGuard`](crate::LockGuard) whose calls block; everything that does not is reached
/// through it.
#[derive(Debug)]
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct LockGuard(crate::LockGuard);

impl From<crate::LockManager> for LockManager {
    fn from(manager: crate::LockManager) -> Self {
        Self(manager)
    }
}

impl LockManager {
    /// As [`crate::LockManager::acquire`].
    ///
    /// # Errors
    /// The same.
    pub fn acquire<N>(&self, name: N, ttl: Duration) -> Result<LockGuard>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        block_on(self.0.acquire(name, ttl)).map(LockGuard)
    }

    /// As [`crate::LockManager::try_acquire`].
    ///
    /// # Errors
    /// The same.
    pub fn try_acquire<N>(&self, name: N, ttl: Duration) -> Result<Option<LockGuard>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        Ok(block_on(self.0.try_acquire(name, ttl))?.map(LockGuard))
    }

    /// Begins an acquire with options; end it with [`LockManager::run`].
    pub fn lock<N>(&self, name: N) -> LockRequest
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        self.0.lock(name)
    }

    /// Waits for a request, as [`LockRequest::acquire`].
    ///
    /// # Errors
    /// The same.
    pub fn run(&self, request: LockRequest) -> Result<LockGuard> {
        block_on(request.acquire()).map(LockGuard)
    }

    /// Tries a request once, as [`LockRequest::try_acquire`].
    ///
    /// # Errors
    /// The same.
    pub fn try_run(&self, request: LockRequest) -> Result<Option<LockGuard>> {
        Ok(block_on(request.try_acquire())?.map(LockGuard))
    }

    /// Holds the lock while `work` runs on this thread. It cannot be stopped when the lock is lost:
    /// look at the [`LockWatch`] it is given.
    ///
    /// # Errors
    /// What an acquire fails with; `Lost` if the lock was lost before it was released.
    pub fn with_lock<N, T>(
        &self,
        name: N,
        ttl: Duration,
        work: impl FnOnce(LockWatch) -> T,
    ) -> Result<T>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let guard = self.acquire(name, ttl)?;
        let output = work(guard.0.watch());
        guard.release()?;
        Ok(output)
    }

    /// As [`crate::LockManager::list`].
    ///
    /// # Errors
    /// The same.
    pub fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        block_on(self.0.list(prefix, limit))
    }

    /// As [`crate::LockManager::force_release`].
    ///
    /// # Errors
    /// The same.
    pub fn force_release<N>(
        &self,
        name: N,
        only_if: Option<Fence>,
        reason: &str,
    ) -> Result<Vec<HolderView>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        block_on(self.0.force_release(name, only_if, reason))
    }

    /// As [`crate::LockManager::resume`].
    ///
    /// # Errors
    /// The same.
    pub fn resume(&self, token: &LockToken) -> Result<LockGuard> {
        block_on(self.0.resume(token)).map(LockGuard)
    }

    /// As [`crate::LockManager::is_locked`].
    ///
    /// # Errors
    /// The same.
    pub fn is_locked<N>(&self, name: N) -> Result<bool>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        block_on(self.0.is_locked(name))
    }

    /// As [`crate::LockManager::get_lock_info`].
    ///
    /// # Errors
    /// The same.
    pub fn get_lock_info<N>(&self, name: N) -> Result<Option<HolderView>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        block_on(self.0.get_lock_info(name))
    }

    /// As [`crate::LockManager::inspect`].
    ///
    /// # Errors
    /// The same.
    pub fn inspect<N>(&self, name: N) -> Result<View>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        block_on(self.0.inspect(name))
    }

    /// As [`crate::LockManager::shutdown`].
    ///
    /// # Errors
    /// The same.
    pub fn shutdown(&self, timeout: Duration) -> Result<()> {
        block_on(self.0.shutdown(timeout))
    }

    /// The manager underneath.
    pub fn asynchronous(&self) -> &crate::LockManager {
        &self.0
    }
}

impl LockGuard {
    /// As [`crate::LockGuard::release`].
    ///
    /// # Errors
    /// The same.
    pub fn release(self) -> Result<(), NotReleased> {
        block_on(self.0.release())
    }

    /// As [`crate::LockGuard::extend`].
    ///
    /// # Errors
    /// The same.
    pub fn extend(&mut self, ttl: Duration) -> Result<()> {
        block_on(self.0.extend(ttl))
    }

    /// The guard underneath.
    pub fn into_async(self) -> crate::LockGuard {
        self.0
    }
}

impl std::ops::Deref for LockGuard {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.0
    }
}
