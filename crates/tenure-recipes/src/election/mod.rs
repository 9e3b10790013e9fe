//! One leader among candidates.
//!
//! A leader is whoever holds the election's lock, and its term is the fence of that grant: terms
//! only grow, and a resource that compares them refuses a leader that was replaced. In reading
//! order: [`Election`] is the candidate, [`Leadership`] the term, [`Observer`] everybody else.

mod leadership;
mod notice;
mod observe;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use tenure_core::{
    Actor, Error, ErrorKind, Fence, LockGuard, LockManager, LockName, LockRequest, LockWatch,
    NotReleased, Result, RetryConfig,
};

pub use leadership::{Leadership, StoppedLeading};
pub use observe::{Leader, Observer};

use crate::support::{Place, need};
use notice::Callbacks;

/// A candidate of an election; cheap to clone, and leads nothing by itself.
///
/// It needs nothing of a store but a lock. Candidates wait in the queue and the next one leads as
/// soon as the leader resigns, or when the lease of one that died is over.
///
/// ```
/// # use std::sync::Arc;
/// # use tenure_core::LockManager;
/// # use tenure_recipes::Election;
/// # fn main() -> tenure_core::Result<()> {
/// # let locks = LockManager::new(Arc::new(tenure_backend_memory::MemoryBackend::new()))?;
/// # futures_lite::future::block_on(async {
/// let election = Election::new(&locks, "scheduler")?;
/// let leadership = election.campaign().await?;
/// leadership.proclaim("10.0.0.7:9000").await?;
/// let leader = election.leader().await?.expect("we lead");
/// assert_eq!(leader.term, leadership.term());
/// assert_eq!(leader.value.as_deref(), Some("10.0.0.7:9000".as_bytes()));
/// leadership.resign().await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct Election {
    place: Place,
    owner: Option<Arc<str>>,
    priority: i32,
    callbacks: Callbacks,
}

impl Election {
    /// An election of this name; a leader that dies is replaced after 30 s at the latest.
    ///
    /// # Errors
    /// `Invalid` for a bad name. Asks nobody.
    pub fn new<N>(locks: &LockManager, name: N) -> Result<Self>
    where
        N: TryInto<LockName>,
        N::Error: Into<Error>,
    {
        let place = Place::new(locks, name)?;
        Ok(Self { place, owner: None, priority: 0, callbacks: Callbacks::default() })
    }

    /// How long a term outlives the last renewal, 100 ms to 30 days; renewal is automatic.
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

    /// What the candidate calls itself, instead of the manager's owner.
    #[must_use]
    pub fn owner(mut self, label: impl AsRef<str>) -> Self {
        self.owner = Some(label.as_ref().into());
        self
    }

    /// A head start in the queue: each point counts as 30 s of waiting. -1000 to 1000.
    #[must_use]
    pub fn priority(mut self, points: i32) -> Self {
        self.priority = points;
        self
    }

    /// Calls this when a term of this candidate begins, before [`Election::campaign`] returns.
    ///
    /// It runs on the campaigning task and has to return soon; the work of a leader belongs behind
    /// `campaign`, or into [`Election::run`].
    #[must_use]
    pub fn on_started_leading(mut self, call: impl Fn(&LockWatch) + Send + Sync + 'static) -> Self {
        self.callbacks.started = Some(Arc::new(call));
        self
    }

    /// Calls this once for each term that was begun, with the term and why it is over, whatever the
    /// tasks of this process are busy with.
    ///
    /// After a loss it runs on a thread of its own, from the deadline of the lease on at the
    /// latest, which is before the lease can end at the store; for a resignation on the resigning task.
    /// After a force release it comes with the news of that.
    ///
    /// **The lock is given back when the call has returned**, so that the next leader begins after it,
    /// with two exceptions: a term that was taken away by force is another's already; and nobody renews
    /// the lease while the call runs, so that it ends at the store although the call has not returned. After a
    /// loss that leaves it a tenth of the ttl, before a resignation about half of it. It may drop or
    /// resign its own [`Leadership`], which is given back when the call returns; it must not campaign.
    /// A panic in it is logged, and ends that call only.
    #[must_use]
    pub fn on_stopped_leading(
        mut self,
        call: impl Fn(Fence, &StoppedLeading) + Send + Sync + 'static,
    ) -> Self {
        self.callbacks.stopped = Some(Arc::new(call));
        self
    }

    /// The election's name.
    pub fn name(&self) -> &LockName {
        &self.place.name
    }

