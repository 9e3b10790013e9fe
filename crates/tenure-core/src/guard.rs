//! A lock that is held.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, Holding};
use crate::alarm::before;
use crate::backend::{Change, Claim, Departure, Kept, Release, Renewal, Value};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::held::LockToken;
use crate::janitor::Job;
use crate::lease::Lease;
use crate::loss::LossReason;
use crate::manager::Inner;
use crate::name::LockName;
use crate::owner::{Details, Owner};
use crate::phase::Phase;
use crate::refusal::{departed, mismatch};
use crate::token::{ClaimId, HolderId};
use crate::upgrade::upgrade;
use crate::values::{Fence, Micros, Seats};

/// How long the caller of a release waits for the store before the janitor goes on with it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What may be seen of a held lock; cheap to clone and to hand to the tasks that work under it.
///
/// It does not keep the lock: when the [`LockGuard`] is released or dropped, it says so.
#[derive(Clone)]
pub struct LockWatch {
    pub(crate) inner: Arc<Inner>,
    pub(crate) lease: Arc<Lease>,
    details: Arc<Details>,
}

impl LockWatch {
    /// The lock.
    pub fn name(&self) -> &LockName {
        &self.lease.name
    }

    /// Who holds it: the owner it was acquired with.
    pub fn owner(&self) -> &Owner {
        &self.details.owner
    }

    /// The holder's public id.
    pub fn id(&self) -> HolderId {
        self.lease.id.holder()
    }

    /// The lease's ttl.
    pub fn ttl(&self) -> Duration {
        self.lease.times.lock().ttl
    }

    /// What is held.
    pub fn seats(&self) -> Seats {
        self.lease.times.lock().seats
    }

    /// When it was acquired, on this host's wall clock.
    pub fn acquired_at(&self) -> Micros {
        let clock = self.inner.clock();
        let ago = clock.now().since(self.lease.times.lock().acquired_at);
        Micros(clock.wall().0.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The fencing token: hand it to whatever the lock protects, and let that refuse older ones.
    pub fn fencing_token(&self) -> Fence {
        self.lease.fence()
    }

    /// How long the guard stays valid if nothing is renewed any more; zero once it is lost.
    pub fn remaining(&self) -> Duration {
        if !self.is_valid() {
            return Duration::ZERO;
        }
        self.lease.times.lock().deadline.since(self.inner.clock().now())
    }

    /// The moments that matter to whoever has to stop in time: from the first on the lock counts
    /// as lost, at the second the lease can end at the store. Both move with every renewal.
    pub fn deadlines(&self) -> (Moment, Moment) {
        let times = self.lease.times.lock();
        (times.deadline, times.end)
    }

    /// Whether the lock is held at this moment, by this process's own clock.
    pub fn is_valid(&self) -> bool {
        self.lease.phase.get() == Phase::Held && self.lease.loss(&**self.inner.clock()).is_none()
    }

    /// Says why the lock is not held any more, if it is not. Asks nobody: costs no I/O.
    ///
    /// A pause may fall between this check and whatever follows it; only a resource that compares
    /// fencing tokens is safe from that.
    ///
    /// # Errors
    /// `Lost` with the reason; `NotHeld` after the guard was released.
    pub fn check(&self) -> Result<()> {
        if let Some(reason) = self.lease.loss(&**self.inner.clock()) {
            return Err(self.context(reason.into()));
        }
        if self.is_valid() {
            return Ok(());
        }
        Err(self.context(Error::new(ErrorKind::NotHeld, "the lock was released")))
    }

    /// Resolves when the lock is lost, no later than its deadline, with the reason.
    ///
    /// Never resolves after an ordinary release before the loss.
    ///
    /// # Cancel safety
    /// Cancel safe: it only observes.
    pub async fn lost(&self) -> LossReason {
        let keeper = self.inner.keeper();
        self.lease.lost(&**self.inner.clock(), |at| keeper.sleep_until(at)).await
    }

    /// Resolves when a renewal is overdue: the lock is still held, but may be lost soon. Resolves
    /// at once while that is so.
    ///
    /// # Cancel safety
    /// Cancel safe: it only observes.
    pub async fn at_risk(&self) {
        self.lease.at_risk().await;
    }

    /// Loses a lock that somebody found to be lost before the keeper did: whoever else watches it
    /// is told, whatever becomes of the guard.
    fn tell_lost(&self, reason: &LossReason) {
        // A forked child has no keeper's thread, and the lock is its parent's.
        if *reason != LossReason::Forked {
            self.inner.keeper().lose(&self.lease, reason.clone());
        }
    }

    /// How long after `asked` it was acquired.
    pub(crate) fn acquired_after(&self, asked: Moment) -> Duration {
        self.lease.times.lock().acquired_at.since(asked)
    }

    pub(crate) fn context(&self, error: Error) -> Error {
        error.with_lock(&self.lease.name).with_store(&self.inner.address())
    }
}

impl fmt::Debug for LockWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockWatch")
            .field("name", self.name())
            .field("id", &self.id())
            .field("fence", &self.fencing_token())
            .finish_non_exhaustive()
    }
}

