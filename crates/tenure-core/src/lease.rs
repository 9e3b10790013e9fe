//! One claim's life, shared by the caller, the keeper and the janitor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::alarm::{Sleep, before};
use crate::backend::{Claim, Grant, LeaseRef, Member};
use crate::clock::{Clock, Moment};
use crate::loss::LossReason;
use crate::name::LockName;
use crate::phase::{Phase, PhaseWord};
use crate::register::DRIFT_PERCENT;
use crate::timers::TimerKey;
use crate::token::{MemberId, Token};
use crate::values::{Fence, Seats};

/// How much of a lease is given away for what happens between a reply and its use.
const SLACK: Duration = Duration::from_millis(5);

/// The earliest moment at which a lease of `term` can end at the store, if it was set by a
/// request that was sent at `sent`: counted on a clock that may run faster than the store's by
/// the drift.
pub(crate) fn earliest_end(sent: Moment, term: Duration) -> Moment {
    sent.plus(term - term * DRIFT_PERCENT / 100).minus(SLACK)
}

/// When a lease of `term` began that can end at `end` at the [earliest](earliest_end).
fn begin(end: Moment, term: Duration) -> Moment {
    end.plus(SLACK).minus(term - term * DRIFT_PERCENT / 100)
}

/// The moment from which the guard counts as lost: a tenth of the ttl before the lease can end,
/// so that whoever has to stop has time to. A lease that was just handed over lives for a shorter
/// `term` than its ttl.
pub(crate) fn deadline(end: Moment, term: Duration) -> Moment {
    end.minus(term / 10)
}

/// A claim from the moment it is about to be sent until nothing of it is left.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) name: LockName,
    pub(crate) token: Token,
    pub(crate) id: MemberId,
    pub(crate) phase: PhaseWord,
    pub(crate) times: Mutex<Times>,
    fence: AtomicU64,
    lost_told: Notify,
    risk_told: Notify,
    at_risk: AtomicBool,
    /// The process that may use it; a forked child may not.
    pid: u32,
}

/// Everything about a lease that changes with renewals.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    pub(crate) ttl: Duration,
    /// How often it is renewed; `None` if not by itself.
    pub(crate) renew_every: Option<Duration>,
    /// The earliest moment it can end at the store.
    pub(crate) end: Moment,
    /// From here on the guard counts as lost.
    pub(crate) deadline: Moment,
    /// When the last renewal that was kept was sent.
    pub(crate) renewed: Moment,
    pub(crate) next_renewal: Moment,
    /// The renewal is overdue from here on.
    pub(crate) risk_at: Moment,
    pub(crate) acquired_at: Moment,
    pub(crate) seats: Seats,
    pub(crate) key: Option<TimerKey>,
    /// Whether the last renewal failed for want of the store.
    pub(crate) unreachable: bool,
    pub(crate) lost: Option<Box<LossReason>>,
    /// Whether the lease outlives this process.
    pub(crate) detached: bool,
}

impl Lease {
    /// The lease that `claim` may become.
    pub(crate) fn sent(claim: &Claim, renew_every: Option<Duration>, pid: u32) -> Self {
        Self {
            name: claim.name.clone(),
            token: claim.token.clone(),
            id: claim.member,
            phase: PhaseWord::new(Phase::Sent),
            times: Mutex::new(Times {
                ttl: claim.ttl,
                renew_every,
                end: Moment::default(),
                deadline: Moment::default(),
                renewed: Moment::default(),
                next_renewal: Moment::NEVER,
                risk_at: Moment::NEVER,
                acquired_at: Moment::default(),
                seats: claim.seats,
                key: None,
                unreachable: false,
                lost: None,
                detached: claim.detached,
            }),
            fence: AtomicU64::new(0),
            lost_told: Notify::new(),
            risk_told: Notify::new(),
            at_risk: AtomicBool::new(false),
            pid,
        }
    }

