//! Readers together, a writer alone.
//!
//! A reader takes one seat of as good as unlimited many, a writer all of them; both wait in the
//! same queue, so that neither starves. An upgrade goes from one seat to all of them without
//! letting go in between.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use tenure_core::{
    Actor, Error, ErrorKind, LockGuard, LockManager, LockName, LockWatch, NotReleased, Result,
    Seats,
};

use crate::support::{Place, need};

/// A read/write lock on a name; cheap to clone, and holds nothing by itself.
///
/// Readers and writers are served in the order in which they came: a reader does not pass a writer
/// that waits.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::LockManager;
/// # use tenure_recipes::RwLock;
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let table = RwLock::new(&locks, "tables/orders")?;
/// let (one, other) = (table.read().await?, table.read().await?);
/// assert!(table.try_write().await?.is_none());
/// one.release().await?;
/// other.release().await?;
/// let writer = table.write().await?;
/// println!("only I write, with fencing token {}", writer.fencing_token());
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RwLock {
    place: Place,
}

impl RwLock {
    /// A read/write lock of this name; its leases live for 30 s without renewal.
    ///
    /// # Errors
    /// `Invalid` for a bad name; `Unsupported` on stores without shared locks. Asks nobody.
    pub fn new<N>(locks: &LockManager, name: N) -> Result<Self>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        need(locks, locks.capabilities().shared, "read/write locks")?;
        Ok(Self { place: Place::new(locks, name)? })
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

    /// Waits, for ever, and reads together with others.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`](tenure_core::LockRequest::acquire).
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, whatever the store granted or queued is withdrawn.
    pub async fn read(&self) -> Result<ReadGuard> {
        self.acquire(None).await
    }

    /// Reads if that is possible now; `None` if it is not. Does not pass a writer that waits.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn try_read(&self) -> Result<Option<ReadGuard>> {
        self.try_acquire().await
    }

    /// Waits so long at most, and reads together with others.
    ///
    /// # Errors
    /// As [`RwLock::read`]; `WaitTimeout` with the holders.
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn read_within(&self, wait: Duration) -> Result<ReadGuard> {
        self.acquire(Some(wait)).await
    }

    /// Waits, for ever, and writes alone.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn write(&self) -> Result<WriteGuard> {
        self.acquire(None).await
    }

    /// Writes if nobody reads or writes now; `None` if somebody does.
    ///
    /// # Errors
    /// As [`RwLock::read`].
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn try_write(&self) -> Result<Option<WriteGuard>> {
        self.try_acquire().await
    }

    /// Waits so long at most, and writes alone.
    ///
    /// # Errors
    /// As [`RwLock::read`]; `WaitTimeout` with the holders.
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn write_within(&self, wait: Duration) -> Result<WriteGuard> {
        self.acquire(Some(wait)).await
    }

    /// Waits, for ever, and reads together with others, with the right to ask for more.
    ///
    /// Any number of readers may have that right; of those who use it one gets it at a time, see
    /// [`UpgradableGuard::upgrade`].
    ///
    /// # Errors
    /// As [`RwLock::read`]; `Unsupported` on stores without upgrade, before anything is sent.
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn upgradable_read(&self) -> Result<UpgradableGuard> {
        self.need_upgrade()?;
        self.acquire(None).await
    }

    /// Reads with the right to ask for more if that is possible now; `None` if it is not.
    ///
    /// # Errors
    /// As [`RwLock::upgradable_read`].
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn try_upgradable_read(&self) -> Result<Option<UpgradableGuard>> {
        self.need_upgrade()?;
        self.try_acquire().await
    }

    /// Waits so long at most, and reads with the right to ask for more.
    ///
    /// # Errors
    /// As [`RwLock::upgradable_read`]; `WaitTimeout` with the holders.
    ///
    /// # Cancel safety
    /// As [`RwLock::read`].
    pub async fn upgradable_read_within(&self, wait: Duration) -> Result<UpgradableGuard> {
        self.need_upgrade()?;
        self.acquire(Some(wait)).await
    }

    fn need_upgrade(&self) -> Result<()> {
        need_upgrade(&self.place.locks, &self.place.name)
    }

    async fn acquire<M: Mode>(&self, wait: Option<Duration>) -> Result<RwGuard<M>> {
        let guard = self.place.request(wait).seats(M::SEATS).acquire().await?;
        Ok(RwGuard::of(guard, self.place.locks.clone()))
    }

    async fn try_acquire<M: Mode>(&self) -> Result<Option<RwGuard<M>>> {
        let guard = self.place.request(None).seats(M::SEATS).try_acquire().await?;
        Ok(guard.map(|guard| RwGuard::of(guard, self.place.locks.clone())))
    }
}

