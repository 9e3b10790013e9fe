//! The front: a manager of locks on one store.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Serialize;

use crate::alarm::before;
use crate::backend::{DynBackend, Evicted, Eviction, Listener, Reason};
use crate::capability::Capabilities;
use crate::claims::{GoneHook, Members, Waiters};
use crate::clock::{Clock, SystemClock};
use crate::deadlock::CHECK_AFTER;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::{LockGuard, LockWatch};
use crate::keeper::Keeper;
use crate::lease::Timed;
use crate::loss::LossReason;
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::name::LockName;
use crate::owner::Owner;
use crate::request::LockRequest;
use crate::stripes::Stripes;
use crate::values::Fence;
use crate::view::{HolderView, View};
use crate::watch::Watch;

mod inner;

pub(crate) use self::inner::Inner;

/// How long a call that only asks may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Locks on one store. Cheap to clone; clones are the same manager.
///
/// One thread per manager renews everything that is held. When the last clone and the last guard
/// are gone, the thread finishes what was handed to it and ends.
///
/// ```
/// # use std::time::Duration;
/// # async fn example(locks: tenure_core::LockManager) -> tenure_core::Result<()> {
/// let guard = locks.acquire("orders/42", Duration::from_secs(30)).await?;
/// println!("fencing token {}", guard.fencing_token());
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LockManager {
    pub(crate) inner: Arc<Inner>,
}

/// What makes a [`LockManager`].
pub struct LockManagerBuilder {
    backend: Arc<dyn DynBackend>,
    clock: Arc<dyn Clock>,
    owner: Option<Owner>,
    deadlock_check_after: Option<Duration>,
}

impl LockManagerBuilder {
    /// Times by this clock; for tests. A backend with a clock of its own must have the same one.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Owns what it holds under this name, instead of host and pid.
    #[must_use]
    pub fn owner(mut self, owner: Owner) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Looks for a deadlock after a claim with an [`Actor`](crate::Actor) has waited for so long, and then every five
    /// times that; `None` never does. 1 s if not said.
    #[must_use]
    pub fn deadlock_check_after(mut self, after: Option<Duration>) -> Self {
        self.deadlock_check_after = after;
        self
    }

    /// Makes the manager and starts its thread.
    ///
    /// # Errors
    /// `Unreachable` if the system gives no thread or descriptors for it.
    pub fn build(self) -> Result<LockManager> {
        let metrics = Arc::new(Metrics::new(self.backend.capabilities().kind));
        let waiters = Arc::new(Waiters::default());
        let keeper = Keeper::new(self.clock, metrics, waiters.clone());
        let hook_keeper = Arc::downgrade(&keeper);
        waiters.on_gone(GoneHook(Box::new(move |members, departure| {
            lose_members(&hook_keeper, members, &LossReason::from(departure));
        })));
        let listener: Weak<Waiters> = Arc::downgrade(&waiters);
        self.backend.subscribe(listener as Weak<dyn Listener>);
        keeper.start(self.backend.clone()).map_err(|e| {
            Error::new(ErrorKind::Unreachable, "the keeper's thread could not be started")
                .with_help("the process is out of threads or descriptors: see `ulimit -u -n`")
                .with_source(e)
        })?;
        let owner = self.owner.unwrap_or_else(Owner::this_process);
        let can_tell = self.backend.capabilities().deadlocks;
        Ok(LockManager {
            inner: Arc::new(Inner {
                address: self.backend.address(),
                backend: self.backend,
                keeper,
                owner,
                plain_details: Stripes::default(),
                deadlock_check_after: self.deadlock_check_after.filter(|_| can_tell),
                closed: AtomicBool::new(false),
                pid: std::process::id(),
            }),
        })
    }
}

impl fmt::Debug for LockManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManagerBuilder").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Whether the store answers.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The store, credentials masked.
    pub store: Arc<str>,
    /// Whether it answered.
    pub up: bool,
    /// How long it took.
    pub latency: Duration,
    /// What went wrong, if it did not answer.
    pub error: Option<String>,
    /// The same, for programs: its kind says whether the store is out of reach, or refused us.
    #[serde(skip)]
    pub cause: Option<Error>,
}

impl LockManager {
    /// Begins a manager over a store.
    pub fn builder(backend: Arc<dyn DynBackend>) -> LockManagerBuilder {
        LockManagerBuilder {
            backend,
            clock: Arc::new(SystemClock),
            owner: None,
            deadlock_check_after: Some(CHECK_AFTER),
        }
    }

