//! The voters of a backend, and how they are asked: each on its own, none for longer than its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tenure_core::clock::{Clock, SystemClock};
use tenure_core::voter::Voter;
use tenure_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::election::majority;
use crate::seat::{Home, Need, Seat};

/// The longest that one voter is waited for while the others are not enough.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long whoever is told later listens for answers that no longer matter to the caller.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// How long it is the turn of one voter to be asked before the others by all who contend.
const TURN: u64 = 1_000_000;

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
    home: Arc<Home>,
}

/// What a voter answered.
pub(crate) type Heard<T> = (usize, Result<T>);
/// Questions under way, one for each voter.
pub(crate) type Asked<T> = FuturesUnordered<BoxFuture<'static, Heard<T>>>;

impl<V: Voter> House<V> {
    pub(crate) fn new(voters: Vec<V>, longest: Duration) -> Self {
        let home = Arc::new(Home::default());
        let seat = |voter| Arc::new(Seat::new(voter, home.clone()));
        let seats = voters.into_iter().map(seat).collect();
        Self { seats, longest, rounds: AtomicU64::new(0), home }
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

    /// Whether those that answer, as far as anybody knows, are a majority.
    fn suffices(&self) -> bool {
        majority(self.size()) <= self.seats.iter().filter(|seat| seat.is_in()).count()
    }

    /// Which voter is asked first at this time by all who contend. In turns, so that one that keeps a vote
    /// for nobody is not in everybody's way for long.
    pub(crate) fn lead(&self) -> usize {
        let turn = usize::try_from(SystemClock.wall().0 / TURN).unwrap_or(0);
        let of = |voters: &[usize]| voters[turn % voters.len()];
        let (all, is_in) = (0..self.size(), |voter: &usize| self.seats[*voter].is_in());
        let those_in: Vec<usize> = all.clone().filter(is_in).collect();
        if those_in.is_empty() { of(&all.collect::<Vec<_>>()) } else { of(&those_in) }
    }

    /// Puts a question to one voter. One that is out fails at once, if the others suffice.
    pub(crate) fn ask<T, F>(
        &self,
        voter: usize,
        need: Need,
        question: impl FnOnce(Arc<Seat<V>>) -> F + Send + 'static,
    ) -> BoxFuture<'static, Heard<T>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let seat = self.seats[voter].clone();
        if !seat.is_in() && !seat.is_worth(need) && self.suffices() {
            return Box::pin(ready((voter, Err(left_out()))));
        }
        Box::pin(async move {
            let Some(open) = seat.opens(need) else {
                return (voter, Err(left_out()));
            };
            let answer = question(seat).await;
            open.answered(&answer);
            (voter, answer)
        })
    }

    /// Puts a question to all of them.
    pub(crate) fn ask_all<T, F>(
        &self,
        need: Need,
        question: impl Fn(Arc<Seat<V>>) -> F + Clone + Send + 'static,
    ) -> Asked<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        (0..self.size()).map(|voter| self.ask(voter, need, question.clone())).collect()
    }

    /// Does something in a runtime: that of the caller, or our own if it has none.
    pub(crate) async fn at_home<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if Handle::try_current().is_ok() {
            return Ok(work.await);
        }
        let dropped = |_| Error::new(ErrorKind::Unknown, "the thread of this call has ended");
        self.home.runtime()?.spawn(work).await.map_err(dropped)
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

fn left_out() -> Error {
    Error::new(ErrorKind::Unreachable, "the node does not answer").with_nothing_changed()
}