/// Why a release did not release.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotReleased {
    /// The lock had been lost before; nothing was changed.
    AlreadyLost(LossReason),
    /// The store did not say; the janitor goes on trying, and the lease ends by itself after
    /// `within` at the latest.
    Unknown {
        /// How long the lease can still last.
        within: Duration,
        /// What the store call failed with.
        error: Error,
    },
}

impl fmt::Display for NotReleased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReleased::AlreadyLost(reason) => write!(f, "the lock was already lost: {reason}"),
            NotReleased::Unknown { within, error } => write!(
                f,
                "whether the lock was released is unknown ({error}); it is free after {:.1} s",
                within.as_secs_f64()
            ),
        }
    }
}

impl std::error::Error for NotReleased {}

impl From<NotReleased> for Error {
    fn from(not: NotReleased) -> Self {
        let kind = match not {
            NotReleased::AlreadyLost(_) => ErrorKind::Lost,
            NotReleased::Unknown { .. } => ErrorKind::Unknown,
        };
        Error::new(kind, not.to_string()).with_operation("releasing")
    }
}

/// A held lock, renewed until it is released, dropped or lost.
///
/// Dropping it never blocks, needs no runtime and does not panic: no more renewals are sent from
/// then on, and the manager's thread releases it. [`LockGuard::release`] does the same and tells
/// the truth about it. In a forked child the guard is inert.
#[must_use = "the lock is released as soon as its guard is dropped"]
pub struct LockGuard {
    watch: LockWatch,
    /// A downgrade to these seats was sent and not answered: it may take place at any moment.
    unsettled: Option<Seats>,
    /// Its actor holds it, for those who look for a deadlock.
    holding: Option<Holding>,
}

impl Deref for LockGuard {
    type Target = LockWatch;
    fn deref(&self) -> &LockWatch {
        &self.watch
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", self.name())
            .field("id", &self.id())
            .field("fence", &self.fencing_token())
            .finish_non_exhaustive()
    }
}

impl LockGuard {
    pub(crate) fn new(
        inner: Arc<Inner>,
        lease: Arc<Lease>,
        details: Arc<Details>,
        actor: Option<&Actor>,
    ) -> Self {
        let holding = actor.map(|actor| actor.holding(&lease.name));
        Self { watch: LockWatch { inner, lease, details }, unsettled: None, holding }
    }

    /// A view of this lock for the tasks that work under it.
    pub fn watch(&self) -> LockWatch {
        self.watch.clone()
    }

    /// Releases the lock and hands it to the next waiter.
    ///
    /// # Errors
    /// `AlreadyLost` if it was not held any more, also if the store says so; `Unknown` if the
    /// store did not answer within 5 s: the janitor goes on trying.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the janitor releases the lock.
    pub async fn release(self) -> Result<(), NotReleased> {
        self.give_back(None).await
    }

    /// Releases the lock and leaves a value in the same step, kept for `keep` and readable by
    /// anybody. Only a holder of all seats may.
    ///
    /// # Errors
    /// As [`LockGuard::release`]; a value that is too long, or seats that are not all, end in
    /// `Unknown` with that error: the lock is then released without a value.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock is released, with or without the value.
    pub async fn release_with(
        self,
        value: impl Into<Arc<[u8]>>,
        keep: Duration,
    ) -> Result<(), NotReleased> {
        let value = Value { bytes: value.into(), keep };
        let checked = self.inner.check_value(&value).and_then(|()| self.check_all_seats());
        if let Err(error) = checked {
            // Dropped here: the janitor releases it.
            return Err(NotReleased::Unknown { within: self.left(), error });
        }
        self.give_back(Some(value)).await
    }