    /// A manager over a store, with everything by default.
    ///
    /// # Errors
    /// As [`LockManagerBuilder::build`].
    pub fn new(backend: Arc<dyn DynBackend>) -> Result<Self> {
        Self::builder(backend).build()
    }

    /// Begins an acquire with options.
    pub fn lock<N>(&self, name: N) -> LockRequest
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        LockRequest::new(self.inner.clone(), name.try_into().map_err(Into::into))
    }

    /// Waits for the lock, for ever, and holds it exclusively.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`].
    ///
    /// # Cancel safety
    /// As [`LockRequest::acquire`].
    pub async fn acquire<N>(&self, name: N, ttl: Duration) -> Result<LockGuard>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        self.lock(name).ttl(ttl).acquire().await
    }

    /// Takes the lock exclusively if it is free now; `None` if it is not.
    ///
    /// # Errors
    /// As [`LockRequest::try_acquire`].
    ///
    /// # Cancel safety
    /// As [`LockRequest::acquire`].
    pub async fn try_acquire<N>(&self, name: N, ttl: Duration) -> Result<Option<LockGuard>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        self.lock(name).ttl(ttl).try_acquire().await
    }

    /// Holds the lock while `work` runs, and drops `work` when the lock is lost.
    ///
    /// # Errors
    /// What an acquire fails with; `Lost` if the lock was lost before `work` was done and the
    /// lock released; `Unknown` if the release was not confirmed.
    ///
    /// # Cancel safety
    /// If the future is dropped, `work` is dropped and the lock released.
    pub async fn with_lock<N, F, W>(&self, name: N, ttl: Duration, work: F) -> Result<W::Output>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
        F: FnOnce(LockWatch) -> W,
        W: Future,
    {
        self.lock(name).ttl(ttl).with_lock(work).await
    }

    /// Whether anybody holds the lock.
    ///
    /// # Errors
    /// As [`LockManager::inspect`].
    pub async fn is_locked<N>(&self, name: N) -> Result<bool>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        Ok(self.inspect(name).await?.is_locked())
    }

    /// Who holds the lock; the oldest holder of a shared one. Never a token.
    ///
    /// # Errors
    /// As [`LockManager::inspect`].
    pub async fn get_lock_info<N>(&self, name: N) -> Result<Option<HolderView>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        Ok(self.inspect(name).await?.holders.into_iter().next())
    }

    /// The lock as it stands: holders, waiters, fence, value.
    ///
    /// # Errors
    /// `Invalid` for a bad name; `Unreachable`, `Denied`, `Corrupt`.
    pub async fn inspect<N>(&self, name: N) -> Result<View>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let name = name.try_into().map_err(Into::into)?;
        let view = self.inner.limited(self.inner.backend.inspect(&name)).await;
        view.map_err(|e| self.inner.context(e, "reading", Some(&name)))
    }

    /// Sets how long the guard's lease lives without renewal; as [`LockGuard::extend`].
    ///
    /// # Errors
    /// As [`LockGuard::extend`].
    pub async fn extend(&self, guard: &mut LockGuard, ttl: Duration) -> Result<()> {
        guard.extend(ttl).await
    }

    /// The locks whose names begin with `prefix` and that are held, waited for or keep a value,
    /// by name, `limit` at most.
    ///
    /// # Errors
    /// `Unsupported` on stores without a list; `Unreachable`, `Denied`.
    pub async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<View>> {
        self.inner.check(self.capabilities().list, "listing locks")?;
        let views = self.inner.limited(self.inner.backend.list(prefix, limit)).await;
        views.map_err(|e| self.inner.context(e, "listing", None))
    }

    /// Watches the locks whose names begin with `prefix`.
    ///
    /// # Errors
    /// `Unsupported` on stores without a list.
    pub fn watch(&self, prefix: &str) -> Result<Watch> {
        self.inner.check(self.capabilities().list, "watching locks")?;
        Ok(Watch::new(self.clone(), prefix.into()))
    }

    /// Ends somebody else's lease: only that of the holder with the fence `only_if`, or of all
    /// holders if that is `None`. The fence is raised above theirs: a fenced resource refuses the old
    /// holder as soon as it has seen a newer fence, that of the next holder or the raised one of
    /// [`LockManager::inspect`]. The old holder is told who did it and why, with its next renewal
    /// at the latest.
    ///
    /// # Errors
    /// `NotHeld` if nobody, or another fence, holds it; `Invalid` for an empty reason;
    /// `Unsupported`.
    pub async fn force_release<N>(
        &self,
        name: N,
        only_if: Option<Fence>,
        reason: &str,
    ) -> Result<Vec<HolderView>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let name = name.try_into().map_err(Into::into)?;
        let reason = Reason::new(self.inner.owner.label.clone(), reason)?;
        self.inner.check(self.capabilities().force_release, "force release")?;
        let why = Eviction { only_if, stolen: false, reason };
        let evicted = self.inner.limited(self.inner.backend.evict(&name, &why)).await;
        let context = |e: Error| self.inner.context(e, "force-releasing", Some(&name));
        match evicted.map_err(context)? {
            Evicted::Done(victims) => {
                tracing::warn!(lock = %name, count = victims.len(), "force-released");
                Ok(victims)
            }
            Evicted::NobodyThere => Err(context(Error::new(ErrorKind::NotHeld, "nobody holds it"))),
            Evicted::FenceMoved(holders) => Err(context(
                Error::new(ErrorKind::NotHeld, "the holder with that fence is gone")
                    .with_help("look again who holds it now; nothing was changed")
                    .with_holders(holders),
            )),
        }
    }

    /// Asks the store whether it is there.
    pub async fn health(&self) -> Health {
        let clock = self.inner.clock();
        let asked = clock.now();
        let answer = self.inner.limited(self.inner.backend.ping()).await;
        self.inner.metrics().store_up(answer.is_ok());
        Health {
            store: self.inner.address(),
            up: answer.is_ok(),
            latency: clock.now().since(asked),
            error: answer.as_ref().err().map(ToString::to_string),
            cause: answer.err(),
        }
    }

    /// Ends all waiting, releases everything that is held, and finishes what was handed to the
    /// janitor. Guards that are still around are lost.
    ///
    /// # Errors
    /// `Unknown` if not everything was released within `timeout`; what is left ends by its ttl.
    pub async fn shutdown(&self, timeout: Duration) -> Result<()> {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.waiters().wake_all();
        let keeper = &self.inner.keeper;
        for timed in keeper.timers.all() {
            if let Timed::Lease(lease) = timed {
                keeper.lose(&lease, LossReason::ShutDown);
                keeper.give_back(&lease);
            }
        }
        let limit = keeper.sleep_until(self.inner.clock().now().plus(timeout));
        if before(limit, keeper.janitor.idle()).await.is_some() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unknown,
            format!("{} locks were not released in time", keeper.janitor.open()),
        )
        .with_help("they are free after their ttl")
        .with_store(&self.inner.address()))
    }

    /// Waits until everything that was dropped so far is released at the store; for the end of a
    /// program.
    ///
    /// # Errors
    /// `Unknown` if that took longer than `timeout`; what is left ends by its ttl.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let keeper = &self.inner.keeper;
        let limit = keeper.sleep_until(self.inner.clock().now().plus(timeout));
        before(limit, keeper.janitor.idle()).await.ok_or_else(|| {
            Error::new(ErrorKind::Unknown, "not everything was released in time")
                .with_store(&self.inner.address())
        })
    }

    /// The numbers of this manager since it was made.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.inner.metrics().snapshot()
    }

    /// What the store can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.inner.backend.capabilities()
    }

    /// The store's address, credentials masked.
    pub fn store(&self) -> Arc<str> {
        self.inner.address()
    }

    /// The owner of what this manager holds.
    pub fn owner(&self) -> &Owner {
        &self.inner.owner
    }

    /// The clock that everything is timed by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.inner.clock()
    }

    /// The store-level key or keys of a name, for people who join in with other tools.
    ///
    /// # Errors
    /// `Invalid` for a bad name.
    pub fn keys<N>(&self, name: N) -> Result<Vec<(&'static str, String)>>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let name = name.try_into().map_err(Into::into)?;
        Ok(self.inner.backend.keys(&name))
    }

    /// Resolves at a moment of the manager's clock, on any runtime, also across suspend.
    pub async fn sleep_until(&self, at: crate::clock::Moment) {
        self.inner.keeper.sleep_until(at).await;
    }

    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        self.inner.waiters()
    }

    pub(crate) fn timers(&self) -> &Arc<crate::timers::Timers<Timed>> {
        &self.inner.keeper.timers
    }
}

impl fmt::Debug for LockManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockManager").field("store", &self.inner.address).finish_non_exhaustive()
    }
}

/// The store told that members were ended by somebody else. All leases are looked at, so once for all
/// members.
fn lose_members(keeper: &Weak<Keeper>, members: &Members, reason: &LossReason) {
    let Some(keeper) = keeper.upgrade() else {
        return;
    };
    for timed in keeper.timers.all() {
        if let Timed::Lease(lease) = timed
            && members.contains(&lease.id)
        {
            keeper.lose(&lease, reason.clone());
        }
    }
}