    /// The grant arrived, of a lease that ends at `end` at the earliest. One that was handed over
    /// is renewed at once, to have its whole ttl. `false` if the attempt was given up meanwhile.
    pub(crate) fn hold(&self, grant: &Grant, end: Moment, now: Moment) -> bool {
        self.fence.store(grant.fence.get(), Ordering::Release);
        {
            let mut times = self.times.lock();
            times.seats = grant.seats;
            times.end = end;
            times.deadline = deadline(end, grant.term.min(times.ttl));
            times.acquired_at = now;
            // A third of the ttl from its begin, not from the reply: a slow reply must not cost the time
            // in which a renewal that fails can be made good.
            let began = if grant.handed_over { now } else { begin(end, grant.term).min(now) };
            times.plan(began, !grant.handed_over);
        }
        self.phase.hold()
    }

    /// A shorter ttl is about to be asked for at `sent`: from then on nobody may count on more, and
    /// answers to earlier renewals say nothing any more. Answers when the keeper has to look, if
    /// the ttl is shorter.
    pub(crate) fn shorten(&self, sent: Moment, ttl: Duration) -> Option<Moment> {
        let mut times = self.times.lock();
        if times.ttl <= ttl {
            return None;
        }
        times.renewed = times.renewed.max(sent);
        times.end = times.end.min(earliest_end(sent, ttl));
        times.deadline = times.deadline.min(deadline(times.end, ttl));
        let planned = times.next_renewal;
        times.plan(sent, true);
        times.next_renewal = times.next_renewal.min(planned);
        Some(times.due())
    }

    /// An upgrade was granted: the same lease, all seats, a new fence.
    pub(crate) fn upgraded(&self, fence: Fence) {
        self.times.lock().seats = Seats::All;
        self.fence.store(fence.get(), Ordering::Release);
    }

    /// A renewal that was sent at `sent` was kept: the store lets the lease live for `term` from
    /// then on at least. `now` is the moment the answer is used.
    ///
    /// An answer that is used after the deadline is too late, whatever it says: without a clock
    /// at the store, an observer may have given the lease up between the sign and the look.
    pub(crate) fn renewed(&self, sent: Moment, ttl: Duration, term: Duration, now: Moment) -> bool {
        let mut times = self.times.lock();
        if self.phase.get() != Phase::Held || times.deadline <= now {
            return false;
        }
        if sent < times.renewed {
            // An older answer that was overtaken; it says nothing new.
            return true;
        }
        times.renewed = sent;
        times.ttl = ttl;
        times.end = earliest_end(sent, term);
        times.deadline = deadline(times.end, term.min(ttl));
        times.unreachable = false;
        times.plan(sent, true);
        drop(times);
        self.at_risk.store(false, Ordering::Release);
        true
    }

    /// A renewal failed; it is tried again soon, unless that was to be the last one.
    pub(crate) fn renewal_failed(&self, now: Moment, unreachable: bool) {
        let mut times = self.times.lock();
        times.unreachable = unreachable;
        if times.renew_every.is_none() {
            return;
        }
        times.next_renewal = now.plus(retry_after(times.ttl));
        drop(times);
        self.put_at_risk();
    }

    /// No more renewals are sent; one that is under way still counts. Answers when the keeper has to
    /// look.
    pub(crate) fn stop_renewing(&self) -> Moment {
        let mut times = self.times.lock();
        times.renew_every = None;
        (times.next_renewal, times.risk_at) = (Moment::NEVER, Moment::NEVER);
        times.due()
    }

    pub(crate) fn put_at_risk(&self) {
        if !self.at_risk.swap(true, Ordering::AcqRel) {
            self.risk_told.notify_waiters();
        }
    }

    /// Loses the lease for this reason; `false` if it was not held.
    pub(crate) fn lose(&self, reason: LossReason) -> bool {
        let mut times = self.times.lock();
        if !self.phase.lose() {
            return false;
        }
        times.lost = Some(Box::new(reason));
        drop(times);
        self.lost_told.notify_waiters();
        self.risk_told.notify_waiters();
        true
    }

    /// The store said, when it was to be released, that it had been lost before: whoever watches it
    /// is told.
    pub(crate) fn was_lost(&self, reason: LossReason) {
        self.times.lock().lost = Some(Box::new(reason));
        self.lost_told.notify_waiters();
        self.risk_told.notify_waiters();
    }

    /// Why it is not valid at this moment; `None` if it is.
    pub(crate) fn loss(&self, clock: &dyn Clock) -> Option<LossReason> {
        if std::process::id() != self.pid {
            return Some(LossReason::Forked);
        }
        let times = self.times.lock();
        if let Some(reason) = &times.lost {
            return Some((**reason).clone());
        }
        if self.phase.get() == Phase::Gone {
            // Given back in time: nothing is left that could be lost.
            return None;
        }
        // Held or being released: the clock decides, whether or not the keeper has come to it.
        (times.deadline <= clock.now()).then(|| times.overdue())
    }

