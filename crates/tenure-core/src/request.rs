//! Everything an acquire can be asked for, as a builder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Acquired, Progress, Wish, acquire};
use crate::actor::Actor;
use crate::backend::Claim;
use crate::conflict::{Conflict, RetryConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::{LockGuard, LockWatch};
use crate::manager::Inner;
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::token::Token;
use crate::values::{Priority, Seats, Ttl};
use crate::view::{HolderView, ValueView};

/// How an acquire that accepts a value ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// The lock is held.
    Held(LockGuard),
    /// A live value answered instead; nothing is held.
    Value(ValueView),
}

/// One acquire to be: made by [`LockManager::lock`](crate::LockManager::lock).
///
/// What is not said: exclusive, ttl 30 s renewed every ttl/3, waits for ever in the queue.
#[must_use = "nothing is asked for until `acquire` or `try_acquire`"]
pub struct LockRequest {
    inner: Arc<Inner>,
    name: Result<LockName>,
    seats: Result<Seats>,
    ttl: Duration,
    wait_timeout: Option<Duration>,
    conflict: Conflict,
    retry: Option<RetryConfig>,
    priority: Result<Priority>,
    owner: Option<Result<Owner>>,
    actor: Option<Actor>,
    metadata: Option<serde_json::Value>,
    auto_renew: bool,
    renew_every: Option<Duration>,
    progress: Option<Progress>,
}

impl LockRequest {
    pub(crate) fn new(inner: Arc<Inner>, name: Result<LockName>) -> Self {
        Self {
            inner,
            name,
            seats: Ok(Seats::All),
            ttl: Ttl::DEFAULT.get(),
            wait_timeout: None,
            conflict: Conflict::Wait,
            retry: None,
            priority: Ok(Priority::default()),
            owner: None,
            actor: None,
            metadata: None,
            auto_renew: true,
            renew_every: None,
            progress: None,
        }
    }

    /// How long the lease lives without renewal: 100 ms to 30 days, 30 s if not said.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How long to wait for the lock; without it for ever.
    pub fn wait_timeout(mut self, wait: Duration) -> Self {
        self.wait_timeout = Some(wait);
        self
    }

    /// One seat of unlimited many: a reader.
    pub fn shared(mut self) -> Self {
        self.seats = Ok(Seats::SHARED);
        self
    }

    /// `take` permits of `of`: a semaphore. All users of the name must say the same `of`.
    pub fn permits(mut self, take: u32, of: u32) -> Self {
        self.seats = Seats::permits(take, of);
        self
    }

    /// These seats.
    pub fn seats(mut self, seats: Seats) -> Self {
        self.seats = seats.check();
        self
    }

    /// A head start in the queue: each point counts as 30 s of waiting. -1000 to 1000.
    pub fn priority(mut self, points: i32) -> Self {
        self.priority = Priority::new(points);
        self
    }

    /// JSON that others can read, 16 KiB at most.
    pub fn metadata(mut self, metadata: serde_json::Value) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// The owner's label, instead of the manager's.
    pub fn owner(mut self, label: impl AsRef<str>) -> Self {
        self.owner = Some(Owner::labelled(label.as_ref()));
        self
    }

    /// The logical task this belongs to: with it a deadlock is found, if the store can tell, and one of
    /// those who are in it gets `Deadlock`.
    pub fn actor(mut self, actor: &Actor) -> Self {
        self.actor = Some(actor.clone());
        self
    }

    /// What to do when somebody else holds the lock.
    pub fn on_conflict(mut self, conflict: Conflict) -> Self {
        self.conflict = conflict;
        self
    }

    /// Tries so often instead of waiting in the queue, and ends `Busy`.
    pub fn retry(mut self, retry: RetryConfig) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Whether the lease is renewed by itself; if not, it ends after its ttl.
    pub fn auto_renew(mut self, renew: bool) -> Self {
        self.auto_renew = renew;
        self
    }

    /// How often the lease is renewed, instead of every ttl/3; at most every ttl/2.
    pub fn renew_every(mut self, every: Duration) -> Self {
        self.renew_every = Some(every);
        self
    }

    /// Calls `progress` whenever something new is known about the wait: who holds the lock, and
    /// how many are ahead.
    pub fn on_wait(
        mut self,
        progress: impl Fn(&[HolderView], usize) + Send + Sync + 'static,
    ) -> Self {
        self.progress = Some(Progress(Arc::new(progress)));
        self
    }

    /// Waits for the lock and holds it.
    ///
    /// # Errors
    /// `WaitTimeout` or `Busy` with the holders; `Invalid`, `Unsupported`, `Mismatch`,
    /// `Unreachable`, `Denied`, `Corrupt`; `Deadlock` with the cycle, if an actor was named;
    /// `Unknown` never leaves anything held.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, whatever the store granted or queued is withdrawn.
    pub async fn acquire(self) -> Result<LockGuard> {
        match self.run(false).await? {
            Acquired::Guard(guard) => Ok(guard),
            Acquired::Busy(error) => Err(error),
            Acquired::Value(_) => Err(unasked_value()),
        }
    }