fn need_upgrade(locks: &LockManager, name: &LockName) -> Result<()> {
    need(locks, locks.capabilities().upgrade, "upgrade and downgrade")
        .map_err(|e| e.with_lock(name))
}

mod mode {
    use tenure_core::Seats;

    /// What a guard of a read/write lock may do.
    pub(super) trait Mode {
        /// The seats that takes.
        const SEATS: Seats;
    }

    /// It reads.
    #[derive(Debug)]
    pub enum Read {}
    /// It reads, and may ask for more.
    #[derive(Debug)]
    pub enum Upgradable {}
    /// It writes.
    #[derive(Debug)]
    pub enum Write {}

    impl Mode for Read {
        const SEATS: Seats = Seats::SHARED;
    }
    impl Mode for Upgradable {
        const SEATS: Seats = Seats::SHARED;
    }
    impl Mode for Write {
        const SEATS: Seats = Seats::All;
    }
}
use mode::{Mode, Read, Upgradable, Write};

/// A read/write lock that is held; what of it is said by its type.
///
/// It is a [`LockWatch`], too: fencing token, loss, deadlines. Dropping it releases the lock.
#[must_use = "dropping it releases the lock"]
pub struct RwGuard<M> {
    guard: LockGuard,
    locks: LockManager,
    mode: PhantomData<fn() -> M>,
}

/// A read lock that is held.
pub type ReadGuard = RwGuard<Read>;
/// A read lock that is held and may become a write lock.
pub type UpgradableGuard = RwGuard<Upgradable>;
/// A write lock that is held.
pub type WriteGuard = RwGuard<Write>;

impl<M> RwGuard<M> {
    fn of(guard: LockGuard, locks: LockManager) -> Self {
        Self { guard, locks, mode: PhantomData }
    }

    fn becomes<N>(self) -> RwGuard<N> {
        RwGuard::of(self.guard, self.locks)
    }

    /// Releases the lock and hands it on.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the lock is released all the same.
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

impl UpgradableGuard {
    /// Waits until the other readers have left, and writes alone; nobody writes in between, and
    /// whoever waits comes later. `wait` of `None` waits for ever.
    ///
    /// The write lock has a new fencing token.
    ///
    /// # Errors
    /// [`NotUpgraded`] with the guard, which reads on: `Deadlock`, at once, if another reader
    /// already waits to upgrade, for each would wait for the other to leave; `WaitTimeout`;
    /// `Unreachable`, `Unknown`. `Lost` if the read lock was lost.
    ///
    /// # Cancel safety
    /// If the future is dropped, the upgrade is withdrawn and the read lock released.
    pub async fn upgrade(mut self, wait: Option<Duration>) -> Result<WriteGuard, NotUpgraded> {
        match self.guard.upgrade(wait).await {
            Ok(()) => Ok(self.becomes()),
            Err(error) => Err(NotUpgraded { guard: self, error }),
        }
    }

    /// Gives the right to ask for more away, and reads on.
    pub fn into_read(self) -> ReadGuard {
        self.becomes()
    }
}

impl WriteGuard {
    /// Reads on and lets other readers in; no writer comes in between. The fencing token stays.
    ///
    /// # Errors
    /// `Lost`; `Unsupported` on stores without upgrade; `Unreachable`, `Unknown`. In every case
    /// the guard is gone; the lock is then released.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock is released.
    pub async fn downgrade(self) -> Result<ReadGuard> {
        self.downgraded().await
    }

    /// As [`WriteGuard::downgrade`], with the right to ask for more again.
    ///
    /// # Errors
    /// As [`WriteGuard::downgrade`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock is released.
    pub async fn downgrade_to_upgradable(self) -> Result<UpgradableGuard> {
        self.downgraded().await
    }

    async fn downgraded<M>(mut self) -> Result<RwGuard<M>> {
        need_upgrade(&self.locks, self.guard.name())?;
        self.guard.downgrade(Seats::SHARED).await?;
        Ok(self.becomes())
    }
}

impl<M> Deref for RwGuard<M> {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.guard
    }
}

impl<M> fmt::Debug for RwGuard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.guard.fmt(f)
    }
}

/// An upgrade that was not to be had, and the reader that asked for it.
#[derive(Debug)]
pub struct NotUpgraded {
    guard: UpgradableGuard,
    error: Error,
}

impl NotUpgraded {
    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Whether another reader waits to upgrade, which never happens before this one leaves.
    pub fn is_deadlock(&self) -> bool {
        self.error.kind() == ErrorKind::Deadlock
    }

    /// The reader, which reads on unless it was lost.
    pub fn into_guard(self) -> UpgradableGuard {
        self.guard
    }
}

impl fmt::Display for NotUpgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for NotUpgraded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}

impl From<NotUpgraded> for Error {
    /// Drops the reader, which releases its lock.
    fn from(not: NotUpgraded) -> Self {
        not.error
    }
}
