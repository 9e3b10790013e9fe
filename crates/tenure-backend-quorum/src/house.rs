//! The voters of a backend, and how they are asked: each on its own, none for longer than its time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::voter::Voter;
use tenure_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Runtime};

/// The longest that one voter is waited for while the others are not enough.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long whoever is told later listens for answers that no longer matter to the caller.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How many questions a voter may leave open before it is asked no more, but now and then.
const OPEN: usize = 64;
/// How long it has to be silent for that, and how often it is asked then.
const SILENCE: Duration = Duration::from_millis(500);

/// How long one voter is waited for in a call for a lease of this ttl.
pub(crate) fn patience(ttl: Duration) -> Duration {
    (ttl / 10).min(PATIENCE)
}

/// All voters of a backend.
pub(crate) struct House<V> {
    seats: Vec<Arc<Seat<V>>>,
    pub(crate) longest: Duration,
    rounds: AtomicU64,
    /// For calls that are made outside of any runtime.
    own: OnceLock<Option<Own>>,
}

/// A voter, and whether it answers.
pub(crate) struct Seat<V> {
    pub(crate) voter: V,
    open: AtomicUsize,
    /// When it last answered, or was asked although it did not.
    heard: AtomicU64,
}

/// What a voter answered.
pub(crate) type Heard<T> = (usize, Result<T>);
/// Questions under way, one for each voter.
pub(crate) type Asked<T> = FuturesUnordered<BoxFuture<'static, Heard<T>>>;

impl<V: Voter> House<V> {
    pub(crate) fn new(voters: Vec<V>, longest: Duration) -> Self {
        let seat = |voter| {
            let heard = AtomicU64::new(SystemClock.now().as_nanos());
            Arc::new(Seat { voter, open: AtomicUsize::new(0), heard })
        };
        Self {
            seats: voters.into_iter().map(seat).collect(),
            longest,
            rounds: AtomicU64::new(0),
            own: OnceLock::new(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        self.seats.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &V> {
        self.seats.iter().map(|seat| &seat.voter)
    }

    /// The number of an attempt: above all before it in this process, and in others as far as clocks
    /// agree. It only tells apart attempts with the same token.
    pub(crate) fn next_round(&self) -> u64 {
        let now = SystemClock.wall().0;
        let last = self.rounds.fetch_max(now, Ordering::Relaxed);
        if last < now { now } else { self.rounds.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Puts a question to one voter.
    pub(crate) fn ask<T, F>(
        &self,
        voter: usize,
        question: impl FnOnce(Arc<Seat<V>>) -> F + Send + 'static,
    ) -> BoxFuture<'static, Heard<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let seat = self.seats[voter].clone();
        Box::pin(async move {
            let Some(open) = Open::at(seat.clone()) else {
                return (voter, Err(silent()));
            };
            let answer = question(seat).await;
            open.is_answered();
            (voter, answer)
        })
    }

    /// Puts a question to all of them.
    pub(crate) fn ask_all<T, F>(
        &self,
        question: impl Fn(Arc<Seat<V>>) -> F + Clone + Send + 'static,
    ) -> Asked<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        (0..self.size()).map(|voter| self.ask(voter, question.clone())).collect()
    }

    /// Does something in a runtime: that of the caller, or our own if it has none.
    pub(crate) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if Handle::try_current().is_ok() {
            return Ok(work.await);
        }
        let own = self.own.get_or_init(Own::start);
        let Some(runtime) = own.as_ref().and_then(|own| own.0.as_ref()) else {
            return Err(Error::new(ErrorKind::Unreachable, "no thread to ask the voters in")
                .with_nothing_changed());
        };
        let dropped = |_| Error::new(ErrorKind::Unknown, "the thread of this call has ended");
        runtime.spawn(work).await.map_err(dropped)
    }
}

/// Goes on with work that the caller does not wait for.
pub(crate) fn afterwards(work: impl Future<Output = ()> + Send + 'static) {
    let limited = async move {
        let _ = tokio::time::timeout(AFTERWARDS, work).await;
    };
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(limited);
    }
}

/// Lets questions be answered that the caller does not wait for.
pub(crate) fn drain<T: Send + 'static>(mut asked: Asked<T>) {
    if !asked.is_empty() {
        afterwards(async move { while asked.next().await.is_some() {} });
    }
}

