//! One acquire, from the first request to the guard, the refusal or the withdrawal.
//!
//! Cancel safe at every await: an [`Attempt`] that is dropped before it holds is handed to the
//! janitor, which withdraws it at the store, whatever became of its requests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::Actor;
use crate::alarm::before;
use crate::backend::{
    Claim, Departure, Eviction, Grant, Kept, Place, Reason, Refusal, Renewal, Verdict,
};
use crate::capability::{JudgedBy, Wakes};
use crate::claims::{Entry, Told};
use crate::clock::Moment;
use crate::conflict::{Conflict, RetryConfig};
use crate::deadlock::Lookout;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::janitor::Job;
use crate::keeper::refresh_after;
use crate::lease::{Lease, deadline, earliest_end};
use crate::manager::Inner;
use crate::poll::Poll;
use crate::register::DRIFT_PERCENT;
use crate::token::Token;
use crate::values::Seats;
use crate::view::{HolderView, ValueView};

/// How long one call to the store may take before its outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest time that a call is given, however short the wait timeout is: what stores give a
/// connection, and a little more, so that they can say why there is none.
const CALL_AT_LEAST: Duration = Duration::from_secs(4);
/// How long the caller of a timed-out acquire waits for the withdrawal before the janitor takes it.
pub(crate) const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(2);
/// How old what is known of the store's clock may be to place a grant that was pushed.
const STORE_TIME_MAX_AGE: Duration = Duration::from_secs(15);

/// Everything an acquire was asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) claim: Claim,
    pub(crate) renew_every: Option<Duration>,
    /// `Some(0)` tries once.
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) conflict: Conflict,
    pub(crate) retry: Option<RetryConfig>,
    pub(crate) actor: Option<Actor>,
    pub(crate) progress: Option<Progress>,
}

/// Somebody who wants to know how a wait is going.
#[derive(Clone)]
pub(crate) struct Progress(pub(crate) Arc<Tell>);

type Tell = dyn Fn(&[HolderView], usize) + Send + Sync;

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// How an acquire ended.
pub(crate) enum Acquired {
    Guard(LockGuard),
    Value(ValueView),
    /// Somebody else holds it, and the wish was not to wait.
    Busy(Error),
}

/// Runs `wish` to its end.
pub(crate) async fn acquire(inner: Arc<Inner>, wish: Wish) -> Result<Acquired> {
    let started = inner.clock().now();
    let until = wish.wait_timeout.map_or(Moment::NEVER, |wait| started.plus(wait));
    let lookout = Lookout::new(&inner, &wish.claim);
    let mut run = Run { inner: &inner, wish, started, until, lookout, tries: 0, conflicted: false };
    let ended = run.run().await;
    let context = |error| inner.context(error, "acquiring", Some(&run.wish.claim.name));
    match ended {
        Ok(Acquired::Guard(guard)) => {
            inner.metrics().acquired(guard.acquired_after(started));
            // Granted while the manager was being shut down: dropped here, the janitor releases it.
            inner.check_open().map_err(context)?;
            Ok(Acquired::Guard(guard))
        }
        Ok(Acquired::Value(value)) => Ok(Acquired::Value(value)),
        Ok(Acquired::Busy(error)) => {
            inner.metrics().not_acquired(error.kind().as_str());
            Ok(Acquired::Busy(context(error)))
        }
        Err(error) => {
            inner.metrics().not_acquired(error.kind().as_str());
            Err(context(error))
        }
    }
}

/// The state of one acquire over all its tokens.
struct Run<'a> {
    inner: &'a Arc<Inner>,
    wish: Wish,
    started: Moment,
    until: Moment,
    lookout: Lookout,
    tries: u32,
    conflicted: bool,
}

/// What a step of an attempt leads to.
enum Step {
    Done(Acquired),
    /// Ask again now.
    Again,
    /// The token is used up; start with a new one.
    Anew,
}

/// Where an attempt waits, and what it knows.
struct Sight {
    sent: Moment,
    place: Place,
    /// What the store's clock said, and when the request was sent that it answered.
    store_time: Option<(Moment, crate::values::Micros)>,
}

