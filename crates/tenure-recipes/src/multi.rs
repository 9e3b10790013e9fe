//! Several locks as one: all of them or none.
//!
//! Everybody acquires in the order of the names' bytes, whatever order it was given, so that no two
//! wait for each other in a circle.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use futures_lite::future::or;
use futures_util::future::{join_all, select_all};
use tenure_core::clock::Moment;
use tenure_core::{
    Actor, Error, ErrorKind, Fence, LockGuard, LockManager, LockName, LockWatch, LossReason,
    NotReleased, Result, Ttl,
};

/// Several names to be locked together; cheap to make, and holds nothing by itself.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::LockManager;
/// # use tenure_recipes::MultiLock;
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let accounts = MultiLock::new(&locks, ["accounts/7", "accounts/3"])?;
/// let both = accounts.acquire().await?;
/// println!("{:?}", both.fencing_token("accounts/3"));
/// both.release().await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MultiLock {
    locks: LockManager,
    /// In the global order, each once.
    names: Vec<LockName>,
    ttl: Duration,
    actor: Option<Actor>,
}

impl MultiLock {
    /// The most names that are locked together.
    pub const MAX_NAMES: usize = 1024;

    /// These names, in any order; one that is named twice is locked once.
    ///
    /// # Errors
    /// `Invalid` for a bad name, no name, or more than [`MultiLock::MAX_NAMES`]. Asks nobody.
    pub fn new<N>(locks: &LockManager, names: impl IntoIterator<Item = N>) -> Result<Self>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let mut all = Vec::new();
        for name in names.into_iter().take(Self::MAX_NAMES + 1) {
            all.push(name.try_into().map_err(Into::into)?);
        }
        if all.is_empty() || Self::MAX_NAMES < all.len() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a multi-lock has 1 to {} names", Self::MAX_NAMES),
            ));
        }
        all.sort_unstable();
        all.dedup();
        Ok(Self { locks: locks.clone(), names: all, ttl: Ttl::DEFAULT.get(), actor: None })
    }

    /// How long each lease lives without renewal, 100 ms to 30 days; renewal is automatic.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Who holds and waits, for finding deadlocks: an [`Actor`] that other locks are held by, too.
    #[must_use]
    pub fn actor(mut self, actor: &Actor) -> Self {
        self.actor = Some(actor.clone());
        self
    }

    /// The names, in the order in which they are acquired.
    pub fn names(&self) -> &[LockName] {
        &self.names
    }

    /// Waits for all locks, for ever, and holds them.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`](tenure_core::LockRequest::acquire), naming the lock that
    /// failed; `Lost` if one that was held already was lost while another was waited for. Whatever
    /// was acquired by then is given back first.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, everything that was granted or queued is given back.
    pub async fn acquire(&self) -> Result<MultiGuard> {
        self.take(None).await
    }

    /// Holds all locks if all are free now; `None`, and nothing held, if one is not.
    ///
    /// # Errors
    /// As [`MultiLock::acquire`].
    ///
    /// # Cancel safety
    /// As [`MultiLock::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<MultiGuard>> {
        match self.take(Some(Duration::ZERO)).await {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.kind().is_not_acquired() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits so long at most for all locks together, and holds them.
    ///
    /// # Errors
    /// As [`MultiLock::acquire`]; `WaitTimeout` or `Busy` with the holders of the lock that was not
    /// free.
    ///
    /// # Cancel safety
    /// As [`MultiLock::acquire`].
    pub async fn acquire_within(&self, wait: Duration) -> Result<MultiGuard> {
        self.take(Some(wait)).await
    }

    async fn take(&self, wait: Option<Duration>) -> Result<MultiGuard> {
        let until = wait.map(|wait| self.locks.clock().now().plus(wait));
        let mut taken = MultiGuard::empty(self.names.len());
        for name in &self.names {
            match self.next(name, until, &taken).await {
                Ok(guard) => taken.push(guard),
                Err(error) => {
                    // What is not confirmed here the janitors go on with.
                    let _ = taken.release().await;
                    return Err(error);
                }
            }
        }
        taken.check()?;
        Ok(taken)
    }

    /// Waits for the next lock, or for the loss of one that is held already.
    async fn next(
        &self,
        name: &LockName,
        until: Option<Moment>,
        taken: &MultiWatch,
    ) -> Result<LockGuard> {
        let mut request = self.locks.lock(name).ttl(self.ttl);
        if let Some(actor) = &self.actor {
            request = request.actor(actor);
        }
        if let Some(until) = until {
            request = request.wait_timeout(until.since(self.locks.clock().now()));
        }
        let lost = async {
            let lost = taken.lost().await;
            Err(Error::from(lost).with_store(&self.locks.store()))
        };
        or(request.acquire(), lost).await
    }
}

