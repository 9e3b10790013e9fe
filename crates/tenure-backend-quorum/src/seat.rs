//! One voter, and whether it answers.
//!
//! A voter that is down or silent must not be in anybody's way: each question to it costs a connection
//! that is refused, or an answer that never comes. Once it has refused one, or left all open for a
//! while, one task looks at it; if that fails it is *out*, and the task goes on with growing pauses
//! until it is back. Nobody else puts it out. Who is out is asked nothing, as long as those who are in
//! are a majority. Otherwise there is nothing to be gained by leaving it out, and everything by its
//! being back a moment earlier.
//!
//! That a majority answers does not say that it keeps a certain holder. So whatever ends or renews a
//! lease goes to those who are silent as well: they may hear it. One that cannot be reached hears nothing, and
//! is looked at again after about as long as it has been away, a second at most.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tenure_core::clock::{Clock, Moment, SystemClock};
use tenure_core::voter::Voter;
use tenure_core::{Error, ErrorKind, Result};
use tokio::runtime::Runtime;

/// How long a voter may leave all questions open before somebody looks.
const SILENCE: Duration = Duration::from_millis(500);
/// How long it has to answer whoever looks.
const LOOK: Duration = Duration::from_secs(1);
/// The pauses between two looks; up to a half of each is chance, so that not all who miss it come at once.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How many questions one that is out may leave open, and how many renewals: those are few, and a lease may
/// depend on each of them, so what else was asked before it was out does not count.
const OPEN: [usize; 2] = [64, 1024];

/// A voter, and whether it answers.
pub(crate) struct Seat<V> {
    pub(crate) voter: V,
    state: AtomicU8,
    /// When the first question was asked since it last answered one; zero if there is none.
    since: AtomicU64,
    open: [AtomicUsize; 2],
    /// Somebody looks whether it is back.
    is_watched: AtomicBool,
    home: Arc<Home>,
}

/// As far as anybody knows, it answers.
const IN: u8 = 0;
/// It does not, and what is sent to it may arrive nevertheless.
const SILENT: u8 = 1;
/// It cannot be reached: nothing arrives there.
const UNREACHED: u8 = 2;

/// How much a question matters to whoever asks it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A majority will do.
    Majority,
    /// It takes something back, and had better reach everybody who may have it.
    Each,
    /// It renews, and had better do so as well.
    Keep,
}

impl Need {
    /// Among which questions it is counted.
    fn kind(self) -> usize {
        usize::from(self == Need::Keep)
    }
}

impl<V: Voter> Seat<V> {
    pub(crate) fn new(voter: V, home: Arc<Home>) -> Self {
        let (state, since) = (AtomicU8::new(IN), AtomicU64::new(0));
        let (open, is_watched) = (Default::default(), AtomicBool::new(false));
        Self { voter, state, since, open, is_watched, home }
    }

    /// Whether it answers, as far as anybody knows.
    pub(crate) fn is_in(self: &Arc<Self>) -> bool {
        if self.state.load(Ordering::Relaxed) == IN {
            let since = self.since.load(Ordering::Relaxed);
            if since != 0 && SILENCE <= SystemClock.now().since(Moment::from_nanos(since)) {
                // It may be that it answered, and the runtime of whoever asked stood still.
                self.doubt();
            }
            return true;
        }
        // Whoever is out is watched, or would be so for ever.
        self.doubt();
        false
    }

    /// A question is put to it, unless too many are open; whether it is out was decided before.
    pub(crate) fn opens(self: &Arc<Self>, need: Need) -> Option<Open<V>> {
        let open = Open(self.clone(), need);
        let before = self.open[need.kind()].fetch_add(1, Ordering::Relaxed);
        if OPEN[need.kind()] <= before && self.state.load(Ordering::Relaxed) != IN {
            return None;
        }
        let now = SystemClock.now().as_nanos();
        let _ = self.since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        Some(open)
    }