impl Run<'_> {
    async fn run(&mut self) -> Result<Acquired> {
        let mut first = true;
        loop {
            let Wish { claim, renew_every, actor, .. } = &self.wish;
            let mut attempt = Attempt::new(self.inner, claim.clone(), *renew_every, actor.clone());
            if let Some(ended) = self.with(&mut attempt, first).await? {
                return Ok(ended);
            }
            first = false;
            let token = Token::random();
            self.wish.claim.member = token.member();
            self.wish.claim.id = self.wish.claim.member.claim();
            self.wish.claim.token = token;
        }
    }

    /// Runs one attempt; `None` if its token is used up.
    async fn with(&mut self, attempt: &mut Attempt<'_>, first: bool) -> Result<Option<Acquired>> {
        let clock = self.inner.clock();
        let mut sent = if first { self.started } else { clock.now() };
        let mut last_answer = sent;
        let mut poll = Poll::new(self.inner, &attempt.claim);
        loop {
            self.inner.check_open()?;
            let answer = attempt.ask(self.until).await;
            let answered = clock.now();
            let verdict = match answer {
                Ok(verdict) => verdict,
                Err(error) => {
                    self.inner.metrics().store_error("acquire", error.kind());
                    // A place in the queue outlives a short silence of the store.
                    let waits = attempt.claim.wait || attempt.claim.asks_again;
                    let queued = attempt.calls_answered() && waits;
                    let patience = last_answer.plus(attempt.claim.wait_ttl).min(self.until);
                    if !queued || !error.kind().is_transient() || patience <= answered {
                        return Err(error);
                    }
                    let pause = answered.plus(poll.next_pause()).min(patience);
                    let alarm = self.inner.keeper().sleep_until(pause);
                    // A store may take renewals and no claims: when it is out of memory.
                    if let Some(Told { grant: Some(grant), .. }) =
                        before(alarm, attempt.told()).await
                    {
                        return Ok(attempt.pick_up(grant).await?.map(Acquired::Guard));
                    }
                    sent = clock.now();
                    continue;
                }
            };
            last_answer = answered;
            let step = match verdict {
                Verdict::Granted(grant) => match attempt.take(sent, answered, grant).await? {
                    Some(guard) => Step::Done(Acquired::Guard(guard)),
                    None => Step::Anew,
                },
                Verdict::Value(value) => {
                    attempt.settled();
                    Step::Done(Acquired::Value(value))
                }
                Verdict::Refused(Refusal::Departed(how)) => {
                    attempt.settled();
                    tracing::debug!(lock = %attempt.claim.name, %how, "asking anew");
                    Step::Anew
                }
                Verdict::Refused(refusal) => {
                    attempt.settled();
                    return Err(refused(&refusal));
                }
                Verdict::Busy(place) => {
                    attempt.settled();
                    self.conflict();
                    self.busy(attempt, place, &mut poll).await?
                }
                Verdict::Queued(place) => {
                    self.conflict();
                    let store_time = place.now.map(|now| (sent, now));
                    let sight = Sight { sent, place, store_time };
                    self.queued(attempt, sight, &mut poll).await?
                }
            };
            match step {
                Step::Done(ended) => return Ok(Some(ended)),
                Step::Again => sent = clock.now(),
                Step::Anew => return Ok(None),
            }
        }
    }

    fn conflict(&mut self) {
        if !self.conflicted {
            self.conflicted = true;
            self.inner.metrics().conflict();
        }
    }

    /// The seats are taken and the claim has no place in the queue.
    async fn busy(&mut self, attempt: &Attempt<'_>, place: Place, poll: &mut Poll) -> Result<Step> {
        if self.steal_stale(&place.holders).await? {
            return Ok(Step::Again);
        }
        self.tries += 1;
        let now = self.inner.clock().now();
        let pause = match &self.wish.retry {
            Some(retry) if self.tries < retry.max_attempts => retry.jittered(self.tries),
            Some(_) => return Ok(Step::Done(Acquired::Busy(busy(place.holders)))),
            None if self.waits() => poll.pause(false, place.check_in),
            None => return Ok(Step::Done(Acquired::Busy(busy(place.holders)))),
        };
        if self.until <= now {
            return Err(self.timed_out(place));
        }
        if self.wish.retry.is_some() {
            self.inner.metrics().retried();
        }
        if let Some(progress) = &self.wish.progress {
            progress.0(&place.holders, place.ahead);
        }
        let alarm = self.inner.keeper().sleep_until(now.plus(pause).min(self.until));
        if before(alarm, attempt.told()).await.is_some() {
            poll.reset();
        }
        Ok(Step::Again)
    }

    /// The claim has a place in the queue: waits for an event, or until it is time to ask.
    async fn queued(
        &mut self,
        attempt: &mut Attempt<'_>,
        sight: Sight,
        poll: &mut Poll,
    ) -> Result<Step> {
        if self.steal_stale(&sight.place.holders).await? {
            return Ok(Step::Again);
        }
        let clock = self.inner.clock().clone();
        let pushed = attempt.wait_in_queue(&sight.place);
        if let Some(progress) = &self.wish.progress {
            progress.0(&sight.place.holders, sight.place.ahead);
        }
        let now = clock.now();
        if self.until <= now {
            attempt.withdraw().await;
            return Err(self.timed_out(sight.place));
        }
        let mut ask_at = now.plus(poll.pause(pushed, sight.place.check_in));
        if let Conflict::StealStale { after } = self.wish.conflict {
            let quiet = sight.place.holders.iter().map(|h| h.quiet_for).max().unwrap_or_default();
            ask_at = ask_at.min(now.plus(after.saturating_sub(quiet) + Duration::from_millis(10)));
        }
        let alarm =
            self.inner.keeper().sleep_until(ask_at.min(self.until).min(self.lookout.next()));
        let told = match before(alarm, attempt.told()).await {
            None => self.look_for_deadlock(attempt).await?,
            told => told,
        };
        if let Some(Told { grant: Some(grant), .. }) = told
            && let now = clock.now()
            && let Some(end) = pushed_end(&sight, grant, now)
        {
            return Ok(match attempt.hold(grant, end, now) {
                Some(guard) => Step::Done(Acquired::Guard(guard)),
                None => Step::Anew,
            });
        }
        if told.is_some() {
            poll.reset();
        }
        Ok(Step::Again)
    }

    /// Looks for a deadlock, if it is time, unless there is news first. Whoever has to give way leaves
    /// the queue.
    async fn look_for_deadlock(&mut self, attempt: &mut Attempt<'_>) -> Result<Option<Told>> {
        let news = async { Ok(Some(attempt.told().await)) };
        let look = async { self.lookout.look(self.inner, &attempt.claim).await.map(|()| None) };
        let seen = futures_lite::future::or(news, look).await;
        if seen.is_err() {
            attempt.withdraw().await;
        }
        seen
    }

    fn waits(&self) -> bool {
        self.wish.wait_timeout != Some(Duration::ZERO) && self.wish.conflict != Conflict::Fail
    }

    fn timed_out(&self, place: Place) -> Error {
        let waited = self.inner.clock().now().since(self.started);
        let queue = match place.ahead {
            0 => String::new(),
            n => format!(", {n} ahead in the queue"),
        };
        Error::new(
            ErrorKind::WaitTimeout,
            format!("not free within the wait timeout ({:.1} s{queue})", waited.as_secs_f64()),
        )
        .with_help("wait longer, or look who holds it: `tenure status NAME`")
        .with_holders(place.holders)
    }

    /// Takes the lock from holders that gave no sign of life for too long; `true` if there were
    /// any.
    async fn steal_stale(&self, holders: &[HolderView]) -> Result<bool> {
        let Conflict::StealStale { after } = self.wish.conflict else {
            return Ok(false);
        };
        let mut stole = false;
        for holder in holders {
            let missing_two = holder.details.renews_every.map_or(Duration::ZERO, |every| every * 2);
            if holder.quiet_for < after.max(missing_two) {
                continue;
            }
            let why = format!("no sign of life for {:.0} s", holder.quiet_for.as_secs_f64());
            let by = self.wish.claim.details.owner.label.clone();
            let eviction = Eviction {
                only_if: Some(holder.fence),
                stolen: true,
                reason: Reason { by, why: why.into() },
            };
            let evicted = match self.inner.backend().evict(&self.wish.claim.name, &eviction).await {
                Ok(evicted) => evicted,
                // It is tried again when the holder is looked at next.
                Err(error) if error.kind().is_transient() => {
                    self.inner.metrics().store_error("evict", error.kind());
                    continue;
                }
                Err(error) => return Err(error),
            };
            if matches!(evicted, crate::backend::Evicted::Done(_)) {
                self.inner.metrics().stale_claimed();
            }
            stole = true;
        }
        Ok(stole)
    }
}