    /// Resolves when the lease is lost. `sleep` resolves at a moment: who is being released is not
    /// under the keeper's care any more, and still lost at its deadline for all who watch it.
    pub(crate) async fn lost(
        &self,
        clock: &dyn Clock,
        sleep: impl Fn(Moment) -> Sleep,
    ) -> LossReason {
        loop {
            let told = self.lost_told.notified();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            if let Some(reason) = self.loss(clock) {
                return reason;
            }
            if self.phase.get() == Phase::Releasing {
                let deadline = self.times.lock().deadline;
                before(sleep(deadline), told).await;
            } else {
                told.await;
            }
        }
    }

    /// A release is under way that is not answered at once: whoever watches the lease waits for its
    /// deadline from now on.
    pub(crate) fn takes_leave(&self) {
        self.lost_told.notify_waiters();
    }

    /// Resolves when a renewal is overdue.
    pub(crate) async fn at_risk(&self) {
        loop {
            let told = self.risk_told.notified();
            let mut told = std::pin::pin!(told);
            told.as_mut().enable();
            if self.at_risk.load(Ordering::Acquire) || self.phase.get() != Phase::Held {
                return;
            }
            told.await;
        }
    }

    pub(crate) fn is_forked(&self) -> bool {
        std::process::id() != self.pid
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence::new(self.fence.load(Ordering::Acquire))
    }

    pub(crate) fn reference(&self) -> LeaseRef {
        LeaseRef {
            name: self.name.clone(),
            token: self.token.clone(),
            id: self.id,
            fence: self.fence(),
        }
    }

    /// What the store is asked to renew: a lease that is held, or a place in the queue.
    pub(crate) fn member(&self) -> Member {
        let times = self.times.lock();
        Member {
            name: self.name.clone(),
            token: self.token.clone(),
            id: self.id,
            ttl: times.ttl,
            fence: (self.phase.get() != Phase::Sent).then(|| self.fence()),
            detached: times.detached,
            change: false,
        }
    }
}

impl Times {
    /// Plans the next renewal after one that was sent at `sent`. A lease that lives for a shorter
    /// term than it is renewed by, after a change of its ttl that may have arrived or by a late
    /// answer, is renewed before its deadline all the same.
    fn plan(&mut self, sent: Moment, full: bool) {
        let Some(every) = self.renew_every else {
            self.next_renewal = Moment::NEVER;
            self.risk_at = Moment::NEVER;
            return;
        };
        let every = every.min(self.deadline.since(sent) * 2 / 3);
        let jitter = every.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        // A little early, so that leases share calls to the store.
        let next = sent.plus(jitter).on_grid(every / 10).max(sent);
        self.next_renewal = if full { next } else { sent };
        self.risk_at = sent.plus(every + self.ttl / 6);
    }

    /// When the keeper has to look at it again.
    pub(crate) fn due(&self) -> Moment {
        self.next_renewal.min(self.risk_at).min(self.deadline)
    }

    /// When the lease has ended at the store even if the store's clock is behind by the drift, as
    /// long after its earliest end as that is after the deadline. A holder that has to be killed is
    /// killed at the earliest end, and that takes a moment.
    pub(crate) fn over(&self) -> Moment {
        self.end.plus(self.end.since(self.deadline))
    }

    /// What a lease is lost of whose deadline has come.
    pub(crate) fn overdue(&self) -> LossReason {
        if self.unreachable { LossReason::StoreUnreachable } else { LossReason::Expired }
    }
}

/// How long after a failed renewal the next is tried.
pub(crate) fn retry_after(ttl: Duration) -> Duration {
    (ttl / 10).min(Duration::from_secs(1))
}

/// A lease and whoever it concerns; what the keeper's timers carry.
#[derive(Clone, Debug)]
pub(crate) enum Timed {
    /// A lease to renew, or a place in the queue to refresh.
    Lease(Arc<Lease>),
    /// Somebody to wake.
    Alarm(Arc<crate::alarm::Alarm>),
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