    /// Whether to put a question to it that those who are in can do without.
    pub(crate) fn is_worth(&self, need: Need) -> bool {
        // It may have had what this is about; so few that they cost nothing.
        need != Need::Majority
            && self.state.load(Ordering::Relaxed) == SILENT
            && self.open[need.kind()].load(Ordering::Relaxed) < OPEN[need.kind()]
    }

    /// What came of a question.
    fn heard<T>(self: &Arc<Self>, answer: &Result<T>) {
        match answer.as_ref().map_err(Error::kind) {
            // It may be that it refuses this only. Whoever looks knows more.
            Err(ErrorKind::Unreachable) => self.doubt(),
            // Not a word of it.
            Err(ErrorKind::Unknown) => {}
            _ => self.is_back(),
        }
    }

    fn is_back(&self) {
        self.since.store(0, Ordering::Relaxed);
        self.state.store(IN, Ordering::Relaxed);
    }

    /// Has it looked at, by one task for all who doubt.
    fn doubt(self: &Arc<Self>) {
        let is_watched = self.is_watched.load(Ordering::Relaxed);
        if !is_watched && !self.is_watched.swap(true, Ordering::AcqRel) {
            let watch = Watch(Arc::downgrade(self));
            match self.home.runtime() {
                Ok(runtime) => drop(runtime.spawn(watch.until_it_is_back())),
                Err(_) => {
                    drop(watch);
                    // Where nobody can look, nobody is left out.
                    self.is_back();
                }
            }
        }
    }
}

/// Looks whether a voter answers, until it does.
struct Watch<V: Voter>(Weak<Seat<V>>);

impl<V: Voter> Watch<V> {
    async fn until_it_is_back(self) {
        let mut pause = PAUSES.0;
        loop {
            let Some(seat) = self.0.upgrade() else { return };
            let state = match tokio::time::timeout(LOOK, seat.voter.ping()).await {
                Ok(Ok(())) => IN,
                Ok(Err(error)) if error.changed_nothing() => UNREACHED,
                _ => SILENT,
            };
            match state {
                IN => seat.is_back(),
                _ => seat.state.store(state, Ordering::Relaxed),
            }
            let address = seat.voter.address();
            tracing::debug!(%address, state, "looked at a node that did not answer");
            drop(seat);
            // One that is back is not looked at again at once, whatever it refuses.
            self::pause(pause.mul_f64(1.0 - rand::random::<f64>() / 2.0)).await;
            if state == IN {
                return;
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

impl<V: Voter> Drop for Watch<V> {
    fn drop(&mut self) {
        if let Some(seat) = self.0.upgrade() {
            seat.is_watched.store(false, Ordering::Release);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a pause between attempts; nothing is decided by it")]
pub(crate) async fn pause(pause: Duration) {
    tokio::time::sleep(pause).await;
}

/// A question that is not answered yet.
pub(crate) struct Open<V>(Arc<Seat<V>>, Need);

impl<V: Voter> Open<V> {
    pub(crate) fn answered<T>(self, answer: &Result<T>) {
        self.0.heard(answer);
    }
}

impl<V> Drop for Open<V> {
    fn drop(&mut self) {
        self.0.open[self.1.kind()].fetch_sub(1, Ordering::Relaxed);
    }
}

/// A thread for what no caller has a runtime for; started when it is first needed.
#[derive(Default)]
pub(crate) struct Home(OnceLock<Option<Runtime>>);

impl Home {
    pub(crate) fn runtime(&self) -> Result<&Runtime> {
        let started = self.0.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("tenure-quorum")
                .enable_all()
                .build()
                .inspect_err(|error| tracing::warn!(%error, "no thread to ask the voters in"))
                .ok()
        });
        started.as_ref().ok_or_else(|| {
            Error::new(ErrorKind::Unreachable, "no thread to ask the voters in")
                .with_nothing_changed()
        })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // May be dropped inside another runtime, which must not be blocked.
        if let Some(Some(runtime)) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