    /// Sets how long the lease lives without renewal, counted from now.
    ///
    /// # Errors
    /// `Invalid` for a ttl out of range; `Lost` if the lock is lost; `Unreachable` or `Unknown`
    /// if the store did not confirm: the lock is still held by its old deadline or a shorter one.
    ///
    /// # Cancel safety
    /// Cancel safe: the lease has the old ttl or the new one, and the guard counts on the shorter.
    pub async fn extend(&mut self, ttl: Duration) -> Result<()> {
        self.inner.check_ttl(ttl)?;
        self.check()?;
        let clock = self.inner.clock().clone();
        let sent = clock.now();
        if let Some(due) = self.lease.shorten(sent, ttl) {
            self.inner.keeper().look_again(&self.lease, due);
        }
        let member = self.lease.member().changed(ttl, false);
        let term = self.renew(member).await?;
        if !self.lease.renewed(sent, ttl, term, clock.now()) {
            self.check()?;
        }
        let due = {
            let mut times = self.lease.times.lock();
            if let Some(every) = &mut times.renew_every {
                *every = ttl / 3;
                times.next_renewal = sent.plus(ttl / 3);
            }
            times.due()
        };
        self.inner.keeper().look_again(&self.lease, due);
        Ok(())
    }

    /// Renews the lease no more: it ends at its deadline, unless it is released before. For a holder
    /// that has begun to stop, and must not keep the lock for ever should it never come to an end.
    pub fn stop_renewing(&self) {
        // A forked child has no keeper's thread, and the lock is its parent's.
        if self.lease.is_forked() {
            return;
        }
        let due = self.lease.stop_renewing();
        self.inner.keeper().look_again(&self.lease, due);
    }

    /// Writes the lock's value, kept for `keep` and readable by anybody. Only a holder of all
    /// seats may.
    ///
    /// # Errors
    /// `Invalid` if the value is too long or not all seats are held; `Lost`; `Unsupported` on
    /// stores without values.
    ///
    /// # Cancel safety
    /// If the future is dropped, the value may or may not have been written.
    pub async fn set_value(&self, value: impl Into<Arc<[u8]>>, keep: Duration) -> Result<()> {
        let value = Value { bytes: value.into(), keep };
        self.inner.check_value(&value)?;
        self.check()?;
        let change = self.limited(self.inner.backend().put(&self.lease.reference(), &value)).await;
        self.changed(change, "writing the value of")?;
        Ok(())
    }

    /// Turns an exclusive lock into `seats` of a shared one, without letting go in between. The
    /// fencing token stays; those who wait for shared seats come in.
    ///
    /// # Errors
    /// `Mismatch` if waiters count another number of seats; `Lost`; `Unsupported`.
    ///
    /// # Cancel safety
    /// If the future is dropped, or ends in an error whose outcome is unknown, the lock is held
    /// exclusively or shared; the guard counts on shared. [`LockGuard::upgrade`] makes it exclusive
    /// for certain.
    pub async fn downgrade(&mut self, seats: Seats) -> Result<()> {
        self.inner.check_upgrade()?;
        if seats.check()?.is_all() {
            return Err(Error::new(ErrorKind::Invalid, "a downgrade is to shared seats"));
        }
        self.check()?;
        self.check_all_seats()?;
        // From here on others may come in, whether or not the answer arrives.
        self.lease.times.lock().seats = seats;
        let change = self.send_downgrade(seats).await;
        if matches!(change, Ok(Change::Mismatch { .. })) {
            self.unsettled = None;
            self.lease.times.lock().seats = Seats::All;
        }
        self.changed(change, "downgrading")
    }

    async fn send_downgrade(&mut self, seats: Seats) -> Result<Change> {
        self.unsettled = Some(seats);
        let reference = self.lease.reference();
        let change = self.limited(self.inner.backend().downgrade(&reference, seats)).await;
        if matches!(change, Ok(Change::Done(_) | Change::NeedsAllSeats)) {
            self.unsettled = None;
        }
        change
    }