    /// Takes the lock if it is free now; `None` if it is not. Does not overtake whoever waits.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`], without `WaitTimeout` and `Busy`.
    ///
    /// # Cancel safety
    /// As [`LockRequest::acquire`].
    pub async fn try_acquire(mut self) -> Result<Option<LockGuard>> {
        self.wait_timeout = Some(Duration::ZERO);
        match self.run(false).await {
            Ok(Acquired::Guard(guard)) => Ok(Some(guard)),
            Ok(Acquired::Busy(_)) => Ok(None),
            Ok(Acquired::Value(_)) => Err(unasked_value()),
            Err(error) if error.kind().is_not_acquired() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the lock, or for its value: a live value on a free lock, or one that a holder
    /// releases with, is the answer instead.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`]; `Unsupported` on stores without values.
    ///
    /// # Cancel safety
    /// As [`LockRequest::acquire`].
    pub async fn acquire_or_value(self) -> Result<Answer> {
        match self.run(true).await? {
            Acquired::Guard(guard) => Ok(Answer::Held(guard)),
            Acquired::Value(value) => Ok(Answer::Value(value)),
            Acquired::Busy(error) => Err(error),
        }
    }

    /// Holds the lock while `work` runs, and drops `work` when the lock is lost.
    ///
    /// # Errors
    /// What [`LockRequest::acquire`] fails with, before `work` has begun; `Lost` if the lock was
    /// lost before `work` was done and the lock released; `Unknown` if the release was not
    /// confirmed.
    ///
    /// # Cancel safety
    /// If the future is dropped, `work` is dropped and the lock released.
    pub async fn with_lock<F, W>(self, work: F) -> Result<W::Output>
    where
        F: FnOnce(LockWatch) -> W,
        W: Future,
    {
        let guard = self.acquire().await?;
        let work = async { Ok(work(guard.watch()).await) };
        let lost = async { Err(guard.lost().await) };
        let output = futures_lite::future::or(lost, work)
            .await
            .map_err(|reason| guard.context(Error::from(reason).with_operation("holding")))?;
        guard.release().await?;
        Ok(output)
    }

    async fn run(mut self, or_value: bool) -> Result<Acquired> {
        let wish = match self.wish(or_value) {
            Ok(wish) => wish,
            Err(error) => {
                return Err(self.inner.context(error, "acquiring", self.name.as_ref().ok()));
            }
        };
        acquire(self.inner, wish).await
    }

    fn wish(&mut self, or_value: bool) -> Result<Wish> {
        let name = self.name.clone()?;
        let (seats, priority) = (self.seats.clone()?, self.priority.clone()?);
        self.inner.check_ttl(self.ttl)?;
        if let Some(retry) = &self.retry {
            retry.check()?;
        }
        let renew_every = match (self.auto_renew, self.renew_every) {
            (false, _) => None,
            (true, None) => Some(self.ttl / 3),
            (true, Some(every)) if every <= self.ttl / 2 && !every.is_zero() => Some(every),
            (true, Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "`renew_every` lies between 0 and half the ttl",
                ));
            }
        };
        let plain = self.owner.is_none() && self.metadata.is_none() && self.actor.is_none();
        let details = if plain {
            self.inner.details(renew_every)
        } else {
            Arc::new(self.details(renew_every)?)
        };
        let tries_once = self.wait_timeout == Some(Duration::ZERO)
            || self.conflict == Conflict::Fail
            || self.retry.is_some();
        let mut claim = Claim::new(name, Token::random(), self.ttl, details);
        claim.seats = seats;
        claim.priority = priority;
        claim.or_value = or_value;
        let queues = self.inner.backend().capabilities().fifo;
        claim.wait = !tries_once && queues;
        claim.asks_again = !tries_once && !queues;
        if self.conflict == Conflict::Force {
            claim.force = Some("forced by its conflict strategy".into());
        }
        self.inner.check_claim(&claim, self.conflict)?;
        Ok(Wish {
            claim,
            renew_every,
            wait_timeout: self.wait_timeout,
            conflict: self.conflict,
            retry: self.retry,
            actor: self.actor.take(),
            progress: self.progress.take(),
        })
    }

    fn details(&self, renews_every: Option<Duration>) -> Result<Details> {
        let owner = self.owner.clone().unwrap_or_else(|| Ok(self.inner.owner().clone()))?;
        let mut details = Details::of(owner).renewing_every(renews_every);
        if let Some(metadata) = &self.metadata {
            details = details.with_metadata(metadata)?;
        }
        if let Some(actor) = &self.actor {
            details = self.inner.acting(details, actor);
        }
        Ok(details)
    }
}

fn unasked_value() -> Error {
    Error::new(ErrorKind::Corrupt, "the store answered with a value that nobody asked for")
}

impl fmt::Debug for LockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockRequest")
            .field("name", &self.name)
            .field("seats", &self.seats)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
