//! The keeper: one thread of its own per manager that renews every lease and queue place, says
//! when a lease is lost, wakes whoever waits for a moment, and does the janitor's work.
//!
//! A thread, because user code that blocks its runtime must not lose its locks. It never makes a
//! blocking store call itself: store calls are futures in its own runtime, and a store that hangs
//! does not keep a deadline from being noticed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::alarm::{Sleep, before};
use crate::backend::{DynBackend, Kept, Member, Renewal, time_to_renew};
use crate::claims::Waiters;
use crate::clock::{Clock, Moment};
use crate::error::ErrorKind;
use crate::janitor::{Janitor, Job};
use crate::lease::{Lease, Timed, retry_after};
use crate::loss::LossReason;
use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::timers::{TimerKey, Timers};

/// The most members in one call to the store.
const BATCH: usize = 256;
/// The most janitor's jobs at a time.
const JOBS_AT_ONCE: usize = 64;
/// How long the thread goes on after its manager is gone, to finish what was handed over.
const LINGER: Duration = Duration::from_secs(10);

/// What the keeper's thread and its clients share.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) timers: Arc<Timers<Timed>>,
    pub(crate) janitor: Janitor,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) waiters: Arc<Waiters>,
    stop: AtomicBool,
}

impl Keeper {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        waiters: Arc<Waiters>,
    ) -> Arc<Self> {
        Arc::new(Self {
            timers: Arc::new(Timers::new()),
            janitor: Janitor::default(),
            clock,
            metrics,
            waiters,
            stop: AtomicBool::new(false),
        })
    }

    /// Starts the thread. It ends after [`Keeper::stop`], when nothing is left to clean up.
    pub(crate) fn start(self: &Arc<Self>, backend: Arc<dyn DynBackend>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keeper = self.clone();
        std::thread::Builder::new()
            .name("tenure-keeper".into())
            .spawn(move || runtime.block_on(Rounds::new(keeper, backend).run()))?;
        Ok(())
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.timers.wake();
    }

    /// Resolves at `at`.
    pub(crate) fn sleep_until(&self, at: Moment) -> Sleep {
        Sleep::until(&self.timers, at)
    }

    /// Puts a lease or a queue place under care, due at `at`.
    pub(crate) fn care_for(&self, lease: &Arc<Lease>, at: Moment) {
        let key = self.timers.insert(Timed::Lease(lease.clone()), at);
        lease.times.lock().key = Some(key);
    }

    /// Looks at a lease again at `at`.
    pub(crate) fn look_again(&self, lease: &Lease, at: Moment) {
        let key = lease.times.lock().key;
        if let Some(key) = key {
            self.timers.reschedule(key, at);
        }
    }

    /// Takes a lease out of care.
    pub(crate) fn let_go(&self, lease: &Lease) {
        let key = lease.times.lock().key.take();
        if let Some(key) = key {
            self.timers.remove(key);
        }
    }

    /// Hands a job to the janitor; what does not fit in is left to its ttl.
    pub(crate) fn clean_up(&self, job: Job) {
        if self.janitor.take(job) {
            self.timers.wake();
        } else {
            self.metrics.janitor_overflow();
        }
    }

    /// Loses a lease, once, and tells. What may still be at the store is given back when the lease
    /// has ended there by itself, for all that is known here, or when its guard is dropped: until
    /// then whoever worked under it is stopping, and nobody else may begin.
    pub(crate) fn lose(&self, lease: &Arc<Lease>, reason: LossReason) {
        let word = reason.as_str();
        if !lease.lose(reason) {
            return;
        }
        let now = self.clock.now();
        let (over, held_for) = {
            let times = lease.times.lock();
            (times.over(), now.since(times.acquired_at))
        };
        self.look_again(lease, over);
        self.metrics.lost(word);
        self.metrics.let_go(held_for);
        tracing::warn!(lock = %lease.name, holder = %lease.id.holder(), reason = word, "lock lost");
    }

    /// Lets the janitor give back what may still be at the store of a lost lease; once.
    pub(crate) fn give_back(&self, lease: &Arc<Lease>) {
        if lease.phase.get() != Phase::Lost {
            return;
        }
        let (key, ttl) = {
            let mut times = lease.times.lock();
            (times.key.take(), times.ttl)
        };
        let Some(key) = key else {
            return;
        };
        self.timers.remove(key);
        let until = self.clock.now().plus(ttl);
        self.clean_up(Job::Release { lease: lease.clone(), until });
    }
}