/// Until when a call is waited for that belongs to a wait until `until`.
pub(crate) fn call_limit(inner: &Inner, until: Moment) -> Moment {
    let now = inner.clock().now();
    now.plus(until.since(now).clamp(CALL_AT_LEAST, CALL_TIMEOUT))
}

pub(crate) fn late() -> Error {
    Error::new(ErrorKind::Unreachable, "the store did not answer in time")
}

fn busy(holders: Vec<HolderView>) -> Error {
    Error::new(ErrorKind::Busy, "somebody else holds it")
        .with_help("wait for it, or look who holds it: `tenure status NAME`")
        .with_holders(holders)
}

pub(crate) fn refused(refusal: &Refusal) -> Error {
    match refusal {
        Refusal::Mismatch { of } => mismatch(*of),
        Refusal::UpgradePending => Error::new(
            ErrorKind::Deadlock,
            "another holder already waits to upgrade; both would wait for ever",
        )
        .with_help("release the shared lock and acquire it exclusively"),
        Refusal::NotHeld => Error::new(ErrorKind::NotHeld, "only a holder can upgrade"),
        Refusal::Departed(how) => {
            Error::new(ErrorKind::Lost, format!("the lock is not held any more: {how}"))
        }
        Refusal::Withdrawn => {
            Error::new(ErrorKind::Unknown, "the claim was withdrawn while it was being granted")
        }
    }
}

