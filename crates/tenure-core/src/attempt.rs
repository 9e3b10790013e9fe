//! One claim under way, from its first request until it holds or is withdrawn.
//!
//! Cancel safe at every await: an [`Attempt`] that is dropped before it holds is handed to the
//! janitor, which withdraws it at the store, whatever became of its requests.

use std::sync::Arc;
use std::time::Duration;

use crate::actor::Actor;
use crate::alarm::before;
use crate::backend::{Claim, Grant, Kept, Place, Renewal, Verdict};
use crate::capability::{JudgedBy, Wakes};
use crate::claims::{Entry, Told};
use crate::clock::Moment;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::janitor::Job;
use crate::keeper::refresh_after;
use crate::lease::{Lease, deadline, earliest_end};
use crate::manager::Inner;
use crate::refusal::late;
use crate::register::DRIFT_PERCENT;
use crate::values::Micros;

/// How long one call to the store may take before its outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest time that a call is given, however short the wait timeout is: what stores give a
/// connection, and a little more, so that they can say why there is none.
const CALL_AT_LEAST: Duration = Duration::from_secs(4);
/// How long the caller of a timed-out acquire waits for the withdrawal before the janitor takes it.
pub(crate) const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);
/// How old what is known of the store's clock may be to place a grant that was pushed.
const STORE_TIME_MAX_AGE: Duration = Duration::from_secs(15);

/// Where an attempt waits, and what it knows.
pub(crate) struct Sight {
    pub(crate) sent: Moment,
    pub(crate) place: Place,
    /// What the store's clock said, and when the request was sent that it answered.
    pub(crate) store_time: Option<(Moment, Micros)>,
}

impl Sight {
    /// When a lease can end at the earliest that was granted by a message: by when the backend saw it
    /// begin, or by what is known of the store's clock. `None` if that is too old or cannot be, as a
    /// grant from before the store was asked and said that the claim waits: a store that has lost what
    /// it did last has said both. Then the store is asked.
    pub(crate) fn pushed_end(&self, grant: Grant, now: Moment) -> Option<Moment> {
        if let Some(began) = grant.began {
            let end = earliest_end(began, grant.term);
            // A backend on another clock than the manager's would say something else.
            return (self.sent <= began && began <= now && now < deadline(end, grant.term))
                .then_some(end);
        }
        let (sent, store_now) = self.store_time?;
        if STORE_TIME_MAX_AGE < now.since(self.sent) || grant.at < store_now {
            return None;
        }
        // The request was sent before the store said `store_now`; the grant came so much later, by the
        // store's clock, which may run faster than this one.
        let later = grant.at.since(store_now);
        let granted = sent.plus(later - later * DRIFT_PERCENT / 100).min(now);
        let end = earliest_end(granted, grant.term);
        (now < deadline(end, grant.term)).then_some(end)
    }
}