type Work = BoxFuture<'static, Finished>;

enum Finished {
    Renewals(Vec<(Arc<Lease>, Moment, Renewal)>),
    Job,
}

/// The thread's own state.
struct Rounds {
    keeper: Arc<Keeper>,
    backend: Arc<dyn DynBackend>,
    work: FuturesUnordered<Work>,
    jobs: usize,
}

impl Rounds {
    fn new(keeper: Arc<Keeper>, backend: Arc<dyn DynBackend>) -> Self {
        Self { keeper, backend, work: FuturesUnordered::new(), jobs: 0 }
    }

    async fn run(mut self) {
        let mut last_call = None;
        loop {
            let now = self.keeper.clock.now();
            self.look_at_what_is_due(now);
            self.start_jobs();
            if self.keeper.stop.load(Ordering::Acquire) {
                let last_call = *last_call.get_or_insert_with(|| now.plus(LINGER));
                if self.keeper.janitor.open() == 0 || last_call <= now {
                    return;
                }
            }
            let next = self.keeper.timers.fall_asleep().min(last_call.unwrap_or(Moment::NEVER));
            let finished = {
                let work = NextFinished(&mut self.work);
                let woken = async {
                    futures_lite::future::or(
                        self.keeper.timers.woken(),
                        self.keeper.clock.sleep_until(next),
                    )
                    .await;
                    None
                };
                futures_lite::future::or(work, woken).await
            };
            if let Some(finished) = finished {
                self.finish(finished);
            }
        }
    }

    fn look_at_what_is_due(&mut self, now: Moment) {
        let mut renewals: Vec<(Arc<Lease>, Member)> = Vec::new();
        for (key, timed) in self.keeper.timers.take_due(now) {
            match timed {
                Timed::Alarm(alarm) => alarm.ring(),
                Timed::Lease(lease) => {
                    if self.look_at(&lease, key, now) {
                        let member = lease.member();
                        renewals.push((lease, member));
                    }
                }
            }
        }
        self.send_renewals(renewals, now);
    }

    /// Looks at one lease or place whose time has come; `true` if it has to be renewed now.
    fn look_at(&self, lease: &Arc<Lease>, key: TimerKey, now: Moment) -> bool {
        let timers = &self.keeper.timers;
        match lease.phase.get() {
            // A place in the queue: refreshed for as long as somebody waits on it.
            Phase::Sent => {
                timers.reschedule(key, refresh_after(now, crate::backend::Claim::WAIT_TTL));
                true
            }
            Phase::Held => {
                let mut times = lease.times.lock();
                if times.deadline <= now {
                    let reason = times.overdue();
                    drop(times);
                    self.keeper.lose(lease, reason);
                    return false;
                }
                let renew = times.next_renewal <= now;
                if renew {
                    // Unless it is answered before.
                    times.next_renewal = now.plus(retry_after(times.ttl) + times.ttl / 6);
                }
                let risk = times.risk_at <= now;
                if risk {
                    times.risk_at = Moment::NEVER;
                }
                let due = times.due();
                drop(times);
                if risk {
                    lease.put_at_risk();
                }
                timers.reschedule(key, due);
                renew
            }
            Phase::Lost => {
                let over = lease.times.lock().over();
                if now < over {
                    timers.reschedule(key, over);
                } else {
                    self.keeper.give_back(lease);
                }
                false
            }
            Phase::Releasing | Phase::Gone => false,
        }
    }

    /// Sends renewals in calls of [`BATCH`] members of about the same ttl: the shortest of a call
    /// decides how long it may take.
    fn send_renewals(&mut self, mut renewals: Vec<(Arc<Lease>, Member)>, now: Moment) {
        renewals.sort_by_key(|(_, member)| member.ttl);
        while !renewals.is_empty() {
            let shortest = renewals[0].1.ttl;
            let similar =
                renewals.iter().take(BATCH).take_while(|(_, m)| m.ttl <= shortest * 2).count();
            let call: Vec<_> = renewals.drain(..similar).collect();
            let (leases, members): (Vec<_>, Vec<_>) = call.into_iter().unzip();
            // Later than the store's own limit, or the answers it has would be lost with those that
            // it waits for.
            let limit = self.keeper.sleep_until(now.plus(time_to_renew(&members) * 4 / 3));
            let (backend, clock) = (self.backend.clone(), self.keeper.clock.clone());
            self.work.push(Box::pin(async move {
                let sent = clock.now();
                let answers = before(limit, backend.renew(&members)).await;
                let answers =
                    answers.unwrap_or_else(|| vec![Renewal::Unknown(late()); leases.len()]);
                let renewals = leases.into_iter().zip(answers).map(|(l, a)| (l, sent, a)).collect();
                Finished::Renewals(renewals)
            }));
        }
    }