/// Gathers answers until enough is known, or the time is over; those that are still awaited then are
/// answered to nobody.
pub(crate) async fn gather<T: Send + 'static>(
    asked: &mut Asked<T>,
    size: usize,
    limit: Duration,
    enough: impl Fn(&[Option<Result<T>>]) -> bool,
) -> Vec<Option<Result<T>>> {
    let mut answers: Vec<Option<Result<T>>> = (0..size).map(|_| None).collect();
    let listen = async {
        while let Some((voter, answer)) = asked.next().await {
            answers[voter] = Some(answer);
            if enough(&answers) {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(limit, listen).await;
    answers
}

/// The answers that are none, as what is not known.
pub(crate) fn known<T: Clone>(answers: &[Option<Result<T>>]) -> Vec<Option<T>> {
    answers.iter().map(|answer| answer.as_ref().and_then(|a| a.as_ref().ok()).cloned()).collect()
}

/// Too few voters have answered.
pub(crate) fn too_few<T>(answers: &[Option<Result<T>>]) -> Error {
    let errors: Vec<&Error> =
        answers.iter().flatten().filter_map(|answer| answer.as_ref().err()).collect();
    let answered = answers.iter().flatten().count() - errors.len();
    // Some of them may know better than that they were not reached.
    let worst = errors.iter().find(|error| !error.kind().is_transient());
    let kind = worst.map_or(ErrorKind::Unreachable, |error| error.kind());
    let why = worst.or(errors.first()).map_or("they are silent", |error| error.message());
    let error = Error::new(
        kind,
        format!("{answered} of {} nodes answered, which is no majority: {why}", answers.len()),
    )
    .with_help("are the nodes up? `tenure doctor` looks at each of them");
    match errors.len() == answers.len() && errors.iter().all(|error| error.changed_nothing()) {
        true => error.with_nothing_changed(),
        false => error,
    }
}

fn silent() -> Error {
    Error::new(ErrorKind::Unreachable, "the node is silent").with_nothing_changed()
}

/// A question that is not answered yet.
struct Open<V>(Arc<Seat<V>>);

impl<V> Open<V> {
    /// `None` if the voter leaves so many open that it is asked no more.
    fn at(seat: Arc<Seat<V>>) -> Option<Self> {
        let open = seat.open.fetch_add(1, Ordering::Relaxed);
        let this = Self(seat);
        if OPEN <= open {
            let (now, heard) = (SystemClock.now(), this.0.heard.load(Ordering::Relaxed));
            let is_silent = SILENCE < now.since(Moment::from_nanos(heard));
            // One of those who find it silent asks all the same.
            let asks = || {
                let order = Ordering::Relaxed;
                this.0.heard.compare_exchange(heard, now.as_nanos(), order, order).is_ok()
            };
            if is_silent && !asks() {
                return None;
            }
            if !is_silent && OPEN * 16 <= open {
                return None;
            }
        }
        Some(this)
    }

    fn is_answered(&self) {
        self.0.heard.store(SystemClock.now().as_nanos(), Ordering::Relaxed);
    }
}

impl<V> Drop for Open<V> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Own(Option<Runtime>);

impl Own {
    fn start() -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("tenure-quorum")
            .enable_all()
            .build()
            .inspect_err(|error| tracing::warn!(%error, "no thread to ask the voters in"))
            .ok()?;
        Some(Self(Some(runtime)))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // May be dropped inside another runtime, which must not be blocked.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