/// What may be seen of several locks that are held together; cheap to hand to the tasks that work
/// under them.
///
/// It does not keep the locks: when the [`MultiGuard`] is released or dropped, it says so.
#[derive(Clone, Debug)]
pub struct MultiWatch {
    watches: Vec<LockWatch>,
}

impl MultiWatch {
    /// The locks, in the order in which they were acquired.
    pub fn locks(&self) -> &[LockWatch] {
        &self.watches
    }

    /// The fencing token of one of the locks; `None` if it is none of them.
    pub fn fencing_token(&self, name: &str) -> Option<Fence> {
        let watch = self.watches.iter().find(|watch| watch.name().as_str() == name)?;
        Some(watch.fencing_token())
    }

    /// Whether all locks are held at this moment, by this process's own clock.
    pub fn is_valid(&self) -> bool {
        self.watches.iter().all(LockWatch::is_valid)
    }

    /// How long all of them stay valid if nothing is renewed any more; zero once one is lost.
    pub fn remaining(&self) -> Duration {
        self.watches.iter().map(LockWatch::remaining).min().unwrap_or_default()
    }

    /// Says why not all locks are held any more, if so. Asks nobody: costs no I/O.
    ///
    /// # Errors
    /// As [`LockWatch::check`], naming the first lock that is not held.
    pub fn check(&self) -> Result<()> {
        self.watches.iter().try_for_each(LockWatch::check)
    }

    /// Resolves when the first of the locks is lost, no later than its deadline, and says which.
    ///
    /// # Cancel safety
    /// Cancel safe: it only observes.
    pub async fn lost(&self) -> LostLock {
        let losses = self.watches.iter().map(|watch| {
            Box::pin(async { LostLock { name: watch.name().clone(), reason: watch.lost().await } })
        });
        if self.watches.is_empty() {
            return std::future::pending().await;
        }
        select_all(losses).await.0
    }
}

/// Several locks that are held together.
///
/// It is a [`MultiWatch`], too. Dropping it releases all of them.
#[derive(Debug)]
#[must_use = "dropping it releases the locks"]
pub struct MultiGuard {
    watch: MultiWatch,
    guards: Vec<LockGuard>,
}

impl MultiGuard {
    fn empty(capacity: usize) -> Self {
        let watch = MultiWatch { watches: Vec::with_capacity(capacity) };
        Self { watch, guards: Vec::with_capacity(capacity) }
    }

    fn push(&mut self, guard: LockGuard) {
        self.watch.watches.push(guard.watch());
        self.guards.push(guard);
    }

    /// A view of these locks for the tasks that work under them.
    pub fn watch(&self) -> MultiWatch {
        self.watch.clone()
    }

    /// Releases all locks at the same time.
    ///
    /// # Errors
    /// [`NotAllReleased`] with each lock that was not, and why; the others are released.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, all of them are released all the same.
    pub async fn release(self) -> Result<(), NotAllReleased> {
        let releases = self.guards.into_iter().map(|guard| async {
            let name = guard.name().clone();
            guard.release().await.err().map(|why| (name, why))
        });
        let failed: Vec<_> = join_all(releases).await.into_iter().flatten().collect();
        if failed.is_empty() { Ok(()) } else { Err(NotAllReleased { failed }) }
    }
}

impl Deref for MultiGuard {
    type Target = MultiWatch;
    fn deref(&self) -> &MultiWatch {
        &self.watch
    }
}

/// Which of several locks was lost, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LostLock {
    /// The lock.
    pub name: LockName,
    /// Why.
    pub reason: LossReason,
}

impl fmt::Display for LostLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is lost: {}", self.name, self.reason)
    }
}

impl std::error::Error for LostLock {}

impl From<LostLock> for Error {
    fn from(lost: LostLock) -> Self {
        Error::from(lost.reason).with_lock(&lost.name)
    }
}

/// Locks that were to be released together and were not, each with the reason.
#[derive(Clone, Debug)]
pub struct NotAllReleased {
    failed: Vec<(LockName, NotReleased)>,
}

impl NotAllReleased {
    /// Each lock whose release failed, and how; at least one.
    pub fn failed(&self) -> &[(LockName, NotReleased)] {
        &self.failed
    }
}

impl fmt::Display for NotAllReleased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, why)) in self.failed.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{name:?}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for NotAllReleased {}

impl From<NotAllReleased> for Error {
    /// The error of the first lock.
    fn from(not: NotAllReleased) -> Self {
        let (name, why) = not.failed.into_iter().next().expect("at least one failed");
        Error::from(why).with_lock(&name)
    }
}