    fn start_jobs(&mut self) {
        let room = JOBS_AT_ONCE.saturating_sub(self.jobs);
        for job in self.keeper.janitor.next(room) {
            self.jobs += 1;
            let (keeper, backend) = (self.keeper.clone(), self.backend.clone());
            self.work.push(Box::pin(async move {
                do_job(&keeper, &*backend, job).await;
                Finished::Job
            }));
        }
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Job => {
                self.jobs -= 1;
                self.keeper.janitor.done();
            }
            Finished::Renewals(renewals) => {
                let now = self.keeper.clock.now();
                for (lease, sent, renewal) in renewals {
                    self.apply(&lease, sent, renewal, now);
                }
            }
        }
    }

    fn apply(&self, lease: &Arc<Lease>, sent: Moment, renewal: Renewal, now: Moment) {
        let metrics = &self.keeper.metrics;
        if lease.phase.get() == Phase::Sent {
            // A place in the queue. Whoever waits on it learns more by asking.
            if !matches!(renewal, Renewal::Kept(Kept::Waiting) | Renewal::Unknown(_)) {
                self.keeper.waiters.wake(lease.id);
            }
            return;
        }
        match renewal {
            Renewal::Kept(Kept::Holding(grant)) => {
                let (ttl, left) = {
                    let times = lease.times.lock();
                    (times.ttl, times.deadline.since(now))
                };
                if lease.renewed(sent, ttl, grant.term, now) {
                    metrics.renewed(left);
                }
            }
            Renewal::Kept(Kept::Waiting) => {}
            Renewal::Gone(departure) => {
                metrics.renewal("gone");
                self.keeper.lose(lease, departure.into());
                return;
            }
            Renewal::Unknown(error) => {
                metrics.renewal("failed");
                metrics.store_error("renew", error.kind());
                tracing::debug!(lock = %lease.name, %error, "renewal failed, it is tried again");
                let unreachable =
                    matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Unknown);
                lease.renewal_failed(now, unreachable);
            }
        }
        let due = lease.times.lock().due();
        self.keeper.look_again(lease, due);
    }
}

/// When a place in the queue is refreshed next; those of many waiters together.
pub(crate) fn refresh_after(now: Moment, wait_ttl: Duration) -> Moment {
    let every = wait_ttl / 3;
    now.plus(every).on_grid(every / 10).max(now)
}

fn late() -> crate::error::Error {
    crate::error::Error::new(ErrorKind::Unreachable, "the store did not answer in time")
}

/// Does one job, again and again until the store has answered or the ttl has done it.
async fn do_job(keeper: &Keeper, backend: &dyn DynBackend, job: Job) {
    let mut pause = Duration::from_millis(50);
    loop {
        let (until, attempt): (Moment, BoxFuture<'_, bool>) = match &job {
            Job::Release { lease, until } => (
                *until,
                Box::pin(async move {
                    let reference = lease.reference();
                    let answer = backend.release(&reference, None).await;
                    answer.is_ok()
                }),
            ),
            Job::Withdraw { claim, until } => {
                (*until, Box::pin(async move { backend.withdraw(claim).await.is_ok() }))
            }
        };
        let try_until = keeper.clock.now().plus(Duration::from_secs(5)).min(until);
        if before(keeper.sleep_until(try_until), attempt).await == Some(true) {
            break;
        }
        let now = keeper.clock.now();
        if until <= now {
            break;
        }
        keeper.sleep_until(now.plus(pause).min(until)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    if let Job::Release { lease, .. } = &job {
        lease.phase.finish();
    }
}

/// Resolves with the next finished piece of work; never, if there is none.
struct NextFinished<'a>(&'a mut FuturesUnordered<Work>);

impl Future for NextFinished<'_> {
    type Output = Option<Finished>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.poll_next_unpin(cx) {
            Poll::Ready(Some(finished)) => Poll::Ready(Some(finished)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