/// One claim under way; dropping it before it holds withdraws it.
pub(crate) struct Attempt<'a> {
    inner: &'a Arc<Inner>,
    pub(crate) claim: Arc<Claim>,
    lease: Arc<Lease>,
    entry: Option<Entry<'a>>,
    actor: Option<Actor>,
    /// Whether a request may have reached the store.
    sent: bool,
    calls: u32,
    answers: u32,
    pushed: Option<bool>,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(
        inner: &'a Arc<Inner>,
        mut claim: Claim,
        renew_every: Option<Duration>,
        actor: Option<Actor>,
    ) -> Self {
        claim.first = true;
        let lease = Arc::new(Lease::sent(&claim, renew_every, inner.pid()));
        // Before the claim is sent, so that no event is missed.
        let waits = claim.wait || claim.asks_again;
        let entry = waits.then(|| inner.waiters().enter(&claim.name, claim.member));
        Self {
            inner,
            claim: Arc::new(claim),
            lease,
            entry,
            actor,
            sent: false,
            calls: 0,
            answers: 0,
            pushed: None,
        }
    }

    pub(crate) async fn ask(&mut self, until: Moment) -> Result<Verdict> {
        if self.claim.first && 0 < self.calls {
            Arc::make_mut(&mut self.claim).first = false;
        }
        self.sent = true;
        self.calls += 1;
        let answer = {
            let call = self.inner.backend().acquire(&self.claim);
            let mut call = std::pin::pin!(call);
            // Most stores answer most calls at once or soon; only then is an alarm worth its while.
            match futures_lite::future::poll_once(call.as_mut()).await {
                Some(answer) => answer,
                None => {
                    let limit = call_limit(self.inner, until);
                    let answer = before(self.inner.keeper().sleep_until(limit), call).await;
                    answer.unwrap_or_else(|| Err(late()))
                }
            }
        };
        self.answers += u32::from(answer.is_ok());
        if self.calls == 1 && answer.as_ref().is_err_and(Error::changed_nothing) {
            self.settled();
        }
        answer
    }

    pub(crate) fn calls_answered(&self) -> bool {
        0 < self.answers
    }

    /// Makes a guard of a grant; `None` if it is over already.
    pub(crate) async fn take(
        &mut self,
        sent: Moment,
        answered: Moment,
        grant: Grant,
    ) -> Result<Option<LockGuard>> {
        // The lease ends at `at + term` of the store's clock, which said `now` after this request
        // was sent. Without a clock at the store, only a first answer can be counted on: a later
        // one may tell of a grant that is older than its request.
        let observed = self.inner.backend().capabilities().judged_by == JudgedBy::Observation;
        let age = match grant.now {
            Some(now) => Some(now.since(grant.at)),
            None if !observed || (self.calls == 1 && !grant.handed_over) => Some(Duration::ZERO),
            None => grant.began.map(|_| Duration::ZERO),
        };
        if let Some(age) = age {
            let end = earliest_end(sent, grant.term.saturating_sub(age));
            if answered < deadline(end, grant.term) {
                return Ok(self.hold(grant, end, answered));
            }
        }
        self.pick_up(grant).await
    }

    /// A lease that was handed over at a time nobody here knows begins with its first renewal.
    pub(crate) async fn pick_up(&mut self, grant: Grant) -> Result<Option<LockGuard>> {
        let clock = self.inner.clock().clone();
        // A change, so that it is written: where leases are judged by observation, whoever is just
        // about to end this one has to find out.
        let mut member = self.lease.member().changed(self.claim.ttl, self.claim.detached);
        member.fence = Some(grant.fence);
        let give_up = clock.now().plus(self.claim.pick_up);
        loop {
            let sent = clock.now();
            let members = [member.clone()];
            let limit = self.inner.keeper().sleep_until(give_up);
            let answer = before(limit, self.inner.backend().renew(&members)).await;
            let answer = answer.and_then(|mut answers| answers.pop());
            match answer {
                Some(Renewal::Kept(Kept::Holding(grant))) => {
                    let full = Grant { handed_over: false, ..grant };
                    return Ok(self.hold(full, earliest_end(sent, grant.term), clock.now()));
                }
                Some(Renewal::Gone(_)) => {
                    self.settled();
                    return Ok(None);
                }
                Some(Renewal::Kept(Kept::Waiting) | Renewal::Unknown(_)) | None => {}
            }
            if give_up <= clock.now() {
                return Err(Error::new(
                    ErrorKind::Unreachable,
                    "the lock was granted, but its lease could not be renewed",
                ));
            }
            self.inner.keeper().sleep_until(clock.now().plus(Duration::from_millis(20))).await;
        }
    }

    pub(crate) fn hold(&mut self, grant: Grant, end: Moment, now: Moment) -> Option<LockGuard> {
        let keeper = self.inner.keeper();
        if !self.lease.hold(&grant, end, now) {
            return None;
        }
        let (due, cared_for) = {
            let times = self.lease.times.lock();
            (times.due(), times.key.is_some())
        };
        if cared_for {
            keeper.look_again(&self.lease, due);
        } else {
            keeper.care_for(&self.lease, due);
        }
        self.stop_waiting();
        let (inner, details) = (self.inner.clone(), self.claim.details.clone());
        Some(LockGuard::new(inner, self.lease.clone(), details, self.actor.as_ref()))
    }

    /// Begins to wait, or goes on waiting; answers whether an event will tell.
    pub(crate) fn wait_in_queue(&mut self, place: &Place) -> bool {
        let first = self.lease.times.lock().key.is_none();
        if first {
            let refresh = refresh_after(self.inner.clock().now(), self.claim.wait_ttl);
            self.inner.keeper().care_for(&self.lease, refresh);
            self.inner.metrics().waits(true);
            tracing::debug!(lock = %self.claim.name, ahead = place.ahead, "waiting");
        }
        let pushes = self.inner.backend().capabilities().wakes == Wakes::Push;
        let pushed = pushes && self.inner.backend().watch(&self.claim, true);
        self.pushed = Some(pushed);
        pushed
    }

    pub(crate) async fn told(&self) -> Told {
        match &self.entry {
            Some(entry) => entry.told().await,
            None => std::future::pending().await,
        }
    }

    fn stop_waiting(&mut self) {
        self.entry = None;
        if self.pushed.take().is_some() {
            self.inner.backend().watch(&self.claim, false);
            self.inner.metrics().waits(false);
        }
    }

    /// The store has nothing of this claim: there is nothing to withdraw unless it asks again.
    pub(crate) fn settled(&mut self) {
        self.sent = false;
    }

    /// Gives the claim up at the store; what cannot be done in time is left to the janitor.
    pub(crate) async fn withdraw(&mut self) {
        let limit = self.inner.clock().now().plus(WITHDRAW_TIMEOUT);
        let call = self.inner.backend().withdraw(&self.claim);
        let done = before(self.inner.keeper().sleep_until(limit), call).await;
        if matches!(done, Some(Ok(()))) {
            self.settled();
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.stop_waiting();
        if !self.lease.phase.give_up() {
            return;
        }
        let keeper = self.inner.keeper();
        keeper.let_go(&self.lease);
        if self.sent && !self.lease.is_forked() {
            let longest = self.claim.ttl.max(self.claim.wait_ttl);
            let until = self.inner.clock().now().plus(longest);
            keeper.clean_up(Job::Withdraw { claim: self.claim.clone(), until });
        }
    }
}

