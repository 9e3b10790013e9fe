//! Some of a number of permits, each grant with a lease of its own.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use tenure_core::{
    Actor, Error, ErrorKind, LockGuard, LockManager, LockName, LockWatch, NotReleased, Result,
    Seats,
};

use crate::support::{Place, need};

/// A number of permits on a name; cheap to clone, and holds none by itself.
///
/// Whoever holds permits and dies gives them back with the end of its lease. Those who wait are
/// served in order: who wants many is not starved by those who want few.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::LockManager;
/// # use tenure_recipes::Semaphore;
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let connections = Semaphore::new(&locks, "db/connections", 5)?;
/// let mine = connections.acquire_many(3).await?;
/// assert_eq!(connections.available().await?, 2);
/// mine.release().await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    place: Place,
    permits: u32,
}

impl Semaphore {
    /// `permits` permits under this name; leases live for 30 s without renewal. Everybody who uses
    /// the name says the same number.
    ///
    /// # Errors
    /// `Invalid` for a bad name or no permits; `Unsupported` on stores without permits. Asks
    /// nobody.
    pub fn new<N>(locks: &LockManager, name: N, permits: u32) -> Result<Self>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        need(locks, locks.capabilities().permits, "semaphores")?;
        if permits == 0 {
            return Err(Error::new(ErrorKind::Invalid, "a semaphore has at least 1 permit"));
        }
        Ok(Self { place: Place::new(locks, name)?, permits })
    }

    /// How long a lease lives without renewal, 100 ms to 30 days; renewal is automatic.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.place.ttl = ttl;
        self
    }

    /// Who holds and waits, for finding deadlocks: an [`Actor`] that other locks are held by, too.
    #[must_use]
    pub fn actor(mut self, actor: &Actor) -> Self {
        self.place.actor = Some(actor.clone());
        self
    }

    /// How many permits there are in all.
    pub fn permits(&self) -> u32 {
        self.permits
    }

    /// How many permits nobody holds at this moment. For people: it may be another number by the
    /// time it is read.
    ///
    /// # Errors
    /// As [`LockManager::inspect`].
    pub async fn available(&self) -> Result<u32> {
        let view = self.place.locks.inspect(&self.place.name).await?;
        let taken = view.holders.iter().map(|holder| match holder.seats {
            Seats::Some { take, .. } => take,
            _ => self.permits,
        });
        Ok(taken.fold(self.permits, u32::saturating_sub))
    }

    /// Waits, for ever, and holds one permit.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`](tenure_core::LockRequest::acquire); `Mismatch` if others who
    /// hold or wait count another number of permits.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, whatever the store granted or queued is withdrawn.
    pub async fn acquire(&self) -> Result<Permits> {
        self.acquire_many(1).await
    }

    /// Waits, for ever, and holds `count` permits, all or none of them, under one lease.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`]; `Invalid` for none, or more than there are.
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn acquire_many(&self, count: u32) -> Result<Permits> {
        let request = self.place.request(None).permits(count, self.permits);
        Ok(Permits { guard: request.acquire().await?, count })
    }

    /// Holds one permit if one is free now; `None` if not. Does not pass those who wait.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<Permits>> {
        self.try_acquire_many(1).await
    }

    /// Holds `count` permits if so many are free now; `None` if not.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_many`].
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn try_acquire_many(&self, count: u32) -> Result<Option<Permits>> {
        let request = self.place.request(None).permits(count, self.permits);
        Ok(request.try_acquire().await?.map(|guard| Permits { guard, count }))
    }

    /// Waits so long at most, and holds one permit.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`]; `WaitTimeout` with the holders.
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn acquire_within(&self, wait: Duration) -> Result<Permits> {
        self.acquire_many_within(1, wait).await
    }

    /// Waits so long at most, and holds `count` permits, all or none of them.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_many`]; `WaitTimeout` with the holders.
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn acquire_many_within(&self, count: u32, wait: Duration) -> Result<Permits> {
        let request = self.place.request(Some(wait)).permits(count, self.permits);
        Ok(Permits { guard: request.acquire().await?, count })
    }
}

/// Permits that are held, under one lease.
///
/// It is a [`LockWatch`], too: fencing token, loss, deadlines. Dropping it gives the permits back.
#[must_use = "dropping it gives the permits back"]
pub struct Permits {
    guard: LockGuard,
    count: u32,
}

impl Permits {
    /// How many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Gives the permits back and hands them on.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, they are given back all the same.
    pub async fn release(self) -> Result<(), NotReleased> {
        self.guard.release().await
    }

    /// Sets how long the lease lives without renewal, counted from now.
    ///
    /// # Errors
    /// As [`LockGuard::extend`].
    ///
    /// # Cancel safety
    /// As [`LockGuard::extend`].
    pub async fn extend(&mut self, ttl: Duration) -> Result<()> {
        self.guard.extend(ttl).await
    }
}

impl Deref for Permits {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.guard
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permits").field("count", &self.count).field("guard", &self.guard).finish()
    }
}
