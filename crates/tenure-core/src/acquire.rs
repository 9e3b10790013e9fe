//! One acquire, from the first request to the guard, the refusal or the end of the wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::actor::Actor;
use crate::alarm::before;
use crate::attempt::{Attempt, Sight};
use crate::backend::{Claim, Eviction, Place, Reason, Refusal, Verdict};
use crate::claims::Told;
use crate::clock::Moment;
use crate::conflict::{Conflict, RetryConfig};
use crate::deadlock::Lookout;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::manager::Inner;
use crate::poll::Poll;
use crate::refusal::{busy, refused};
use crate::token::Token;
use crate::view::{HolderView, ValueView};

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
            && let Some(end) = sight.pushed_end(grant, now)
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