pub(crate) fn mismatch(of: u32) -> Error {
    let there = if of == Seats::MANY { "unlimited".to_owned() } else { of.to_string() };
    Error::new(
        ErrorKind::Mismatch,
        format!("the present holders and waiters count {there} seats, this claim another number"),
    )
    .with_help("all users of one name must name the same number of permits")
}

/// When a lease can end at the earliest that was granted by a message: by when the backend saw it
/// begin, or by what is known of the store's clock. `None` if that is too old or cannot be, as a
/// grant from before the store was asked and said that the claim waits: a store that has lost what
/// it did last has said both. Then the store is asked.
fn pushed_end(sight: &Sight, grant: Grant, now: Moment) -> Option<Moment> {
    if let Some(began) = grant.began {
        let end = earliest_end(began, grant.term);
        // A backend on another clock than the manager's would say something else.
        return (sight.sent <= began && began <= now && now < deadline(end, grant.term))
            .then_some(end);
    }
    let (sent, store_now) = sight.store_time?;
    if STORE_TIME_MAX_AGE < now.since(sight.sent) || grant.at < store_now {
        return None;
    }
    // The request was sent before the store said `store_now`; the grant came so much later, by the
    // store's clock, which may run faster than this one.
    let later = grant.at.since(store_now);
    let granted = sent.plus(later - later * DRIFT_PERCENT / 100).min(now);
    let end = earliest_end(granted, grant.term);
    (now < deadline(end, grant.term)).then_some(end)
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
    fn new(
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

    async fn ask(&mut self, until: Moment) -> Result<Verdict> {
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

    fn calls_answered(&self) -> bool {
        0 < self.answers
    }

    /// Makes a guard of a grant; `None` if it is over already.
    async fn take(
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
    async fn pick_up(&mut self, grant: Grant) -> Result<Option<LockGuard>> {
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

    fn hold(&mut self, grant: Grant, end: Moment, now: Moment) -> Option<LockGuard> {
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
    fn wait_in_queue(&mut self, place: &Place) -> bool {
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

    async fn told(&self) -> Told {
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
    fn settled(&mut self) {
        self.sent = false;
    }

    /// Gives the claim up at the store; what cannot be done in time is left to the janitor.
    async fn withdraw(&mut self) {
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

/// What a departed claim means to somebody who asks for the departure itself.
pub(crate) fn departed(how: Departure) -> Error {
    match how {
        Departure::Forgotten | Departure::Released | Departure::Withdrawn => {
            Error::new(ErrorKind::NotHeld, format!("the lock is not held by this token: {how}"))
        }
        how => crate::loss::LossReason::from(how).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{Fence, Micros};

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
        assert_eq!(pushed_end(&sight(), pushed(4_999_999), at(1)), None);
        assert!(pushed_end(&sight(), pushed(5_000_000), at(1)).is_some());
        let mut began = pushed(0);
        began.began = Some(at(0).minus(Duration::from_millis(1)));
        assert_eq!(pushed_end(&sight(), began, at(1)), None);
        began.began = Some(at(0));
        assert!(pushed_end(&sight(), began, at(1)).is_some());
    }

    #[test]
    fn a_pushed_grant_does_not_end_late_on_a_clock_that_is_slower_than_the_stores() {
        // The store's clock runs faster by the drift: it counted 12 s, this one less. The message
        // was 200 ms on its way.
        let granted = Duration::from_secs(12) * 100 / (100 + DRIFT_PERCENT);
        let now = at(0).plus(granted + Duration::from_millis(200));
        let end = pushed_end(&sight(), pushed(17_000_000), now);
        let is_over = at(0).plus(granted + TERM * 100 / (100 + DRIFT_PERCENT));
        assert!(end.is_none_or(|end| end <= is_over), "{end:?} {is_over:?}");
    }
}