/// Until when a call is waited for that belongs to a wait until `until`.
pub(crate) fn call_limit(inner: &Inner, until: Moment) -> Moment {
    let now = inner.clock().now();
    now.plus(until.since(now).clamp(CALL_AT_LEAST, CALL_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{Fence, Seats};

    const TERM: Duration = Duration::from_millis(300);

    fn at(millis: u64) -> Moment {
        Moment::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    /// Somebody who asked at 0, and was answered by a store whose clock said 5 s.
    fn sight() -> Sight {
        let (sent, place) = (at(0), Place::default());
        Sight { sent, place, store_time: Some((sent, Micros(5_000_000))) }
    }

    fn pushed(store: u64) -> Grant {
        Grant::new(Fence::new(1), Seats::All, Micros(store), TERM)
    }

    #[test]
    fn a_grant_from_before_the_store_said_that_the_claim_waits_is_not_counted_on() {
        assert_eq!(sight().pushed_end(pushed(4_999_999), at(1)), None);
        assert!(sight().pushed_end(pushed(5_000_000), at(1)).is_some());
        let mut began = pushed(0);
        began.began = Some(at(0).minus(Duration::from_millis(1)));
        assert_eq!(sight().pushed_end(began, at(1)), None);
        began.began = Some(at(0));
        assert!(sight().pushed_end(began, at(1)).is_some());
    }

    #[test]
    fn a_pushed_grant_does_not_end_late_on_a_clock_that_is_slower_than_the_stores() {
        // The store's clock runs faster by the drift: it counted 12 s, this one less. The message
        // was 200 ms on its way.
        let granted = Duration::from_secs(12) * 100 / (100 + DRIFT_PERCENT);
        let now = at(0).plus(granted + Duration::from_millis(200));
        let end = sight().pushed_end(pushed(17_000_000), now);
        let is_over = at(0).plus(granted + TERM * 100 / (100 + DRIFT_PERCENT));
        assert!(end.is_none_or(|end| end <= is_over), "{end:?} {is_over:?}");
    }
}