    /// Turns shared seats into the exclusive lock, without letting go in between: waits until the
    /// other holders have left, before everybody else who waits, and gets a new fencing token.
    /// `wait_timeout` of `None` waits for ever.
    ///
    /// # Errors
    /// `Deadlock`, at once, if another holder already waits to upgrade, and later as an acquire with the
    /// actor of this guard; `WaitTimeout`: the shared
    /// seats are still held; `Lost`; `Unsupported`.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, the upgrade is withdrawn and the shared seats stay.
    pub async fn upgrade(&mut self, wait_timeout: Option<Duration>) -> Result<()> {
        self.inner.check_upgrade()?;
        self.check()?;
        if self.seats().is_all() {
            return Ok(());
        }
        if let Some(seats) = self.unsettled {
            // It must not take place after the upgrade: once it has, the upgrade has a fence that
            // no copy of it knows.
            let settled = self.send_downgrade(seats).await;
            self.changed(settled, "settling the downgrade of")?;
        }
        let lease = &self.lease;
        let details = match &self.holding {
            Some(holding) => Arc::new(self.inner.acting((*self.details).clone(), holding.actor())),
            None => self.details.clone(),
        };
        let mut claim = Claim::new(lease.name.clone(), lease.token.clone(), self.ttl(), details);
        claim.id = ClaimId::random();
        claim.upgrade = true;
        claim.wait = true;
        claim.seats = Seats::All;
        upgrade(&self.inner, lease, claim, wait_timeout)
            .await
            .map_err(|e| self.context(e.with_operation("upgrading")))?;
        Ok(())
    }

    /// Hands the held lock out as a token, for another process to
    /// [`resume`](crate::LockManager::resume): from now on its lease is judged by its ttl alone,
    /// and nobody renews it.
    ///
    /// # Errors
    /// `Unsupported` on stores whose locks end with a session, `Lost`, `Unreachable`. In every
    /// case the guard is gone; the lock is then released.
    ///
    /// # Cancel safety
    /// If the future is dropped, the lock is released.
    pub async fn into_token(self) -> Result<LockToken> {
        self.inner.check_detached()?;
        self.check()?;
        let ttl = self.ttl();
        let member = self.lease.member().changed(ttl, true);
        self.renew(member).await?;
        let token = LockToken {
            name: self.lease.name.clone(),
            token: self.lease.token.clone(),
            ttl,
            fence: self.fencing_token(),
        };
        if !self.lease.phase.release() {
            self.check()?;
        }
        self.lease.phase.finish();
        self.inner.keeper().let_go(&self.lease);
        self.inner.metrics().let_go(self.held_for());
        Ok(token)
    }

    async fn give_back(self, value: Option<Value>) -> Result<(), NotReleased> {
        if let Some(reason) = self.lease.loss(&**self.inner.clock()) {
            self.watch.tell_lost(&reason);
            self.inner.metrics().not_released("already_lost");
            return Err(NotReleased::AlreadyLost(reason));
        }
        // First of all: no more renewals. Whoever moves the phase sends the release.
        if !self.lease.phase.release() {
            let lost = self.lease.times.lock().lost.clone();
            let reason = lost.map_or(LossReason::Expired, |reason| *reason);
            return Err(NotReleased::AlreadyLost(reason));
        }
        self.inner.keeper().let_go(&self.lease);
        self.inner.metrics().let_go(self.held_for());
        let mut undo = FinishLater { watch: &self.watch, armed: true };
        let reference = self.lease.reference();
        let call = self.inner.backend().release(&reference, value.as_ref());
        let mut call = std::pin::pin!(call);
        let answer = match futures_lite::future::poll_once(call.as_mut()).await {
            Some(answer) => answer,
            None => {
                self.lease.takes_leave();
                self.limited(call).await
            }
        };
        match answer {
            Ok(Release::Released) => {
                undo.armed = false;
                self.lease.phase.finish();
                // Released, but was it still ours when the request arrived? The store says so.
                self.inner.metrics().released();
                Ok(())
            }
            Ok(Release::NotHeld(how)) => {
                undo.armed = false;
                let reason = LossReason::from(how);
                self.lease.was_lost(reason.clone());
                self.lease.phase.finish();
                self.inner.metrics().not_released("already_lost");
                Err(NotReleased::AlreadyLost(reason))
            }
            Ok(Release::NeedsAllSeats) => Err(NotReleased::Unknown {
                within: self.left(),
                error: self.context(needs_all_seats()),
            }),
            Err(error) => {
                self.inner.metrics().not_released("unknown");
                self.inner.metrics().store_error("release", error.kind());
                let error = self.context(error.with_operation("releasing"));
                Err(NotReleased::Unknown { within: self.left(), error })
            }
        }
    }