    /// Says whether a leader can proclaim a value on this store. Asks nobody.
    ///
    /// # Errors
    /// `Unsupported`, naming stores that can.
    pub fn can_proclaim(&self) -> Result<()> {
        let can = self.place.locks.capabilities().value_max.is_some();
        need(&self.place.locks, can, "proclaimed values").map_err(|e| e.with_lock(self.name()))
    }

    /// Waits, for ever, and leads.
    ///
    /// # Errors
    /// As [`LockRequest::acquire`]; `Unreachable` if the system gives no thread for
    /// `on_stopped_leading`.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the candidacy is withdrawn.
    pub async fn campaign(&self) -> Result<Leadership> {
        self.lead(self.request(None).acquire().await?)
    }

    /// Leads if nobody leads and nobody waits to; `None` if somebody does.
    ///
    /// # Errors
    /// As [`Election::campaign`].
    ///
    /// # Cancel safety
    /// As [`Election::campaign`].
    pub async fn try_campaign(&self) -> Result<Option<Leadership>> {
        let guard = self.request(None).try_acquire().await?;
        guard.map(|guard| self.lead(guard)).transpose()
    }

    /// Waits so long at most, and leads.
    ///
    /// # Errors
    /// As [`Election::campaign`]; `WaitTimeout` with the leader.
    ///
    /// # Cancel safety
    /// As [`Election::campaign`].
    pub async fn campaign_within(&self, wait: Duration) -> Result<Leadership> {
        self.lead(self.request(Some(wait)).acquire().await?)
    }

    /// Makes a term of a lock on the election's name that was acquired in another way, by a
    /// [`LockRequest`] with options of its own.
    ///
    /// # Errors
    /// As [`Election::campaign`], which it is the second half of; `Invalid` for a guard of another
    /// name, or of a part of the seats. The lock is released then.
    pub fn lead(&self, guard: LockGuard) -> Result<Leadership> {
        if guard.name() != self.name() || !guard.seats().is_all() {
            return Err(Error::new(ErrorKind::Invalid, "a leader holds its election's lock alone"));
        }
        let locks = self.place.locks.clone();
        Leadership::begin(guard, locks, self.can_proclaim().err(), &self.callbacks)
    }

    /// Campaigns again and again, and does `work` in each term; answers what the first `work`
    /// says that ends by itself, and resigns then.
    ///
    /// When a term is lost, `work` is dropped at once, no later than the deadline of the lease, and
    /// the next campaign begins. A store that cannot be reached is asked again, for ever.
    ///
    /// # Errors
    /// What a campaign fails with that does not pass by itself; `Lost` if the term had been lost
    /// when `work` ended.
    ///
    /// # Cancel safety
    /// If the future is dropped, `work` is dropped and the term resigned.
    pub async fn run<T>(&self, mut work: impl AsyncFnMut(&Leadership) -> T) -> Result<T> {
        let pauses = RetryConfig::default();
        let mut failures = 0;
        loop {
            let leadership = match self.campaign().await {
                Ok(leadership) => leadership,
                Err(error) if error.kind().is_transient() => {
                    failures += 1;
                    tracing::warn!(election = %self.name(), %error, "campaigning again");
                    let clock = self.place.locks.clock();
                    let again = clock.now().plus(pauses.delay(failures));
                    self.place.locks.sleep_until(again).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            failures = 0;
            let lost = async {
                leadership.lost().await;
                None
            };
            let Some(output) = or(lost, async { Some(work(&leadership).await) }).await else {
                // The next term of this candidate begins when the end of this one was told.
                let _ = leadership.resign().await;
                continue;
            };
            return match leadership.resign().await {
                // The janitor goes on with what was not confirmed.
                Ok(()) | Err(NotReleased::Unknown { .. }) => Ok(output),
                Err(not) => Err(Error::from(not).with_lock(self.name())),
            };
        }
    }

    /// Who leads at this moment; `None` if nobody does. It may be another by the time it is read.
    ///
    /// # Errors
    /// As [`LockManager::inspect`].
    pub async fn leader(&self) -> Result<Option<Leader>> {
        Ok(Leader::of(self.place.locks.inspect(&self.place.name).await?))
    }

    /// Watches who leads and what the leader proclaims.
    pub fn observe(&self) -> Observer {
        Observer::new(self.place.locks.clone(), self.place.name.clone())
    }

    fn request(&self, wait: Option<Duration>) -> LockRequest {
        let request = self.place.request(wait).priority(self.priority);
        match &self.owner {
            Some(owner) => request.owner(owner),
            None => request,
        }
    }
}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Election")
            .field("name", &self.place.name)
            .field("ttl", &self.place.ttl)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}