    /// One renewal by hand; answers how long the lease lives from its sending on.
    async fn renew(&self, member: crate::backend::Member) -> Result<Duration> {
        let members = [member];
        let renew = async { Ok(self.inner.backend().renew(&members).await) };
        let answer = self.limited(renew).await?.pop();
        match answer {
            Some(Renewal::Kept(Kept::Holding(grant))) => Ok(grant.term),
            Some(Renewal::Gone(how)) => Err(self.lose(how)),
            Some(Renewal::Unknown(error)) => Err(self.context(error.with_operation("renewing"))),
            Some(Renewal::Kept(Kept::Waiting)) | None => Err(self.context(Error::new(
                ErrorKind::Corrupt,
                "the store gave no sensible answer to a renewal",
            ))),
        }
    }

    fn changed(&self, change: Result<Change>, operation: &'static str) -> Result<()> {
        match change {
            Ok(Change::Done(_)) => Ok(()),
            Ok(Change::NotHeld(how)) => Err(self.lose(how)),
            Ok(Change::NeedsAllSeats) => Err(self.context(needs_all_seats())),
            Ok(Change::Mismatch { of }) => {
                Err(self.context(mismatch(of).with_operation(operation)))
            }
            Err(error) => Err(self.context(error.with_operation(operation))),
        }
    }

    /// The store says that it is not held any more.
    fn lose(&self, how: Departure) -> Error {
        self.inner.keeper().lose(&self.lease, how.clone().into());
        self.context(departed(how))
    }

    fn check_all_seats(&self) -> Result<()> {
        if self.seats().is_all() { Ok(()) } else { Err(self.context(needs_all_seats())) }
    }

    async fn limited<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.inner.clock().now().plus(RELEASE_TIMEOUT);
        before(self.inner.keeper().sleep_until(limit), call).await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unknown, "the store did not answer in time"))
        })
    }

    /// How long the lease can still last at the store: a renewal with a lost answer may have
    /// arrived at any time until now.
    fn left(&self) -> Duration {
        let ttl = self.ttl();
        ttl + ttl / 50
    }

    fn held_for(&self) -> Duration {
        self.inner.clock().now().since(self.lease.times.lock().acquired_at)
    }
}

fn needs_all_seats() -> Error {
    Error::new(ErrorKind::Invalid, "only a holder of all seats can do this")
        .with_help("hold the lock exclusively, or upgrade it first")
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        let (inner, lease) = (&self.watch.inner, &self.watch.lease);
        let phase = lease.phase.get();
        // A forked child has no keeper's thread, and the lock is its parent's.
        if !matches!(phase, Phase::Held | Phase::Lost) || lease.is_forked() {
            return;
        }
        if phase == Phase::Held
            && let Some(reason) = lease.loss(&**inner.clock())
        {
            self.watch.tell_lost(&reason);
        }
        if !lease.phase.release() {
            // Lost: whoever had to stop has stopped.
            return inner.keeper().give_back(lease);
        }
        inner.keeper().let_go(lease);
        inner.metrics().let_go(self.held_for());
        lease.takes_leave();
        hand_over(&self.watch);
    }
}

/// Lets the janitor finish a release that its caller began.
struct FinishLater<'a> {
    watch: &'a LockWatch,
    armed: bool,
}

impl Drop for FinishLater<'_> {
    fn drop(&mut self) {
        if self.armed {
            hand_over(self.watch);
        }
    }
}

fn hand_over(watch: &LockWatch) {
    let ttl = watch.lease.times.lock().ttl;
    let until = watch.inner.clock().now().plus(ttl + ttl / 50);
    watch.inner.keeper().clean_up(Job::Release { lease: watch.lease.clone(), until });
}
